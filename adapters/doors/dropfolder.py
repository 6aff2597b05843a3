"""The files of a watched folder: looked for, read and moved without ever losing one.

``incoming/`` is where others write, ``accepted/`` and ``refused/`` where a file ends.
A move is a hard link followed by the removal of the old name, so that nothing is
overwritten and a crash in between leaves one file under two names, never none. The
functions block; call them from a thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

UNFINISHED_SUFFIXES = (".part", ".tmp")
REASON_SUFFIX = ".reason.txt"
"""Beside a file of which something was refused: why, for people."""
ANSWER_SUFFIX = ".ack"
"""Beside a file whose protocol has an answer: that answer, for programs."""
_NAME_BYTES_MAX = 255
_WITHOUT_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class Signature:
    """What must stay the same for a file to count as finished."""

    size: int
    changed_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Found:
    """One finished-looking name in ``incoming/``."""

    name: str
    signature: Signature


class DropFolder:
    """The three folders and their rules. One process at a time holds them.

    With ``folders`` what is put in may be a folder, too, which is then taken as a whole.
    """

    def __init__(self, folder: Path, *, folders: bool = False) -> None:
        self.folder = folder
        self._folders = folders
        self.incoming = folder / "incoming"
        self.accepted = folder / "accepted"
        self.refused = folder / "refused"
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folders and lock them. OSError: not on one file system, or watched already."""
        for place in (self.incoming, self.accepted, self.refused):
            place.mkdir(parents=True, exist_ok=True)
        devices = {place.stat().st_dev for place in (self.incoming, self.accepted, self.refused)}
        if len(devices) > 1:
            raise OSError(errno.EXDEV, "incoming/, accepted/ and refused/ are not on one disk")
        descriptor = os.open(self.folder / ".ecluse.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        self._lock = descriptor

    def close(self) -> None:
        """Release the lock. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def look(self) -> tuple[list[Found], dict[str, str]]:
        """Regular files that are no one's work in progress, oldest first; and what was left.

        The second value names what is there and will not be read, with the reason.
        Hidden and unfinished names appear in neither.
        """
        found: list[Found] = []
        left: dict[str, str] = {}
        for entry, status in self._entries():
            if stat.S_ISLNK(status.st_mode):
                left[entry.name] = "a symbolic link is not followed"
            elif stat.S_ISREG(status.st_mode):
                signature = Signature(status.st_size, status.st_mtime_ns, status.st_ino)
                found.append(Found(entry.name, signature))
            elif not stat.S_ISDIR(status.st_mode):
                left[entry.name] = "not a regular file"
            elif self._folders:
                # One that changes while it is looked through is looked at again.
                with contextlib.suppress(FileNotFoundError):
                    found.append(Found(entry.name, _tree_signature(Path(entry.path))))
        found.sort(key=lambda each: (each.signature.changed_ns, each.name))
        return found, left

    def _entries(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        with os.scandir(self.incoming) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower().endswith(UNFINISHED_SUFFIXES):
                    continue
                # A name may be gone again before it is looked at: its writer renamed it.
                with contextlib.suppress(FileNotFoundError):
                    yield entry, entry.stat(follow_symlinks=False)

    def read(self, found: Found, bytes_max: int) -> bytes | None:
        """At most ``bytes_max`` bytes; None when the file has changed since it was found.

        Raises OSError when it cannot be read.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.incoming / found.name, flags)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = stream.read(bytes_max)
            after = os.fstat(descriptor)
        same = found.signature == Signature(after.st_size, after.st_mtime_ns, after.st_ino)
        return data if same else None

    def accept(self, name: str, beside: Mapping[str, bytes] | None = None) -> Path:
        """Move a file to ``accepted/``; the path it has there.

        ``beside`` are files to stand next to it, by what their names add to its name.
        """
        return self._move(name, self.accepted, beside or {})

    def refuse(self, name: str, beside: Mapping[str, bytes]) -> Path:
        """Move a file to ``refused/`` with its reason beside it; the path it has there."""
        return self._move(name, self.refused, beside)

    def _move(self, name: str, place: Path, beside: Mapping[str, bytes]) -> Path:
        source = self.incoming / name
        if source.is_dir():
            return _move_folder(source, place, beside)
        for candidate in _candidates(name):
            target = place / candidate
            companions = [(place / (candidate + suffix), data) for suffix, data in beside.items()]
            if not target.exists() and any(path.exists() for path, _ in companions):
                continue  # someone took the file away and left what stood beside it
            try:
                linked = _claim(source, target)
            except FileExistsError:
                continue
            for path, data in companions:
                _write_whole(path, data)
            if linked:
                source.unlink()
            else:
                source.replace(target)
            return target
        raise OSError(errno.EEXIST, "no free name is left")


def _tree_signature(folder: Path) -> Signature:
    """Of all that lies in a folder: bytes, the latest change, how many names."""
    size = names = 0
    changed = folder.stat(follow_symlinks=False).st_mtime_ns
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = Path(parent, name).stat(follow_symlinks=False)
            names += 1
            changed = max(changed, found.st_mtime_ns)
            if not stat.S_ISDIR(found.st_mode):
                size += found.st_size
    return Signature(size, changed, names)


def _move_folder(source: Path, place: Path, beside: Mapping[str, bytes]) -> Path:
    """Move a folder, with what stands beside it, to a name that is free. Nobody else writes
    there: the lock of the three folders is held."""
    for candidate in _candidates(source.name):
        target = place / candidate
        companions = [(place / (candidate + suffix), data) for suffix, data in beside.items()]
        if any(path.exists() or path.is_symlink() for path in (target, *dict(companions))):
            continue
        for path, data in companions:
            _write_whole(path, data)
        source.rename(target)
        return target
    raise OSError(errno.EEXIST, "no free name is left")


def _claim(source: Path, target: Path) -> bool:
    """Take the name ``target``: True when it now is the file, False when it is a placeholder.

    FileExistsError when another file has it. The same file under both names is what
    a crash between link and removal left behind: it is claimed again.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        if target.is_symlink() or not target.samefile(source):
            raise
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return False
    return True


def _candidates(name: str) -> Iterator[str]:
    """``x.xml``, ``x-2.xml``, ``x-3.xml``…, short enough to have a reason beside them."""
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem:
        stem, extension = name, ""
    extension = f".{extension}" if extension else ""
    for count in range(1, 1_000_000):
        suffix = (f"-{count}" if count > 1 else "") + extension
        room = _NAME_BYTES_MAX - len(os.fsencode(suffix + REASON_SUFFIX))
        if room < 1:
            suffix, room = f"-{count}", 200
        kept = os.fsencode(stem)[:room]
        # A cut must not leave half a character.
        yield kept.decode("utf-8", "ignore" if len(kept) == room else "surrogateescape") + suffix


def _write_whole(path: Path, data: bytes) -> None:
    """A file that is either all there or not there. One process at a time writes here."""
    unfinished = path.with_name(".beside.tmp")
    unfinished.write_bytes(data)
    unfinished.replace(path)

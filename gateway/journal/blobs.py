"""Content-addressed files beside the database: large payloads and attachments.

A file has its final name only when its bytes are on the disk, and a method
returns only when its name is there too, so that a commit never names bytes that
a power cut could take away.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.journal.faults import JournalUnavailable
from gateway.model import Payload

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_INCOMING = "incoming"
_LEAVING = "leaving"
_LOCK = "removal.lock"
_ABANDONED_SECONDS = 86_400
_BLOCK = 1 << 20


def sync_directory(directory: Path | str) -> None:
    """Make the names inside a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Blobs:
    """Bytes by the lower-case hex SHA-256 of themselves, in ``<directory>/ab/<digest>``.

    Files are readable by their owner only. Implements ``gateway.ports.BlobStore``.
    All methods may be called from any thread, and from several processes that
    share the directory.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """Open the directory; made if it is not there, unless ``read_only``."""
        self.directory = directory
        self._root = str(directory)  # of an image's time a quarter went into making paths
        # Folders whose names this process knows to be on the disk.
        self._durable: set[str] = set()
        if not read_only:
            self._prepare()

    def put(self, data: bytes) -> str:
        """Store bytes; returns their lower-case hex SHA-256. Idempotent.

        Raises JournalUnavailable when the disk does not take them; nothing is left then.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        place = self._place(sha256)
        try:
            if not self._present(place, len(data)):
                self._name(self._write(data), place)
        except OSError as error:
            raise _unavailable(error) from None
        return sha256

    def adopt(self, path: Path, sha256: str, *, flushed: bool = False) -> None:
        """Take a spooled file whose digest the caller computed; ``path`` is gone afterwards.

        ``flushed``: the caller has its bytes on the disk already, and it is readable by its
        owner only. A file on another file system is copied in blocks of 1 MiB and hashed
        again. Raises JournalUnavailable when the disk does not take it (the
        spooled file is still there then) and ValueError when ``sha256`` is none
        or a copy does not have it.
        """
        place, given = self._place(sha256), str(path)
        try:
            if self._present(place, os.stat(given).st_size):
                os.unlink(given)
                return
            if not flushed:
                _sync_file(given)
                os.chmod(given, 0o600)
            try:
                self._name(given, place)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._name(self._copy(path, sha256), place)
                os.unlink(given)
        except OSError as error:
            raise _unavailable(error) from None

    def holds(self, payload: Payload) -> bool:
        """Whether a payload is one of those that are kept here. Looks at its path only."""
        return payload.path is not None and str(payload.path) == self._place(payload.sha256)

    def payload(self, sha256: str) -> Payload:
        """The stored bytes, as a file. Raises KeyError when there are none."""
        try:
            place = self._place(sha256)
            size = os.stat(place).st_size
        except (ValueError, FileNotFoundError):
            raise KeyError(sha256) from None
        return Payload(sha256, size, path=Path(place))

    def stored(self) -> Iterator[str]:
        """The digests that are there, in no order, without reading the bytes."""
        for number in range(256):
            try:
                with os.scandir(self.directory / f"{number:02x}") as entries:
                    yield from (e.name for e in entries if _DIGEST.fullmatch(e.name))
            except FileNotFoundError:
                continue

    # --- what nobody names any more ----------------------------------------------------

    def old(self, prefix: int, before: float) -> list[str]:
        """The digests of one folder (0 to 255) that nobody has put since an instant (seconds
        since 1970): those that may be taken if nothing names them."""
        found = []
        try:
            with os.scandir(self.directory / f"{prefix:02x}") as entries:
                for entry in entries:
                    if _DIGEST.fullmatch(entry.name) and entry.stat().st_mtime < before:
                        found.append(entry.name)
        except FileNotFoundError:
            return []
        return sorted(found)

    def remove(self, sha256: str, before: float) -> int:
        """Take away a file that nothing names; the bytes that this frees, 0 when it stays.

        Whoever puts the same bytes at this moment either touches the file first, and it stays,
        or comes too late, and writes it anew. What a crash leaves on its way out is put back by
        the next process that opens the folder (:meth:`_put_back`).
        """
        place = Path(self._place(sha256))
        leaving = self.directory / _LEAVING / sha256
        try:
            place.rename(leaving)
        except FileNotFoundError:
            return 0
        try:
            state = leaving.stat()
            if state.st_mtime >= before:
                self._return(leaving, place)
                return 0
            leaving.unlink()
        except FileNotFoundError:
            # Another process has put it back meanwhile: it stays.
            return 0
        return state.st_size

    def _return(self, leaving: Path, place: Path) -> None:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        if place.exists():
            leaving.unlink()
        else:
            leaving.rename(place)
        self._sync_folder(str(place.parent))

    def _put_back(self) -> None:
        """Undo removals that a crash interrupted: the next purge looks at these files again."""
        for leaving in (self.directory / _LEAVING).iterdir():
            if _DIGEST.fullmatch(leaving.name):
                try:
                    self._return(leaving, Path(self._place(leaving.name)))
                except FileNotFoundError:
                    continue  # it was on its way out of another process, which has ended it

    @contextmanager
    def held(self, *, exclusive: bool) -> Iterator[bool]:
        """Keep files from being taken away while this block lasts (not ``exclusive``: copying
        them), or be the one that takes them away. Gives False when another has it; a block
        that only reads waits for nobody either."""
        descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def _prepare(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / _INCOMING).mkdir(mode=0o700, exist_ok=True)
        (self.directory / _LEAVING).mkdir(mode=0o700, exist_ok=True)
        sync_directory(self.directory)
        self._put_back()
        sync_directory(self.directory.parent)
        oldest = time.time() - _ABANDONED_SECONDS
        for leftover in (self.directory / _INCOMING).iterdir():
            # Younger ones may be another process's, on their way in.
            if leftover.stat().st_mtime < oldest:
                leftover.unlink(missing_ok=True)

    def _place(self, sha256: str) -> str:
        if _DIGEST.fullmatch(sha256) is None:
            raise ValueError("not a SHA-256 in lower-case hex")
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _sync_folder(self, folder: str) -> None:
        """Make the names in a folder durable, and once the folder's own."""
        sync_directory(folder)
        if folder not in self._durable:
            sync_directory(self._root)
            self._durable.add(folder)

    def _present(self, place: str, size: int) -> bool:
        """Whether the bytes are there. If so their name is made durable, because the thread
        that put them there may not have come to that yet."""
        try:
            if os.stat(place).st_size != size:
                return False
            # Wanted again: from here on a purge that is looking at it lets it be. When the
            # purge was quicker, the file is not there to be touched.
            os.utime(place)
        except FileNotFoundError:
            return False
        self._sync_folder(os.path.dirname(place))
        return True

    def _write(self, data: bytes) -> str:
        descriptor, name = tempfile.mkstemp(dir=self.directory / _INCOMING)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            _unlink(name)
            raise
        return name

    def _copy(self, path: Path, sha256: str) -> str:
        descriptor, name = tempfile.mkstemp(dir=self.directory / _INCOMING)
        try:
            with path.open("rb") as source, os.fdopen(descriptor, "wb") as target:
                shutil.copyfileobj(source, target, _BLOCK)
                target.flush()
                os.fsync(target.fileno())
            if Payload.from_file(Path(name)).sha256 != sha256:
                raise ValueError("the spooled file does not have the digest that was given")
        except (OSError, ValueError):
            _unlink(name)
            raise
        return name

    def _name(self, file: str, place: str) -> None:
        """Give a file that is on the disk its final name, durably."""
        folder = os.path.dirname(place)
        try:
            try:
                os.rename(file, place)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                os.rename(file, place)
        except OSError:
            if file.startswith(f"{self._root}/{_INCOMING}/"):
                _unlink(file)
            raise
        self._sync_folder(folder)


def _unlink(name: str) -> None:
    """Remove a file that may be gone."""
    with suppress(FileNotFoundError):
        os.unlink(name)


def _unavailable(error: OSError) -> JournalUnavailable:
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return JournalUnavailable(f"the blobs could not be written ({name})")

"""Objects on their way in: files that exist only until intake has taken them.

Names are random, never from the wire. Each running source has a folder of its
own, locked as long as it lives; what a dead process left behind was never
acknowledged and is removed at the next start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

from gateway.model import Payload

_LOCK = "lock"
_BUFFER_BYTES = 1 << 17


class SpoolFile:
    """One object being written. Its digest grows with it; at the end it is forced to the disk."""

    __slots__ = ("_digest", "_stream", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._stream: BinaryIO | None = path.open("xb", buffering=_BUFFER_BYTES)

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises OSError (disk full)."""
        if self._stream is None:
            return
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)

    def flush(self) -> None:
        """Make what was written readable through the path. Raises OSError."""
        if self._stream is not None:
            self._stream.flush()

    def finish(self) -> Payload:
        """Force the bytes to the disk and close; the payload names the file. Raises OSError."""
        if self._stream is None:
            raise ValueError("the spool file is closed")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._close()
        return Payload(self._digest.hexdigest(), self.size, path=self.path)

    def discard(self) -> None:
        """Close and remove. Safe to call at any time, from any thread, more than once."""
        try:
            self._close()
        finally:
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError:
                # A full disk refuses the last block a second time; the descriptor is freed.
                if not stream.closed:
                    raise


class SpoolFolder:
    """The folder of one running source below the spool."""

    def __init__(self, spool: Path, source: str) -> None:
        """Create it and remove what dead processes of the same source left. Raises OSError."""
        parent = spool / source
        parent.mkdir(parents=True, exist_ok=True)
        for leftover in parent.iterdir():
            _remove_if_dead(leftover)
        self.path = parent / uuid.uuid4().hex
        self.path.mkdir()
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def new(self) -> SpoolFile:
        """A fresh, empty file. Raises OSError."""
        return SpoolFile(self.path / uuid.uuid4().hex)

    def free_bytes(self) -> int:
        """What the file system still takes from an ordinary user. Raises OSError."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def files(self) -> list[Path]:
        """The objects that are there now."""
        return [path for path in self.path.iterdir() if path.name != _LOCK]

    def close(self) -> None:
        """Remove the folder with what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_if_dead(folder: Path) -> None:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        # Being made by a process that starts at this moment, or no folder of ours.
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)

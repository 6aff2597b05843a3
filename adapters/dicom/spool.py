"""Objects on their way in: in memory while they are small, else in a file that exists only
until intake has taken it.

Names are random, never from the wire. Each running source has a folder of its own, locked as
long as it lives; what a dead process left behind was never acknowledged and is removed at the
next start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from gateway.model import Payload

_LOCK = "lock"
MEMORY_BYTES_MAX = 65_536
"""An object that is no longer stays in memory: the journal keeps it in its own rows."""


class SpoolFile:
    """One object being written. Its digest grows with it; what holds it after :meth:`finish`
    makes it durable (``gateway.journal.blobs.Blobs.adopt``, the journal's own commit)."""

    __slots__ = ("_descriptor", "_digest", "_memory", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._memory: bytearray | None = bytearray()
        self._descriptor = -1

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Raises OSError (disk full)."""
        self.size += len(data)
        memory = self._memory
        if memory is not None:
            memory += data
            if self.size <= MEMORY_BYTES_MAX:
                return
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
            self._memory, data = None, memory
        self._digest.update(data)
        self._write(data)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, memoryview(data)[written:])

    @property
    def in_memory(self) -> bool:
        """Whether there is no file, and never was."""
        return self._memory is not None

    def open(self) -> BinaryIO:
        """What was written, from its start; the caller closes it. Raises OSError."""
        if self._memory is not None:
            return BytesIO(self._memory)
        return os.fdopen(os.dup(self._descriptor), "rb", buffering=0)

    def finish(self) -> Payload:
        """The whole as a payload; take no more after it. Raises OSError."""
        if self._memory is not None:
            data = bytes(self._memory)
            return Payload(hashlib.sha256(data).hexdigest(), self.size, data=data)
        self._close()
        return Payload(self._digest.hexdigest(), self.size, path=self.path)

    def discard(self) -> None:
        """Close and remove. Safe to call at any time, from any thread, more than once."""
        if self._memory is None:
            self._close()
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


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
        """A fresh, empty object."""
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

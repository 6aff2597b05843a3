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
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from gateway.model import Payload

_LOCK = "lock"
MEMORY_BYTES_MAX = 65_536
"""An object that is no longer stays in memory: the journal keeps it in its own rows."""


FLUSH_EVERY_BYTES = 4 << 20
"""How much of a large object may be waiting to reach the disk while it still comes in."""
_FLUSHING_THREADS = 4


class SpoolFile:
    """One object being written. Its digest grows with it, and its bytes go to the disk in a
    thread of the ``flushing`` ones while others come in or it is looked at; its name is made
    durable by what holds it after :meth:`finish` (``gateway.journal.blobs.Blobs.adopt``)."""

    __slots__ = (
        "_descriptor", "_digest", "_flush", "_flushing", "_memory", "_unflushed", "path", "size",
    )  # fmt: skip

    def __init__(self, path: Path, flushing: ThreadPoolExecutor) -> None:
        self.path = path
        self.size = 0
        self._flushing = flushing
        self._flush: Future[None] | None = None
        self._unflushed = 0
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
        self._unflushed += len(data)
        if self._unflushed >= FLUSH_EVERY_BYTES and (self._flush is None or self._flush.done()):
            self.flush()

    def flush(self) -> None:
        """Begin to bring what was written to the disk. Raises OSError when that failed for what
        was written before."""
        if self._memory is not None:
            return
        self._flushed()
        self._unflushed = 0
        self._flush = self._flushing.submit(os.fdatasync, self._descriptor)

    def _flushed(self) -> None:
        flush, self._flush = self._flush, None
        if flush is not None:
            flush.result()

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
        """The whole as a payload, its bytes on the disk unless they are few; take no more after
        it. Raises OSError."""
        if self._memory is not None:
            data = bytes(self._memory)
            return Payload(hashlib.sha256(data).hexdigest(), self.size, data=data)
        if self._flush is None or self._unflushed:
            self.flush()
        self._flushed()
        self._close()
        return Payload(self._digest.hexdigest(), self.size, path=self.path)

    def discard(self) -> None:
        """Close and remove. Safe to call at any time, from any thread, more than once."""
        if self._memory is None:
            self._close()
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        flush, self._flush = self._flush, None
        if flush is not None:
            flush.exception()  # the descriptor is in use until then
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
        self._flushing = ThreadPoolExecutor(_FLUSHING_THREADS, thread_name_prefix="dicom-flush")

    def new(self) -> SpoolFile:
        """A fresh, empty object."""
        return SpoolFile(self.path / uuid.uuid4().hex, self._flushing)

    def free_bytes(self) -> int:
        """What the file system still takes from an ordinary user. Raises OSError."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def files(self) -> list[Path]:
        """The objects that are there now."""
        return [path for path in self.path.iterdir() if path.name != _LOCK]

    def close(self) -> None:
        """Remove the folder with what is in it."""
        self._flushing.shutdown()
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

"""Which process writes a SQLite journal."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gateway.journal.faults import JournalInUse


class Ownership:
    """An exclusive lock on a file beside the database, which holds the owner's process number.

    The kernel lets go of it when the process ends, however it ends. Raises
    JournalInUse when another has it.
    """

    def __init__(self, path: Path) -> None:
        self.pid = os.getpid()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            written = os.pread(self._descriptor, 20, 0).strip()
            os.close(self._descriptor)
            raise JournalInUse(int(written) if written.isdigit() else 0) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(self.pid).encode(), 0)

    def release(self) -> None:
        """Let another process write. Idempotent."""
        if self._descriptor >= 0:
            # The file stays: removing it would let two processes lock two files of one name.
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

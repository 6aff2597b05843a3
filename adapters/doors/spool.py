"""A body on its way in: in memory while it is small, in a file once it is not."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from gateway.model import Payload


class BodyTooLarge(Exception):
    """The body went beyond the limit; what had arrived until then is in the spool."""


class Spool:
    """Takes blocks in order and gives a Payload. Hashes on the way; constant memory.

    Files are made with mode 600 in ``folder`` and carry no name of the sender's.
    """

    def __init__(self, folder: Path, *, memory_bytes_max: int, bytes_max: int) -> None:
        self.folder = folder
        self.memory_bytes_max = memory_bytes_max
        self.bytes_max = bytes_max
        self.size = 0
        self._digest = hashlib.sha256()
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    def write(self, block: bytes) -> None:
        """Take one block. Raises BodyTooLarge, OSError when the disk takes no more."""
        self._digest.update(block)
        self.size += len(block)
        self._memory += block
        if len(self._memory) > self.memory_bytes_max:
            self._to_file()
        if self.size > self.bytes_max:
            raise BodyTooLarge

    def _to_file(self) -> None:
        if self._file is None:
            descriptor, name = tempfile.mkstemp(dir=self.folder, suffix=".spool")
            self._path = Path(name)
            self._file = os.fdopen(descriptor, "wb")
        self._file.write(self._memory)
        self._memory.clear()

    def payload(self) -> Payload:
        """What has arrived, the same each time. Take no block after it. OSError as for
        :meth:`write`."""
        if self._file is None or self._path is None:
            return Payload(self._digest.hexdigest(), self.size, data=bytes(self._memory))
        if not self._file.closed:
            self._to_file()
            self._file.close()
        return Payload(self._digest.hexdigest(), self.size, path=self._path)

    def beginning(self, length: int) -> bytes:
        """The first ``length`` bytes; take no block after it."""
        payload = self.payload()
        with payload.open() as stream:
            return stream.read(length)

    def discard(self) -> None:
        """Remove the file, if there is one. Idempotent."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

"""A connection that carries protocol data units: bounded in length, memory and time.

One buffer per connection is read into and parsed in place, so that what arrives is copied
once, from the kernel to where it is written from.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time

from adapters.dicom.pdus import ProtocolError

NEGOTIATION_BYTES_MAX = 1 << 19
"""128 presentation contexts with all transfer syntaxes take less (PS3.8 9.3.2)."""

_HEAD = struct.Struct(">BxL")
_HEAD_BYTES = 6
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)

CLOSED = 0
"""The kind of PDU that is told when the peer has closed."""


class Connection:
    """Reads and writes PDUs of one socket, plain or TLS. Belongs to one thread.

    ``pdu_bytes_max`` is the longest PDU that is taken once an association stands.
    """

    def __init__(self, connected: socket.socket, pdu_bytes_max: int) -> None:
        self.socket = connected
        self._limit = pdu_bytes_max
        self._buffer = bytearray(2 * (pdu_bytes_max + _HEAD_BYTES))
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def read_request(self, seconds: float) -> tuple[int, memoryview]:
        """The first PDU, which may be longer than those that follow; see :meth:`read`."""
        return self._read(seconds, seconds, max(self._limit, NEGOTIATION_BYTES_MAX))

    def read(self, idle_seconds: float, pdu_seconds: float) -> tuple[int, memoryview]:
        """Kind and body of the next PDU; the body stands until the next read.

        The kind is CLOSED when the peer closed in between or in the middle. Raises
        ProtocolError for a PDU that is too long, TimeoutError when none begins within
        ``idle_seconds`` or one does not end within ``pdu_seconds``, OSError for what happens to
        connections.
        """
        return self._read(idle_seconds, pdu_seconds, self._limit)

    def waits(self) -> bool:
        """Whether something of the peer's has arrived that is not read yet."""
        if self._end > self._start:
            return True
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        return bool(select.select([self.socket], [], [], 0)[0])

    def send(self, data: bytes, seconds: float) -> None:
        """Send all. Raises OSError, TimeoutError when the peer does not take it in time."""
        self.socket.settimeout(seconds)
        self.socket.sendall(data)

    def drain(self, seconds: float) -> None:
        """After our last word: throw away what still comes, until the peer closes or
        ``seconds`` are over (the ARTIM timer, PS3.8 9.1.5)."""
        deadline = time.monotonic() + seconds
        try:
            if not isinstance(self.socket, ssl.SSLSocket):
                self.socket.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv_into(self._buffer):
                    return
        except (OSError, ValueError):
            return

    def interrupt(self) -> None:
        """Let a read that waits end as if the peer had closed. From any thread."""
        try:
            # An SSLSocket's own method would throw its TLS away, and with it the last word.
            socket.socket.shutdown(self.socket, socket.SHUT_RD)
        except OSError:
            return

    def close(self) -> None:
        """Close. Idempotent."""
        self.socket.close()

    def _read(self, idle_seconds: float, pdu_seconds: float, limit: int) -> tuple[int, memoryview]:
        if self._start == self._end:
            self._start = self._end = 0
            self.socket.settimeout(idle_seconds)
            if not self._fill():
                return CLOSED, self._view[:0]
        deadline = time.monotonic() + pdu_seconds
        if not self._have(_HEAD_BYTES, deadline):
            return CLOSED, self._view[:0]
        kind, length = _HEAD.unpack_from(self._buffer, self._start)
        if length > limit:
            raise ProtocolError(f"a PDU of {length} bytes")
        if not self._have(_HEAD_BYTES + length, deadline):
            return CLOSED, self._view[:0]
        start = self._start + _HEAD_BYTES
        self._start = start + length
        return kind, self._view[start : start + length]

    def _have(self, count: int, deadline: float) -> bool:
        """Read until as many bytes are in the buffer; false when the peer closes before."""
        if self._end - self._start >= count:
            return True
        self._make_room(count)
        while self._end - self._start < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("a PDU did not arrive in time")
            self.socket.settimeout(left)
            if not self._fill():
                return False
        return True

    def _make_room(self, count: int) -> None:
        if self._start + count <= len(self._buffer):
            return
        held = self._end - self._start
        if count > len(self._buffer):
            larger = bytearray(count)
            larger[:held] = self._view[self._start : self._end]
            self._buffer, self._view = larger, memoryview(larger)
        else:
            self._view[:held] = bytes(self._view[self._start : self._end])
        self._start, self._end = 0, held

    def _fill(self) -> bool:
        count = self.socket.recv_into(self._view[self._end :])
        if not count:
            return False
        self._end += count
        if _QUICKACK is not None:
            # Senders with Nagle's algorithm wait for this acknowledgement between two writes.
            self.socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return True

"""The bytes of one SMTP connection: command lines in, a mail's lines into a spool, replies out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

LINE_BYTES_MAX = 2048
"""Of a command: more than the 512 of RFC 5321, section 4.5.3.1.4, for its extensions."""
_READ_BYTES = 1 << 16
_LINGER_SECONDS, _LINGER_READS = 0.5, 64


class LineTooLong(Exception):
    """A command has no end."""


class Hurried(Exception):
    """Something was sent behind STARTTLS before TLS began: it would have been taken for what
    came through TLS (CVE-2011-0411)."""


class Wire:
    """One connection. Raises OSError when it ends, TimeoutError after ``idle_seconds``."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle_seconds: float
    ) -> None:
        self._reader, self._writer = reader, writer
        self._idle_seconds = idle_seconds
        self._buffer = bytearray()
        self._broken = False

    @property
    def secure(self) -> bool:
        """Whether it is under TLS."""
        return self._writer.get_extra_info("sslcontext") is not None

    async def line(self) -> bytes:
        """One line without its end. Raises LineTooLong."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_BYTES_MAX:
                raise LineTooLong
            await self._more()
        if end > LINE_BYTES_MAX:
            raise LineTooLong
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    async def mail(self, take: Callable[[bytes], None]) -> None:
        """A mail up to its end, ``CR LF . CR LF`` and nothing else, without the dots that were
        put before dots (RFC 5321, section 4.5.2). ``take`` gets it in blocks."""
        held = bytearray(b"\r\n") + self._buffer  # as if a line had ended before it
        self._buffer = bytearray()
        skip = 2
        while True:
            at = held.find(b"\r\n.")
            if 0 <= at <= len(held) - 5:
                block = bytes(held[skip : at + 2])
                if held[at + 3 : at + 5] == b"\r\n":
                    self._buffer = held[at + 5 :]
                    take(block)
                    return
                del held[: at + 3]
                skip = 0
            else:
                # The end of what there is may be the beginning of the end.
                keep = len(held) - 2 if at < 0 else at
                block = bytes(held[skip:keep]) if keep > skip else b""
                if block:
                    del held[:keep]
                    skip = 0
                self._buffer = held
                await self._more()
                held, self._buffer = self._buffer, bytearray()
            if block:
                take(block)

    async def _more(self) -> None:
        async with asyncio.timeout(self._idle_seconds):
            read = await self._reader.read(_READ_BYTES)
        if not read:
            raise ConnectionResetError
        self._buffer += read

    async def say(self, *lines: str) -> None:
        """Send replies; what is not ASCII is left out."""
        text = "".join(f"{line}\r\n" for line in lines)
        self._writer.write(text.encode("ascii", "replace"))
        async with asyncio.timeout(self._idle_seconds):
            await self._writer.drain()

    async def secure_now(
        self, context: ssl.SSLContext, timeout_seconds: float, *, ready: str
    ) -> None:
        """Say ``ready`` and begin TLS. Raises Hurried, OSError when the handshake fails; after
        that the connection is of no use."""
        if self._buffer:
            raise Hurried
        try:
            async with asyncio.timeout(0):
                read = await self._reader.read(1)
        except TimeoutError:
            read = b""
        if read:
            raise Hurried
        # Nothing is read between these two: the event loop has no turn. So what comes behind the
        # reply goes to TLS alone.
        self._writer.write(f"{ready}\r\n".encode("ascii"))
        self._broken = True
        await self._writer.start_tls(context, ssl_handshake_timeout=timeout_seconds)
        self._broken = False

    async def close(self) -> None:
        """End the connection, and let the peer read what was said last. Raises nothing."""
        if self._broken:  # half of it is TLS: nobody hears of its end
            self._writer.transport.abort()
            return
        try:
            if self._writer.can_write_eof() and not self._writer.is_closing():
                # A connection closed over bytes nobody read is reset, the last reply with it.
                self._writer.write_eof()
                async with asyncio.timeout(_LINGER_SECONDS):
                    for _ in range(_LINGER_READS):
                        if not await self._reader.read(_READ_BYTES):
                            break
        except (OSError, TimeoutError):
            pass
        self._writer.close()
        try:
            async with asyncio.timeout(5.0):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

"""The sending side of MLLP: one message, its acknowledgement; and files of messages."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from adapters.hl7.batch import parts
from adapters.hl7.charset import Charset, wide_charset
from adapters.hl7.framing import (
    FRAME_BYTES_MAX,
    START,
    Event,
    Frame,
    FrameReader,
    Oversized,
    Truncated,
    frame,
)
from adapters.hl7.header import header_line, read_header
from gateway.ports import Unreadable

_READ_BYTES = 1 << 16
_FRAMED = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\x0b")


class NoAnswer(Exception):
    """The message may or may not have been taken: no matching answer came.

    Sending it again with the same MSH-10 is right: a receiver that has it gives
    the same answer.
    """


class MllpClient:
    """Sends messages over one connection, one at a time, and matches their answers.

    An answer whose MSA-2 is not the message's MSH-10 is never taken for it; after
    a time-out the connection is closed, so that a late answer cannot be taken for
    the next one's.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_seconds: float = 30.0,
        answer_bytes_max: int = 1 << 20,
    ) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._answer_bytes_max = answer_bytes_max
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._frames = FrameReader(answer_bytes_max)
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, message: bytes) -> bytes:
        """Send one message; the bytes of its acknowledgement, without framing.

        Connects when there is no connection. Raises NoAnswer when none comes in
        time or the connection ends, OSError when there can be no connection,
        ValueError when MLLP cannot carry the message.
        """
        block = frame(message)
        expected = control_id_of(message)
        async with self._sending:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    reader, writer = await self._connect()
                    writer.write(block)
                    await writer.drain()
                    return await self._answer(reader, expected)
            except TimeoutError:
                self._drop()
                raise NoAnswer(f"no answer within {self._timeout_seconds} s") from None
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                connected = self._streams is not None
                self._drop()
                if not connected:
                    raise
                raise NoAnswer("the connection ended before the answer") from error
            except BaseException:
                self._drop()
                raise

    async def close(self) -> None:
        """Close the connection, if any."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):  # it may have failed already
                await streams[1].wait_closed()

    def _drop(self) -> None:
        """Close at once, whatever is unsent: what follows must not be mistaken for an answer."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._frames = FrameReader(self._answer_bytes_max)
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    async def _answer(self, reader: asyncio.StreamReader, expected: bytes) -> bytes:
        while True:
            data = await reader.read(_READ_BYTES)
            for event in self._frames.receive(data) if data else self._frames.end():
                if isinstance(event, Frame) and acknowledges(event.payload, expected):
                    return event.payload
            if not data:
                raise ConnectionResetError("the peer closed the connection")
            if self._frames.ending:
                for event in self._frames.settle():
                    if isinstance(event, Frame) and acknowledges(event.payload, expected):
                        return event.payload


def control_id_of(message: bytes) -> bytes:
    """MSH-10 byte for byte; empty when there is no MSH.

    Only the field separator is needed for it: a receiver names the control id of a
    message whose encoding characters it refuses, too.
    """
    try:
        _, line = header_line(message)
    except Unreadable:
        return b""
    fields = line.split(line[3:4])
    return fields[9] if len(fields) > 9 else b""


def acknowledges(answer: bytes, control_id: bytes) -> bool:
    """Is ``answer`` an acknowledgement of the message with that MSH-10?

    An answer with an empty MSA-2 is one to a message that has no MSH-10, and a
    refusal by a receiver that could not read it.
    """
    try:
        _, header = read_header(answer)
    except Unreadable:
        return False
    separator = header.encode(header.delimiters.field)
    for line in re.split(rb"[\r\n]+", answer):
        if line.startswith(b"MSA" + separator):
            fields = line.split(separator)
            told = fields[2] if len(fields) > 2 else b""
            positive = fields[1][1:2] == b"A"
            return told == control_id or (not told and not positive)
    return False


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What a file of messages may hold at most."""

    message_bytes_max: int = FRAME_BYTES_MAX
    messages_max: int = 1_000_000


def read_messages(path: Path, limits: FileLimits = FileLimits()) -> Iterator[bytes]:
    """The messages of a file, each in its exact bytes, in constant memory per message.

    A file holds one or more messages, with or without batch headers and trailers
    (FHS, BHS, BTS, FTS, which are left out), or MLLP blocks (which are
    unwrapped). A file without MSH is one message. Raises Unreadable beyond
    ``limits`` or when a block is cut, OSError when the file cannot be read.
    """
    for count, message in enumerate(_messages(path, limits), start=1):
        if count > limits.messages_max:
            raise Unreadable(f"the file holds more than {limits.messages_max} messages")
        if len(message) > limits.message_bytes_max:
            raise Unreadable(
                f"a message is larger than {limits.message_bytes_max} bytes", f"message {count}"
            )
        yield message


def _messages(path: Path, limits: FileLimits) -> Iterator[bytes]:
    with path.open("rb") as stream:
        if not stream.read(1):
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            wide = wide_charset(content[:8])
            if wide is not None:
                yield from _cut_wide(content, wide, limits)
            elif is_framed(content):
                yield from unwrapped(content, limits.message_bytes_max)
            else:
                yield from _cut_at_headers(content, limits)


def _cut_wide(content: mmap.mmap, charset: Charset, limits: FileLimits) -> Iterator[bytes]:
    """The messages of a file in UTF-16 or UTF-32, each in its bytes."""
    data = _slice(content, 0, len(content), limits)
    try:
        text = data.decode(charset.codec)
    except UnicodeDecodeError:
        yield data
        return
    for message in re.split(r"(?<=[\r\n])(?=MSH[^A-Za-z0-9])", text):
        yield message.encode(charset.codec)


def is_framed(content: bytes | mmap.mmap) -> bool:
    """Whether a file holds MLLP blocks."""
    return _FRAMED.match(content) is not None


def unwrapped(content: bytes | mmap.mmap, message_bytes_max: int) -> Iterator[bytes]:
    """The messages of a file of MLLP blocks. Raises Unreadable when a block is cut."""
    reader = FrameReader(message_bytes_max, kept_bytes_max=0)
    for position in range(content.find(START.to_bytes()), len(content), _READ_BYTES):
        yield from _payloads(reader.receive(content[position : position + _READ_BYTES]))
    yield from _payloads(reader.end())


def _payloads(events: Sequence[Event]) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Frame):
            yield event.payload
        elif isinstance(event, Oversized):
            raise Unreadable("a block in the file is larger than the limit")
        elif isinstance(event, Truncated):
            raise Unreadable("a block in the file has no end")


def _cut_at_headers(content: mmap.mmap, limits: FileLimits) -> Iterator[bytes]:
    found = False
    for part in parts(content):
        if part.name == "MSH":
            found = True
            yield _slice(content, part.begin, part.end, limits)
    if not found:
        yield _slice(content, 0, len(content), limits)


def _slice(content: mmap.mmap, begin: int, end: int, limits: FileLimits) -> bytes:
    if end - begin > limits.message_bytes_max:
        raise Unreadable(f"a message is larger than {limits.message_bytes_max} bytes")
    return content[begin:end]

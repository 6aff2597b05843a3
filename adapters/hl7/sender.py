"""The sending side of MLLP: one message, its acknowledgement; and files of messages."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

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
from adapters.hl7.modes import is_response, mode_of
from gateway.ports import Unreadable

_READ_BYTES = 1 << 16
# A header segment at the start of a line; what follows its name is no letter or digit.
_HEADER = re.compile(
    rb"(?:(?<=[\r\n])|\A)(?:\xef\xbb\xbf)?[ \t]*(MSH|FHS|BHS|BTS|FTS)(?![A-Za-z0-9])"
)
_FRAMED = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\x0b")


PERHAPS_SECONDS = 1.0
"""How long to wait for an answer that only comes when something is wrong, or right."""
SEE_OFF_SECONDS = 5.0


class Awaited(Enum):
    """Whether an answer on the connection is to be expected."""

    ALWAYS = "always"
    PERHAPS = "perhaps"
    NEVER = "never"


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
        self._unanswered = False  # something was sent whose answer nobody waited for

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, message: bytes, awaited: Awaited | None = None) -> bytes:
        """Send one message; the bytes of its acknowledgement, without framing.

        ``awaited`` says whether an answer is waited for; as the message asks
        (:func:`awaited_answer`) when it is not given. Empty bytes: none was awaited, or,
        for a message that wants one of some kinds only, none came within a second.
        Connects when there is no connection. Raises NoAnswer when none comes in
        time or the connection ends, OSError when there can be no connection,
        ValueError when MLLP cannot carry the message.
        """
        block = frame(message)
        expected = control_id_of(message)
        awaited = awaited or awaited_answer(message)
        seconds = self._timeout_seconds
        async with self._sending:
            written = False
            try:
                async with asyncio.timeout(seconds) as limit:
                    reader, writer = await self._connect()
                    writer.write(block)
                    await writer.drain()
                    written = True
                    if awaited is not Awaited.ALWAYS:
                        self._unanswered = True
                    if awaited is Awaited.NEVER:
                        return b""
                    if awaited is Awaited.PERHAPS:
                        limit.reschedule(self._loop_time() + min(seconds, PERHAPS_SECONDS))
                    return await self._answer(reader, expected)
            except TimeoutError:
                if written and awaited is Awaited.PERHAPS:
                    return b""
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
            if self._unanswered:
                await self._see_off(*streams)
            streams[1].close()
            with contextlib.suppress(OSError):  # it may have failed already
                await streams[1].wait_closed()

    async def _see_off(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say that no more comes, and read until the peer closes, too.

        Closing with answers unread would reset the connection, and with it what the peer
        has not read yet.
        """
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(min(self._timeout_seconds, SEE_OFF_SECONDS)):
                if writer.can_write_eof():
                    writer.write_eof()
                while await reader.read(_READ_BYTES):
                    pass

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    def _drop(self) -> None:
        """Close at once, whatever is unsent: what follows must not be mistaken for an answer."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._frames = FrameReader(self._answer_bytes_max)
            self._unanswered = False
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


def awaited_answer(message: bytes) -> Awaited:
    """Whether a message will be answered on its connection (``adapters.hl7.modes``).

    An acknowledgement or a response is not, nor is a message that wants none; ER and SU want
    an answer in one case only. A receiver that answers in the original mode all the same
    does no harm: its answers are read and left.
    """
    try:
        start, header = read_header(message)
    except Unreadable:
        return Awaited.ALWAYS
    if is_response(message, header, start):
        return Awaited.NEVER
    # Whether the receiver has a way back to the sender is not known here.
    modes = [mode_of(header, "auto", linked=linked) for linked in (True, False)]
    answered = {given for mode in modes for given in (mode.positive, mode.negative)}
    if len(answered) > 1:
        return Awaited.PERHAPS
    return Awaited.ALWAYS if answered == {True} else Awaited.NEVER


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
            if _FRAMED.match(content):
                yield from _unwrapped(content, limits)
            else:
                yield from _cut_at_headers(content, limits)


def _unwrapped(content: mmap.mmap, limits: FileLimits) -> Iterator[bytes]:
    reader = FrameReader(limits.message_bytes_max, kept_bytes_max=0)
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
    begin = -1
    found = False
    for match in _HEADER.finditer(content):
        if begin >= 0:
            yield _slice(content, begin, match.start(), limits)
        begin = match.start() if match[1] == b"MSH" else -1
        found = found or begin >= 0
    if begin >= 0 or not found:
        yield _slice(content, max(begin, 0), len(content), limits)


def _slice(content: mmap.mmap, begin: int, end: int, limits: FileLimits) -> bytes:
    if end - begin > limits.message_bytes_max:
        raise Unreadable(f"a message is larger than {limits.message_bytes_max} bytes")
    return content[begin:end]

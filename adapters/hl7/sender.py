"""The sending side of MLLP: one message, its acknowledgement; and files of messages."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import random
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from adapters.hl7.answer import Asked, AskedFor, asked_for, code_of, control_id_of
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
from adapters.hl7.link import Link, LinkEnded
from gateway.ports import Unreadable

QUIET_SECONDS = 2.0
"""How long a refusal is waited for where only that would be answered (ER)."""
SEE_OFF_SECONDS = 5.0
"""How long to wait at the end for a receiver to read what was sent without awaiting an answer."""
_CLOSE_SECONDS = 1.0
_READ_BYTES = 1 << 16
_FRAMED = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\x0b")


class NoAnswer(Exception):
    """The message may or may not have been taken: no matching answer came.

    Sending it again with the same MSH-10 is right: a receiver that has it gives
    the same answer.
    """


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How often and how long a connection is tried for, before nothing was sent on it.

    The pause before each further attempt is drawn between 0 and an upper bound that doubles
    from ``base_seconds`` to ``cap_seconds`` (full jitter), so that many senders do not come back
    at the same moment. ``within_seconds`` 0 tries once.
    """

    within_seconds: float = 0.0
    base_seconds: float = 0.5
    cap_seconds: float = 15.0
    draw: Callable[[], float] = random.random

    def pauses(self) -> Iterator[float]:
        """The pauses, without end."""
        bound = self.base_seconds
        while True:
            yield bound * self.draw()
            bound = min(bound * 2, self.cap_seconds)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back for one message.

    ``answers`` holds the commit acknowledgement, the application acknowledgement or both.
    Empty: none came, and none was asked for (``NE``) or only one on an error (``ER``).
    ``missing`` tells that an application acknowledgement was asked and waited for and did
    not come, although the receiver has the message.
    """

    answers: tuple[bytes, ...]
    missing: bool = False


class MllpClient:
    """Sends messages over one connection, one at a time, and matches their answers.

    An answer whose MSA-2 is not the message's MSH-10 is never taken for it, nor one that
    comes while nothing is waited for; after a time-out the connection is closed, so that a
    late answer cannot be taken for the next one's. ``strays`` counts such answers.

    A message is written once. Only connecting is tried again (``reconnect``, told to
    ``on_pause`` with the fault and the pause): nothing has been sent then. ``tls`` may be
    replaced at any time; it holds for the connections to come.
    """

    link_type: ClassVar[type[Link]] = Link

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_seconds: float = 30.0,
        connect_seconds: float = 10.0,
        answer_bytes_max: int = 1 << 20,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        reconnect: Reconnect = Reconnect(),
        on_pause: Callable[[OSError, float], None] = lambda _error, _seconds: None,
    ) -> None:
        self.reconnect = reconnect
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._connect_seconds = min(connect_seconds, timeout_seconds)
        self._answer_bytes_max = answer_bytes_max
        self.tls = tls
        self._server_name = server_name or host
        self._on_pause = on_pause
        self._link: Link | None = None
        self._strays = 0
        self._sending = asyncio.Lock()
        self._unanswered = False  # something was sent whose answer nobody waited for

    @property
    def strays(self) -> int:
        """Blocks that came back and were an answer to nothing that was waited for."""
        return self._strays + (self._link.strays if self._link is not None else 0)

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
        """Send one message; the bytes of its first acknowledgement, without framing.

        Connects when there is no connection. Raises NoAnswer when none comes in
        time or the connection ends, OSError when there can be no connection,
        ValueError when MLLP cannot carry the message.
        """
        exchange = await self.exchange(message)
        if not exchange.answers:
            raise NoAnswer("no answer came, and the message asks for none")
        return exchange.answers[0]

    async def exchange(
        self, message: bytes, *, application: bool = False, asked: AskedFor | None = None
    ) -> Exchange:
        """Send one message and wait for what it asks for; raises as :meth:`send`.

        In the enhanced mode the first acknowledgement is enough, unless ``application``: then
        after a positive commit acknowledgement the application's is waited for, too.
        ``asked`` is given where the message itself does not tell what will be answered.
        """
        block, asked = frame(message), asked or asked_for(message)
        async with self._sending:
            link = await self._connected()
            try:
                link.begin(control_id_of(message))
                exchange = await self._exchange(link, block, asked, application=application)
            except BaseException:
                self._drop()
                raise
            finally:
                link.finish()
            self._unanswered = self._unanswered or not exchange.answers
            return exchange

    async def close(self) -> None:
        """Close the connection, if any."""
        link = self._link
        self._forget()
        if link is not None:
            if self._unanswered:
                # Closing with answers unread would reset the connection, and with it what the
                # peer has not read yet: it is left to the peer to close first.
                link.end()
                with contextlib.suppress(TimeoutError):
                    seconds = min(self._timeout_seconds, SEE_OFF_SECONDS)
                    await asyncio.wait_for(link.over.wait(), seconds)
            link.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(link.over.wait(), _CLOSE_SECONDS)

    # --- one message --------------------------------------------------------------

    async def _exchange(
        self, link: Link, block: bytes, asked: AskedFor, *, application: bool
    ) -> Exchange:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await link.write(block)
        except TimeoutError:
            raise NoAnswer(link.unwritten) from None
        except LinkEnded as error:
            raise NoAnswer(str(error)) from None
        awaited = asked.application if application else Asked.NEVER
        awaited = awaited if awaited is Asked.ALWAYS else asked.first
        if awaited is Asked.NEVER:
            return Exchange(())
        first = await self._wait(link, lambda _: True, awaited)
        if first is None:
            return Exchange(())
        wanted = application and code_of(first) == "CA" and asked.application is not Asked.NEVER
        if not wanted:
            return Exchange((first,))
        try:
            second = await self._wait(
                link, lambda answer: code_of(answer).startswith("A"), asked.application
            )
        except NoAnswer:
            self._drop()
            return Exchange((first,), missing=True)
        return Exchange((first,) if second is None else (first, second))

    async def _wait(self, link: Link, fits: Callable[[bytes], bool], asked: Asked) -> bytes | None:
        """The answer; None when it would come on an error only and none comes."""
        silent = asked is Asked.ON_ERROR
        seconds = min(QUIET_SECONDS, self._timeout_seconds) if silent else self._timeout_seconds
        try:
            return await asyncio.wait_for(link.answer(fits), seconds)
        except TimeoutError:
            if silent:
                return None
            half = "only half an answer" if link.half_an_answer else "no answer"
            raise NoAnswer(f"{half} within {seconds:g} s") from None
        except LinkEnded as error:
            raise NoAnswer(str(error)) from None

    # --- the connection -----------------------------------------------------------

    async def _connected(self) -> Link:
        if self._link is not None:
            # Let what lies in the socket already be read as what it is: no answer to the next
            # message, or the end of the connection, on which nothing is sent then.
            for _ in range(2):
                await asyncio.sleep(0)
            if self._link.ended is None:
                return self._link
        self._forget()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.reconnect.within_seconds
        for pause in self.reconnect.pauses():
            try:
                self._link = await self._connect()
                self._unanswered = False
            except OSError as error:
                if isinstance(error, ssl.SSLCertVerificationError) or loop.time() >= deadline:
                    raise
                wait = min(pause, max(deadline - loop.time(), 0.0))
                self._on_pause(error, wait)
                await asyncio.sleep(wait)
            else:
                return self._link
        raise AssertionError("the pauses have no end")

    async def _connect(self) -> Link:
        options: dict[str, Any] = {}
        if self.tls is not None:
            options = {
                "ssl": self.tls,
                "server_hostname": self._server_name,
                "ssl_handshake_timeout": self._connect_seconds,
                "ssl_shutdown_timeout": _CLOSE_SECONDS,
            }
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, link = await loop.create_connection(
                    lambda: self.link_type(self._answer_bytes_max),
                    self._host,
                    self._port,
                    **options,
                )
        except TimeoutError:
            said = f"no connection within {self._connect_seconds:g} s"
            raise ConnectionError(said) from None
        return link

    def _drop(self) -> None:
        """Close at once, whatever is unsent: what follows must not be mistaken for an answer."""
        if self._link is not None:
            self._link.abort()
        self._forget()

    def _forget(self) -> None:
        if self._link is not None:
            self._link.finish()
            self._strays += self._link.strays
        self._link = None


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

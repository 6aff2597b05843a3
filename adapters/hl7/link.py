"""One connection of a sender: what it waits for, and everything else that comes."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import ClassVar, cast

from adapters.hl7.answer import acknowledges
from adapters.hl7.framing import FRAME_BYTES_MAX, Event, Frame, FrameReader

ANSWERS_MAX = 8
"""Answers to one message that are kept until they are asked for."""


class LinkEnded(Exception):
    """The connection is closed. The message says how it ended, in words for a person."""


class Link(asyncio.Protocol):
    """Reads answers all the time, so that what belongs to no message in hand is never taken
    for an answer to one.

    ``strays`` counts blocks that came and were not waited for: answers to other messages,
    second answers, noise.
    """

    unwritten: ClassVar[str] = "the receiver does not read the message"
    """What it means that :meth:`write` does not end."""

    def __init__(self, answer_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.strays = 0
        self.ended: str | None = None
        self.over = asyncio.Event()
        self._frames = FrameReader(answer_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._control_id: bytes | None = None
        self._answers: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def half_an_answer(self) -> bool:
        """Has an answer begun that has not ended?"""
        return self._frames.inside

    # --- asyncio.Protocol ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._take(self._frames.receive(data))
        if self._frames.ending:  # the carriage return, if it comes, is skipped
            self._take(self._frames.settle())

    def connection_lost(self, exc: Exception | None) -> None:
        inside = self._frames.inside
        self._take(self._frames.end())
        how = "in the middle of an answer" if inside else "before the answer"
        self.ended = f"the connection ended {how}{_reason(exc)}"
        self._writable.set()
        self.over.set()
        self._news.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- what a client asks -------------------------------------------------------

    async def write(self, block: bytes) -> None:
        """Write, as fast as the peer reads. Raises LinkEnded."""
        if self.ended is not None or self._transport is None:
            raise LinkEnded(self.ended or "the connection is not open")
        self._transport.write(block)
        await self._writable.wait()

    def begin(self, control_id: bytes) -> None:
        """From now on answers to the message of this MSH-10 are kept for :meth:`answer`."""
        self.finish()
        self._control_id = control_id

    def finish(self) -> None:
        """The message is done with: what came for it beyond what was asked for is astray."""
        self.strays += len(self._answers)
        self._answers.clear()
        self._control_id = None

    async def answer(self, fits: Callable[[bytes], bool]) -> bytes:
        """The next answer to the message that fits. Raises LinkEnded."""
        while True:
            while self._answers:
                found = self._answers.popleft()
                if fits(found):
                    return found
                self.strays += 1
            if self.ended is not None:
                raise LinkEnded(self.ended)
            self._news.clear()
            await self._news.wait()

    def end(self) -> None:
        """Say that nothing more comes, where the transport can; what comes back is still read."""
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Close in order."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is unsent: nothing that follows is an answer any more."""
        if self._transport is not None:
            self._transport.abort()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if (
                isinstance(event, Frame)
                and self._control_id is not None
                and len(self._answers) < ANSWERS_MAX
                and acknowledges(event.payload, self._control_id)
            ):
                self._answers.append(event.payload)
                self._news.set()
            else:
                self.strays += 1


def _reason(error: Exception | None) -> str:
    if isinstance(error, ssl.SSLError):
        words = (error.reason or "").lower().replace("_", " ")
        return f": TLS: {words}" if words else ": TLS failed"
    return ""

"""One connection of a sender: what it waits for, and everything else that comes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from adapters.hl7.framing import FRAME_BYTES_MAX, Event, Frame, FrameReader


class LinkEnded(Exception):
    """The connection is closed. The message says how it ended, in words for a person."""


class Link(asyncio.Protocol):
    """Reads answers all the time, so that what nobody waits for is never taken for an answer.

    ``strays`` counts blocks that came and were not waited for: answers to other messages,
    second answers, noise.
    """

    def __init__(self, answer_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.strays = 0
        self.ended: str | None = None
        self.over = asyncio.Event()
        self._frames = FrameReader(answer_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._fits: Callable[[bytes], bool] | None = None
        self._found: asyncio.Future[bytes] | None = None
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
        if self._found is not None and not self._found.done():
            self._found.set_exception(LinkEnded(self.ended))

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

    def wait_for(self, fits: Callable[[bytes], bool]) -> asyncio.Future[bytes]:
        """The next block from now on that fits. The future raises LinkEnded."""
        self._fits = fits
        self._found = asyncio.get_running_loop().create_future()
        # What ends unobserved (a time-out came first) is no fault of the program.
        self._found.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self.ended is not None:
            self._found.set_exception(LinkEnded(self.ended))
        return self._found

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
            if not (isinstance(event, Frame) and self._awaited(event.payload)):
                self.strays += 1

    def _awaited(self, payload: bytes) -> bool:
        found, fits = self._found, self._fits
        if found is None or fits is None or found.done() or not fits(payload):
            return False
        found.set_result(payload)
        return True


def _reason(error: Exception | None) -> str:
    if isinstance(error, ssl.SSLError):
        words = (error.reason or "").lower().replace("_", " ")
        return f": TLS: {words}" if words else ": TLS failed"
    return ""

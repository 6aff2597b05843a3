"""The sending side of MLLP release 2: the commit acknowledgement first, then the answer."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from adapters.hl7.framing import FRAME_BYTES_MAX, Event, Frame, frame
from adapters.hl7.link import Link, LinkEnded
from adapters.hl7.release2 import COMMITS, COMMITTED
from adapters.hl7.sender import MllpClient


class Release2Link(Link):
    """A connection on which each block is acknowledged (:mod:`adapters.hl7.release2`)."""

    unwritten: ClassVar[str] = "no commit acknowledgement in time"

    def __init__(self, answer_bytes_max: int = FRAME_BYTES_MAX) -> None:
        super().__init__(answer_bytes_max)
        self._commit: asyncio.Future[None] | None = None

    async def write(self, block: bytes) -> None:
        """Write, and wait until the peer has it in safe storage. Raises LinkEnded."""
        self._commit = asyncio.get_running_loop().create_future()
        await super().write(block)
        await self._commit

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._settle(self.ended or "the connection ended")

    def _take(self, events: list[Event]) -> None:
        content: list[Event] = []
        for event in events:
            if isinstance(event, Frame) and event.payload in COMMITS:
                positive = event.payload == COMMITTED
                self._settle("" if positive else "the receiver could not keep the message")
            else:
                if isinstance(event, Frame) and self._transport is not None:
                    self._transport.write(frame(COMMITTED))
                self._settle("an answer without a commit acknowledgement: MLLP release 1?")
                content.append(event)
        super()._take(content)

    def _settle(self, fault: str) -> None:
        if self._commit is None or self._commit.done():
            return
        if fault:
            self._commit.set_exception(LinkEnded(fault))
        else:
            self._commit.set_result(None)


class Release2Client(MllpClient):
    """As MllpClient, to a receiver of release 2.

    NoAnswer is raised as well when the receiver says that it kept nothing, and when it
    answers as release 1 does.
    """

    link_type: ClassVar[type[Link]] = Release2Link

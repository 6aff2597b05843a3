"""The sending side of MLLP release 2: the commit acknowledgement first, then the answer."""

from __future__ import annotations

import asyncio

from adapters.hl7.framing import Event, Frame, frame
from adapters.hl7.release2 import COMMITS, COMMITTED
from adapters.hl7.sender import MllpClient, NoAnswer, acknowledges

_READ_BYTES = 1 << 16


class Release2Client(MllpClient):
    """As MllpClient, to a receiver that acknowledges each block (:mod:`adapters.hl7.release2`).

    ``send`` raises NoAnswer as well when the receiver says that it kept nothing, and
    when it answers as release 1 does.
    """

    async def _answer(self, reader: asyncio.StreamReader, expected: bytes) -> bytes:
        committed = False
        while True:
            data = await reader.read(_READ_BYTES)
            events: list[Event] = self._frames.receive(data) if data else self._frames.end()
            if self._frames.ending:
                events = [*events, *self._frames.settle()]
            for event in events:
                if not isinstance(event, Frame):
                    continue
                if event.payload in COMMITS:
                    if event.payload != COMMITTED:
                        raise NoAnswer("the receiver says that it could not keep the message")
                    committed = True
                elif not committed:
                    raise NoAnswer("an answer without a commit acknowledgement: MLLP release 1?")
                else:
                    self._commit()
                    if acknowledges(event.payload, expected):
                        return event.payload
            if not data:
                raise ConnectionResetError("the peer closed the connection")

    def _commit(self) -> None:
        if self._streams is not None:
            self._streams[1].write(frame(COMMITTED))

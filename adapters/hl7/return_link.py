"""The way back to an MLLP sender: application acknowledgements in exchanges of their own.

HL7 v2.9.1 chapter 2, section 2.9.3: with the roles reversed, the acknowledgement is the
first message of a later exchange. Its MSH-15 may ask for an accept acknowledgement, its
MSH-16 is NE.
"""

from __future__ import annotations

import asyncio
from zoneinfo import ZoneInfo

from adapters.hl7.acknowledge import Acknowledger, Code, code_for
from adapters.hl7.answer import COMMIT, NOTHING, code_of, control_id_of
from adapters.hl7.charset import ASCII, charset_named
from adapters.hl7.header import Header, header_line
from adapters.hl7.modes import Condition
from adapters.hl7.sender import MllpClient, NoAnswer
from adapters.hl7.settings import MllpSourceSettings
from gateway.model import Again, Cause, CauseCode, Delivered, Outcome, Refused
from gateway.ports import Clock, Unreadable, Worded

_TAKEN = frozenset({"CA", "AA"})


class MllpReturnLink:
    """Implements :class:`gateway.ports.ReturnLink` over one connection, kept open."""

    def __init__(self, settings: MllpSourceSettings, clock: Clock) -> None:
        address = settings.return_host_and_port()
        if address is None:
            raise ValueError(f"the source {settings.name} has no return_link")
        self.source = settings.name
        self.hold_seconds = settings.return_link_timeout_seconds
        self._confirmed = settings.return_link_confirmed
        self._client = MllpClient(*address, timeout_seconds=settings.return_link_timeout_seconds)
        self._acknowledger = Acknowledger(ZoneInfo(settings.zone))
        self._clock = clock
        self._runner: asyncio.Runner | None = None

    def word(self, head: bytes, encoding: str, cause: Cause | None) -> Worded | None:
        """See :meth:`gateway.ports.ReturnLink.word`."""
        header = _header(head)
        if header is None:
            return None
        charset = charset_named(encoding) or ASCII
        now = self._clock.now()
        asking = Condition.ALWAYS if self._confirmed else Condition.NEVER
        if cause is None:
            code = Code.ACCEPT
            body = self._acknowledger.accept(header, charset, now, asking=asking)
        else:
            code = code_for(cause)
            body = self._acknowledger.refuse(header, charset, now, cause, asking=asking)
        return Worded(control_id_of(body).decode("ascii"), code.value, body)

    def send(self, acknowledgement: bytes) -> Outcome:
        """See :meth:`gateway.ports.ReturnLink.send`."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        asked = COMMIT if self._confirmed else NOTHING
        try:
            exchange = self._runner.run(self._client.exchange(acknowledgement, asked=asked))
            if not self._confirmed:
                # What is known of it is that the peer read to the end.
                self._runner.run(self._client.close())
                return Delivered(evidence="written")
        except ValueError as error:
            return Refused(cause=Cause(code=CauseCode.INTERNAL, detail=str(error)))
        except NoAnswer as error:
            return _again(str(error))
        except OSError as error:
            return _again(error.strerror or type(error).__name__)
        told = code_of(exchange.answers[0])
        if told in _TAKEN:
            return Delivered(evidence=told)
        return Refused(
            cause=Cause(
                code=CauseCode.DESTINATION_REFUSED,
                detail=f"The return link answered {told}",
                protocol_code=told,
            )
        )

    def close(self) -> None:
        """See :meth:`gateway.ports.ReturnLink.close`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.run(self._client.close())
            runner.close()


def _header(head: bytes) -> Header | None:
    line = b""
    try:
        _, line = header_line(head)
        return Header.read(line)
    except Unreadable:
        return Header.salvage(line) if line else None


def _again(detail: str) -> Again:
    return Again(cause=Cause(code=CauseCode.DESTINATION_UNAVAILABLE, detail=detail))

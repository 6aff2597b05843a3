"""The way back to an MLLP sender: application and business acknowledgements in exchanges of
their own.

HL7 v2.9.1 chapter 2, section 2.9.3: with the roles reversed, the acknowledgement is the
first message of a later exchange. Its MSH-15 may ask for an accept acknowledgement, its
MSH-16 is NE.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import BinaryIO
from zoneinfo import ZoneInfo

import structlog

from adapters.hl7.acknowledge import Acknowledger, Code, code_for
from adapters.hl7.answer import COMMIT, NOTHING, code_of, control_id_of
from adapters.hl7.business import BusinessAcknowledger, profile_of, wanted
from adapters.hl7.charset import ASCII, Charset, charset_named
from adapters.hl7.header import Header, header_line
from adapters.hl7.modes import Condition
from adapters.hl7.profiles import in_words_of_the_profile
from adapters.hl7.release2_sender import Release2Client
from adapters.hl7.sender import MllpClient, NoAnswer
from adapters.hl7.settings import MllpSourceSettings
from adapters.tls import ClientTls, HeldCertificate, TlsUnusable, connect_fault
from gateway.model import Again, Cause, CauseCode, Delivered, Outcome, Refused
from gateway.ports import Clock, Unreadable, Worded

log = structlog.get_logger("ecluse.return_link")

_TAKEN = frozenset({"CA", "AA"})

HEAD_BYTES = (64 << 10) + 16
"""As much of a message as holds its header."""


class MllpReturnLink:
    """Implements :class:`gateway.ports.ReturnLink` over one connection, kept open."""

    def __init__(self, settings: MllpSourceSettings, clock: Clock) -> None:
        """Read the files of its TLS. Raises ``adapters.tls.TlsUnusable``."""
        address = settings.return_host_and_port()
        if address is None:
            raise ValueError(f"the source {settings.name} has no return_link")
        self.source = settings.name
        self.hold_seconds = settings.return_link_timeout_seconds
        self._confirmed = settings.return_link_confirmed
        self._tls = _client_tls(settings)
        self._complained: str | None = None
        secure = settings.return_link_tls
        kind = Release2Client if settings.return_link_mllp_release == 2 else MllpClient
        self._client = kind(
            *address,
            timeout_seconds=settings.return_link_timeout_seconds,
            tls=self._tls.context if self._tls is not None else None,
            server_name=secure.server_name if secure is not None else "",
        )
        self._acknowledger = Acknowledger(ZoneInfo(settings.zone))
        self._business = (
            BusinessAcknowledger(ZoneInfo(settings.zone)) if settings.tells_deposits else None
        )
        self._frame_bytes_max = settings.frame_bytes_max
        self._clock = clock
        self._runner: asyncio.Runner | None = None

    def word(self, content: BinaryIO, encoding: str, cause: Cause | None) -> Worded | None:
        """See :meth:`gateway.ports.ReturnLink.word`."""
        head = content.read(HEAD_BYTES)
        header = _header(head)
        if header is None:
            return None
        charset = charset_named(encoding) or ASCII
        now = self._clock.now()
        cause = in_words_of_the_profile(header, cause)
        if self._business is not None and self._asks_for_deposit(header, charset, head, content):
            body = self._business.word(header, charset, now, cause)
            code_told = "N" if cause else "Y"
            return Worded(control_id_of(body).decode("ascii"), code_told, body)
        asking = Condition.ALWAYS if self._confirmed else Condition.NEVER
        if cause is None:
            code = Code.ACCEPT
            body = self._acknowledger.accept(header, charset, now, asking=asking)
        else:
            code = code_for(cause)
            body = self._acknowledger.refuse(header, charset, now, cause, asking=asking)
        return Worded(control_id_of(body).decode("ascii"), code.value, body)

    def _asks_for_deposit(
        self, header: Header, charset: Charset, head: bytes, content: BinaryIO
    ) -> bool:
        """Whether a message asks for a business acknowledgement; what asks stands behind the
        document. One that owes an application acknowledgement only gets that."""
        if profile_of(header) is None:
            return False
        return wanted(head + content.read(self._frame_bytes_max), header, charset)

    def send(self, acknowledgement: bytes) -> Outcome:
        """See :meth:`gateway.ports.ReturnLink.send`."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        asked = COMMIT if self._confirmed else NOTHING
        self._renew()
        try:
            exchange = self._runner.run(self._client.exchange(acknowledgement, asked=asked))
            if not self._confirmed:
                # What is known of it is that the peer read to the end.
                self._runner.run(self._client.close())
                return Delivered(evidence="written")
        except NoAnswer as error:
            return _again(str(error))
        except OSError as error:  # before ValueError: a fault of a certificate is both
            return _again(connect_fault(error))
        except ValueError as error:
            return Refused(cause=Cause(code=CauseCode.INTERNAL, detail=str(error)))
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

    def certificates(self) -> Sequence[HeldCertificate]:
        """Those that it relies on, as their files are now; empty without TLS."""
        self._renew()
        return self._tls.certificates if self._tls is not None else ()

    def _renew(self) -> None:
        """Take up other files of TLS for the next connection; unusable ones leave what there is."""
        tls = self._tls
        if tls is None:
            return
        try:
            renewed = tls.renewed()
        except TlsUnusable as error:
            if self._complained != str(error):
                self._complained = str(error)
                log.warning("return link: the former certificate stays", source=self.source,
                            error=str(error))  # fmt: skip
            return
        if renewed is not None:
            self._tls, self._client.tls, self._complained = renewed, renewed.context, None
            log.info("return link: the certificates were read again", source=self.source)

    def close(self) -> None:
        """See :meth:`gateway.ports.ReturnLink.close`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.run(self._client.close())
            runner.close()


def _client_tls(settings: MllpSourceSettings) -> ClientTls | None:
    if settings.return_link_tls is None:
        return None
    try:
        return ClientTls(settings.return_link_tls)
    except TlsUnusable as error:
        raise TlsUnusable(error.setting, str(error), block="return_link_tls") from None


def _header(head: bytes) -> Header | None:
    line = b""
    try:
        _, line = header_line(head)
        return Header.read(line)
    except Unreadable:
        return Header.salvage(line) if line else None


def _again(detail: str) -> Again:
    return Again(cause=Cause(code=CauseCode.DESTINATION_UNAVAILABLE, detail=detail))

"""One SMTP or LMTP conversation, from greeting to good-bye.

RFC 5321 with PIPELINING (2920), 8BITMIME (6152), SIZE (1870), ENHANCEDSTATUSCODES (2034, 3463) and
STARTTLS (3207); LMTP is RFC 2033. A mail is answered with 250 only after the commit of all of it,
with 4xx when it cannot be kept now, and with 5xx and the reason when it is refused.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from adapters.doors.spool import BodyTooLarge, Spool
from adapters.mail.custody import Kept, keep
from adapters.mail.reception import MailReception
from adapters.mail.settings import SmtpSourceSettings
from adapters.mail.wire import Hurried, LineTooLong, Wire
from adapters.tls import handshake_fault
from gateway.model import Cause, CauseCode
from gateway.ports import Clock, IntakeUnavailable

FAULTS_MAX = 20
"""Commands that are none, after which a connection is closed."""
_REPLY_CHARACTERS_MAX = 400
_ADDRESS_MAX = 320
_PATH = re.compile(r"\s*<([^<>\s]*)>(?:\s+(.*))?\Z")
_PERMISSION = frozenset({CauseCode.FEEDING_OPPOSED, CauseCode.RECORD_CLOSED})
_ENHANCED = {
    CauseCode.FRAME_OVERSIZED: "552 5.3.4",
    CauseCode.NOT_THE_FORMAT: "554 5.6.1",
    CauseCode.UNSUPPORTED_TYPE: "554 5.6.1",
}


class Closed(Exception):
    """The conversation is over."""


@dataclass(slots=True)
class _Envelope:
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all conversations of a source share."""

    settings: SmtpSourceSettings
    reception: MailReception
    clock: Clock
    make_spool: Callable[[], Spool]
    context: ssl.SSLContext | None
    counts: Counter[str]
    stopping: asyncio.Event


class Session:
    """One conversation. ``peer`` is the address and port of the sender."""

    def __init__(self, house: House, wire: Wire, peer: str) -> None:
        self._house, self._wire, self._peer = house, wire, peer
        self._lmtp = house.settings.protocol == "lmtp"
        self._greeted = False
        self._envelope = _Envelope()
        self._faults = 0
        self.busy = False
        """Whether a mail is on its way in: it is not cut off by a stop."""

    async def run(self) -> None:
        """Converse until one of the two has enough. Raises OSError, TimeoutError of the wire."""
        house = self._house
        try:
            await self._wire.say(f"220 ecluse {'LMTP' if self._lmtp else 'ESMTP'} ready")
            while not house.stopping.is_set():
                await self._command(await self._wire.line())
            await self._wire.say("421 4.3.2 the gateway is closing")
        except LineTooLong:
            await self._wire.say("500 5.5.2 the line is too long")
        except TimeoutError:
            house.counts["timeouts"] += 1
            await self._wire.say("421 4.4.2 too slow")
        except Closed:
            return

    async def _shake(self) -> None:
        tls = self._house.settings.tls
        assert tls is not None, "checked by the caller"
        assert self._house.context is not None, "made with the settings"
        try:
            await self._wire.secure_now(
                self._house.context, tls.handshake_timeout_seconds, ready="220 2.0.0 begin"
            )
        except Hurried:
            await self._wire.say("554 5.5.0 nothing may be sent before the handshake")
            raise Closed from None
        except (OSError, TimeoutError) as error:
            self._house.counts[handshake_fault(error)] += 1
            raise Closed from None

    async def _command(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        verb, _, rest = text.partition(" ")
        handler = {
            "EHLO": self._ehlo, "HELO": self._ehlo, "LHLO": self._ehlo, "MAIL": self._mail,
            "RCPT": self._rcpt, "DATA": self._data, "STARTTLS": self._starttls,
            "RSET": self._rset, "NOOP": self._noop, "QUIT": self._quit, "VRFY": self._vrfy,
        }.get(verb.upper())  # fmt: skip
        if handler is None or (verb.upper() == "LHLO") != (self._lmtp and handler == self._ehlo):
            await self._fault("500 5.5.1 no such command")
            return
        await handler(verb.upper(), rest)

    async def _fault(self, reply: str) -> None:
        self._faults += 1
        if self._faults > FAULTS_MAX:
            await self._wire.say("421 4.7.0 too many errors")
            raise Closed
        await self._wire.say(reply)

    async def _ehlo(self, verb: str, rest: str) -> None:
        if not rest.strip():
            await self._fault("501 5.5.4 a name is missing")
            return
        self._greeted, self._envelope = True, _Envelope()
        if verb == "HELO":
            await self._wire.say("250 ecluse")
            return
        able = ["PIPELINING", "8BITMIME", f"SIZE {self._house.settings.mail_bytes_max}",
                "ENHANCEDSTATUSCODES"]  # fmt: skip
        if self._house.settings.tls is not None and not self._wire.secure:
            able.append("STARTTLS")
        said = ["ecluse", *able]
        await self._wire.say(*(f"250-{each}" for each in said[:-1]), f"250 {said[-1]}")

    async def _starttls(self, _: str, rest: str) -> None:
        if self._house.settings.tls is None or self._wire.secure:
            await self._fault("502 5.5.1 no TLS to begin")
            return
        if rest:
            await self._fault("501 5.5.4 STARTTLS has no parameters")
            return
        await self._shake()
        # What was said in the clear is forgotten (RFC 3207, section 4.2).
        self._greeted, self._envelope = False, _Envelope()

    async def _mail(self, _: str, rest: str) -> None:
        settings = self._house.settings
        if not self._greeted:
            await self._fault("503 5.5.1 EHLO comes first")
            return
        if settings.tls is not None and not self._wire.secure:
            await self._fault("530 5.7.0 STARTTLS comes first")
            return
        if self._envelope.sender is not None:
            await self._fault("503 5.5.1 one mail at a time")
            return
        found = _PATH.match(rest[5:]) if rest[:5].upper() == "FROM:" else None
        if found is None or len(found[1]) > _ADDRESS_MAX:
            await self._fault("501 5.5.4 MAIL FROM:<address>")
            return
        if settings.senders and not _listed(found[1], settings.senders):
            self._house.counts["senders-refused"] += 1
            await self._wire.say("550 5.7.1 no mail is taken from this sender")
            return
        size = next((value for name, value in _parameters(found[2]) if name == "SIZE"), "")
        if size.isdecimal() and (len(size) > 15 or int(size) > settings.mail_bytes_max):
            self._house.counts["oversized"] += 1
            await self._wire.say(
                f"552 5.3.4 a mail has at most {settings.mail_bytes_max} bytes here"
            )
            return
        self._envelope.sender = found[1]
        await self._wire.say("250 2.1.0 ok")

    async def _rcpt(self, _: str, rest: str) -> None:
        if self._envelope.sender is None:
            await self._fault("503 5.5.1 MAIL comes first")
            return
        found = _PATH.match(rest[3:]) if rest[:3].upper() == "TO:" else None
        if found is None or not found[1] or len(found[1]) > _ADDRESS_MAX:
            await self._fault("501 5.5.4 RCPT TO:<address>")
            return
        if not _listed(found[1], self._house.settings.recipients):
            self._house.counts["recipients-refused"] += 1
            await self._fault("550 5.1.1 nobody of this name is here")
            return
        if len(self._envelope.recipients) >= self._house.settings.recipients_max:
            await self._wire.say("452 4.5.3 too many recipients")
            return
        self._envelope.recipients.append(found[1])
        await self._wire.say("250 2.1.5 ok")

    async def _rset(self, _: str, __: str) -> None:
        self._envelope = _Envelope()
        await self._wire.say("250 2.0.0 ok")

    async def _noop(self, _: str, __: str) -> None:
        await self._wire.say("250 2.0.0 ok")

    async def _vrfy(self, _: str, __: str) -> None:
        await self._wire.say("252 2.1.5 send and see")

    async def _quit(self, _: str, __: str) -> None:
        await self._wire.say("221 2.0.0 bye")
        raise Closed

    # --- the mail -----------------------------------------------------------------

    async def _data(self, _: str, __: str) -> None:
        if not self._envelope.recipients:
            await self._fault("503 5.5.1 RCPT comes first")
            return
        envelope, self._envelope = self._envelope, _Envelope()
        self.busy = True
        try:
            reply = await self._received(envelope)
        finally:
            self.busy = False
        # RFC 2033, section 4.2: LMTP has one reply for each recipient.
        await self._wire.say(*[reply] * (len(envelope.recipients) if self._lmtp else 1))

    async def _received(self, envelope: _Envelope) -> str:
        """Take the mail in and keep it; the reply."""
        counts = self._house.counts
        try:
            spool = self._house.make_spool()
        except OSError:
            return "452 4.3.1 no room; try again later"
        taker = _Taker(spool)
        try:
            await self._wire.say("354 end with a dot")
            async with asyncio.timeout(self._house.settings.mail_timeout_seconds):
                await self._wire.mail(taker)
        except BaseException:
            # It was cut: nothing was promised, and its sender has all of it.
            counts["cut"] += 1
            spool.discard()
            raise
        if taker.full:
            counts["not-kept"] += 1
            spool.discard()
            return "452 4.3.1 no room; try again later"
        reception = self._house.reception
        try:
            kept = await keep(
                reception, spool, self._house.clock, peer=self._peer,
                sender=envelope.sender or "",
                fault=reception.oversized() if taker.oversized else None,
            )  # fmt: skip
        except (IntakeUnavailable, OSError):
            counts["not-kept"] += 1
            return "451 4.3.0 nothing can be kept now; try again later"
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is known to be kept
            counts["not-kept"] += 1
            return f"451 4.3.0 internal error ({type(error).__name__}); try again later"
        outcome = kept.verdict
        counts["refused" if outcome.rejected else "accepted"] += 1
        return reply_to(kept)


class _Taker:
    """Takes the blocks of a mail; of one too large no more than what is kept as evidence."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.oversized = self.full = False

    def __call__(self, block: bytes) -> None:
        if self.oversized or self.full:
            return  # read to its end all the same: only then is there a reply
        try:
            self._spool.write(block)
        except BodyTooLarge:
            self.oversized = True
        except OSError:
            self.full = True


def reply_to(kept: Kept) -> str:
    """The reply to a mail that was kept, accepted or refused; no patient's value is in it."""
    outcome = kept.verdict
    number = f"message {outcome.message_id}"
    if outcome.rejected and outcome.cause is not None:
        return f"{_code(outcome.cause)} {_said(outcome.cause)} ({number})"
    if outcome.cause is not None:
        total = outcome.accepted + outcome.refused
        return (
            f"250 2.6.0 kept; {outcome.refused} of {total} documents refused: "
            f"{_said(outcome.cause)} ({number})"
        )
    return f"250 2.6.0 kept ({number})"


def _code(cause: Cause) -> str:
    if cause.code in _PERMISSION:
        return "550 5.7.1"
    return _ENHANCED.get(cause.code, "554 5.6.0")


def _said(cause: Cause) -> str:
    said = cause.detail or str(cause.code)
    if cause.location:
        said += f"; place: {cause.location}"
    printable = "".join(each if each.isprintable() else " " for each in said)
    return printable[:_REPLY_CHARACTERS_MAX]


def _listed(address: str, listed: tuple[str, ...]) -> bool:
    known = {each.lower() for each in listed}
    lower = address.lower()
    return lower in known or f"@{lower.rpartition('@')[2]}" in known


def _parameters(text: str | None) -> Iterator[tuple[str, str]]:
    for each in (text or "").split():
        name, _, value = each.partition("=")
        yield name.upper(), value

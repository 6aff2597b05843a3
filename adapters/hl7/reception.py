"""From a block's bytes to what intake gets, and from intake's word to the answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from adapters.hl7 import business
from adapters.hl7.acknowledge import (
    INTERNAL_ERROR,
    UNAVAILABLE,
    Acknowledger,
    Code,
    code_for,
    commit_code_for,
)
from adapters.hl7.charset import ASCII
from adapters.hl7.continuation import (
    CONTINUED,
    CONTINUES,
    Continuations,
    Fragment,
    fingerprint,
    join,
    sender_of,
)
from adapters.hl7.envelope import Envelope, Rules, examine, require
from adapters.hl7.framing import Truncated
from adapters.hl7.modes import Mode
from adapters.hl7.profiles import ProfileChecks
from adapters.hl7.requirements import Judgement
from adapters.hl7.settings import Hl7SourceSettings
from adapters.hl7.skeletons import Plain, Skeletons
from gateway.documents import DocumentHeaders
from gateway.model import Cause, CauseCode, Disposition, Format, Payload, Received
from gateway.ports import Clock, IntakeUnavailable, Unreadable, Word

log = logging.getLogger("ecluse.hl7")


class Arrival:
    """A message ready for intake, with what its answer will need."""

    __slots__ = ("_envelope", "_rules", "mode", "received")

    def __init__(
        self, received: Received, mode: Mode, rules: Rules, envelope: Envelope | None = None
    ) -> None:
        self.received = received
        self.mode = mode
        self._rules = rules
        self._envelope = envelope

    @property
    def envelope(self) -> Envelope:
        """All that was read of it. A plain message is read again for it: only one that is
        refused after all needs more than its mode."""
        if self._envelope is None:
            self._envelope = examine(self.received.payload.read(), self._rules)
        return self._envelope

    def told(self, received: Received) -> Arrival:
        """The same message, of which intake is told something else."""
        return Arrival(received, self.mode, self._rules, self._envelope)


class Reception:
    """Examines what arrives at one source and words the answers. No I/O; any thread."""

    def __init__(
        self,
        settings: Hl7SourceSettings,
        clock: Clock,
        documents: DocumentHeaders | None = None,
        continuations: Continuations | None = None,
    ) -> None:
        self._name = settings.name
        self._rules = Rules.of(settings)
        # The numbers of its fragments were judged one by one.
        self._rules_of_joined = replace(self._rules, sequence_numbers=False)
        self._frame_bytes_max = settings.frame_bytes_max
        self._control_id_unique = settings.duplicates == "refuse"
        self._tells_deposits = settings.tells_deposits
        self._clock = clock
        self._continuations = continuations
        self._acknowledger = Acknowledger(ZoneInfo(settings.zone))
        self._profiles = (
            ProfileChecks(documents, settings.profile_bytes_max)
            if settings.profile_checks
            else None
        )
        self._skeletons = Skeletons(
            self._rules, self._acknowledger, profiles=self._profiles is not None
        )

    def open(self, payload: bytes, peer: str, cut: Truncated | None = None) -> Arrival:
        """Examine a whole block.

        ``cut`` is a block that was cut just before: when this one has no header it
        is the rest of that one, and its answer names that one's control id.
        """
        if cut is None:
            plain = self._skeletons.read(payload)
            if plain is not None:
                return self._plain(payload, peer, plain)
        envelope = examine(payload, self._rules)
        if cut is not None and envelope.header is None:
            envelope.header = examine(cut.kept, self._rules).header
            envelope.refusal = _truncated(len(payload) + cut.count)
        if not (envelope.continues or envelope.continued):
            self._check_profile(envelope, payload)
        return self._arrive(envelope, payload, peer)

    def judge_joined(self, fragments: Sequence[bytes]) -> Judgement:
        """What the profiles say of a message that came in fragments, each acknowledged by itself.

        Says nothing of one that cannot be joined or read: the stage that reads it does.
        """
        try:
            whole = join(fragments)
        except Unreadable:
            return Judgement()
        envelope = examine(whole, self._rules_of_joined)
        self._check_profile(envelope, whole)
        noted = envelope.attributes.get("profile")
        return Judgement(envelope.refusal, {"profile": noted} if noted else None)

    def _plain(self, payload: bytes, peer: str, plain: Plain) -> Arrival:
        """As :meth:`_arrive`, of a message whose header repeats that of others."""
        skeleton, control_id, charset, subject, carries_permission, named = plain
        profile, now = skeleton.profile, self._clock.now()
        template = skeleton.template(charset)
        received = Received(
            source=self._name,
            format=Format.HL7V2,
            payload=Payload.from_bytes(payload),
            received_at=now,
            peer=peer,
            control_id=control_id,
            kind=profile.kind,
            encoding=charset.name,
            subject=subject,
            carries_permission=carries_permission,
            answer=b"" if template is None else self._acknowledger.fill(template, named, now),
            attributes=profile.attributes,
            control_id_unique=self._control_id_unique,
            later_answer=profile.mode.later,
        )
        return Arrival(received, profile.mode, self._rules)

    def oversized(self, kept: bytes, peer: str) -> Arrival:
        """A block beyond the limit, of which the first bytes are kept as evidence."""
        detail = f"The message is larger than {self._frame_bytes_max} bytes"
        return self._evidence(kept, peer, Cause(code=CauseCode.FRAME_OVERSIZED, detail=detail))

    def cut(self, kept: bytes, count: int, peer: str) -> Arrival:
        """A block that was begun and not ended, of which the first bytes are kept."""
        return self._evidence(kept, peer, _truncated(count))

    def unframed(self, kept: bytes, count: int, peer: str) -> Arrival:
        """A message outside any block, of which the first bytes are kept."""
        detail = f"{count} bytes of a message without the start byte of MLLP"
        return self._evidence(kept, peer, Cause(code=CauseCode.NOT_THE_FORMAT, detail=detail))

    def refused(self, kept: bytes, peer: str, cause: Cause) -> Arrival:
        """Bytes that are refused for a cause outside the message."""
        return self._evidence(kept, peer, cause)

    def answer(self, arrival: Arrival, word: Word) -> tuple[Code, bytes]:
        """The acknowledgement, once intake has given its word: positive only for what is kept.

        Its bytes are empty when the sender does not want to hear of that.
        """
        received, mode = arrival.received, arrival.mode
        if isinstance(word, Exception):
            if not isinstance(word, IntakeUnavailable):
                # The type only: a message's content may stand in an exception's text.
                log.error("intake failed with %s at source %s", type(word).__name__, self._name)
            return self._refuse(arrival.envelope, UNAVAILABLE)
        if received.refusal is not None and word.expected_number is None:
            return _refusal_code(mode, received.refusal), received.answer
        if received.refusal is not None and received.refusal.code is CauseCode.LINK_CONTROL:
            return self._accept(arrival.envelope, word.expected_number)
        if word.disposition is Disposition.REFUSED:
            cause = word.cause or _UNEXPLAINED
            return self._refuse(arrival.envelope, cause, word.expected_number)
        code = Code.COMMIT_ACCEPT if mode.accept else Code.ACCEPT
        if word.disposition is Disposition.DUPLICATE and word.answer:
            return code, word.answer
        return code, received.answer

    def _check_profile(self, envelope: Envelope, payload: bytes) -> None:
        """Let the profile that MSH-21 names refuse what the protocol does not."""
        header = envelope.header
        if header is None or not header.parts[20]:
            return
        if self._profiles is None or envelope.refusal is not None or envelope.charset is None:
            return
        envelope.refusal = self._profiles.refusal(
            payload, header, envelope.charset, envelope.subject
        )

    def _evidence(self, kept: bytes, peer: str, cause: Cause) -> Arrival:
        envelope = examine(kept, self._rules)
        envelope.refusal = cause
        return self._arrive(envelope, kept, peer)

    def _arrive(self, envelope: Envelope, payload: bytes, peer: str) -> Arrival:
        now = self._clock.now()
        content, group = Payload.from_bytes(payload), ""
        if envelope.refusal is None and (envelope.continues or envelope.continued):
            group = self._place(envelope, content, now)
            if not group:  # a whole message whose sender fills MSH-14 for reasons of its own
                require(envelope, payload, self._rules)
                self._check_profile(envelope, payload)
            envelope.attributes = {
                **envelope.attributes,
                CONTINUES: envelope.continues,
                CONTINUED: envelope.continued,
            }
        header, charset, refusal = envelope.header, envelope.charset, envelope.refusal
        mode, answer = envelope.mode, b""
        later = mode.later
        if refusal is None and header is not None and charset is not None:
            if self._tells_deposits and business.wanted(payload, header, charset):
                later = business.owed(refusal_told=mode.negative)
            if mode.positive:
                answer = self._acknowledger.accept(
                    header,
                    charset,
                    now,
                    code=Code.COMMIT_ACCEPT if mode.accept else Code.ACCEPT,
                    number=envelope.sequence_number,
                )
        else:
            refusal = refusal or _UNEXPLAINED
            if mode.negative:
                answer = self._acknowledger.refuse(
                    header, charset, now, refusal, commit=mode.accept
                )
        received = Received(
            source=self._name,
            format=Format.HL7V2,
            payload=content,
            received_at=now,
            peer=peer,
            control_id=envelope.control_id,
            kind=envelope.kind,
            encoding=charset.name if charset else "",
            subject=envelope.subject,
            carries_permission=envelope.carries_permission,
            group=group,
            group_complete=bool(group) and not envelope.continued,
            refusal=refusal,
            answer=answer,
            attributes=envelope.attributes,
            sequence_number=envelope.sequence_number,
            control_id_unique=self._control_id_unique,
            later_answer=later,
        )
        return Arrival(received, mode, self._rules, envelope)

    def _place(self, envelope: Envelope, content: Payload, now: datetime) -> str:
        """The chain of a fragment; sets the refusal of one that has none."""
        if self._continuations is None:
            return ""
        fragment = Fragment(
            sender=sender_of(envelope.attributes),
            continues=envelope.continues,
            continued=envelope.continued,
            fingerprint=fingerprint(envelope.control_id, content.sha256),
            size=content.size,
            whole_like=envelope.has_patient,
        )
        placed = self._continuations.place(fragment, now)
        if isinstance(placed, Cause):
            envelope.refusal = placed
            return ""
        return placed

    def _accept(self, envelope: Envelope, number: int | None) -> tuple[Code, bytes]:
        """The general acknowledgement of a message that speaks of the numbering."""
        code = Code.COMMIT_ACCEPT if envelope.mode.accept else Code.ACCEPT
        header, charset = envelope.header, envelope.charset
        if header is None or not envelope.mode.positive:
            return code, b""
        now = self._clock.now()
        return code, self._acknowledger.accept(
            header, charset or ASCII, now, code=code, number=number
        )

    def _refuse(
        self, envelope: Envelope, cause: Cause, number: int | None = None
    ) -> tuple[Code, bytes]:
        if not envelope.mode.negative:
            return _refusal_code(envelope.mode, cause), b""
        header, charset = envelope.header, envelope.charset
        answer = self._acknowledger.refuse(
            header, charset, self._clock.now(), cause, commit=envelope.mode.accept, number=number
        )
        return _refusal_code(envelope.mode, cause), answer


def _refusal_code(mode: Mode, cause: Cause) -> Code:
    return commit_code_for(cause) if mode.accept else code_for(cause)


_UNEXPLAINED = Cause(
    code=CauseCode.INTERNAL, detail="The message was refused", protocol_code=INTERNAL_ERROR
)


def _truncated(count: int) -> Cause:
    return Cause(
        code=CauseCode.FRAME_TRUNCATED,
        detail=f"The message was cut: {count} bytes arrived, the end is missing",
        protocol_code=INTERNAL_ERROR,
    )

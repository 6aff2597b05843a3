"""From a block's bytes to what intake gets, and from intake's word to the answer."""

from __future__ import annotations

import logging
from datetime import datetime
from zoneinfo import ZoneInfo

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
    sender_of,
)
from adapters.hl7.envelope import Envelope, Rules, examine
from adapters.hl7.framing import Truncated
from adapters.hl7.header import Header
from adapters.hl7.profiles import ProfileChecks
from adapters.hl7.settings import Hl7SourceSettings
from gateway.model import Cause, CauseCode, Disposition, Format, Payload, Received
from gateway.ports import Clock, DocumentHeaders, IntakeUnavailable, Word
from gateway.value_class import value_class

log = logging.getLogger("ecluse.hl7")


@value_class(frozen=True, slots=True)
class Arrival:
    """A message ready for intake, with what its answer will need."""

    received: Received
    envelope: Envelope


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
        self._frame_bytes_max = settings.frame_bytes_max
        self._control_id_unique = settings.duplicates == "refuse"
        self._clock = clock
        self._continuations = continuations
        self._acknowledger = Acknowledger(ZoneInfo(settings.zone))
        self._profiles = (
            ProfileChecks(documents, settings.profile_bytes_max)
            if settings.profile_checks
            else None
        )

    def open(self, payload: bytes, peer: str, cut: Truncated | None = None) -> Arrival:
        """Examine a whole block.

        ``cut`` is a block that was cut just before: when this one has no header it
        is the rest of that one, and its answer names that one's control id.
        """
        envelope = examine(payload, self._rules)
        if cut is not None and envelope.header is None:
            envelope.header = examine(cut.kept, self._rules).header
            envelope.refusal = _truncated(len(payload) + cut.count)
        if envelope.header is not None and envelope.header.parts[20]:
            self._check_profile(envelope, envelope.header, payload)
        return self._arrive(envelope, payload, peer)

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
        envelope, received = arrival.envelope, arrival.received
        if isinstance(word, Exception):
            if not isinstance(word, IntakeUnavailable):
                # The type only: a message's content may stand in an exception's text.
                log.error("intake failed with %s at source %s", type(word).__name__, self._name)
            return self._refuse(envelope, UNAVAILABLE)
        if received.refusal is not None and word.expected_number is None:
            return _refusal_code(envelope, received.refusal), received.answer
        if received.refusal is not None and received.refusal.code is CauseCode.LINK_CONTROL:
            return self._accept(envelope, word.expected_number)
        if word.disposition is Disposition.REFUSED:
            return self._refuse(envelope, word.cause or _UNEXPLAINED, word.expected_number)
        code = Code.COMMIT_ACCEPT if envelope.mode.accept else Code.ACCEPT
        if word.disposition is Disposition.DUPLICATE and word.answer:
            return code, word.answer
        return code, received.answer

    def _check_profile(self, envelope: Envelope, header: Header, payload: bytes) -> None:
        """Let the profile that MSH-21 names refuse what the protocol does not."""
        if self._profiles is None or envelope.refusal is not None or envelope.charset is None:
            return
        if envelope.continues or envelope.continued:
            return  # part of a message cannot have all that the profile asks of the whole
        envelope.refusal = self._profiles.refusal(
            payload, header, envelope.charset, envelope.subject
        )

    def _evidence(self, kept: bytes, peer: str, cause: Cause) -> Arrival:
        envelope = examine(kept, self._rules)
        envelope.refusal = cause
        return self._arrive(envelope, kept, peer)

    def _arrive(self, envelope: Envelope, payload: bytes, peer: str) -> Arrival:
        now = self._clock.now()
        content, group, attributes = Payload.from_bytes(payload), "", envelope.attributes
        if envelope.refusal is None and (envelope.continues or envelope.continued):
            group = self._place(envelope, content, now)
            attributes = {
                **attributes,
                CONTINUES: envelope.continues,
                CONTINUED: envelope.continued,
            }
        header, charset, refusal = envelope.header, envelope.charset, envelope.refusal
        mode, answer = envelope.mode, b""
        if refusal is None and header is not None and charset is not None:
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
            attributes=attributes,
            sequence_number=envelope.sequence_number,
            control_id_unique=self._control_id_unique,
            later_answer=mode.later,
        )
        return Arrival(received, envelope)

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
            return _refusal_code(envelope, cause), b""
        header, charset = envelope.header, envelope.charset
        answer = self._acknowledger.refuse(
            header, charset, self._clock.now(), cause, commit=envelope.mode.accept, number=number
        )
        return _refusal_code(envelope, cause), answer


def _refusal_code(envelope: Envelope, cause: Cause) -> Code:
    return commit_code_for(cause) if envelope.mode.accept else code_for(cause)


_UNEXPLAINED = Cause(
    code=CauseCode.INTERNAL, detail="The message was refused", protocol_code=INTERNAL_ERROR
)


def _truncated(count: int) -> Cause:
    return Cause(
        code=CauseCode.FRAME_TRUNCATED,
        detail=f"The message was cut: {count} bytes arrived, the end is missing",
        protocol_code=INTERNAL_ERROR,
    )

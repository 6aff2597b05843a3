"""One message as one row of a table; shared by every page that lists messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from adapters.dicom.dictionary import uid_name
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.model import CauseCode, Format
from gateway.shapes import explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """What a list says of one message. No value of a patient."""

    id: int
    received_at: datetime
    source: str
    kind_label: str
    control_id: str
    state: MessageState
    cause_title: str
    patient_id: str | None


def message_row(message: Message) -> MessageRow:
    """The row of a message."""
    return MessageRow(
        id=message.id,
        received_at=message.received_at,
        source=message.source,
        kind_label=kind_label(message.format, message.kind),
        control_id=message.control_id,
        state=message.state,
        cause_title=explanation(message.cause.code)["title"] if message.cause else "",
        patient_id=message.patient_id,
    )


def kind_label(form: Format | None, kind: str) -> str:
    """The type of a message for a person: ``ORU^R01``, ``CT Image Storage``, a document's code."""
    if not kind:
        return "unknown type"
    if form is Format.DICOM or (form is None and kind.startswith("1.2.840.10008.")):
        name = uid_name(kind)
        return name if name != kind else kind
    return kind


def cause_tone(code: CauseCode, state: MessageState) -> str:
    """The tone of a notice: a refusal, a wait, or a dead letter."""
    if state is MessageState.REFUSED:
        return "refused"
    if state in {MessageState.HELD, MessageState.UNMAPPED} or code is CauseCode.IDENTITY_AWAITED:
        return "held"
    return "dead" if state is MessageState.DEAD else "settled"

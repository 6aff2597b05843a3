"""Rows of the tables to the values of the journal, and causes to columns."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Row

from gateway.journal import tables
from gateway.journal.fitting import fit
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import KEY_MAX, TEXT_MAX
from gateway.journal.values import Attempt, DeadLetter, DeliveryRow, Message, Resolution
from gateway.model import Cause, CauseCode, Format, Stage

AnyRow = Row[*tuple[Any, ...]]

MESSAGE_COLUMNS: tuple[Column[Any], ...] = tuple(tables.message.c)
CONTENT_COLUMNS: tuple[Column[Any], ...] = (tables.content.c.body, tables.content.c.answer)


def cause_columns(cause: Cause | None) -> dict[str, str]:
    """A cause as four columns; empty ones for none."""
    if cause is None:
        return {
            "cause_code": "",
            "cause_detail": "",
            "cause_location": "",
            "cause_protocol_code": "",
        }
    return {
        "cause_code": cause.code.value,
        "cause_detail": fit(cause.detail, TEXT_MAX),
        "cause_location": fit(cause.location, TEXT_MAX),
        "cause_protocol_code": fit(cause.protocol_code, KEY_MAX),
    }


def cause_of(row: AnyRow) -> Cause | None:
    """The cause of a row that has the four columns."""
    if not row.cause_code:
        return None
    return Cause(
        code=CauseCode(row.cause_code),
        detail=row.cause_detail,
        location=row.cause_location,
        protocol_code=row.cause_protocol_code,
    )


def message_of(row: AnyRow, *, with_content: bool = False) -> Message:
    """A message of a row of MESSAGE_COLUMNS (and CONTENT_COLUMNS)."""
    body, answer = None, b""
    if with_content:
        body = bytes(row.body) if row.body is not None else None
        answer = bytes(row.answer)
    return Message(
        id=row.id,
        sequence=row.sequence,
        parent_id=row.parent_id,
        carrier_id=row.carrier_id,
        source=row.source,
        format=Format(row.format),
        kind=row.kind,
        control_id=row.control_id,
        dedupe_key=row.dedupe_key,
        group_key=row.group_key,
        lane=row.lane,
        state=MessageState(row.state),
        cause=cause_of(row),
        sha256=row.sha256,
        size=row.size,
        encoding=row.encoding,
        peer=row.peer,
        received_at=row.received_at,
        changed_at=row.changed_at,
        attributes=row.attributes,
        arrivals=row.arrivals,
        starts=row.starts,
        patient_id=row.patient_id,
        mapping=row.mapping,
        mapping_version=row.mapping_version,
        mapping_digest=row.mapping_digest,
        flags=tuple(row.flags),
        body=body,
        answer=answer,
    )


def delivery_of(row: AnyRow) -> DeliveryRow:
    """A delivery of a whole row of ``delivery``."""
    return DeliveryRow(
        id=row.id,
        message_id=row.message_id,
        lane=row.lane,
        patient_id=row.patient_id,
        destination=row.destination,
        sequence=row.sequence,
        idempotency_key=row.idempotency_key,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        starts=row.starts,
        unfinished=row.unfinished,
        due_at=row.due_at,
        cause=cause_of(row),
        evidence=row.evidence,
        merged_patients=tuple(row.merged_patients),
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def attempt_of(row: AnyRow) -> Attempt:
    """An attempt of a whole row of ``attempt``."""
    return Attempt(
        id=row.id,
        delivery_id=row.delivery_id,
        number=row.number,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        cause=cause_of(row),
        evidence=row.evidence,
    )


def dead_letter_of(row: AnyRow) -> DeadLetter:
    """A dead letter of a whole row of ``dead_letter`` joined with its message's ``kind``."""
    cause = cause_of(row)
    if cause is None:
        raise ValueError("a dead letter without a cause")
    return DeadLetter(
        id=row.id,
        message_id=row.message_id,
        delivery_id=row.delivery_id,
        source=row.source,
        kind=row.kind,
        stage=Stage(row.stage),
        cause=cause,
        fingerprint=row.fingerprint,
        buried_at=row.buried_at,
        attempts=row.attempts,
        resolved_at=row.resolved_at,
        resolution=Resolution(row.resolution) if row.resolution else None,
        reason=row.reason,
        actor=row.actor,
        child_message_id=row.child_message_id,
    )

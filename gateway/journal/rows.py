"""Rows of the tables to the values of the journal, and causes to columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Row

from gateway.bulk import given_instant, json_of
from gateway.journal import tables
from gateway.journal.fitting import fit
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import KEY_MAX, TEXT_MAX
from gateway.journal.values import Attempt, DeadLetter, DeliveryRow, Message, Resolution
from gateway.model import Cause, CauseCode, Format, Stage

AnyRow = Row[*tuple[Any, ...]]

MESSAGE_COLUMNS: tuple[Column[Any], ...] = tuple(tables.message.c)
CONTENT_COLUMNS: tuple[Column[Any], ...] = (tables.content.c.body, tables.content.c.answer)


CAUSE_COLUMNS = ("cause_code", "cause_detail", "cause_location", "cause_protocol_code")


def cause_values(cause: Cause | None) -> tuple[str, str, str, str]:
    """A cause as the values of CAUSE_COLUMNS; empty ones for none."""
    if cause is None:
        return "", "", "", ""
    return (
        cause.code.value,
        fit(cause.detail, TEXT_MAX),
        fit(cause.location, TEXT_MAX),
        fit(cause.protocol_code, KEY_MAX),
    )


def cause_columns(cause: Cause | None) -> dict[str, str]:
    """A cause as four columns; empty ones for none."""
    return dict(zip(CAUSE_COLUMNS, cause_values(cause), strict=True))


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
        answer = bytes(row.answer) if row.answer is not None else b""
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


MESSAGE_VALUES = ", ".join(
    [f"m.{column.name}" for column in MESSAGE_COLUMNS]
    + [f"c.{column.name}" for column in CONTENT_COLUMNS]
)
"""What a driver's row for :func:`message_of_values` is made of; ``m`` is the message, ``c`` its
content."""


def message_of_values(values: Sequence[Any], *, begun: int) -> Message:
    """A message, with its content, of a driver's row of MESSAGE_VALUES, begun so many times
    more than the row says."""
    # By place, not by name: a batch has dozens of them, and they have thirty columns.
    number, sequence, parent, carrier, source, form, kind, control_id, *values = values
    dedupe_key, group_key, lane, state, *values = values
    code, detail, location, protocol_code, sha256, size, encoding, peer, *values = values
    received_at, changed_at, attributes, arrivals, starts, patient_id, *values = values
    mapping, mapping_version, mapping_digest, flags, body, answer = values
    cause = None
    if code:
        cause = Cause(
            code=CauseCode(code), detail=detail, location=location, protocol_code=protocol_code
        )
    return Message(
        id=number,
        sequence=sequence,
        parent_id=parent,
        carrier_id=carrier,
        source=source,
        format=Format(form),
        kind=kind,
        control_id=control_id,
        dedupe_key=dedupe_key,
        group_key=group_key,
        lane=lane,
        state=MessageState(state),
        cause=cause,
        sha256=sha256,
        size=size,
        encoding=encoding,
        peer=peer,
        received_at=given_instant(received_at),
        changed_at=given_instant(changed_at),
        attributes=json_of(attributes),
        arrivals=arrivals,
        starts=starts + begun,
        patient_id=patient_id,
        mapping=mapping,
        mapping_version=mapping_version,
        mapping_digest=mapping_digest,
        flags=tuple(json_of(flags)),
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
        destination=row.destination,
        assignee=row.assignee,
    )

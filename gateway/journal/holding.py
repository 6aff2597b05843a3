"""Messages that wait for an identity, and their release when another message brings it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, select

from gateway.journal import identifiers as keys_of
from gateway.journal import lanes, patient_tables, tables
from gateway.journal.dialects import upsert
from gateway.journal.moves import move, move_all
from gateway.journal.states import MessageState
from gateway.journal.times import moment
from gateway.journal.values import Move
from gateway.model import Cause, CauseCode, Identifier, Stage

_message = tables.message
_waiting = tables.waiting
_known = patient_tables.patient_identifier


def hold(
    connection: Connection,
    message_id: int,
    identifiers: Iterable[Identifier],
    cause: Cause,
    *,
    stage: Stage = Stage.IDENTIFY,
    at: datetime | None = None,
) -> bool:
    """Let a message wait until one of these identifiers belongs to a patient.

    False when one does already, because another message brought it after this one
    was looked at: then the message stays as it is and its lane is rung, to look
    again (only for the cause IDENTITY_AWAITED). Raises IllegalTransition,
    LookupError, ValueError for more than 256 identifiers.
    """
    awaited = keys_of.fitted(identifiers)
    keys_of.lock(connection, awaited)
    now = moment(connection, at)
    if cause.code is CauseCode.IDENTITY_AWAITED and awaited:
        come = connection.execute(
            select(_known.c.patient_id).where(keys_of.among(_known, list(awaited))).limit(1)
        ).first()
        if come is not None:
            lane = connection.execute(
                select(_message.c.lane).where(_message.c.id == message_id)
            ).scalar_one()
            lanes.ring(connection, lane, now)
            return False
    move(
        connection,
        message_id,
        MessageState.HELD,
        event="held",
        stage=stage,
        cause=cause,
        detail={"systems": sorted({system for system, _ in awaited})},
        at=now,
    )
    if awaited:
        connection.execute(
            upsert(connection, _waiting).on_conflict_do_nothing(),
            [
                {
                    "message_id": message_id,
                    "system": identifier.system,
                    "value": identifier.value,
                    "type": identifier.type,
                }
                for identifier in awaited.values()
            ],
        )
    return True


def release(
    connection: Connection,
    identifiers: Iterable[Identifier],
    *,
    stage: Stage = Stage.IDENTIFY,
    at: datetime | None = None,
) -> list[int]:
    """Let the messages go that wait for any of these: back to RECEIVED, in their old place.

    To be called after ``patients.link`` in the same transaction. Their ids, rising.
    """
    come = keys_of.fitted(identifiers)
    if not come:
        return []
    keys_of.lock(connection, come)
    found = sorted(
        connection.execute(
            select(_waiting.c.message_id).where(keys_of.among(_waiting, list(come))).distinct()
        ).scalars()
    )
    moves = [
        Move(message_id=message_id, to=MessageState.RECEIVED, event="released", stage=stage)
        for message_id in found
    ]
    for start in range(0, len(moves), 1000):
        move_all(connection, moves[start : start + 1000], at=at)
    return found


def waiting_for(connection: Connection, message_id: int) -> tuple[Identifier, ...]:
    """The identifiers that a held message waits for."""
    found = connection.execute(
        select(_waiting.c.system, _waiting.c.value, _waiting.c.type)
        .where(_waiting.c.message_id == message_id)
        .order_by(_waiting.c.system, _waiting.c.value)
    )
    return tuple(Identifier(system=row.system, value=row.value, type=row.type) for row in found)

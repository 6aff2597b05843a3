"""Changes of a message's state: the one place that makes them, and the events that tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from gateway.journal import lanes, states, tables
from gateway.journal.rows import cause_columns
from gateway.journal.states import MessageState
from gateway.journal.times import moment
from gateway.journal.values import Move
from gateway.model import Cause, Stage

_message = tables.message

_LOCKED = (
    select(_message.c.id, _message.c.state, _message.c.lane)
    .where(_message.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(_message.c.id)
    .with_for_update(key_share=True)
)
_CHANGE = (
    update(_message)
    .where(_message.c.id == bindparam("message_id"))
    .values(
        state=bindparam("to"),
        changed_at=bindparam("at"),
        starts=0,
        patient_id=func.coalesce(bindparam("patient"), _message.c.patient_id),
        cause_code=bindparam("cause_code"),
        cause_detail=bindparam("cause_detail"),
        cause_location=bindparam("cause_location"),
        cause_protocol_code=bindparam("cause_protocol_code"),
    )
)
_FORGET_WAITING = delete(tables.waiting).where(
    tables.waiting.c.message_id == bindparam("waiting_message")
)


def move(
    connection: Connection,
    message_id: int,
    to: MessageState,
    *,
    event: str,
    stage: Stage,
    cause: Cause | None = None,
    patient_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Change the state of one message and write the event. See :func:`move_all`."""
    change = Move(
        message_id=message_id,
        to=to,
        event=event,
        stage=stage,
        cause=cause,
        patient_id=patient_id,
        detail=detail or {},
    )
    move_all(connection, [change], at=at)


def move_all(connection: Connection, moves: Sequence[Move], *, at: datetime | None = None) -> None:
    """Change the states of many messages in few statements, in the order given.

    ``starts`` begins at 0 again. A message that becomes RECEIVED rings its lane; one
    that leaves HELD waits for nothing any more. Raises IllegalTransition, and
    LookupError for a message that is not there; nothing is changed then.
    """
    if not moves:
        return
    now = moment(connection, at)
    ids = sorted({change.message_id for change in moves})
    rows = {row.id: row for row in connection.execute(_LOCKED, {"ids": ids})}
    if len(rows) < len(ids):
        raise LookupError("no such message in the journal")
    before = {message_id: MessageState(row.state) for message_id, row in rows.items()}
    unheld = []
    for change in moves:
        states.check(before[change.message_id], change.to)
        if before[change.message_id] is MessageState.HELD:
            unheld.append({"waiting_message": change.message_id})
        before[change.message_id] = change.to
    connection.execute(
        _CHANGE,
        [
            {
                "message_id": change.message_id,
                "to": change.to.value,
                "at": now,
                "patient": change.patient_id,
                **cause_columns(change.cause),
            }
            for change in moves
        ],
    )
    if unheld:
        connection.execute(_FORGET_WAITING, unheld)
    write_events(connection, moves, now)
    for message_id, state in before.items():
        if state is MessageState.RECEIVED:
            lanes.ring(connection, rows[message_id].lane, now)


def write_events(connection: Connection, moves: Sequence[Move], now: datetime) -> None:
    """The events of changes, one each."""
    connection.execute(
        insert(tables.event),
        [
            {
                "message_id": change.message_id,
                "at": now,
                "stage": change.stage.value,
                "what": change.event,
                "detail": _with_cause(change),
            }
            for change in moves
        ],
    )


def note(
    connection: Connection,
    message_id: int,
    *,
    event: str,
    stage: Stage,
    detail: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Write an event without a change of state. ``detail`` holds no value of a patient."""
    connection.execute(
        insert(tables.event),
        {
            "message_id": message_id,
            "at": moment(connection, at),
            "stage": stage.value,
            "what": event,
            "detail": dict(detail or {}),
        },
    )


def _with_cause(change: Move) -> dict[str, Any]:
    detail = dict(change.detail)
    if change.cause is not None:
        detail.setdefault("cause", change.cause.code.value)
    return detail

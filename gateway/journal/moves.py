"""Changes of a message's state: the one place that makes them, and the events that tell them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from gateway.bulk import Statement, Update, insert_rows, instant_text, json_text
from gateway.journal import lanes, states, succession, tables
from gateway.journal.retention import RESOLVED
from gateway.journal.rows import CAUSE_COLUMNS, cause_values
from gateway.journal.states import MessageState
from gateway.journal.times import moment
from gateway.journal.values import Move
from gateway.model import Cause, Stage

_message = tables.message

_LOCKED = Statement(
    "SELECT id, state, lane FROM message WHERE id = ANY(:ids bigint) ORDER BY id FOR NO KEY UPDATE"
)
_CHANGE = Update(
    _message,
    "id",
    ("state", "changed_at", "patient_id", *CAUSE_COLUMNS),
    computed=(("starts", "0"), ("patient_id", "coalesce(v.patient_id, t.patient_id)")),
)
_WITH_BYTES = Statement("SELECT message_id FROM content WHERE message_id = ANY(:ids bigint)")
_FORGET_WAITING = Statement("DELETE FROM waiting WHERE message_id = ANY(:ids bigint)")
_EVENT_COLUMNS = ("message_id", "at", "stage", "what", "detail")


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
    LookupError for a message that is not there, or is to be read again although its bytes
    were purged; nothing is changed then.
    """
    if not moves:
        return
    now = moment(connection, at)
    ids = sorted({change.message_id for change in moves})
    rows = _LOCKED.rows(connection, ids=ids)
    if len(rows) < len(ids):
        raise LookupError("no such message in the journal")
    stands = {message_id: MessageState(state) for message_id, state, _ in rows}
    unheld: list[int] = []
    again: list[int] = []
    for change in moves:
        states.check(stands[change.message_id], change.to)
        if stands[change.message_id] is MessageState.HELD:
            unheld.append(change.message_id)
        if change.to is MessageState.RECEIVED and stands[change.message_id] in RESOLVED:
            again.append(change.message_id)
        stands[change.message_id] = change.to
    # Their rows are held, so that no purge takes the bytes between this look and the commit.
    if again and len(_WITH_BYTES.rows(connection, ids=again)) < len(set(again)):
        raise LookupError("the bytes of this message are not kept any more")
    changed_at = instant_text(now)
    _CHANGE.rows(
        connection,
        [
            (
                change.message_id,
                change.to.value,
                changed_at,
                change.patient_id,
                *cause_values(change.cause),
            )
            for change in moves
        ],
    )
    if unheld:
        _FORGET_WAITING.rows(connection, ids=unheld)
    write_events(
        connection,
        [(change.message_id, change.stage, change.event, _with_cause(change)) for change in moves],
        now,
    )
    discarded = [each for each in ids if stands[each] is MessageState.DISCARDED]
    if discarded:
        succession.succeed(connection, discarded)
    for message_id, _, lane in rows:
        if stands[message_id] is MessageState.RECEIVED:
            lanes.ring(connection, lane, now)


def write_events(
    connection: Connection,
    happened: Iterable[tuple[int, Stage, str, Mapping[str, Any]]],
    now: datetime,
) -> None:
    """Events, in their order: message id, stage, what happened, and details without any value
    of a patient."""
    at = instant_text(now)
    insert_rows(
        connection,
        tables.event,
        [
            (message_id, at, stage.value, what, json_text(detail))
            for message_id, stage, what, detail in happened
        ],
        columns=_EVENT_COLUMNS,
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
    write_events(connection, [(message_id, stage, event, detail or {})], moment(connection, at))


def _with_cause(change: Move) -> dict[str, Any]:
    detail = dict(change.detail)
    if change.cause is not None:
        detail.setdefault("cause", change.cause.code.value)
    return detail

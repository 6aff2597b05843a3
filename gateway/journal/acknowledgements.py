"""Application acknowledgements: which are owed, which are on their way, how each ended.

A row is written with its message, in one transaction (``append``), when the sender asked
for it. Functions that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, update

from gateway.journal import tables
from gateway.journal.rows import cause_of
from gateway.journal.states import AnswerState, MessageState
from gateway.model import Cause

_table = tables.application_acknowledgement
_message = tables.message

ENDS = frozenset(
    {
        MessageState.DELIVERED,
        MessageState.REFUSED,
        MessageState.DEAD,
        MessageState.DISCARDED,
    }
)
"""States in which a message has reached its end, for its sender."""
_CHILDREN_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A message whose sender awaits an answer, and how it ended."""

    message_id: int
    condition: str
    state: MessageState
    cause: Cause | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A worded acknowledgement that is due. ``attempts`` counts those begun, this one included."""

    message_id: int
    control_id: str
    code: str
    body: bytes
    attempts: int
    first_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What an acknowledgement will be; ``body`` empty: the sender does not want it."""

    message_id: int
    control_id: str = ""
    code: str = ""
    body: bytes = b""


def ended(
    connection: Connection, source: str, *, after: int = 0, limit: int = 500
) -> tuple[list[Ended], int | None]:
    """The awaited answers of messages that have ended, among ``limit`` awaited ones.

    Looks at those behind message ``after``; the second value is where to go on, None
    when all were looked at. A message that a repaired copy replaced ends as that does.
    """
    rows = connection.execute(
        select(
            _table.c.message_id,
            _table.c.condition,
            _message.c.state,
            *(column for column in _message.c if column.name.startswith("cause_")),
        )
        .join(_message, _message.c.id == _table.c.message_id)
        .where(
            _table.c.source == source,
            _table.c.state == AnswerState.AWAITED.value,
            _table.c.message_id > after,
        )
        .order_by(_table.c.message_id)
        .limit(limit)
    ).all()
    found = []
    for row in rows:
        state, cause = MessageState(row.state), cause_of(row)
        if state is MessageState.REPLACED:
            state, cause = _end_of_copy(connection, row.message_id)
        if state in ENDS:
            found.append(
                Ended(
                    message_id=row.message_id,
                    condition=row.condition,
                    state=state,
                    cause=None if state is MessageState.DELIVERED else cause,
                )
            )
    return found, rows[-1].message_id if len(rows) == limit else None


def _end_of_copy(connection: Connection, message_id: int) -> tuple[MessageState, Cause | None]:
    """The state of the last repaired copy of a message."""
    state, cause = MessageState.REPLACED, None
    for _ in range(_CHILDREN_MAX):
        row = connection.execute(
            select(_message)
            .where(_message.c.parent_id == message_id)
            .order_by(_message.c.id.desc())
        ).first()
        if row is None:
            break
        message_id, state, cause = row.id, MessageState(row.state), cause_of(row)
        if state is not MessageState.REPLACED:
            break
    return state, cause


def word(connection: Connection, wordings: Sequence[Wording], now: datetime) -> None:
    """Keep worded acknowledgements, due now. One that was worded meanwhile stays as it is."""
    for each in wordings:
        values = (
            {"state": AnswerState.DUE.value, "due_at": now, "first_at": now}
            if each.body
            else {"state": AnswerState.UNWANTED.value, "ended_at": now}
        )
        connection.execute(
            update(_table)
            .where(
                _table.c.message_id == each.message_id,
                _table.c.state == AnswerState.AWAITED.value,
            )
            .values(control_id=each.control_id, code=each.code, body=each.body or None, **values)
        )


def claim(
    connection: Connection, source: str, now: datetime, hold: timedelta, limit: int
) -> list[Owed]:
    """Take acknowledgements that are due, in the order of their messages, those that were
    tried least first: one that its receiver chokes on must not stop the others.

    Their attempt is counted, and they are due again after ``hold``: whoever takes them
    settles them before, or has died. Another process skips what is being taken.
    """
    rows = connection.execute(
        select(_table)
        .where(
            _table.c.source == source,
            _table.c.state == AnswerState.DUE.value,
            _table.c.due_at <= now,
        )
        .order_by(_table.c.attempts, _table.c.message_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if rows:
        connection.execute(
            update(_table)
            .where(_table.c.message_id.in_([row.message_id for row in rows]))
            .values(attempts=_table.c.attempts + 1, due_at=now + hold)
        )
    return [
        Owed(
            message_id=row.message_id,
            control_id=row.control_id,
            code=row.code,
            body=bytes(row.body),
            attempts=row.attempts + 1,
            first_at=row.first_at,
        )
        for row in rows
    ]


def end(connection: Connection, message_id: int, state: AnswerState, now: datetime) -> None:
    """An acknowledgement has ended: SENT, REFUSED or DEAD."""
    connection.execute(
        update(_table)
        .where(_table.c.message_id == message_id, _table.c.state == AnswerState.DUE.value)
        .values(state=state.value, ended_at=now)
    )


def again(connection: Connection, message_id: int, at: datetime, *, begun: bool = True) -> None:
    """Due again at ``at``. ``begun`` False: it was taken and never sent, which is not counted."""
    connection.execute(
        update(_table)
        .where(_table.c.message_id == message_id, _table.c.state == AnswerState.DUE.value)
        .values(due_at=at, attempts=_table.c.attempts - (0 if begun else 1))
    )


def counts(connection: Connection) -> dict[str, dict[AnswerState, int]]:
    """How many acknowledgements of each source stand where."""
    found: dict[str, dict[AnswerState, int]] = {}
    for source, state, count in connection.execute(
        select(_table.c.source, _table.c.state, func.count()).group_by(
            _table.c.source, _table.c.state
        )
    ):
        found.setdefault(source, {})[AnswerState(state)] = count
    return found


def is_due(connection: Connection, source: str, now: datetime) -> bool:
    """Whether an acknowledgement of the source can be claimed now."""
    return (
        connection.execute(
            select(_table.c.message_id)
            .where(
                _table.c.source == source,
                _table.c.state == AnswerState.DUE.value,
                _table.c.due_at <= now,
            )
            .limit(1)
        ).first()
        is not None
    )


def recover(connection: Connection, source: str, now: datetime) -> None:
    """What a process that died had taken is due again."""
    connection.execute(
        update(_table)
        .where(
            _table.c.source == source,
            _table.c.state == AnswerState.DUE.value,
            _table.c.due_at > now,
        )
        .values(due_at=now)
    )

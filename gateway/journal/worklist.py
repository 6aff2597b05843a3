"""The scheduled procedure steps of the worklist: what orders make of them, and what is found.

An order notes itself in ``unscheduled``, in the transaction that keeps it; :func:`store` makes it
steps. Of one step what the message says that came last counts. Functions that change something
are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, or_, select, update

from gateway.journal import imaging_tables, tables
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.rows import CONTENT_COLUMNS, MESSAGE_COLUMNS, message_of
from gateway.journal.states import MessageState
from gateway.journal.values import Message

SCHEDULED, HELD, CANCELLED, COMPLETED = "scheduled", "held", "cancelled", "completed"

_step = imaging_tables.scheduled_step
_message = tables.message
_unscheduled = imaging_tables.unscheduled
_GONE = [s.value for s in (MessageState.REFUSED, MessageState.DISCARDED, MessageState.REPLACED)]
_DONE = ("COMPLETED",)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedStep:
    """What one order says of one step; ``step_id`` empty: of all steps of the order.
    ``content`` is the step as it is given to who asks, None when only the state is told."""

    order_key: str
    step_id: str
    state: str
    study_uid: str = ""
    start_date: str = ""
    content: Mapping[str, Any] | None = None


def unscheduled(connection: Connection, limit: int) -> list[Message]:
    """Orders that the worklist does not have yet, the oldest first, with their bytes when these
    are short."""
    found = connection.execute(
        select(*MESSAGE_COLUMNS, *CONTENT_COLUMNS)
        .join(_unscheduled, _unscheduled.c.message_id == _message.c.id)
        .join(tables.content, tables.content.c.message_id == _message.c.id)
        .order_by(_unscheduled.c.message_id)
        .limit(limit)
    )
    return [message_of(row, with_content=True) for row in found]


def store(connection: Connection, ordered: Sequence[tuple[Message, Sequence[OrderedStep]]]) -> None:
    """Put what orders say into the worklist, in the order given, and take the messages off the
    list of those that are not in it."""
    for message, steps in ordered:
        for each in steps:
            if each.step_id and each.content is not None:
                _put(connection, message, each)
            else:
                _tell(connection, message, each)
    for start in range(0, len(ordered), 500):
        done = [message.id for message, _ in ordered[start : start + 500]]
        connection.execute(delete(_unscheduled).where(_unscheduled.c.message_id.in_(done)))


def _put(connection: Connection, message: Message, step: OrderedStep) -> None:
    statement = upsert(connection, _step).values(
        order_key=step.order_key,
        step_id=fit(step.step_id, tables.KEY_MAX),
        message_id=message.id,
        sequence=message.sequence,
        state=step.state,
        study_uid=step.study_uid,
        start_date=step.start_date,
        content=dict(step.content or {}),
        performed_uid="",
        performed="",
    )
    given = statement.excluded
    names = ("message_id", "sequence", "state", "study_uid", "start_date", "content")
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_step.c.order_key, _step.c.step_id],
            set_={name: given[name] for name in names},
            where=given["sequence"] >= _step.c.sequence,
        )
    )


def _tell(connection: Connection, message: Message, step: OrderedStep) -> None:
    """A new state of the steps that are there; what they are stays."""
    which = [_step.c.order_key == step.order_key, _step.c.sequence <= message.sequence]
    if step.step_id:
        which.append(_step.c.step_id == fit(step.step_id, tables.KEY_MAX))
    connection.execute(
        update(_step)
        .where(*which)
        .values(state=step.state, sequence=message.sequence, message_id=message.id)
    )


def performed(
    connection: Connection, uid: str, status: str, *, study: str = "", steps: Sequence[str] = ()
) -> None:
    """A performed procedure step began (with its study, and the steps that it performs), or
    changed its status."""
    which: ColumnElement[bool] = _step.c.performed_uid == uid
    if study:
        which = _step.c.study_uid == study
        if steps:
            which &= _step.c.step_id.in_([fit(each, tables.KEY_MAX) for each in steps])
    connection.execute(update(_step).where(which).values(performed_uid=uid, performed=status))


def find(
    connection: Connection,
    *,
    after: int,
    limit: int,
    since: str,
    first: str = "",
    last: str = "",
) -> list[tuple[int, Mapping[str, Any], str]]:
    """Steps that are to be made, by their number: each with its content and the status of the
    performed step that belongs to it. ``since`` is the earliest day at all, ``first`` and
    ``last`` the days that are asked for."""
    asked = (
        select(_step.c.id, _step.c.content, _step.c.performed)
        .join(_message, _message.c.id == _step.c.message_id)
        .where(
            _step.c.id > after,
            _step.c.state == SCHEDULED,
            _step.c.performed.not_in(_DONE),
            _step.c.start_date >= max(since, first),
            _message.c.state.not_in(_GONE),
        )
        .order_by(_step.c.id)
        .limit(limit)
    )
    if last:
        asked = asked.where(_step.c.start_date <= last)
    return [(row.id, row.content, row.performed) for row in connection.execute(asked)]


def forget(connection: Connection, before: str) -> None:
    """Drop the steps that were to be made before a day."""
    connection.execute(
        delete(_step).where(or_(_step.c.start_date < before, _step.c.start_date == ""))
    )

"""What is kept beside messages and is of no use once they are gone: a purge takes it after them.

Five kinds, each with a rule of its own, and none by age alone while a message is there that it is
about:

* what waits for an index (``unindexed``, ``unscheduled``) goes when its message is resolved, or
  gone, and has no bytes: there is nothing left to read;
* a ``gathering`` goes when it is closed, none of its messages is in the journal, and nothing came
  to it, or is announced of it, for as long as any message's metadata are kept;
* ``study_evidence`` goes when its study does not gather any more, none of its messages is in the
  journal, and it was not changed, nor anything waited for by it, for as long;
* a ``storage_commitment`` goes when its sender has the answer, or was given up, for as long. One
  that we asked for goes with its delivery; of a delivery that a person ended, :data:`OURS_DAYS`
  later than others;
* a ``replay_item`` goes when its replay is over and its message is gone. Who replayed what, why
  and with which result stays: the job itself is kept.

The last four go only by a policy that lets whole messages expire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, or_, select, tuple_

from gateway.journal import asked_commitments, commitments, desk_tables, imaging_tables, tables
from gateway.journal.purging import Step
from gateway.journal.retention import RESOLVED, Part, Policy
from gateway.journal.states import MessageState

ROWS_LOOKED_AT = 1_000
"""Rows that one transaction looks at."""
OURS_DAYS = 366
"""A delivery that waits so long behind others may still ask what became of its requests."""

_message = tables.message
_content = tables.content
_gathering = tables.gathering
_evidence = imaging_tables.study_evidence
_commitment = imaging_tables.storage_commitment
_item = desk_tables.replay_item
_job = desk_tables.replay_job

_ENDED = [state.value for state in (*RESOLVED, MessageState.GATHERED)]


def take(connection: Connection, policy: Policy, now: datetime, after: list[Any]) -> Step:
    """One transaction's worth. ``after`` is a table's name and the key of its row that was looked
    at last; empty at the beginning. Each table's rows are looked at in the order of their keys."""
    if not policy.anything:
        return Step()
    names = list(_RULES)
    name, *last = after or [names[0]]
    step = Step()
    needless = _RULES[name](policy, now)
    table = _TABLES[name]
    more = needless is not None and _take(connection, table, needless, last, step)
    if more:
        step.after = [name, *step.after]
    else:
        following = names[names.index(name) + 1 :]
        step.after = following[:1] or None
    return step


def _take(
    connection: Connection,
    table: Table,
    needless: ColumnElement[bool],
    last: list[Any],
    step: Step,
) -> bool:
    """Look at the rows that follow ``last``; whether there may be more, and then ``step.after``
    is the key reached."""
    columns = list(table.primary_key.columns)
    key = tuple_(*columns)
    page = select(*columns).order_by(*columns).limit(ROWS_LOOKED_AT)
    if last:
        page = page.where(key > tuple_(*last))
    found = [tuple(row) for row in connection.execute(page)]
    if not found:
        return False
    # Whoever holds a row is about to need it: it is let be, and nobody is waited for.
    gone = connection.execute(
        select(*columns)
        .where(key >= tuple_(*found[0]), key <= tuple_(*found[-1]), needless)
        .with_for_update(skip_locked=True, of=table)
    ).all()
    if gone:
        connection.execute(delete(table).where(key.in_([tuple(row) for row in gone])))
        step.counts[table.name] += len(gone)
    step.after = list(found[-1])
    return len(found) == ROWS_LOOKED_AT


def _nothing_to_read(table: Table) -> ColumnElement[bool]:
    """There are no bytes, and it is not that they were lost: a loss is for a person to see."""
    of = table.c.message_id
    return and_(
        ~exists(select(_content.c.message_id).where(_content.c.message_id == of)),
        ~exists(select(_message.c.id).where(_message.c.id == of, _message.c.state.not_in(_ENDED))),
    )


def _unindexed(_policy: Policy, _now: datetime) -> ColumnElement[bool] | None:
    return _nothing_to_read(imaging_tables.unindexed)


def _unscheduled(_policy: Policy, _now: datetime) -> ColumnElement[bool] | None:
    return _nothing_to_read(imaging_tables.unscheduled)


def _since(policy: Policy, now: datetime) -> datetime | None:
    """What is older than this is older than the metadata of any message that expires."""
    days = policy.of(Part.MESSAGE).values()
    return now - timedelta(days=max(days)) if days else None


def _closed(policy: Policy, now: datetime) -> ColumnElement[bool] | None:
    since = _since(policy, now)
    if since is None:
        return None
    announced = exists(
        select(_evidence.c.reference).where(
            _evidence.c.source == _gathering.c.source,
            _evidence.c.group_key == _gathering.c.group_key,
            or_(_evidence.c.until >= since, _evidence.c.changed_at >= since),
        )
    )
    return and_(
        _gathering.c.due_at.is_(None),
        _gathering.c.last_at < since,
        ~_has_messages(_gathering),
        ~announced,
    )


def _settled(policy: Policy, now: datetime) -> ColumnElement[bool] | None:
    since = _since(policy, now)
    if since is None:
        return None
    gathers = exists(
        select(_gathering.c.source).where(
            _gathering.c.source == _evidence.c.source,
            _gathering.c.group_key == _evidence.c.group_key,
        )
    )
    return and_(
        _evidence.c.changed_at < since,
        _evidence.c.until < since,
        ~gathers,
        ~_has_messages(_evidence),
    )


def _answered(policy: Policy, now: datetime) -> ColumnElement[bool] | None:
    since = _since(policy, now)
    if since is None:
        return None
    ours = _commitment.c.source == asked_commitments.OURS
    return or_(
        and_(
            ~ours,
            _commitment.c.state.in_((commitments.REPORTED, commitments.GIVEN_UP)),
            _commitment.c.changed_at < since,
        ),
        and_(ours, _commitment.c.changed_at < since - timedelta(days=OURS_DAYS)),
    )


def _has_messages(table: Table) -> ColumnElement[bool]:
    return exists(
        select(_message.c.id).where(
            _message.c.source == table.c.source,
            _message.c.group_key == table.c.group_key,
            _message.c.group_key != "",  # as the index has it
        )
    )


def _replayed(policy: Policy, _now: datetime) -> ColumnElement[bool] | None:
    if not policy.of(Part.MESSAGE):
        return None
    return and_(
        exists(select(_job.c.id).where(_job.c.id == _item.c.job_id, _job.c.active.is_(None))),
        ~exists(select(_message.c.id).where(_message.c.id == _item.c.message_id)),
    )


# A study's evidence after its gathering, so that both go in one purge.
_RULES: Mapping[str, Callable[[Policy, datetime], ColumnElement[bool] | None]] = {
    "unindexed": _unindexed,
    "unscheduled": _unscheduled,
    "gathering": _closed,
    "study_evidence": _settled,
    "storage_commitment": _answered,
    "replay_item": _replayed,
}
_TABLES: Mapping[str, Table] = {name: tables.metadata.tables[name] for name in _RULES}

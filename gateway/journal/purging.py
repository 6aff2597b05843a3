"""One transaction's worth of taking out: bytes and entries row by row, messages link by link.

Each function is called inside ``Journal.write()``, looks at a bounded number of rows, locks those
that it takes before it takes them, and says where the next one begins. What was taken is counted
in the same transaction (:mod:`gateway.journal.purged`), so that the account balances at every
moment.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    case,
    column,
    delete,
    func,
    literal,
    or_,
    select,
    table,
)
from sqlalchemy.sql.selectable import TableClause

from gateway.bulk import given_instant
from gateway.journal import chain, purged, purges, seals, tables
from gateway.journal.expiry import expired
from gateway.journal.purges import Purge
from gateway.journal.retention import Part, Policy
from gateway.journal.tables import INLINE_BYTES_MAX

ROWS_LOOKED_AT = 500
"""Rows of bytes or entries that one transaction looks at."""
LINKS_LOOKED_AT = 40
"""Links of the chain that one transaction looks at; each covers at most one commit."""
MESSAGES_TAKEN_MAX = 1_000
"""Messages after which a transaction takes no further link."""

_message = tables.message
_link = tables.chain_link
_TABLES: dict[Part, Table] = {Part.CONTENT: tables.content, Part.NORMALISED: tables.normalised}


@dataclass(slots=True)
class Step:
    """What one transaction did: where the next begins (None: there is no next), what went."""

    after: Any = None
    counts: Counter[str] = field(default_factory=Counter)


def take_rows(
    connection: Connection,
    purge: Purge,
    part: Part,
    now: datetime,
    *,
    after: int,
    of: str = "",
) -> Step:
    """Delete the rows of ``content`` or ``normalised`` that are past their time, of messages
    after ``after``. ``of`` names a partition, to look at that one only."""
    newest = purge.policy.newest(part, now)
    if newest is None:
        return Step()
    looked_at: TableClause = table(of or part.value, column("message_id"))
    ids = list(
        connection.execute(
            select(looked_at.c.message_id)
            .where(looked_at.c.message_id > after)
            .order_by(looked_at.c.message_id)
            .limit(ROWS_LOOKED_AT)
        ).scalars()
    )
    if not ids:
        return Step()
    taken = connection.execute(
        select(_message.c.id, _message.c.state, _message.c.size)
        .where(_message.c.id.in_(ids), expired(purge.policy, part, now))
        .order_by(_message.c.id)
        .with_for_update(key_share=True, of=_message)
    ).all()
    step = Step()
    if taken:
        kept = _TABLES[part]
        gone = [row.id for row in taken]
        if part is Part.NORMALISED:
            sizes = select(kept.c.entries_size).where(kept.c.message_id.in_(gone))
            step.counts["bytes"] = sum(connection.execute(sizes).scalars())
        else:
            step.counts["bytes"] = sum(row.size for row in taken if row.size <= INLINE_BYTES_MAX)
        connection.execute(delete(kept).where(kept.c.message_id.in_(gone)))
        step.counts.update(f"{part.value}.{row.state}" for row in taken)
        purges.mark(connection, part, gone[-1], purge.id)
    last = connection.execute(
        select(_message.c.received_at).where(_message.c.id == ids[-1])
    ).scalar_one_or_none()
    if len(ids) == ROWS_LOOKED_AT and (last is None or last < newest):
        step.after = ids[-1]
    return step


def take_links(connection: Connection, purge: Purge, now: datetime, after: list[Any]) -> Step:
    """Delete messages with all that belongs to them, as whole links of the chain, and seal the
    links. ``after`` is the instant (as text), chain and number of the last link looked at.

    A link whose messages are not all past their time stays, and so do its messages: the digest
    of a link can only be recalculated over all of them. Messages in no link (repaired copies)
    go with those that they are copies of.
    """
    newest = purge.policy.newest(Part.MESSAGE, now)
    if newest is None:
        return Step()
    found = _links(connection, newest, after)
    taken: list[Any] = []
    gone: set[int] = set()
    for row in found:
        ids = _family(connection, chain.ids_of(row.ids))
        if _all_expired(connection, purge, ids, now):
            taken.append(row)
            gone |= ids
        if len(gone) >= MESSAGES_TAKEN_MAX:
            break
    step = Step()
    if taken:
        step.counts = purged.take_messages(connection, sorted(gone))
        step.counts["links"] = len(taken)
        seals.seal(connection, purge, taken, now)
    looked_at = len(found) if not taken else found.index(taken[-1]) + 1
    if len(gone) < MESSAGES_TAKEN_MAX:
        looked_at = len(found)
    if found and (looked_at < len(found) or len(found) == LINKS_LOOKED_AT):
        last = found[looked_at - 1]
        step.after = [given_instant(last.at).isoformat(), last.chain, last.number]
    return step


def _links(connection: Connection, newest: datetime, after: list[Any]) -> list[Any]:
    conditions = [_link.c.at < newest]
    if after:
        at, name, number = datetime.fromisoformat(after[0]), after[1], after[2]
        conditions.append(
            or_(
                _link.c.at > at,
                and_(_link.c.at == at, _link.c.chain > name),
                and_(_link.c.at == at, _link.c.chain == name, _link.c.number > number),
            )
        )
    return list(
        connection.execute(
            select(_link)
            .where(*conditions)
            .order_by(_link.c.at, _link.c.chain, _link.c.number)
            .limit(LINKS_LOOKED_AT)
        ).all()
    )


def _family(connection: Connection, ids: list[int]) -> set[int]:
    """Messages with their repaired copies, and the copies of these."""
    whole, latest = set(ids), list(ids)
    while latest:
        sources = select(_message.c.source).where(_message.c.id.in_(latest)).distinct()
        latest = list(
            connection.execute(
                select(_message.c.id).where(
                    # The source first, as the index has it.
                    _message.c.source.in_(list(connection.execute(sources).scalars())),
                    _message.c.parent_id.in_(latest),
                )
            ).scalars()
        )
        latest = [each for each in latest if each not in whole]
        whole.update(latest)
    return whole


def _all_expired(connection: Connection, purge: Purge, ids: set[int], now: datetime) -> bool:
    """Whether all of them are there and past their time; their rows are held then."""
    locked = connection.execute(
        select(_message.c.id)
        .where(_message.c.id.in_(ids), expired(purge.policy, Part.MESSAGE, now))
        .order_by(_message.c.id)
        .with_for_update(key_share=True, of=_message)
    ).all()
    return len(locked) == len(ids)


def expected(connection: Connection, policy: Policy, now: datetime) -> Counter[str]:
    """What a purge would take now, at most: rows by part and state, and ``bytes``.

    A message whose link has another one that stays is counted although it stays, too; files that
    nothing names any more are not counted. Reads the rows of the parts that have a time.
    """
    found: Counter[str] = Counter()
    for part in Part:
        if policy.newest(part, now) is None:
            continue
        size: ColumnElement[int] = literal(0)
        if part is Part.NORMALISED:
            size = _TABLES[part].c.entries_size
        elif part is Part.CONTENT:
            size = case((_message.c.size <= INLINE_BYTES_MAX, _message.c.size), else_=0)
        query = select(_message.c.state, func.count(), func.sum(size))
        if part in _TABLES:
            kept = _TABLES[part]
            query = query.join(kept, kept.c.message_id == _message.c.id)
        rows = connection.execute(
            query.where(expired(policy, part, now)).group_by(_message.c.state)
        )
        for state, count, total in rows:
            found[f"{part.value}.{state}"] += int(count)
            found["bytes"] += int(total or 0)
    return found

"""The months of ``content`` and ``normalised`` on PostgreSQL.

These two hold nearly all bytes of a journal, and only for so long as a message may still be
needed. They are partitioned by the message's number, in ranges that a purge cuts at the first run
of each month; so a month of them goes with its files at once, and leaves nothing to vacuum. What
of such a month is not past its time (a message that is held, dead, or was settled lately) is put
into the partition ``…_kept`` in the same transaction. A month with more of these than a
transaction should carry is emptied row by row instead, like the partition ``…_kept`` itself.

A month of few messages is cut in one short transaction that holds the table. For a larger one
the end lies ahead of the newest number, and there are three: a check that new rows must pass, its
validation, which locks out nobody, and the change of the bounds. Whatever holds the table gives
up when it does not get it at once; then the next purge tries again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, func, insert, select, table, text, update
from sqlalchemy import column as named

from gateway.journal import purges, tables
from gateway.journal.expiry import expired
from gateway.journal.purge_tables import journal_partition
from gateway.journal.purges import Purge
from gateway.journal.purging import Step
from gateway.journal.retention import Part
from gateway.journal.tables import INLINE_BYTES_MAX

PARTITIONED = (Part.NORMALISED, Part.CONTENT)
KEPT_MAX = 5_000
"""Rows that a dropped month may leave behind; with more it is emptied row by row."""
SMALL_MAX = 200_000
"""Rows that are read in a fraction of a second, while nobody else may write."""
AHEAD_SHARE = 10
"""The end of a larger month lies ahead by the tenth part of its numbers: some days of arrivals."""
_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '2s'")
"""Whoever waits for the whole table makes everybody wait behind him."""

_message = tables.message
_partition = journal_partition


@dataclass(frozen=True, slots=True)
class Month:
    """A partition: messages from ``first`` up to, not including, ``end`` (None: no end yet)."""

    name: str
    part: Part
    first: int
    end: int | None
    opened_at: datetime


def months(connection: Connection, part: Part) -> list[Month]:
    """The partitions of a part that are there, oldest first."""
    rows = connection.execute(
        select(_partition)
        .where(_partition.c.part == part.value, _partition.c.dropped_at.is_(None))
        .order_by(_partition.c.first_id)
    )
    return [Month(r.name, Part(r.part), r.first_id, r.end_id, r.opened_at) for r in rows]


def kept_of(part: Part) -> str:
    """The name of the partition that takes what a month leaves behind."""
    return f"{part.value}_kept"


def due_for_cut(connection: Connection, part: Part, now: datetime) -> Month | None:
    """The open partition when it began in an earlier month and has messages, else None."""
    for month in months(connection, part):
        if month.end is None and (month.opened_at.year, month.opened_at.month) < (
            now.year, now.month,
        ):  # fmt: skip
            return month if _newest(connection) >= month.first else None
    return None


def _newest(connection: Connection) -> int:
    return int(connection.execute(select(func.max(_message.c.id))).scalar_one() or 0)


def is_small(connection: Connection, month: Month) -> bool:
    """Whether a month may be cut in one transaction."""
    return _last_number(connection) - month.first < SMALL_MAX


def cut_small(connection: Connection, month: Month, now: datetime) -> str:
    """End a small month after the last number that was given out; the name of the next, empty
    when another process has ended it."""
    if not _hold_open(connection, month):
        return ""
    end = _last_number(connection) + 1
    _bound(connection, month, end)
    validate(connection, month)
    return cut(connection, month, end, now)


def bound(connection: Connection, month: Month) -> int:
    """First step for a large month: it takes no number from its new end on; that end, 0 when
    another process has ended it."""
    if not _hold_open(connection, month):
        return 0
    last = _last_number(connection)
    end = last + (last - month.first) // AHEAD_SHARE
    _bound(connection, month, end)
    return end


def validate(connection: Connection, month: Month) -> None:
    """Second step: the database makes sure of it. Others go on reading and writing."""
    connection.execute(text(f"ALTER TABLE {month.name} VALIDATE CONSTRAINT {month.name}_end"))


def cut(connection: Connection, month: Month, end: int, now: datetime) -> str:
    """Third step: the partition ends, and the next begins; the next one's name, empty when
    another process has ended it."""
    if not _hold_open(connection, month):
        return ""
    part = month.part.value
    following = f"{part}_from_{end}"
    first = "MINVALUE" if month.first == 0 else str(month.first)
    for statement in (
        f"ALTER TABLE {part} DETACH PARTITION {month.name}",
        f"ALTER TABLE {part} ATTACH PARTITION {month.name} FOR VALUES FROM ({first}) TO ({end})",
        f"CREATE TABLE {following} PARTITION OF {part} FOR VALUES FROM ({end}) TO (MAXVALUE)",
    ):
        connection.execute(text(statement))
    connection.execute(update(_partition).where(_partition.c.name == month.name).values(end_id=end))
    connection.execute(
        insert(_partition),
        {"name": following, "part": part, "first_id": end, "opened_at": now},
    )
    return following


def _bound(connection: Connection, month: Month, end: int) -> None:
    connection.execute(
        text(
            f"ALTER TABLE {month.name} DROP CONSTRAINT IF EXISTS {month.name}_end,"
            f" ADD CONSTRAINT {month.name}_end CHECK (message_id < {end}) NOT VALID"
        )
    )


def _hold(connection: Connection, part: Part) -> None:
    connection.execute(_LOCK_TIMEOUT)
    connection.execute(text(f"LOCK TABLE {part.value} IN ACCESS EXCLUSIVE MODE"))


def _hold_open(connection: Connection, month: Month) -> bool:
    _hold(connection, month.part)
    found = connection.execute(
        select(_partition.c.end_id).where(_partition.c.name == month.name)
    ).one_or_none()
    return found is not None and found.end_id is None


def _last_number(connection: Connection) -> int:
    """The last number that was given to a message, whether its row is there yet or not."""
    sequence = connection.execute(
        text("SELECT pg_get_serial_sequence('message', 'id')")
    ).scalar_one()
    last = connection.execute(text(f"SELECT last_value FROM {sequence}")).scalar_one()  # noqa: S608
    return int(last)


def droppable(connection: Connection, purge: Purge, month: Month, now: datetime) -> bool:
    """Whether a month is past its time but for a few rows. Its last message must be."""
    newest = purge.policy.newest(month.part, now)
    if newest is None or month.end is None:
        return False
    last = connection.execute(
        select(_message.c.received_at)
        .where(_message.c.id < month.end)
        .order_by(_message.c.id.desc())
        .limit(1)
    ).scalar_one_or_none()
    # An open partition's numbers go on up to its end, which may lie ahead.
    if (last is not None and last >= newest) or _newest(connection) < month.end - 1:
        return False
    return _left_behind(connection, purge, month, now) <= KEPT_MAX


def _left_behind(connection: Connection, purge: Purge, month: Month, now: datetime) -> int:
    rows = table(month.name, named("message_id"))
    some = (
        select(rows.c.message_id)
        .join(_message, _message.c.id == rows.c.message_id)
        .where(~expired(purge.policy, month.part, now))
        .limit(KEPT_MAX + 1)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def drop(connection: Connection, purge: Purge, month: Month, now: datetime) -> Step:
    """Drop a month, and keep what is not past its time. Nothing is done when, now that the
    table is held, too much would be left behind."""
    step = Step()
    # From here on nobody can look whether a message's bytes are there, and let it go again.
    _hold(connection, month.part)
    if _left_behind(connection, purge, month, now) > KEPT_MAX:
        return step
    columns = list(tables.metadata.tables[month.part.value].c)
    rows = table(month.name, *(named(each.name) for each in columns))
    past = expired(purge.policy, month.part, now)
    size = (
        rows.c.entries_size
        if month.part is Part.NORMALISED
        else case((_message.c.size <= INLINE_BYTES_MAX, _message.c.size), else_=0)
    )
    gone = connection.execute(
        select(_message.c.state, func.count(), func.sum(size), func.max(_message.c.id))
        .join(rows, rows.c.message_id == _message.c.id)
        .where(past)
        .group_by(_message.c.state)
    ).all()
    for state, count, total, last in gone:
        step.counts[f"{month.part.value}.{state}"] += count
        step.counts["bytes"] += int(total or 0)
        purges.mark(connection, month.part, last, purge.id)
    connection.execute(text(f"ALTER TABLE {month.part.value} DETACH PARTITION {month.name}"))
    connection.execute(
        insert(tables.metadata.tables[month.part.value]).from_select(
            [each.name for each in columns],
            select(rows).join(_message, _message.c.id == rows.c.message_id).where(~past),
        )
    )
    connection.execute(text(f"DROP TABLE {month.name}"))
    connection.execute(
        update(_partition).where(_partition.c.name == month.name).values(dropped_at=now)
    )
    step.counts["partitions"] += 1
    return step

"""How many dead letters each group has, kept as they come and go.

The desk asks for this all the time, and must not count a hundred thousand rows for it. What a
transaction changes is noted in memory and written just before its commit, in the order of the
groups' names: two transactions that bury into the same groups then never wait for each other
in a circle, and a group's row is locked for a moment only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, case, delete, func, select, update

from gateway.journal.desk_tables import dead_letter_group as _group
from gateway.journal.desk_tables import dead_letter_hour as _hour
from gateway.journal.dialects import upsert

TREND_HOURS = 24
HOURS_KEPT = timedelta(days=35)

_CHANGES = "ecluse.letters"


@dataclass(slots=True)
class _Change:
    stage: str
    cause_code: str
    location: str
    destination: str
    opened: int = 0
    closed: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a group is: its fingerprint, and what all of its letters have in common."""

    fingerprint: str
    source: str
    stage: str
    cause_code: str
    location: str
    destination: str


def begin_counts(connection: Connection) -> None:
    """Forget what a transaction that failed has left."""
    connection.info[_CHANGES] = ({}, {})


def opened(connection: Connection, kind: Kind, at: datetime) -> None:
    """A dead letter was written."""
    change = _change(connection, kind)
    change.opened += 1
    change.first_at = at if change.first_at is None else min(change.first_at, at)
    change.last_at = at if change.last_at is None else max(change.last_at, at)
    hours = connection.info[_CHANGES][1]
    hour = (kind.fingerprint, at.replace(minute=0, second=0, microsecond=0))
    hours[hour] = hours.get(hour, 0) + 1


def closed(connection: Connection, kind: Kind) -> None:
    """A dead letter was resolved, or went to another group."""
    _change(connection, kind).closed += 1


def _change(connection: Connection, kind: Kind) -> _Change:
    if _CHANGES not in connection.info:
        begin_counts(connection)
    groups: dict[tuple[str, str], _Change] = connection.info[_CHANGES][0]
    return groups.setdefault(
        (kind.fingerprint, kind.source),
        _Change(kind.stage, kind.cause_code, kind.location, kind.destination),
    )


def write_counts(connection: Connection) -> None:
    """Write what this transaction changes."""
    changes = connection.info.get(_CHANGES)
    if changes is None or not changes[0]:
        return
    groups, hours = changes
    begin_counts(connection)
    for (fingerprint, source), change in sorted(groups.items()):
        if change.opened:
            _add(connection, fingerprint, source, change)
        else:
            connection.execute(
                update(_group)
                .where(_group.c.fingerprint == fingerprint, _group.c.source == source)
                .values(open_count=_group.c.open_count - change.closed)
            )
    insert = upsert(connection, _hour)
    for (fingerprint, hour), number in sorted(hours.items()):
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[_hour.c.fingerprint, _hour.c.hour],
                set_={"buried": _hour.c.buried + insert.excluded.buried},
            ),
            {"fingerprint": fingerprint, "hour": hour, "buried": number},
        )


def _add(connection: Connection, fingerprint: str, source: str, change: _Change) -> None:
    insert = upsert(connection, _group)
    new = insert.excluded
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[_group.c.fingerprint, _group.c.source],
            set_={
                "open_count": _group.c.open_count + new.open_count,
                "total": _group.c.total + new.total,
                "first_at": case((_group.c.open_count <= 0, new.first_at), else_=_group.c.first_at),
                "last_at": case(
                    (_group.c.last_at < new.last_at, new.last_at), else_=_group.c.last_at
                ),
            },
        ),
        {
            "fingerprint": fingerprint,
            "source": source,
            "stage": change.stage,
            "cause_code": change.cause_code,
            "location": change.location,
            "destination": change.destination,
            "open_count": change.opened - change.closed,
            "total": change.opened,
            "first_at": change.first_at,
            "last_at": change.last_at,
        },
    )


def open_by_cause(connection: Connection) -> dict[str, int]:
    """How many dead letters nobody has settled, by cause code."""
    found = connection.execute(
        select(_group.c.cause_code, func.sum(_group.c.open_count))
        .where(_group.c.open_count > 0)
        .group_by(_group.c.cause_code)
    )
    return {code: int(number) for code, number in found}


def trends(
    connection: Connection, fingerprints: Sequence[str], now: datetime, hours: int = TREND_HOURS
) -> dict[str, tuple[int, ...]]:
    """How many were buried in each of the last hours, the oldest hour first, the present one
    last. All of them count, also those that were settled since."""
    last = now.replace(minute=0, second=0, microsecond=0)
    first = last - timedelta(hours=hours - 1)
    found = {fingerprint: [0] * hours for fingerprint in fingerprints}
    rows = connection.execute(
        select(_hour.c.fingerprint, _hour.c.hour, _hour.c.buried).where(
            and_(_hour.c.fingerprint.in_(fingerprints), _hour.c.hour >= first)
        )
    )
    for fingerprint, hour, number in rows:
        place = int((hour - first) / timedelta(hours=1))
        if 0 <= place < hours:
            found[fingerprint][place] += number
    return {fingerprint: tuple(counts) for fingerprint, counts in found.items()}


def forget_old_hours(connection: Connection, now: datetime) -> int:
    """Delete the counts of hours that no trend shows any more; how many."""
    done = connection.execute(delete(_hour).where(_hour.c.hour < now - HOURS_KEPT))
    return int(done.rowcount)

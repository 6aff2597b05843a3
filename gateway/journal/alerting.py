"""The rows of alerts: up to which size people were told of a group, and what is to be sent.

Whether something is worth an alert is decided in the transaction that writes it down, so that
neither a restart nor a second gateway tells it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from gateway.journal.desk_tables import alert as _alert
from gateway.journal.desk_tables import alert_level as _level
from gateway.journal.desk_tables import dead_letter_group as _group
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.tables import TEXT_MAX


class AlertState(StrEnum):
    """Where an alert stands."""

    DUE = "due"
    SENT = "sent"
    FAILED = "failed"
    """Every attempt failed until it was too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert to one channel."""

    id: int
    at: datetime
    kind: str
    fingerprint: str
    channel: str
    body: Mapping[str, Any]
    state: AlertState
    attempts: int
    due_at: datetime | None
    answer: str
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Level:
    """Up to which size people were told of a group, and since when it is empty."""

    level: int
    empty_at: datetime | None


def sizes(connection: Connection) -> dict[str, int]:
    """How many unresolved dead letters each group has that has any."""
    rows = connection.execute(
        select(_group.c.fingerprint, func.sum(_group.c.open_count))
        .where(_group.c.open_count > 0)
        .group_by(_group.c.fingerprint)
    )
    return {name: int(number) for name, number in rows}


def levels(connection: Connection) -> dict[str, Level]:
    """What people were told of and has not ended."""
    rows = connection.execute(select(_level).where(_level.c.level > 0))
    return {row.fingerprint: Level(row.level, row.empty_at) for row in rows}


def raise_level(
    connection: Connection, fingerprint: str, before: int, after: int, now: datetime
) -> bool:
    """Note that people are told up to ``after``. False when another gateway was first."""
    changed = connection.execute(
        update(_level)
        .where(_level.c.fingerprint == fingerprint, _level.c.level == before)
        .values(level=after, empty_at=None, changed_at=now)
    )
    if changed.rowcount or before:
        return bool(changed.rowcount)
    made = connection.execute(
        upsert(connection, _level).on_conflict_do_nothing().returning(_level.c.fingerprint),
        {"fingerprint": fingerprint, "level": after, "empty_at": None, "changed_at": now},
    )
    return made.first() is not None


def note_empty(connection: Connection, fingerprint: str, at: datetime | None) -> None:
    """Note since when a group is empty, or that it is not any more."""
    connection.execute(
        update(_level).where(_level.c.fingerprint == fingerprint).values(empty_at=at)
    )


def describe(connection: Connection, fingerprint: str) -> dict[str, Any]:
    """What a group is, for people: no value of a patient is in it."""
    rows = connection.execute(
        select(_group).where(_group.c.fingerprint == fingerprint).order_by(_group.c.source)
    ).all()
    if not rows:
        return {}
    first = rows[0]
    return {
        "group": fingerprint,
        "stage": first.stage,
        "code": first.cause_code,
        "location": first.location,
        "destination": first.destination,
        "count": sum(row.open_count for row in rows),
        "sources": {row.source: row.open_count for row in rows if row.open_count},
        "first_at": min(row.first_at for row in rows).isoformat(timespec="seconds"),
        "last_at": max(row.last_at for row in rows).isoformat(timespec="seconds"),
    }


def write(
    connection: Connection,
    kind: str,
    fingerprint: str,
    channels: Sequence[str],
    *,
    body: Mapping[str, Any],
    now: datetime,
) -> None:
    """Write down what is to be sent."""
    if channels:
        connection.execute(
            insert(_alert),
            [
                {
                    "at": now, "kind": kind, "fingerprint": fingerprint, "channel": channel,
                    "body": dict(body), "state": AlertState.DUE.value, "attempts": 0,
                    "due_at": now, "answer": "",
                }
                for channel in channels
            ],
        )  # fmt: skip


def due(connection: Connection, now: datetime, limit: int = 20) -> list[Alert]:
    """What is to be sent by now, the oldest first."""
    rows = connection.execute(
        select(_alert)
        .where(_alert.c.state == AlertState.DUE.value, _alert.c.due_at <= now)
        .order_by(_alert.c.due_at, _alert.c.id)
        .limit(limit)
    )
    return [_alert_of(row) for row in rows]


def take(connection: Connection, alert: Alert, until: datetime) -> bool:
    """Take an alert for one attempt; until then nobody else does. False when another was
    first."""
    taken = connection.execute(
        update(_alert)
        .where(
            _alert.c.id == alert.id,
            _alert.c.attempts == alert.attempts,
            _alert.c.state == AlertState.DUE.value,
        )
        .values(attempts=alert.attempts + 1, due_at=until)
    )
    return bool(taken.rowcount == 1)


def settle(
    connection: Connection,
    alert_id: int,
    state: AlertState,
    answer: str,
    *,
    now: datetime,
    due_at: datetime | None = None,
) -> None:
    """Keep how an attempt ended."""
    over = state is not AlertState.DUE
    connection.execute(
        update(_alert)
        .where(_alert.c.id == alert_id)
        .values(
            state=state.value, answer=fit(answer, TEXT_MAX), due_at=due_at,
            ended_at=now if over else None,
        )
    )  # fmt: skip


def newest(connection: Connection, *, limit: int = 50) -> list[Alert]:
    """Alerts, newest first."""
    rows = connection.execute(select(_alert).order_by(_alert.c.id.desc()).limit(limit))
    return [_alert_of(row) for row in rows]


def _alert_of(row: Any) -> Alert:
    return Alert(**{**row._mapping, "state": AlertState(row.state)})


LEASE = timedelta(seconds=60)
"""How long one attempt may take before another gateway may make the next."""

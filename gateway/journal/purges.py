"""Purges as the journal keeps them: who had what taken out, by which policy, and how far it is.

A purge is a job of steps. Each step is one transaction, which moves the purge's turn on by one:
of two processes that would do the same step one does, and a process that dies leaves the rest to
whichever comes next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select, update

from gateway.journal import purged
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.purge_tables import purge, purge_mark
from gateway.journal.retention import Part, Policy
from gateway.journal.rows import AnyRow
from gateway.journal.tables import KEY_MAX, TEXT_MAX
from gateway.journal.times import Instant, moment

PURGED = "purged"
"""What ``purge_count`` calls the sums of all purges: by what went, and the state it was in."""


class PurgeState(StrEnum):
    """Where a purge stands."""

    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """One purge. ``counts`` say what went: rows by part and state, ``bytes``, ``files``,
    ``links``, ``partitions``. ``position`` is where its next step begins."""

    id: int
    key: str
    state: PurgeState
    actor: str
    reason: str
    policy: Policy
    turn: int
    position: Mapping[str, Any]
    at: datetime
    changed_at: datetime
    counts: Mapping[str, int] = field(default_factory=dict)
    ended_at: datetime | None = None


def begin(
    connection: Connection,
    key: str,
    policy: Policy,
    *,
    actor: str,
    reason: str = "",
    at: datetime | None = None,
) -> Purge:
    """Begin a purge, or give the one of the same key, or else the one that has not ended yet.

    Raises ValueError for a key that is not 1 to 256 characters.
    """
    if not 0 < len(key) <= KEY_MAX:
        raise ValueError(f"a key has 1 to {KEY_MAX} characters")
    now = moment(connection, at)
    made = connection.execute(
        upsert(connection, purge).on_conflict_do_nothing().returning(purge),
        {
            "key": key,
            "active": 1,
            "state": PurgeState.RUNNING.value,
            "actor": fit(actor, TEXT_MAX),
            "reason": fit(reason, TEXT_MAX),
            "policy": policy.as_json(),
            "turn": 0,
            "position": {},
            "counts": {},
            "at": now,
            "changed_at": now,
        },
    ).one_or_none()
    if made is not None:
        return _purge_of(made)
    known = connection.execute(select(purge).where(purge.c.key == key)).one_or_none()
    if known is None:
        known = connection.execute(select(purge).where(purge.c.active == 1)).one_or_none()
    if known is None:  # the one that was in the way has ended at this moment
        return begin(connection, key, policy, actor=actor, reason=reason, at=at)
    return _purge_of(known)


def active(connection: Connection) -> Purge | None:
    """The purge that is not at its end, if there is one."""
    row = connection.execute(select(purge).where(purge.c.active == 1)).one_or_none()
    return _purge_of(row) if row is not None else None


def get(connection: Connection, purge_id: int) -> Purge | None:
    """One purge, or None."""
    row = connection.execute(select(purge).where(purge.c.id == purge_id)).one_or_none()
    return _purge_of(row) if row is not None else None


def newest(connection: Connection, limit: int = 20) -> list[Purge]:
    """Purges, newest first."""
    rows = connection.execute(select(purge).order_by(purge.c.id.desc()).limit(limit))
    return [_purge_of(row) for row in rows]


def last_end(connection: Connection) -> datetime | None:
    """When the newest purge that ended did so; None before the first."""
    newest = select(func.max(purge.c.ended_at, type_=Instant()))
    found: datetime | None = connection.execute(newest).scalar_one()
    return found


def take(connection: Connection, before: Purge) -> bool:
    """Begin a step's transaction. False when another process did the step, or ended the purge:
    then nothing of it may be done. Holds the purge's row until the commit."""
    done = connection.execute(
        update(purge)
        .where(purge.c.id == before.id, purge.c.turn == before.turn, purge.c.active == 1)
        .values(turn=before.turn + 1)
    )
    return bool(done.rowcount == 1)


def note(
    connection: Connection,
    before: Purge,
    position: Mapping[str, Any],
    counts: Mapping[str, int],
    *,
    ended: bool = False,
    at: datetime | None = None,
) -> Purge:
    """End a step's transaction that :func:`take` began; the purge as it is now."""
    now = moment(connection, at)
    purged.add(connection, Counter({(PURGED, *_named(n)): c for n, c in counts.items()}))
    end = {"active": None, "state": PurgeState.DONE.value, "ended_at": now} if ended else {}
    row = connection.execute(
        update(purge)
        .where(purge.c.id == before.id)
        .values(
            position=dict(position),
            counts=added(before.counts, counts),
            changed_at=now,
            **end,
        )
        .returning(purge)
    ).one()
    return _purge_of(row)


def _named(count: str) -> tuple[str, str]:
    part, _, ending = count.partition(".")
    return part, ending


def added(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Two counts as one."""
    return {name: before.get(name, 0) + more.get(name, 0) for name in {**before, **more}}


def mark(connection: Connection, part: Part, up_to: int, purge_id: int) -> None:
    """From now on, what is resolved and has no row of this part up to here was purged."""
    statement = upsert(connection, purge_mark)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[purge_mark.c.part],
            set_={"up_to": statement.excluded.up_to, "purge_id": statement.excluded.purge_id},
            where=purge_mark.c.up_to < statement.excluded.up_to,
        ),
        {"part": part.value, "up_to": up_to, "purge_id": purge_id},
    )


def marked(connection: Connection, part: Part) -> int:
    """Up to which message a purge has taken this part; 0: none has."""
    found = connection.execute(
        select(purge_mark.c.up_to).where(purge_mark.c.part == part.value)
    ).scalar_one_or_none()
    return int(found or 0)


def _purge_of(row: AnyRow) -> Purge:
    return Purge(
        id=row.id,
        key=row.key,
        state=PurgeState(row.state),
        actor=row.actor,
        reason=row.reason,
        policy=Policy.from_json(row.policy),
        turn=row.turn,
        position=row.position,
        counts=row.counts,
        at=row.at,
        changed_at=row.changed_at,
        ended_at=row.ended_at,
    )

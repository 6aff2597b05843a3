"""Lanes: who may work where, and from when on there is work.

A lane's row says when to look at it next (``next_at``) and who works in it. The
lease has a fencing token that grows with every owner, so that a worker that was
frozen while another took over cannot act any more.

Row locks on PostgreSQL (SQLite has one writer at a time and needs none): a ring
and a release lock the row FOR NO KEY UPDATE, so that one waits for the other; a
fence locks it FOR KEY SHARE, which a ring does not wait for, so that arrivals
never wait for the work; a new lease locks it FOR UPDATE and excludes all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from gateway.bulk import Statement, given_instant, insert_rows, instant_text
from gateway.journal import tables
from gateway.journal.faults import LeaseLost
from gateway.journal.tables import KEY_MAX

__all__ = ["LeaseLost", "due", "fence", "lease", "next_due", "release", "renew", "ring"]

_RINGS = "ecluse.rings"
_lane = tables.lane


def ring(connection: Connection, lane: str, at: datetime) -> None:
    """Note that the lane has work from ``at`` on.

    The rows are written once, in the order of their names, just before the
    commit of ``Journal.write()``: two transactions that ring the same lanes
    then never wait for each other in a circle.
    Raises ValueError for a name longer than 256 characters.
    """
    if not lane or len(lane) > KEY_MAX:
        raise ValueError(f"a lane's name has 1 to {KEY_MAX} characters")
    rings: dict[str, datetime] = connection.info.setdefault(_RINGS, {})
    known = rings.get(lane)
    if known is None or at < known:
        rings[lane] = at


def begin_rings(connection: Connection) -> None:
    """Forget what a transaction that failed has left."""
    connection.info[_RINGS] = {}


def write_rings(connection: Connection) -> dict[str, datetime]:
    """Write the rings of this transaction, and give them: from when on each lane has work."""
    rings: dict[str, datetime] = connection.info.get(_RINGS, {})
    if not rings:
        return rings
    # A row whose next_at stays is locked all the same, and must be: a release
    # that looked before this transaction's rows could be seen has to wait.
    insert_rows(
        connection,
        _lane,
        [(name, instant_text(at), 0) for name, at in sorted(rings.items())],
        columns=("name", "next_at", "token"),
        conflict="(name) DO UPDATE SET next_at = excluded.next_at"
        " WHERE lane.next_at IS NULL OR lane.next_at > excluded.next_at",
    )
    connection.info[_RINGS] = {}
    return rings


def due(connection: Connection, now: datetime, limit: int = 100) -> list[str]:
    """Lanes that have due work and no worker, the longest due first."""
    return [row[0] for row in _DUE.rows(connection, now=now, limit=limit)]


_DUE = Statement(
    "SELECT name FROM lane WHERE next_at <= :now AND (lease_until IS NULL OR lease_until <= :now)"
    " ORDER BY next_at LIMIT :limit"
)


def lease(
    connection: Connection, lane: str, owner: str, ttl: timedelta, now: datetime
) -> int | None:
    """Take the lane until ``now + ttl``: the fencing token, or None if it is not to be had.

    It is not to be had while another's lease runs, nor while another transaction
    has its row: that one is a release, which looks again, or a ring, which is
    followed by another call of the worker. So nothing is ever waited for here.
    """
    free = _FREE.rows(connection, lane=lane, now=now)
    if not free:
        return None
    token = int(free[0][0]) + 1
    _LEASE.rows(connection, lane=lane, token=token, owner=owner, until=now + ttl)
    return token


_FREE = Statement(
    "SELECT token FROM lane WHERE name = :lane AND (lease_until IS NULL OR lease_until <= :now)"
    " FOR UPDATE SKIP LOCKED"
)
_LEASE = Statement(
    "UPDATE lane SET token = :token, lease_owner = :owner, lease_until = :until WHERE name = :lane"
)


def renew(connection: Connection, lane: str, token: int, ttl: timedelta, now: datetime) -> None:
    """Prolong the lease to ``now + ttl``. Raises LeaseLost when another has the lane.

    A lease that ran out while nobody else wanted the lane is still the caller's.
    """
    if not _RENEW.rows(connection, lane=lane, token=token, until=now + ttl):
        raise LeaseLost(lane)


_RENEW = Statement(
    "UPDATE lane SET lease_until = :until"
    " WHERE name = :lane AND token = :token AND lease_owner IS NOT NULL RETURNING token"
)


def fence(connection: Connection, lane: str, token: int) -> None:
    """Make sure of the lease until the end of this transaction. Raises LeaseLost.

    To be called first in each transaction that acts for a lane.
    """
    _check(_FENCE.rows(connection, lane=lane), lane, token)


def _check(rows: Sequence[Sequence[Any]], lane: str, token: int) -> None:
    if not rows or rows[0][0] != token or rows[0][1] is None:
        raise LeaseLost(lane)


_HELD = "SELECT token, lease_owner FROM lane WHERE name = :lane"
_FENCE = Statement(f"{_HELD} FOR KEY SHARE")
_LOCK = Statement(f"{_HELD} FOR NO KEY UPDATE")


def revoke(connection: Connection, names: list[str]) -> None:
    """Take lanes away from whoever works in them; waits for a transaction that acts there."""
    if not names:
        return
    # FOR UPDATE, because a plain update would pass a fence.
    connection.execute(
        select(_lane.c.name).where(_lane.c.name.in_(names)).order_by(_lane.c.name).with_for_update()
    )
    connection.execute(
        update(_lane)
        .where(_lane.c.name.in_(names))
        .values(token=_lane.c.token + 1, lease_owner=None, lease_until=None)
    )


def release(connection: Connection, lane: str, token: int, now: datetime) -> bool:
    """Give the lane back. True when there is due work again: the caller should ring it.

    Raises LeaseLost when it was not the caller's any more.
    """
    _check(_LOCK.rows(connection, lane=lane), lane, token)
    # A new statement: on PostgreSQL it sees what was committed while the lock
    # was waited for. What commits later rings after this release.
    following = next_due(connection, lane, now)
    _RELEASE.rows(connection, lane=lane, following=following)
    return following is not None and following <= now


_RELEASE = Statement(
    "UPDATE lane SET next_at = :following, lease_owner = NULL, lease_until = NULL"
    " WHERE name = :lane"
)


def next_due(connection: Connection, lane: str, now: datetime) -> datetime | None:
    """When the lane has work next: now for a message, the due time of the first delivery in
    line or of a study that gathers, None when it is empty."""
    if _RECEIVED.rows(connection, lane=lane):
        return now
    head = _HEAD.rows(connection, lane=lane)
    ((gathers,),) = _GATHERS.rows(connection, lane=lane)
    times = [given_instant(gathers)] if gathers is not None else []
    if head:
        times.append(given_instant(head[0][0]) if head[0][0] is not None else now)
    return min(times, default=None)


# In the order of the lane's index; else SQLite takes that of the states.
_RECEIVED = Statement(
    "SELECT id FROM message WHERE lane = :lane AND state = 'received' ORDER BY sequence, id LIMIT 1"
)
_HEAD = Statement(
    "SELECT due_at FROM delivery WHERE lane = :lane AND state = 'pending'"
    " ORDER BY sequence, id LIMIT 1"
)
_GATHERS = Statement("SELECT min(due_at) FROM gathering WHERE lane = :lane")

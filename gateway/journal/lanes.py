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

from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, Select, bindparam, func, or_, select, update

from gateway.bulk import insert_rows, instant_text
from gateway.journal import tables
from gateway.journal.faults import LeaseLost
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import KEY_MAX, literal_state

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
    free = or_(_lane.c.lease_until.is_(None), _lane.c.lease_until <= now)
    found = connection.execute(
        select(_lane.c.name)
        .where(_lane.c.next_at <= now, free)
        .order_by(_lane.c.next_at)
        .limit(limit)
    )
    return list(found.scalars())


def lease(
    connection: Connection, lane: str, owner: str, ttl: timedelta, now: datetime
) -> int | None:
    """Take the lane until ``now + ttl``: the fencing token, or None if it is not to be had.

    It is not to be had while another's lease runs, nor while another transaction
    has its row: that one is a release, which looks again, or a ring, which is
    followed by another call of the worker. So nothing is ever waited for here.
    """
    free = (
        select(_lane.c.token)
        .where(
            _lane.c.name == lane,
            or_(_lane.c.lease_until.is_(None), _lane.c.lease_until <= now),
        )
        .with_for_update(skip_locked=True)
    )
    token = connection.execute(free).scalar_one_or_none()
    if token is None:
        return None
    connection.execute(
        update(_lane)
        .where(_lane.c.name == lane)
        .values(token=token + 1, lease_owner=owner, lease_until=now + ttl)
    )
    return int(token) + 1


def renew(connection: Connection, lane: str, token: int, ttl: timedelta, now: datetime) -> None:
    """Prolong the lease to ``now + ttl``. Raises LeaseLost when another has the lane.

    A lease that ran out while nobody else wanted the lane is still the caller's.
    """
    renewed = connection.execute(
        update(_lane)
        .where(_lane.c.name == lane, _lane.c.token == token, _lane.c.lease_owner.is_not(None))
        .values(lease_until=now + ttl)
    )
    if renewed.rowcount == 0:
        raise LeaseLost(lane)


def fence(connection: Connection, lane: str, token: int) -> None:
    """Make sure of the lease until the end of this transaction. Raises LeaseLost.

    To be called first in each transaction that acts for a lane.
    """
    held = connection.execute(_FENCE, {"lane": lane}).one_or_none()
    if held is None or held.token != token or held.lease_owner is None:
        raise LeaseLost(lane)


_FENCE = (
    select(_lane.c.token, _lane.c.lease_owner)
    .where(_lane.c.name == bindparam("lane"))
    .with_for_update(read=True, key_share=True)
)


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
    row = _locked(connection, lane)
    if row is None or row.token != token or row.lease_owner is None:
        raise LeaseLost(lane)
    # A new statement: on PostgreSQL it sees what was committed while the lock
    # was waited for. What commits later rings after this release.
    following = next_due(connection, lane, now)
    connection.execute(
        update(_lane)
        .where(_lane.c.name == lane)
        .values(next_at=following, lease_owner=None, lease_until=None)
    )
    return following is not None and following <= now


def _locked(connection: Connection, lane: str) -> Row[int, str | None] | None:
    return connection.execute(
        select(_lane.c.token, _lane.c.lease_owner)
        .where(_lane.c.name == lane)
        .with_for_update(key_share=True)
    ).one_or_none()


def next_due(connection: Connection, lane: str, now: datetime) -> datetime | None:
    """When the lane has work next: now for a message, the due time of the first delivery in
    line or of a study that gathers, None when it is empty."""
    if connection.execute(_received_in(lane)).first() is not None:
        return now
    head = connection.execute(_head_of(lane)).first()
    gathers = connection.execute(
        select(func.min(tables.gathering.c.due_at)).where(tables.gathering.c.lane == lane)
    ).scalar_one()
    times = [gathers] if gathers is not None else []
    if head is not None:
        times.append(head.due_at if head.due_at is not None else now)
    return min(times, default=None)


def _received_in(lane: str) -> Select[int]:
    message = tables.message
    return (
        select(message.c.id)
        .where(message.c.lane == lane, literal_state(message, MessageState.RECEIVED))
        # In the order of the lane's index; else SQLite takes that of the states.
        .order_by(message.c.sequence, message.c.id)
        .limit(1)
    )


def _head_of(lane: str) -> Select[datetime]:
    delivery = tables.delivery
    return (
        select(delivery.c.due_at)
        .where(delivery.c.lane == lane, literal_state(delivery, DeliveryState.PENDING))
        .order_by(delivery.c.sequence, delivery.c.id)
        .limit(1)
    )

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

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from gateway.bulk import Statement, given_instant, insert_rows, instant_text
from gateway.journal import tables
from gateway.journal.faults import LeaseLost
from gateway.journal.tables import KEY_MAX

__all__ = [
    "EVERYTHING",
    "LeaseLost",
    "Rank",
    "due",
    "fence",
    "following",
    "lease",
    "next_due",
    "release",
    "renew",
    "ring",
    "room_of",
    "rooms",
]

EVERYTHING = 2**63 - 1
"""As the last message: no limit."""

_RINGS = "ecluse.rings"
_lane = tables.lane


def room_of(lane: str, source: str = "") -> str:
    """Whose work a lane holds: a source's own lane is a room by itself; one of deliveries
    belongs to its destination and the source that rang it, so that every source can have
    its share of a destination."""
    _, found, destination = lane.rpartition("@")
    if not found or lane.startswith("in:"):
        return lane
    return f"{destination}/{source}"[:KEY_MAX]


def ring(connection: Connection, lane: str, at: datetime, *, source: str = "") -> None:
    """Note that the lane has work from ``at`` on; ``source`` is whose message brings it.

    The rows are written once, in the order of their names, just before the
    commit of ``Journal.write()``: two transactions that ring the same lanes
    then never wait for each other in a circle.
    Raises ValueError for a name longer than 256 characters.
    """
    if not lane or len(lane) > KEY_MAX:
        raise ValueError(f"a lane's name has 1 to {KEY_MAX} characters")
    rings: dict[str, tuple[datetime, str]] = connection.info.setdefault(_RINGS, {})
    known = rings.get(lane)
    if known is None or at < known[0]:
        rings[lane] = (at, room_of(lane, source))


def begin_rings(connection: Connection) -> None:
    """Forget what a transaction that failed has left."""
    connection.info[_RINGS] = {}


def write_rings(connection: Connection) -> dict[str, datetime]:
    """Write the rings of this transaction, and give them: from when on each lane has work."""
    rings: dict[str, tuple[datetime, str]] = connection.info.get(_RINGS, {})
    if not rings:
        return {}
    # A row whose next_at stays is locked all the same, and must be: a release
    # that looked before this transaction's rows could be seen has to wait.
    insert_rows(
        connection,
        _lane,
        [(name, instant_text(at), 0, room) for name, (at, room) in sorted(rings.items())],
        columns=("name", "next_at", "token", "room"),
        conflict="(name) DO UPDATE SET next_at = excluded.next_at, room = excluded.room"
        " WHERE lane.next_at IS NULL OR lane.next_at > excluded.next_at",
    )
    connection.info[_RINGS] = {}
    return {name: at for name, (at, _) in rings.items()}


Rank = Callable[[Sequence[str]], Sequence[Sequence[str]]]
"""Of rooms that have work: those to be looked at, the most urgent class first."""

LESSER_SHARE = 8
"""One lane in so many is left to the classes that are less urgent, so that they never starve."""

_LAST = "\U0010ffff"


def rooms(connection: Connection, destination: str = "") -> list[str]:
    """The rooms that have work now or later; of one destination, or all.

    Goes from one to the next along the index: its price is that of the rooms, not of the
    lanes.
    """
    # "0" is the character after "/".
    first, beyond = (f"{destination}/", f"{destination}0") if destination else ("", _LAST)
    return [row[0] for row in _ROOMS.rows(connection, first=first, beyond=beyond)]


_ROOMS = Statement(
    """
    WITH RECURSIVE found(room) AS (
      SELECT min(l.room) FROM lane AS l
        WHERE l.next_at IS NOT NULL AND l.room >= :first AND l.room < :beyond
      UNION ALL
      SELECT (SELECT min(l.room) FROM lane AS l
        WHERE l.next_at IS NOT NULL AND l.room > found.room AND l.room < :beyond)
      FROM found WHERE found.room IS NOT NULL)
    SELECT room FROM found WHERE room IS NOT NULL
    """
)


def due(
    connection: Connection,
    now: datetime,
    limit: int = 100,
    *,
    destination: str = "",
    rank: Rank | None = None,
) -> list[str]:
    """Lanes that have due work and no worker, the longest due first.

    Where there are more than ``limit``, every room of a class gives its share, and with a
    ``rank`` the more urgent classes come first. ``destination``: only its lanes.
    """
    known = rooms(connection, destination)
    classes = [each for each in (rank(known) if rank else [known]) if each]
    found: list[str] = []
    for place, some in enumerate(classes):
        lesser = limit // LESSER_SHARE if place + 1 < len(classes) else 0
        wanted = limit - len(found) - lesser
        if wanted > 0:
            found += _fairly(connection, some, now, wanted)
    return found


def _fairly(connection: Connection, some: Sequence[str], now: datetime, wanted: int) -> list[str]:
    each = -(-wanted // len(some))
    rows = _DUE.rows(connection, rooms=list(some), now=now, each=each)
    given = Counter(row[0] for row in rows)
    if each < wanted and len(rows) < wanted and each in given.values():
        # Some have less than their share: the others take what is left of it.
        rows = _DUE.rows(connection, rooms=list(some), now=now, each=wanted)
    places: Counter[str] = Counter()
    ordered = []
    for room, name, next_at in sorted(rows, key=lambda row: row[2]):
        places[room] += 1
        ordered.append((places[room], next_at, name))
    kept = sorted(ordered)[:wanted]
    return [name for _, _, name in sorted(kept, key=lambda one: one[1])]


_FREE_DUE = (
    "l.next_at <= :now AND (l.lease_until IS NULL OR l.lease_until <= :now)"
    " ORDER BY l.next_at LIMIT :each"
)
_DUE = Statement(
    f"""
    SELECT r.room, d.name, d.next_at
    FROM unnest(CAST(:rooms AS text[])) AS r(room)
    CROSS JOIN LATERAL (
      SELECT l.name, l.next_at FROM lane AS l WHERE l.room = r.room AND {_FREE_DUE}) AS d
    """,  # noqa: S608 - our own names
    sqlite=f"""
    SELECT r.value, d.name, d.next_at FROM json_each(:rooms) AS r
    JOIN lane AS d ON d.name IN (
      SELECT l.name FROM lane AS l WHERE l.room = r.value AND {_FREE_DUE})
    """,  # noqa: S608 - our own names
)


def following(connection: Connection, now: datetime) -> datetime | None:
    """When the next lane falls due that is not due now; None when none will by itself."""
    ((at,),) = _FOLLOWING.rows(connection, rooms=rooms(connection), now=now)
    return given_instant(at) if at is not None else None


_FOLLOWING = Statement(
    """
    SELECT min((SELECT min(l.next_at) FROM lane AS l
      WHERE l.room = r.room AND l.next_at IS NOT NULL AND l.next_at > :now))
    FROM unnest(CAST(:rooms AS text[])) AS r(room)
    """,
    sqlite="""
    SELECT min((SELECT min(l.next_at) FROM lane AS l
      WHERE l.room = r.value AND l.next_at IS NOT NULL AND l.next_at > :now))
    FROM json_each(:rooms) AS r
    """,
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


def release(
    connection: Connection, lane: str, token: int, now: datetime, *, up_to: int = EVERYTHING
) -> bool:
    """Give the lane back. True when there is due work again: the caller should ring it.

    What comes after the message ``up_to`` is no work now (a destination that is drained).
    Raises LeaseLost when it was not the caller's any more.
    """
    _check(_LOCK.rows(connection, lane=lane), lane, token)
    # A new statement: on PostgreSQL it sees what was committed while the lock
    # was waited for. What commits later rings after this release.
    later = next_due(connection, lane, now, up_to=up_to)
    _RELEASE.rows(connection, lane=lane, following=later)
    return later is not None and later <= now


_RELEASE = Statement(
    "UPDATE lane SET next_at = :following, lease_owner = NULL, lease_until = NULL"
    " WHERE name = :lane"
)


def next_due(
    connection: Connection, lane: str, now: datetime, *, up_to: int = EVERYTHING
) -> datetime | None:
    """When the lane has work next: now for a message, the due time of the first delivery in
    line or of a study that gathers, None when it is empty."""
    if _RECEIVED.rows(connection, lane=lane):
        return now
    head = _HEAD.rows(connection, lane=lane, up_to=up_to)
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
    "SELECT due_at FROM delivery WHERE lane = :lane AND state = 'pending' AND sequence <= :up_to"
    " ORDER BY sequence, id LIMIT 1"
)
_GATHERS = Statement("SELECT min(due_at) FROM gathering WHERE lane = :lane")


_END_LEASES = Statement(
    "UPDATE lane SET token = token + 1, lease_owner = NULL, lease_until = NULL"
    " WHERE lease_owner IS NOT NULL RETURNING name"
)


def end_leases(connection: Connection) -> int:
    """Take every lane from whoever holds it; how many there were. For a journal that was put
    back from a copy: the processes that held its lanes are not its own."""
    return len(_END_LEASES.rows(connection))

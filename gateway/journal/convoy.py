"""Many lanes at once: what ``lanes`` and ``deliveries`` do for one, in as few statements.

Where each patient has a lane of his own, most lanes hold one delivery. For a
destination inside this database dozens of them share two transactions, and then
the statements, not the commits, are what costs. The locks are those of
``lanes``, taken in the order of the lanes' names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from gateway.bulk import Statement, Update, given_instant, instant_text, json_of
from gateway.journal import lost_entries, tables
from gateway.journal.deliveries import CLAIM_BYTES_MAX
from gateway.journal.entries import StoredEntries
from gateway.journal.faults import LeaseLost
from gateway.journal.lanes import EVERYTHING
from gateway.model import Delivery

LANES_MAX = 256

_LEASE = Statement(
    """
    UPDATE lane SET token = token + 1, lease_owner = :owner, lease_until = :until
    WHERE name IN (
      SELECT name FROM lane WHERE name = ANY(:names text)
        AND (lease_until IS NULL OR lease_until <= :now)
      ORDER BY name FOR UPDATE SKIP LOCKED)
    RETURNING name, token
    """
)
_HELD = "SELECT name, token, lease_owner FROM lane WHERE name = ANY(:names text) ORDER BY name"
_FENCE = Statement(f"{_HELD} FOR KEY SHARE")
_LOCK = Statement(f"{_HELD} FOR NO KEY UPDATE")
_EMPTY = Statement(
    "UPDATE lane SET next_at = NULL, lease_owner = NULL, lease_until = NULL"
    " WHERE name = ANY(:names text)"
)
_LATER = Update(
    tables.lane,
    "name",
    ("next_at",),
    computed=(("lease_owner", "NULL"), ("lease_until", "NULL")),
)
_CLAIMED = Statement(
    """
    SELECT d.id, d.message_id, d.lane, d.patient_id, d.destination, d.sequence,
      d.idempotency_key, d.attempts, d.merged_patients, n.entries, n.mapping, m.source,
      d.revision, d.starts, m.received_at
    FROM delivery AS d
    JOIN normalised AS n ON n.message_id = d.message_id
    JOIN message AS m ON m.id = d.message_id
    WHERE d.id = ANY(:ids bigint) ORDER BY d.sequence, d.id
    """
)
_HEADS = Statement(
    """
    SELECT d.id, d.lane, d.due_at, n.entries_size
    FROM unnest(CAST(:lanes AS text[])) AS l(name)
    CROSS JOIN LATERAL (
      SELECT p.id, p.lane, p.due_at, p.sequence, p.message_id FROM delivery AS p
      WHERE p.lane = l.name AND p.state = 'pending' AND p.sequence <= :up_to
      ORDER BY p.sequence, p.id LIMIT :each) AS d
    LEFT JOIN normalised AS n ON n.message_id = d.message_id
    ORDER BY d.lane, d.sequence, d.id
    """,
    sqlite="""
    SELECT d.id, d.lane, d.due_at, n.entries_size
    FROM json_each(:lanes) AS l
    JOIN delivery AS d ON d.id IN (
      SELECT p.id FROM delivery AS p
      WHERE p.lane = l.value AND p.state = 'pending' AND p.sequence <= :up_to
      ORDER BY p.sequence, p.id LIMIT :each)
    LEFT JOIN normalised AS n ON n.message_id = d.message_id
    ORDER BY d.lane, d.sequence, d.id
    """,
)
"""The first pending deliveries of each lane, in the lane's order."""


class _Head(NamedTuple):
    """A delivery near the head of its lane."""

    id: int
    lane: str
    due_at: datetime | None
    entries_size: int | None


def lease_all(
    connection: Connection, names: Iterable[str], owner: str, ttl: timedelta, now: datetime
) -> dict[str, int]:
    """Take those of the lanes that are to be had: their fencing tokens. See ``lanes.lease``.

    Raises ValueError for more than 256 lanes.
    """
    wanted = sorted(set(names))
    if len(wanted) > LANES_MAX:
        raise ValueError(f"more than {LANES_MAX} lanes")
    if not wanted:
        return {}
    taken = _LEASE.rows(connection, names=wanted, owner=owner, until=now + ttl, now=now)
    return {name: int(token) for name, token in taken}


def fence_all(connection: Connection, tokens: Mapping[str, int]) -> None:
    """Make sure of all leases until the end of this transaction. Raises LeaseLost."""
    if tokens:
        _check(connection, _FENCE, tokens)


def _check(connection: Connection, how: Statement, tokens: Mapping[str, int]) -> None:
    rows = how.rows(connection, names=list(tokens))
    held = {name: token for name, token, owner in rows if owner is not None}
    for lane, token in tokens.items():
        if held.get(lane) != token:
            raise LeaseLost(lane)


def claim_all(
    connection: Connection,
    tokens: Mapping[str, int],
    *,
    each: int,
    limit: int,
    now: datetime,
    up_to: int = EVERYTHING,
) -> dict[str, list[Delivery]]:
    """The due heads of lanes that the caller has just leased in this transaction.

    At most ``each`` of a lane and ``limit`` in all; a lane of which nothing is
    claimed has no key. See ``deliveries.claim``; one whose entries are not in the
    journal is buried.
    """
    heads: dict[str, list[_Head]] = defaultdict(list)
    for row in _heads_of(connection, tokens, each, up_to):
        heads[row.lane].append(row)
    ids: list[int] = []
    lost: list[int] = []
    size = 0
    for rows in heads.values():
        for row in rows:
            size += row.entries_size or 0
            late = row.due_at is not None and row.due_at > now
            full = len(ids) >= limit or (ids and size > CLAIM_BYTES_MAX)
            if late or full:
                break
            if row.entries_size is None:
                lost.append(row.id)
            else:
                ids.append(row.id)
    lost_entries.bury(connection, lost, now)
    claimed: dict[str, list[Delivery]] = defaultdict(list)
    if ids:
        for values in _CLAIMED.rows(connection, ids=ids):
            item = _delivery_of(values)
            claimed[item.lane].append(item)
    return dict(claimed)


def _heads_of(connection: Connection, lanes: Iterable[str], each: int, up_to: int) -> list[_Head]:
    names = list(lanes)
    if not names:
        return []
    return [
        _Head(number, lane, given_instant(due_at) if due_at is not None else None, size)
        for number, lane, due_at, size in _HEADS.rows(
            connection, lanes=names, each=each, up_to=up_to
        )
    ]


def release_all(
    connection: Connection,
    tokens: Mapping[str, int],
    now: datetime,
    *,
    up_to: int = EVERYTHING,
) -> frozenset[str]:
    """Give delivery lanes back; those that have due work again. See ``lanes.release``.

    Raises LeaseLost when one of them was not the caller's any more.
    """
    if not tokens:
        return frozenset()
    _check(connection, _LOCK, tokens)
    # A new statement, as in ``lanes.release``.
    following = {row.lane: row.due_at or now for row in _heads_of(connection, tokens, 1, up_to)}
    empty = [lane for lane in tokens if lane not in following]
    if empty:
        _EMPTY.rows(connection, names=empty)
    _LATER.rows(connection, [(lane, instant_text(at)) for lane, at in sorted(following.items())])
    return frozenset(lane for lane, at in following.items() if at <= now)


def _delivery_of(row: Sequence[Any]) -> Delivery:
    number, message, lane, patient, destination, sequence, key, attempts, merged = row[:9]
    entries, mapping, source, revision, starts, received_at = row[9:]
    return Delivery(
        id=number,
        message_id=message,
        lane=lane,
        patient_id=patient,
        destination=destination,
        sequence=sequence,
        idempotency_key=key,
        attempts=attempts,
        entries=StoredEntries(entries),
        mapping=mapping,
        source=source,
        merged_patients=tuple(json_of(merged)),
        revision=revision,
        begun=starts,
        received_at=given_instant(received_at),
    )

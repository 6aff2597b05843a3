"""Many lanes at once: what ``lanes`` and ``deliveries`` do for one, in as few statements.

Where each patient has a lane of his own, most lanes hold one delivery. For a
destination inside this database dozens of them share two transactions, and then
the statements, not the commits, are what costs. The locks are those of
``lanes``, taken in the order of the lanes' names.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, String, TextualSelect, text, update
from sqlalchemy import bindparam as bind

from gateway.journal import tables
from gateway.journal.deliveries import CLAIM_BYTES_MAX
from gateway.journal.entries import entries_of
from gateway.journal.faults import LeaseLost
from gateway.journal.rows import AnyRow
from gateway.journal.times import Instant
from gateway.model import Delivery

LANES_MAX = 256

_lane = tables.lane

_CLAIMED_COLUMNS = (
    "id",
    "message_id",
    "lane",
    "patient_id",
    "destination",
    "sequence",
    "idempotency_key",
    "attempts",
    "merged_patients",
)

# Lists go in as one value (JSON, an array), because a statement with a placeholder
# for each of them is made and prepared anew for every length.
_STATEMENTS: dict[str, dict[str, Any]] = {
    "sqlite": {
        "lease": """
            UPDATE lane SET token = token + 1, lease_owner = :owner, lease_until = :until
            WHERE name IN (SELECT value FROM json_each(:names))
              AND (lease_until IS NULL OR lease_until <= :now)
            RETURNING name, token
            """,
        "fence": """
            SELECT name, token, lease_owner FROM lane
            WHERE name IN (SELECT value FROM json_each(:names))
            """,
        "empty": """
            UPDATE lane SET next_at = NULL, lease_owner = NULL, lease_until = NULL
            WHERE name IN (SELECT value FROM json_each(:names))
            """,
        "claimed": """
            SELECT d.id, d.message_id, d.lane, d.patient_id, d.destination, d.sequence,
              d.idempotency_key, d.attempts, d.merged_patients,
              n.entries AS entries, n.mapping AS mapping, m.source AS source
            FROM json_each(:ids) AS k JOIN delivery AS d ON d.id = k.value
            JOIN normalised AS n ON n.message_id = d.message_id
            JOIN message AS m ON m.id = d.message_id
            ORDER BY d.sequence, d.id
            """,
    },
    "postgresql": {
        "lease": """
            UPDATE lane SET token = token + 1, lease_owner = :owner, lease_until = :until
            WHERE name IN (
              SELECT name FROM lane WHERE name = ANY(:names)
                AND (lease_until IS NULL OR lease_until <= :now)
              ORDER BY name FOR UPDATE SKIP LOCKED)
            RETURNING name, token
            """,
        "fence": """
            SELECT name, token, lease_owner FROM lane
            WHERE name = ANY(:names) ORDER BY name FOR KEY SHARE
            """,
        "lock": """
            SELECT name, token, lease_owner FROM lane
            WHERE name = ANY(:names) ORDER BY name FOR NO KEY UPDATE
            """,
        "empty": """
            UPDATE lane SET next_at = NULL, lease_owner = NULL, lease_until = NULL
            WHERE name = ANY(:names)
            """,
        "claimed": """
            SELECT d.id, d.message_id, d.lane, d.patient_id, d.destination, d.sequence,
              d.idempotency_key, d.attempts, d.merged_patients,
              n.entries AS entries, n.mapping AS mapping, m.source AS source
            FROM delivery AS d
            JOIN normalised AS n ON n.message_id = d.message_id
            JOIN message AS m ON m.id = d.message_id
            WHERE d.id = ANY(:ids) ORDER BY d.sequence, d.id
            """,
    },
}
_STATEMENTS["sqlite"]["lock"] = _STATEMENTS["sqlite"]["fence"]
for _named in _STATEMENTS.values():
    for _name, _statement in _named.items():
        _named[_name] = text(_statement)
    _named["lease"] = _named["lease"].bindparams(
        bind("now", type_=Instant), bind("until", type_=Instant)
    )
    _named["claimed"] = _named["claimed"].columns(
        *(tables.delivery.c[name] for name in _CLAIMED_COLUMNS),
        tables.normalised.c.entries,
        tables.normalised.c.mapping,
        tables.message.c.source,
    )

_LATER = (
    update(_lane)
    .where(_lane.c.name == bind("lane_name"))
    .values(next_at=bind("at"), lease_owner=None, lease_until=None)
)


def _list(connection: Connection, values: Iterable[Any]) -> Any:
    given = list(values)
    return json.dumps(given) if connection.dialect.name == "sqlite" else given


def _heads(statement: str) -> TextualSelect:
    return text(statement).columns(
        id=BigInteger, lane=String, due_at=Instant, entries_size=BigInteger
    )


_HEADS = {
    "sqlite": _heads(
        """
        SELECT d.id AS id, d.lane AS lane, d.due_at AS due_at, n.entries_size AS entries_size
        FROM json_each(:lanes) AS l
        JOIN delivery AS d ON d.id IN (
          SELECT p.id FROM delivery AS p WHERE p.lane = l.value AND p.state = 'pending'
          ORDER BY p.sequence, p.id LIMIT :each)
        LEFT JOIN normalised AS n ON n.message_id = d.message_id
        ORDER BY d.lane, d.sequence, d.id
        """
    ),
    "postgresql": _heads(
        """
        SELECT d.id AS id, d.lane AS lane, d.due_at AS due_at, n.entries_size AS entries_size
        FROM unnest(CAST(:lanes AS varchar[])) AS l(name)
        CROSS JOIN LATERAL (
          SELECT p.id, p.lane, p.due_at, p.sequence, p.message_id FROM delivery AS p
          WHERE p.lane = l.name AND p.state = 'pending'
          ORDER BY p.sequence, p.id LIMIT :each) AS d
        LEFT JOIN normalised AS n ON n.message_id = d.message_id
        ORDER BY d.lane, d.sequence, d.id
        """
    ),
}
"""The first pending deliveries of each lane, in the lane's order."""


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
    taken = connection.execute(
        _STATEMENTS[connection.dialect.name]["lease"],
        {"names": _list(connection, wanted), "owner": owner, "until": now + ttl, "now": now},
    )
    return {row.name: int(row.token) for row in taken}


def fence_all(connection: Connection, tokens: Mapping[str, int]) -> None:
    """Make sure of all leases until the end of this transaction. Raises LeaseLost."""
    if tokens:
        _check(connection, "fence", tokens)


def _check(connection: Connection, how: str, tokens: Mapping[str, int]) -> None:
    statement = _STATEMENTS[connection.dialect.name][how]
    rows = connection.execute(statement, {"names": _list(connection, tokens)})
    held = {row.name: row.token for row in rows if row.lease_owner is not None}
    for lane, token in tokens.items():
        if held.get(lane) != token:
            raise LeaseLost(lane)


def claim_all(
    connection: Connection, tokens: Mapping[str, int], *, each: int, limit: int, now: datetime
) -> dict[str, list[Delivery]]:
    """The due heads of lanes that the caller has just leased in this transaction.

    At most ``each`` of a lane and ``limit`` in all; a lane of which nothing is
    claimed has no key. See ``deliveries.claim``; deliveries whose entries are not
    kept any more are left where they are.
    """
    heads: dict[str, list[AnyRow]] = defaultdict(list)
    for row in _heads_of(connection, tokens, each):
        heads[row.lane].append(row)
    ids: list[int] = []
    size = 0
    for rows in heads.values():
        for row in rows:
            size += row.entries_size or 0
            late = row.due_at is not None and row.due_at > now
            full = len(ids) >= limit or (ids and size > CLAIM_BYTES_MAX)
            if late or full or row.entries_size is None:
                break
            ids.append(row.id)
    claimed: dict[str, list[Delivery]] = defaultdict(list)
    if ids:
        statement = _STATEMENTS[connection.dialect.name]["claimed"]
        for row in connection.execute(statement, {"ids": _list(connection, ids)}):
            claimed[row.lane].append(_delivery_of(row))
    return dict(claimed)


def _heads_of(connection: Connection, lanes: Iterable[str], each: int) -> Sequence[AnyRow]:
    names = list(lanes)
    if not names:
        return []
    given = {"lanes": _list(connection, names), "each": each}
    return connection.execute(_HEADS[connection.dialect.name], given).all()


def release_all(connection: Connection, tokens: Mapping[str, int], now: datetime) -> frozenset[str]:
    """Give delivery lanes back; those that have due work again. See ``lanes.release``.

    Raises LeaseLost when one of them was not the caller's any more.
    """
    if not tokens:
        return frozenset()
    _check(connection, "lock", tokens)
    # A new statement, as in ``lanes.release``.
    following = {row.lane: row.due_at or now for row in _heads_of(connection, tokens, 1)}
    empty = [lane for lane in tokens if lane not in following]
    if empty:
        statement = _STATEMENTS[connection.dialect.name]["empty"]
        connection.execute(statement, {"names": _list(connection, empty)})
    if following:
        connection.execute(
            _LATER, [{"lane_name": lane, "at": following[lane]} for lane in sorted(following)]
        )
    return frozenset(lane for lane, at in following.items() if at <= now)


def _delivery_of(row: AnyRow) -> Delivery:
    # In the order of _CLAIMED_COLUMNS: a row gives its values by position at a third of the time.
    number, message, lane, patient, destination, sequence, key, attempts, merged = row[:9]
    entries, mapping, source = row[9:]
    return Delivery(
        id=number,
        message_id=message,
        lane=lane,
        patient_id=patient,
        destination=destination,
        sequence=sequence,
        idempotency_key=key,
        attempts=attempts,
        entries=entries_of(entries),
        mapping=mapping,
        source=source,
        merged_patients=tuple(merged),
    )

"""Requests for storage commitment that others make of us, until their sender has the answer.

Those that we make ourselves lie beside them (:mod:`gateway.journal.asked_commitments`). Functions
that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from gateway.journal import imaging_tables
from gateway.journal.dialects import upsert

WAITING, REPORTED, GIVEN_UP = "waiting", "reported", "given-up"

_commitment = imaging_tables.storage_commitment
_c = _commitment.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """A request for storage commitment; ``instances`` are SOP class and instance UIDs."""

    source: str
    transaction_uid: str
    peer: str
    own_title: str
    instances: tuple[tuple[str, str], ...]
    attempts: int = 0
    created_at: datetime


def ask(connection: Connection, request: Commitment, due_at: datetime) -> bool:
    """Keep a request for commitment; false when its transaction UID is known already."""
    done = connection.execute(
        upsert(connection, _commitment)
        .values(
            source=request.source,
            transaction_uid=request.transaction_uid,
            peer=request.peer,
            own_title=request.own_title,
            instances=[list(each) for each in request.instances],
            state=WAITING,
            attempts=0,
            due_at=due_at,
            created_at=request.created_at,
            changed_at=request.created_at,
        )
        .on_conflict_do_nothing()
        .returning(_c.transaction_uid)
    )
    return done.first() is not None


def waiting(connection: Connection, source: str) -> int:
    """How many requests of a source have no answer yet."""
    found = select(func.count()).where(_c.source == source, _c.due_at.is_not(None))
    return int(connection.execute(found).scalar_one())


def due(connection: Connection, source: str, now: datetime, limit: int = 20) -> list[Commitment]:
    """Requests whose answer is due, the longest due first."""
    found = connection.execute(
        select(_commitment)
        .where(_c.source == source, _c.due_at <= now)
        .order_by(_c.due_at)
        .limit(limit)
    )
    return [
        Commitment(
            source=row.source,
            transaction_uid=row.transaction_uid,
            peer=row.peer,
            own_title=row.own_title,
            instances=tuple((each[0], each[1]) for each in row.instances),
            attempts=row.attempts,
            created_at=row.created_at,
        )
        for row in found
    ]


def settle(
    connection: Connection,
    request: Commitment,
    *,
    state: str,
    attempts: int,
    due_at: datetime | None,
    now: datetime,
) -> None:
    """What became of an attempt to answer; ``due_at`` is that of the next one."""
    connection.execute(
        update(_commitment)
        .where(
            _c.source == request.source,
            _c.transaction_uid == request.transaction_uid,
        )
        .values(state=state, attempts=attempts, due_at=due_at, changed_at=now)
    )

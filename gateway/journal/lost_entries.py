"""Deliveries whose entries are not in the journal: a damaged one, since no purge takes what waits.

They can never go as they are, so that whoever claims them buries them, and their lane goes on. A
replay reads the message again, which makes the entries anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from gateway.journal import deadletters, tables
from gateway.model import Cause, CauseCode, Stage

LOST = Cause(
    code=CauseCode.ENTRIES_MISSING,
    detail="what the mapping made of this message is not in the journal",
)

_delivery = tables.delivery
_normalised = tables.normalised


def bury(connection: Connection, delivery_ids: Sequence[int], now: datetime) -> None:
    """Make dead letters of pending deliveries whose lanes the caller has leased or fenced in this
    transaction."""
    if not delivery_ids:
        return
    rows = connection.execute(
        select(_delivery.c.id, _delivery.c.message_id, _delivery.c.attempts)
        .where(_delivery.c.id.in_(delivery_ids))
        # So that two processes never wait in a circle.
        .order_by(_delivery.c.message_id, _delivery.c.id)
    ).all()
    for row in rows:
        deadletters.bury(
            connection,
            row.message_id,
            Stage.DELIVER,
            LOST,
            delivery_id=row.id,
            attempts=row.attempts,
            at=now,
        )


def to_be_made_again(connection: Connection, delivery_id: int) -> bool:
    """Whether a delivery's entries are not there, so that its message is to be read again. One
    whose bytes are not there either is found unreadable then, and says so."""
    found = connection.execute(
        select(_delivery.c.id)
        .outerjoin(_normalised, _normalised.c.message_id == _delivery.c.message_id)
        .where(_delivery.c.id == delivery_id, _normalised.c.message_id.is_(None))
    )
    return found.first() is not None

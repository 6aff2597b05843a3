"""One attempt at a destination, and the same delivery under its patient's present name."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from gateway.destinations import DeliversTogether, Destination
from gateway.failure import internal
from gateway.journal.journal import JournalUnavailable
from gateway.model import Delivered, Delivery, Outcome, Refused
from gateway.subjects import rewrite, successor_of

# The record speaks to SQLite's driver itself where it writes many rows.
_AWAY = (OperationalError, InterfaceError, sqlite3.OperationalError, JournalUnavailable)


def call(destination: Destination, item: Delivery) -> Outcome:
    """An attempt at a destination outside the database (see :func:`current`). No exception
    leaves."""
    try:
        return destination.deliver(item, None)
    except Exception as error:  # noqa: BLE001  a fault of a destination is that item's cause
        return Refused(cause=internal(error))


class NotAtOnce(Exception):
    """One attempt among many did not end in Delivered: the transaction must be undone and all
    of them made one by one. ``delivery_id`` and ``outcome`` say how that one ended."""

    def __init__(self, delivery_id: int, outcome: Outcome) -> None:
        super().__init__()
        self.delivery_id = delivery_id
        self.outcome = outcome


def make_ready(destination: Destination, items: Sequence[Delivery]) -> Any:
    """What can be done of attempts before their transaction, for :func:`attempt_at_once`. Raises
    what a destination that delivers together raises."""
    if isinstance(destination, DeliversTogether):
        return destination.make_ready([current(item) for item in items])
    return None


def attempt_at_once(
    connection: Connection, destination: Destination, items: Sequence[Delivery], ready: Any
) -> Sequence[tuple[Delivery, Outcome]]:
    """Attempts at the record, all in one transaction, without savepoints.

    ``ready`` is what :func:`make_ready` gave for the same items. Raises NotAtOnce, what says that
    the database itself is away or full, and what a destination that delivers together raises.
    """
    if isinstance(destination, DeliversTogether):
        outcomes = destination.deliver_together(ready, connection)
        ends = list(zip(items, outcomes, strict=True))
    else:
        ends = [(item, _one_at_once(connection, destination, item)) for item in items]
    for item, outcome in ends:
        if not isinstance(outcome, Delivered):
            raise NotAtOnce(item.id, outcome)
    return ends


def _one_at_once(connection: Connection, destination: Destination, item: Delivery) -> Outcome:
    try:
        outcome = destination.deliver(current(item), connection)
    except _AWAY:
        raise
    except Exception as error:  # noqa: BLE001  a fault of one item is that item's cause
        outcome = Refused(cause=internal(error))
    if not isinstance(outcome, Delivered):
        raise NotAtOnce(item.id, outcome)
    return outcome


def attempt(connection: Connection, destination: Destination, item: Delivery) -> Outcome:
    """An attempt at the record, in a savepoint: whatever is not Delivered leaves no trace.

    Raises what says that the database itself is away or full.
    """
    try:
        with connection.begin_nested() as savepoint:
            outcome = destination.deliver(current(item), connection)
            if not isinstance(outcome, Delivered):
                savepoint.rollback()
            return outcome
    except _AWAY:
        raise
    except Exception as error:
        if connection.invalidated:
            raise  # the connection was lost, whatever the item met then
        # A fault in one item must not undo the others.
        return Refused(cause=internal(error))


def current(item: Delivery) -> Delivery:
    """The delivery with its entries under the patient's present name.

    A delivery that waited while its patient was merged has the survivor's lane,
    but its entries still name the one who is gone.
    """
    former = [
        entry.reference
        for entry in item.entries
        if entry.resource["resourceType"] == "Patient"
        and entry.resource["id"] != item.patient_id
        and not successor_of(entry.resource)
    ]
    if not former:
        return item
    name = f"Patient/{item.patient_id}"
    return replace(item, entries=rewrite(item.entries, dict.fromkeys(former, name)))

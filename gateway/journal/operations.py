"""Buttons that were pressed: a second press of the same one does nothing again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from gateway.journal import tables
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.tables import KEY_MAX, TEXT_MAX
from gateway.journal.times import moment
from gateway.journal.values import Operation

__all__ = ["Operation", "begin", "finish", "get"]

_operation = tables.operation


def begin(
    connection: Connection, key: str, *, actor: str, what: str, at: datetime | None = None
) -> bool:
    """True for the first press of ``key``, in whose transaction the deed is to be done.

    False when it was pressed before; a press at the same moment is waited for.
    Raises ValueError for a key that is not 1 to 256 characters.
    """
    if not 0 < len(key) <= KEY_MAX:
        raise ValueError(f"an operation's key has 1 to {KEY_MAX} characters")
    inserted = connection.execute(
        upsert(connection, _operation).on_conflict_do_nothing().returning(_operation.c.key),
        {
            "key": key,
            "at": moment(connection, at),
            "actor": fit(actor, TEXT_MAX),
            "what": fit(what, TEXT_MAX),
            "result": None,
        },
    )
    return inserted.first() is not None


def finish(connection: Connection, key: str, result: Mapping[str, Any]) -> None:
    """Note what came of it, for whoever presses again. Raises LookupError."""
    noted = connection.execute(
        update(_operation).where(_operation.c.key == key).values(result=dict(result))
    )
    if noted.rowcount == 0:
        raise LookupError("no such operation in the journal")


def get(connection: Connection, key: str) -> Operation | None:
    """What was pressed under this key, or None."""
    row = connection.execute(select(_operation).where(_operation.c.key == key)).one_or_none()
    if row is None:
        return None
    return Operation(key=row.key, at=row.at, actor=row.actor, what=row.what, result=row.result)

"""How destinations stand: the circuit breaker and the rate that all workers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from gateway.bulk import Statement, given_instant, insert_rows, instant_text
from gateway.journal import tables
from gateway.journal.rows import CAUSE_COLUMNS, cause_values
from gateway.model import Cause, CauseCode

_table = tables.destination_standing
_COLUMNS = (
    "destination", "breaker", "failures", "openings", "until", "rest_until", "next_slot",
    *CAUSE_COLUMNS, "changed_at",
)  # fmt: skip
_INSTANTS = frozenset({"until", "rest_until", "next_slot", "changed_at"})
_UPDATES = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "destination")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM destination_standing"  # noqa: S608 - our own names
_ONE = Statement(f"{_SELECT} WHERE destination = :destination")
_LOCKED = Statement(f"{_SELECT} WHERE destination = :destination FOR NO KEY UPDATE")
_ALL = Statement(f"{_SELECT} ORDER BY destination")

Row = Mapping[str, Any]
"""A destination's standing by column name, without what is None; ``cause`` is a Cause."""


def get(connection: Connection, destination: str) -> Row | None:
    """How a destination stands; None when nothing was ever noted."""
    rows = _ONE.rows(connection, destination=destination)
    return _row(rows[0]) if rows else None


def lock(connection: Connection, destination: str, now: datetime) -> Row:
    """The same, kept from others until the end of this transaction."""
    rows = _LOCKED.rows(connection, destination=destination)
    if not rows:
        first = (destination, "closed", 0, 0, None, None, None, *cause_values(None))
        insert_rows(
            connection,
            _table,
            [(*first, instant_text(now))],
            columns=_COLUMNS,
            conflict="(destination) DO NOTHING",
        )
        rows = _LOCKED.rows(connection, destination=destination)
    return _row(rows[0])


def store(connection: Connection, row: Row) -> None:
    """Note how a destination stands now, after :func:`lock`."""
    values: list[Any] = []
    for name in _COLUMNS[:7]:
        value = row.get(name)
        values.append(instant_text(value) if isinstance(value, datetime) else value)
    insert_rows(
        connection,
        _table,
        [(*values, *cause_values(row.get("cause")), instant_text(row["changed_at"]))],
        columns=_COLUMNS,
        conflict=f"(destination) DO UPDATE SET {_UPDATES}",
    )


def all_of(connection: Connection) -> list[Row]:
    """Every destination of which anything was noted, by name."""
    return [_row(row) for row in _ALL.rows(connection)]


def names(connection: Connection) -> list[str]:
    """The destinations of which anything was noted."""
    return list(connection.execute(select(_table.c.destination)).scalars())


def _row(values: Sequence[Any]) -> Row:
    found = dict(zip(_COLUMNS, values, strict=True))
    row: dict[str, Any] = {
        name: given_instant(value) if name in _INSTANTS else value
        for name, value in found.items()
        if value is not None and name not in CAUSE_COLUMNS
    }
    code, detail, location, protocol = (found[name] for name in CAUSE_COLUMNS)
    if code:
        row["cause"] = Cause(
            code=CauseCode(code), detail=detail, location=location, protocol_code=protocol
        )
    return row

"""Many rows in one statement of the driver, for the path that every message takes.

There, what is around the statements costs more than the rows themselves:
``executemany`` hands the interpreter's lock over at each row, to whichever of many
threads wants it, and SQLAlchemy looks at each value of each row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import JSON, Connection, Dialect, String, Table, TypeDecorator
from sqlalchemy.dialects import postgresql

_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_CHUNKS = (128, 64, 32, 16, 8, 4, 2, 1)
"""Rows per statement on SQLite: few texts, so that each is prepared once, and few parameters
(SQLite takes 32,766)."""


def json_text(value: Any) -> str:
    """What a JSON column holds."""
    if not value:
        return "[]" if isinstance(value, (list, tuple)) else "{}"
    return json.dumps(value)


def instant_text(value: datetime) -> str:
    """What a column of instants holds on SQLite, and PostgreSQL understands. Aware ones only."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat(timespec="microseconds")


def sqlite_driver(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, inside the transaction of SQLAlchemy's.

    Its errors are ``sqlite3.Error``, which ``Journal.write()`` understands too.
    """
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def insert_rows(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows that have a value for every column of the table, in its order.

    Values are the columns' own, but those of JSON and of types of our own (instants) are
    text already (:func:`json_text`, :func:`instant_text`).
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_postgresql(table), _columns(rows))
        return
    driver, start = sqlite_driver(connection), 0
    for size in _sizes(len(rows)):
        values = [value for row in rows[start : start + size] for value in row]
        driver.execute(_sqlite(table, size), values)
        start += size


def insert_unless_there(
    connection: Connection, table: Table, rows: Sequence[Sequence[Any]]
) -> set[int]:
    """On PostgreSQL, insert rows but those that break a unique key; the ids of those inserted."""
    inserted = connection.exec_driver_sql(
        _postgresql(table) + " ON CONFLICT DO NOTHING RETURNING id",
        _columns(rows),
    )
    return set(inserted.scalars())


def insert_new(
    connection: Connection,
    table: Table,
    rows: Sequence[Sequence[Any]],
    *,
    columns: tuple[str, ...] = (),
    returning: tuple[str, ...] = (),
) -> list[tuple[Any, ...]]:
    """Insert rows but those that break a unique key, which stay as they are.

    ``rows`` have the values of ``columns`` (all of the table, when none are named) in their
    order; see :func:`insert_rows` for the values. Gives the columns ``returning`` of what
    was inserted.
    """
    if not rows:
        return []
    names = columns or tuple(column.name for column in table.c)
    tail = " ON CONFLICT DO NOTHING"
    if returning:
        tail += f" RETURNING {', '.join(returning)}"
    if connection.dialect.name == "postgresql":
        result = connection.exec_driver_sql(_postgresql(table, names) + tail, _columns(rows))
        return [tuple(row) for row in result] if returning else []
    driver, start, found = sqlite_driver(connection), 0, list[tuple[Any, ...]]()
    for size in _sizes(len(rows)):
        values = [value for row in rows[start : start + size] for value in row]
        found += driver.execute(_sqlite(table, size, names, tail), values).fetchall()
        start += size
    return found


def _columns(rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {str(place): list(column) for place, column in enumerate(zip(*rows, strict=True))}


def _sizes(count: int) -> list[int]:
    sizes = []
    for size in _CHUNKS:
        times, count = divmod(count, size)
        sizes.extend([size] * times)
    return sizes


@lru_cache(maxsize=256)
def _sqlite(table: Table, size: int, names: tuple[str, ...] = (), tail: str = "") -> str:
    names = names or tuple(column.name for column in table.c)
    row = f"({', '.join('?' * len(names))})"
    return f"{_head(table, names)} VALUES {', '.join([row] * size)}{tail}"


@lru_cache(maxsize=64)
def _postgresql(table: Table, names: tuple[str, ...] = ()) -> str:
    names = names or tuple(column.name for column in table.c)
    arrays, values = [], []
    for place, column in enumerate(table.c[name] for name in names):
        name = column.type.compile(_POSTGRESQL)
        # JSON and types of our own (instants) come as text. A cast to varchar(n) would
        # cut text off, where the column itself refuses it.
        text = isinstance(column.type, (JSON, TypeDecorator, String))
        arrays.append(f"%({place})b::{'text' if text else name}[]")
        cast = isinstance(column.type, (JSON, TypeDecorator))
        values.append(f"r.c{place}::{name}" if cast else f"r.c{place}")
    places = ", ".join(f"c{place}" for place in range(len(names)))
    source = f"unnest({', '.join(arrays)}) AS r({places})"
    return f"{_head(table, names)} SELECT {', '.join(values)} FROM {source}"  # noqa: S608 - our own names


def _head(table: Table, names: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(names)})"

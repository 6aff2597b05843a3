"""Many rows in one statement of the driver, for the path that every message takes.

There, what is around the statements costs more than the rows themselves:
``executemany`` hands the interpreter's lock over at each row, to whichever of many
threads wants it, and SQLAlchemy looks at each value of each row.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, cast

from sqlalchemy import JSON, Connection, Dialect, String, Table, TypeDecorator
from sqlalchemy.dialects import postgresql

_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_CHUNKS = (128, 64, 32, 16, 8, 4, 2, 1)
"""Rows per statement on SQLite: few texts, so that each is prepared once, and few parameters
(SQLite takes 32,766)."""
_FINE_CHUNKS = (128, 64, 32, *range(16, 0, -1))
"""For the rows of every commit: at each statement the interpreter's lock is given away."""


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


def given_instant(value: Any) -> datetime:
    """An instant as a driver gives it: text on SQLite, a datetime on PostgreSQL."""
    instant: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


def json_of(value: Any) -> Any:
    """A JSON column's value as a driver gives it: text on SQLite, read already on PostgreSQL."""
    if not isinstance(value, str):
        return value
    # The usual ones, without a parser.
    if value == "[]":
        return []
    return {} if value == "{}" else json.loads(value)


class Statement:
    """One statement for the driver, written once for both databases.

    ``:name`` stands for a value and ``= ANY(:name type)`` for a list of them, which goes in
    as one value: with a placeholder for each item the statement would be another one, to
    be prepared anew, for every length. SQLite, where one transaction writes at a time,
    does without the clause that locks rows. What it must say in other words altogether is
    given as ``sqlite``, where lists are JSON.
    """

    __slots__ = ("_postgresql", "_sqlite")

    def __init__(self, text: str, *, sqlite: str = "") -> None:
        text = " ".join(text.split())
        lists = r"= ANY\(:(\w+) (\w+)\)"
        self._sqlite = re.sub(lists, r"IN (SELECT value FROM json_each(:\1))", text)
        self._sqlite = " ".join(sqlite.split()) or re.sub(_LOCKING, "", self._sqlite)
        self._postgresql = re.sub(lists, r"= ANY(%(\1)s::\2[])", text)
        self._postgresql = re.sub(r"(?<!:):(\w+)", r"%(\1)s", self._postgresql)

    def rows(self, connection: Connection, **values: Any) -> list[Sequence[Any]]:
        """Execute it; the rows that it gives, their values as the driver has them
        (:func:`given_instant`, :func:`json_of`)."""
        if connection.dialect.name == "postgresql":
            found = connection.exec_driver_sql(self._postgresql, values)
            return list(found.all()) if found.returns_rows else []
        for name, value in values.items():
            if isinstance(value, datetime):
                values[name] = instant_text(value)
            elif isinstance(value, (list, tuple)):
                values[name] = json.dumps(value)
        return sqlite_driver(connection).execute(self._sqlite, values).fetchall()


_LOCKING = r" FOR (NO KEY UPDATE|UPDATE|KEY SHARE|SHARE)( SKIP LOCKED)?"


def insert_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[Sequence[Any]],
    *,
    columns: tuple[str, ...] = (),
    constants: tuple[tuple[str, str], ...] = (),
    conflict: str = "",
    returning: str = "",
    fine: bool = False,
) -> list[Sequence[Any]]:
    """Insert rows that have a value for each of ``columns`` (all of the table when empty).

    ``constants`` are further columns, each with what it is in all rows: a literal of SQL.
    ``fine`` keeps more statements at hand, so that fewer of them take the rows.

    Values are the columns' own, but those of JSON and of types of our own (instants) are
    text already (:func:`json_text`, :func:`instant_text`). ``conflict`` is what follows ON
    CONFLICT, ``returning`` what follows RETURNING, and then the rows which that gives.
    """
    if not rows:
        return []
    tail = f" ON CONFLICT {conflict}" if conflict else ""
    tail += f" RETURNING {returning}" if returning else ""
    columns = columns or tuple(table.c.keys())
    if connection.dialect.name == "postgresql":
        done = connection.exec_driver_sql(
            _postgresql_insert(table, columns, constants) + tail, _columns_of(rows)
        )
        return list(done.all()) if returning else []
    driver = sqlite_driver(connection)
    found: list[Sequence[Any]] = []
    for some in _chunks(rows, _FINE_CHUNKS if fine else _CHUNKS):
        values = list(chain.from_iterable(some))
        given = driver.execute(_sqlite_insert(table, columns, constants, len(some), tail), values)
        if returning:
            found += given.fetchall()
    return found


def insert_new(
    connection: Connection,
    table: Table,
    rows: Sequence[Sequence[Any]],
    *,
    columns: tuple[str, ...] = (),
    constants: tuple[tuple[str, str], ...] = (),
    returning: tuple[str, ...] = (),
) -> list[Sequence[Any]]:
    """Insert rows but those that break a unique key, which stay as they are; see
    :func:`insert_rows`. Gives the columns ``returning`` of what was inserted."""
    return insert_rows(
        connection,
        table,
        rows,
        columns=columns,
        constants=constants,
        conflict="DO NOTHING",
        returning=", ".join(returning),
    )


@dataclass(frozen=True, slots=True)
class Update:
    """Changes that many rows of ``table`` take, each its own.

    A row of values has the ``key`` first and then ``columns``, as for :func:`insert_rows`.
    ``computed`` gives columns their value as an expression over ``t``, the row as it is, and
    ``v``, the values; ``where`` is a further condition. ``key`` need not be unique.
    """

    table: Table
    key: str
    columns: tuple[str, ...]
    computed: tuple[tuple[str, str], ...] = ()
    where: str = ""

    def rows(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Change rows. Those of one key are taken in the order given."""
        for some in _unique(rows):
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(_postgresql_update(self), _columns_of(some))
                continue
            driver = sqlite_driver(connection)
            for chunk in _chunks(some):
                values = list(chain.from_iterable(chunk))
                driver.execute(_sqlite_update(self, len(chunk)), values)

    def text(self, source: str, types: Mapping[str, str]) -> str:
        """The statement, over a ``source`` of rows ``v``; ``types`` are casts that it needs."""
        computed = dict(self.computed)
        values = {
            name: f"CAST(v.{name} AS {types[name]})" if name in types else f"v.{name}"
            for name in self.columns
        }
        changes = ", ".join(f"{name} = {what}" for name, what in {**values, **computed}.items())
        where = f"t.{self.key} = v.{self.key}" + (f" AND {self.where}" if self.where else "")
        return f"UPDATE {self.table.name} AS t SET {changes} FROM {source} WHERE {where}"  # noqa: S608 - our own names


def _unique(rows: Sequence[Sequence[Any]]) -> list[Sequence[Sequence[Any]]]:
    """The rows in as many parts as the most frequent key has rows: one UPDATE takes any one
    of several rows of a key."""
    if len({row[0] for row in rows}) == len(rows):
        return [rows] if rows else []
    parts: list[list[Sequence[Any]]] = []
    seen: Counter[Any] = Counter()
    for row in rows:
        if seen[row[0]] == len(parts):
            parts.append([])
        parts[seen[row[0]]].append(row)
        seen[row[0]] += 1
    return list(parts)


def _columns_of(rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {str(place): list(column) for place, column in enumerate(zip(*rows, strict=True))}


def _chunks(
    rows: Sequence[Sequence[Any]], sizes: tuple[int, ...] = _CHUNKS
) -> Iterator[Sequence[Sequence[Any]]]:
    start = 0
    for size in sizes:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


@lru_cache(maxsize=1024)
def _sqlite_insert(
    table: Table,
    columns: tuple[str, ...],
    constants: tuple[tuple[str, str], ...],
    size: int,
    tail: str,
) -> str:
    row = f"({', '.join([*('?' * len(columns)), *(literal for _, literal in constants)])})"
    return f"{_head(table, columns, constants)} VALUES {', '.join([row] * size)}{tail}"


@lru_cache(maxsize=128)
def _postgresql_insert(
    table: Table, columns: tuple[str, ...], constants: tuple[tuple[str, str], ...]
) -> str:
    values = []
    for name in columns:
        kind = table.c[name].type
        cast = isinstance(kind, (JSON, TypeDecorator))
        values.append(f"v.{name}::{kind.compile(_POSTGRESQL)}" if cast else f"v.{name}")
    values += [literal for _, literal in constants]
    source = _unnest(table, columns)
    return f"{_head(table, columns, constants)} SELECT {', '.join(values)} FROM {source}"  # noqa: S608 - our own names


@lru_cache(maxsize=512)
def _sqlite_update(update: Update, size: int) -> str:
    names = (update.key, *update.columns)
    row = f"({', '.join('?' * len(names))})"
    head = f"WITH v({', '.join(names)}) AS (VALUES {', '.join([row] * size)}) "
    return head + update.text("v", {})


@lru_cache(maxsize=128)
def _postgresql_update(update: Update) -> str:
    types = {
        name: update.table.c[name].type.compile(_POSTGRESQL)
        for name in update.columns
        if isinstance(update.table.c[name].type, (JSON, TypeDecorator))
    }
    return update.text(_unnest(update.table, (update.key, *update.columns)), types)


def _unnest(table: Table, names: tuple[str, ...]) -> str:
    arrays = []
    for place, name in enumerate(names):
        kind = table.c[name].type
        # JSON and types of our own (instants) come as text. A cast to varchar(n) would
        # cut text off, where the column itself refuses it.
        text = isinstance(kind, (JSON, TypeDecorator, String))
        arrays.append(f"%({place})b::{'text' if text else kind.compile(_POSTGRESQL)}[]")
    return f"unnest({', '.join(arrays)}) AS v({', '.join(names)})"


def _head(table: Table, columns: tuple[str, ...], constants: tuple[tuple[str, str], ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join([*columns, *(name for name, _ in constants)])})"

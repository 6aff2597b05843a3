"""Searches: what a query string asks, as one statement, page by page.

R4 «Search». A page goes on from the last row of the one before (never by counting
rows), so that what is put meanwhile neither repeats nor hides an entry.
"""

from __future__ import annotations

import base64
import json as token_json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    and_,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from record.faults import SearchRefused
from record.indexing import clean, cut, name_prefix, token
from record.instants import UNDATED, span
from record.parameters import parameters_of
from record.reading import selection
from record.tables import IDENTIFIER_MAX, record_entry, record_identifier, record_member

COUNT_MAX = 500
COUNT_DEFAULT = 50
TOTAL_MAX = 10_000
"""Matches are counted up to here; beyond it the searchset says no total."""
NAME_MAX = 64
"""Characters of an unknown parameter's name that an answer repeats."""
VALUES_MAX = 100
"""Values that one parameter may list with commas."""

_PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")


@dataclass(slots=True)
class Query:
    """A search that was understood.

    ``conditions`` are on :data:`record_entry`; ``after`` is the place in the order
    from which the page goes on; ``ignored`` the parameters that a lenient search left out.
    """

    type: str
    conditions: list[ColumnElement[bool]] = field(default_factory=list)
    count: int = COUNT_DEFAULT
    sort: str = "created"
    descending: bool = True
    after: tuple[Any, int] | None = None
    ignored: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of one page. ``total`` is None beyond :data:`TOTAL_MAX`; ``next`` is the
    token of the following page, or empty."""

    rows: Sequence[Row[Any]]
    total: int | None
    next: str
    query: Query


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a search must know beside its parameters: the zone in which a date without an
    offset is read, and the patient whose record a patient's is now."""

    zone: tzinfo
    survivor: Callable[[str], str]


def understand(
    type_name: str,
    pairs: Iterable[tuple[str, str]],
    surroundings: Surroundings,
    *,
    lenient: bool = False,
) -> Query:
    """Read the parameters of a search. Raises SearchRefused.

    ``pairs`` are names and values as in the query string, decoded, without what is not
    a search (``_format``, ``_pretty``). A parameter given twice must hold twice; values
    with commas are alternatives. ``lenient`` leaves out what is unknown.
    """
    query = Query(type_name)
    for name, value in pairs:
        if not value or any(char < " " for char in value):
            raise SearchRefused(name[:NAME_MAX], "has no value, or one with control characters")
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(query, value, surroundings.zone)
            continue
        condition = _condition(type_name, name, value, surroundings)
        if condition is not None:
            query.conditions.append(condition)
        elif lenient:
            query.ignored.append(name)
        else:
            reason = f"is no search parameter of {type_name} here"
            raise SearchRefused(name[:NAME_MAX], reason, known=False)
    return query


def run(connection: Connection, query: Query) -> Found:
    """Fetch one page and count what matches."""
    entry = record_entry
    matching = and_(entry.c.type == query.type, *query.conditions)
    counted = select(entry.c.key).where(matching).limit(TOTAL_MAX + 1).subquery()
    total = connection.execute(select(func.count()).select_from(counted)).scalar_one()
    shown = total if total <= TOTAL_MAX else None
    if query.count == 0:
        return Found((), shown, "", query)
    column = _sort_column(query)
    page = selection().add_columns(column.label("sorted")).where(matching)
    if query.after is not None:
        page = page.where(_beyond(column, query.after, descending=query.descending))
    directed = [part.desc() if query.descending else part.asc() for part in (column, entry.c.key)]
    rows = connection.execute(page.order_by(*directed).limit(query.count + 1)).all()
    if len(rows) <= query.count:
        return Found(rows, shown, "", query)
    kept = rows[: query.count]
    return Found(kept, shown, page_token(kept[-1].sorted, kept[-1].key), query)


# --- the order of pages ------------------------------------------------------------


def page_token(value: Any, key: int) -> str:
    """An opaque name of a place in the order."""
    text = token_json.dumps([value, key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_page_token(text: str) -> tuple[Any, int]:
    """The place that a token names. Raises SearchRefused."""
    try:
        padded = text + "=" * (-len(text) % 4)
        value, key = token_json.loads(base64.urlsafe_b64decode(padded))
    except (TypeError, ValueError, RecursionError) as error:
        raise SearchRefused("page", "is no page of this search") from error
    number = value if isinstance(value, int) else 0
    if not isinstance(key, int) or not isinstance(value, (int, str)):
        raise SearchRefused("page", "is no page of this search")
    if max(abs(key), abs(number)) >= 1 << 63:
        raise SearchRefused("page", "is no page of this search")
    return value, key


def _sort_column(query: Query) -> ColumnElement[Any]:
    entry = record_entry
    columns: dict[str, ColumnElement[Any]] = {
        "created": entry.c.key,
        "updated": entry.c.recorded_at,
        "date": entry.c.date_low,
        "id": entry.c.reference,
    }
    return columns[query.sort]


def _beyond(
    column: ColumnElement[Any], after: tuple[Any, int], *, descending: bool
) -> ColumnElement[bool]:
    value, key = after
    if isinstance(value, str) != (column is record_entry.c.reference):
        raise SearchRefused("page", "is no page of this search")
    further = column < value if descending else column > value
    same = record_entry.c.key < key if descending else record_entry.c.key > key
    return or_(further, and_(column == value, same))


# --- parameters of every type ------------------------------------------------------


def _count(query: Query, value: str, _zone: tzinfo) -> None:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise SearchRefused("_count", "is not a number")
    query.count = min(int(value), COUNT_MAX)


def _sort(query: Query, value: str, _zone: tzinfo) -> None:
    name, query.descending = value.removeprefix("-"), value.startswith("-")
    date = parameters_of(query.type).date
    orders = {"_lastUpdated": "updated", "_id": "id"}
    if date is not None:
        orders[date[0]] = "date"
    if name not in orders:
        raise SearchRefused("_sort", f"can be {', '.join(orders)}, one of them")
    query.sort = orders[name]


def _page(query: Query, value: str, _zone: tzinfo) -> None:
    query.after = read_page_token(value)


def _id(query: Query, value: str, _zone: tzinfo) -> None:
    references = [f"{query.type}/{item}" for item in _alternatives("_id", value)]
    query.conditions.append(record_entry.c.reference.in_(references))


def _last_updated(query: Query, value: str, zone: tzinfo) -> None:
    column = record_entry.c.recorded_at
    query.conditions.append(_dated("_lastUpdated", value, column, column, zone))


_HANDLERS: dict[str, Callable[[Query, str, tzinfo], None]] = {
    "_count": _count,
    "_sort": _sort,
    "page": _page,
    "_id": _id,
    "_lastUpdated": _last_updated,
}


# --- parameters of a type ----------------------------------------------------------


def _condition(
    type_name: str, name: str, value: str, surroundings: Surroundings
) -> ColumnElement[bool] | None:
    """The condition of one parameter, or None when the type has no such parameter."""
    entry, parameters = record_entry, parameters_of(type_name)
    if name.removesuffix(":Patient") in parameters.patient:
        return _of_patient(name, value, type_name, surroundings.survivor)
    if name == "identifier" and parameters.identifiers:
        return or_(*(_identified(item) for item in _alternatives(name, value)))
    if name in parameters.tokens:
        wanted = (token(name, clean(item)) for item in _alternatives(name, value))
        return or_(*(_contains(entry.c.tokens, text) for text in wanted))
    if name in parameters.names:
        texts = (name_prefix(name, item) for item in _alternatives(name, value))
        return or_(*(_contains(entry.c.tokens, text) for text in texts))
    if parameters.date is not None and name == parameters.date[0]:
        return _dated(name, value, entry.c.date_low, entry.c.date_high, surroundings.zone)
    return None


def _alternatives(name: str, value: str) -> list[str]:
    """Values between commas; ``\\,`` is a comma itself (R4 3.1.1.5.5)."""
    values, current, escaped = [], "", False
    for char in value:
        if escaped:
            current, escaped = current + char, False
        elif char == "\\":
            escaped = True
        elif char == ",":
            values.append(current)
            current = ""
        else:
            current += char
    values = [item for item in (*values, current) if item]
    if not values or len(values) > VALUES_MAX:
        raise SearchRefused(name, f"needs between one and {VALUES_MAX} values")
    return values


def _of_patient(
    name: str, value: str, type_name: str, survivor: Callable[[str], str]
) -> ColumnElement[bool]:
    patients = set()
    for item in _alternatives(name, value):
        kind, _, identifier = item.rpartition("/")
        if kind not in ("", "Patient"):
            raise SearchRefused(name, "is an id or a reference Patient/id")
        patients.add(survivor(identifier))
    members = select(record_member.c.entry_key).where(
        record_member.c.patient_id.in_(sorted(patients)), record_member.c.type == type_name
    )
    return record_entry.c.key.in_(members)


def _identified(item: str) -> ColumnElement[bool]:
    table = record_identifier
    system, bar, value = item.rpartition("|")
    if not value:
        raise SearchRefused("identifier", "needs a value")
    keys = select(table.c.entry_key).where(table.c.value == cut(value, IDENTIFIER_MAX))
    if bar:
        keys = keys.where(table.c.system == cut(system, IDENTIFIER_MAX))
    return record_entry.c.key.in_(keys)


class _Position(FunctionElement[int]):
    """Where one text begins in another, or 0. Exact, unlike SQLite's LIKE, which takes
    ``Na`` and ``NA`` for the same."""

    inherit_cache = True
    type = Integer()


@compiles(_Position)
def _strpos(element: _Position, compiler: SQLCompiler, **words: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **words)})"


@compiles(_Position, "sqlite")
def _instr(element: _Position, compiler: SQLCompiler, **words: Any) -> str:
    return f"instr({compiler.process(element.clauses, **words)})"


def _contains(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    return _Position(column, text) > 0


def _dated(
    name: str, value: str, low: ColumnElement[int], high: ColumnElement[int], zone: tzinfo
) -> ColumnElement[bool]:
    """R4 3.1.1.5.6 and .7: prefixes compare the spans of the element and of the value."""
    return or_(*(_one_date(name, item, low, high, zone) for item in _alternatives(name, value)))


def _one_date(
    name: str, item: str, low: ColumnElement[int], high: ColumnElement[int], zone: tzinfo
) -> ColumnElement[bool]:
    prefix = item[:2] if item[:2] in _PREFIXES else ""
    covered = span(item[len(prefix) :], zone)
    if covered is None:
        raise SearchRefused(name, "is not a date as FHIR writes it")
    first, last = covered
    inside = and_(low >= first, high <= last)
    comparisons: dict[str, ColumnElement[bool]] = {
        "": inside,
        "eq": inside,
        "ne": not_(inside),
        "gt": high > last,
        "ge": or_(high > last, inside),
        "lt": low < first,
        "le": or_(low < first, inside),
        "sa": low > last,
        "eb": high < first,
        "ap": and_(low <= last, high >= first),
    }
    return and_(comparisons[prefix], low > UNDATED)

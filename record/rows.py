"""The statements that the record's writing shares: upserts, locks, batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from record.tables import record_entry, record_patient

IN_LIST_MAX = 500
"""Values in one IN list; SQLite takes 32,766 parameters, PostgreSQL 65,535."""

_ENTRIES = (
    select(record_entry)
    .where(record_entry.c.reference.in_(bindparam("batch", expanding=True)))
    .order_by(record_entry.c.reference)
    .with_for_update()
)
_SURVIVOR = (
    select(record_patient.c.survivor)
    .where(record_patient.c.patient_id == bindparam("patient"))
    .with_for_update()
)


def insert_new(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert the rows that are not there yet; those that are stay as they are."""
    values = [dict(row) for row in rows]
    if values:
        connection.execute(_insert_new(connection.dialect.name, table), values)


def insert_entries(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Insert entry rows; the keys of those that no other transaction put first."""
    if not rows:
        return {}
    statement = _insert_entries(connection.dialect.name)
    found = connection.execute(statement, [dict(row) for row in rows])
    return {row.reference: row.key for row in found}


def locked_entries(connection: Connection, references: Iterable[str]) -> dict[str, Row[Any]]:
    """The rows of the entries that exist, locked until the transaction ends."""
    found: dict[str, Row[Any]] = {}
    for batch in batches(sorted(set(references)), IN_LIST_MAX):
        found.update((row.reference, row) for row in connection.execute(_ENTRIES, {"batch": batch}))
    return found


def locked_patient(connection: Connection, patient_id: str) -> str:
    """Lock a patient's row, made if need be; the patient whose record it is now.

    While the rows are locked nobody merges these patients, so that no entry is put
    beside a merge that does not see it.
    """
    owner: str | None = patient_id
    while owner is not None:
        patient_id, owner = owner, _locked_survivor(connection, owner)
    return patient_id


def _locked_survivor(connection: Connection, patient_id: str) -> str | None:
    row = connection.execute(_SURVIVOR, {"patient": patient_id}).first()
    if row is None:
        insert_new(connection, record_patient, [{"patient_id": patient_id}])
        row = connection.execute(_SURVIVOR, {"patient": patient_id}).one()
    survivor: str | None = row.survivor
    return survivor


def batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The values in lists of at most ``size``."""
    walk = iter(values)
    while batch := list(islice(walk, size)):
        yield batch


@cache
def _insert_new(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that passes over what is there; made once, so that it is compiled once."""
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


@cache
def _insert_entries(dialect: str) -> ReturningInsert[Any]:
    returned = (record_entry.c.reference, record_entry.c.key)
    return _insert_new(dialect, record_entry).returning(*returned)

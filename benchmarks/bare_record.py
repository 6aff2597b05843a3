"""The rows of the record's tables, inserted by a bare loop through the database's driver."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from gateway.journal.journal import Journal
from record.tables import metadata

_TABLES = (
    "record_patient",
    "record_entry",
    "record_entry_version",
    "record_member",
    "record_identifier",
)
_WRITER_PRAGMAS = (
    "page_size=8192", "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000",
    "cache_size=-65536",
)  # fmt: skip


@dataclass
class Group:
    """What one transaction put: its messages, and rows by table."""

    messages: list[int] = field(default_factory=list)
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(list))


def groups(journal: Journal) -> list[Group]:
    """The rows of the record, by the transaction that put them, in its order: deliveries of one
    instant were settled by one transaction. What is of an entry goes with its first version."""
    made: dict[Any, Group] = defaultdict(Group)
    with journal.read() as connection:
        ended = connection.execute(
            text(
                "SELECT message_id, changed_at, patient_id FROM delivery"
                " WHERE state = 'delivered' ORDER BY changed_at, id"
            )
        )
        at: dict[int, Any] = {}
        patients: dict[str, Any] = {}
        for message, instant, patient in ended:
            made[instant].messages.append(message)
            at[message] = instant
            patients.setdefault(patient, instant)
        for row in connection.execute(text("SELECT * FROM record_patient")):
            made[patients[row.patient_id]].rows["record_patient"].append(tuple(row))
        firsts: dict[int, Any] = {}
        for row in connection.execute(text("SELECT * FROM record_entry_version")):
            made[at[row.message_id]].rows["record_entry_version"].append(tuple(row))
            if row.version == 1:
                firsts[row.entry_key] = at[row.message_id]
        for table in ("record_entry", "record_member", "record_identifier"):
            for row in connection.execute(text(f"SELECT * FROM {table}")):
                key = row.key if table == "record_entry" else row.entry_key
                made[firsts[key]].rows[table].append(tuple(row))
    return [made[instant] for instant in sorted(made)]


def _inserts(some: Sequence[Group], mark: str) -> Mapping[str, str]:
    widths = {name: len(rows[0]) for each in some for name, rows in each.rows.items()}
    return {
        name: f"INSERT INTO {name} VALUES ({', '.join([mark] * width)})"
        for name, width in widths.items()
    }


def sqlite_seconds(path: Path, some: Sequence[Group]) -> float:
    """Seconds to insert them into a new file, durably, one transaction for each group."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as made:
        for pragma in _WRITER_PRAGMAS[:1]:
            made.exec_driver_sql(f"PRAGMA {pragma}")
        metadata.create_all(made)
    engine.dispose()
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in _WRITER_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    inserts = _inserts(some, "?")
    began = time.perf_counter()
    for each in some:
        connection.execute("BEGIN IMMEDIATE")
        for name in _TABLES:
            if each.rows[name]:
                connection.executemany(inserts[name], each.rows[name])
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    path.unlink()
    return seconds


def postgresql_seconds(url: str, some: Sequence[Group]) -> float:
    """The same into an empty database; ``executemany`` of psycopg sends a group's rows of a table
    in one go."""
    engine = create_engine(url)
    with engine.begin() as made:
        metadata.create_all(made)
    engine.dispose()
    address = make_url(url)
    inserts = _inserts(some, "%s")
    with psycopg.connect(
        host=address.host, port=address.port, user=address.username, dbname=address.database
    ) as connection:
        began = time.perf_counter()
        for each in some:
            with connection.transaction(), connection.cursor() as cursor:
                for name in _TABLES:
                    if each.rows[name]:
                        cursor.executemany(inserts[name].encode(), each.rows[name])
            connection.commit()
        return time.perf_counter() - began

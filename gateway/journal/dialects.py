"""What differs between SQLite and PostgreSQL: how engines are made, and an upsert."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from gateway.bulk import sqlite_driver

BUSY_TIMEOUT_MILLISECONDS = 5_000
WAL_AUTOCHECKPOINT_PAGES = 4_000
WAL_SIZE_MAX = 64 * 1024 * 1024
READERS_MAX = 16
CONNECTIONS_MAX = 32

_WRITER_PRAGMAS = (
    # Messages of 2 kB, the usual ones, waste half of a page of 4 kB. Takes effect in a new file.
    "PRAGMA page_size=8192",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    # Only macOS knows these two; there a plain fsync does not reach the platter.
    "PRAGMA fullfsync=ON",
    "PRAGMA checkpoint_fullfsync=ON",
    f"PRAGMA wal_autocheckpoint={WAL_AUTOCHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit={WAL_SIZE_MAX}",
    "PRAGMA cache_size=-65536",
    # What a statement would need to be undone is small, and of patients: not into /var/tmp.
    "PRAGMA temp_store=MEMORY",
    "PRAGMA foreign_keys=ON",
)
_READER_PRAGMAS = (
    "PRAGMA query_only=ON",
    "PRAGMA wal_autocheckpoint=0",
    "PRAGMA cache_size=-16384",
)

IDLE_SECONDS_MAX = 60.0
"""How long a transaction on PostgreSQL may do nothing before the server ends it."""
_LOCK_SECONDS_MORE = 15.0
"""Whoever waits for a lock waits longer than its idle holder may keep it."""


def _opener(path: Path, mode: str, pragmas: tuple[str, ...]) -> Callable[[], sqlite3.Connection]:
    address = f"file:{quote(str(path))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # Transactions are begun and ended in words, and a connection goes from
        # thread to thread, never used by two at once.
        connection = sqlite3.connect(
            address,
            uri=True,
            timeout=BUSY_TIMEOUT_MILLISECONDS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            for pragma in pragmas:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def _sqlite_engine(opener: Callable[[], sqlite3.Connection], begin: str, size: int) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=opener,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # The driver's own: around a statement of SQLAlchemy's is ten times its cost.
        sqlite_driver(connection).execute(begin)

    return engine


def sqlite_writer(path: Path) -> Engine:
    """The engine of THE one connection that writes and checkpoints.

    SQLite from 3.7.0 to 3.51.2 can corrupt a WAL that two connections write or
    checkpoint at once (https://sqlite.org/wal.html#walresetbug).
    """
    return _sqlite_engine(_opener(path, "rwc", _WRITER_PRAGMAS), "BEGIN IMMEDIATE", 1)


def sqlite_readers(path: Path) -> Engine:
    """Connections that cannot write; a transaction sees one state of the database."""
    return _sqlite_engine(_opener(path, "ro", _READER_PRAGMAS), "BEGIN", READERS_MAX)


def postgresql_engine(url: URL, *, idle_seconds: float = IDLE_SECONDS_MAX) -> Engine:
    """A pool of connections with time limits on connecting, on locks and on idling in a
    transaction, whose commits wait for the disk whatever the server's default is.

    A process that is frozen inside a transaction (a suspended virtual machine, SIGSTOP) loses
    it and its row locks after ``idle_seconds``, which are rounded up to milliseconds.
    """
    idle = math.ceil(idle_seconds * 1000)
    lock = idle + math.ceil(_LOCK_SECONDS_MORE * 1000)
    engine = create_engine(
        url,
        pool_size=8,
        max_overflow=CONNECTIONS_MAX - 8,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 30,
            "tcp_user_timeout": 30_000,
            "options": f"-c timezone=UTC -c lock_timeout={lock}"
            f" -c idle_in_transaction_session_timeout={idle}",
            "application_name": "ecluse",
        },
    )

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            if cursor.fetchone()[0] in {"off", "local"}:
                cursor.execute("SET synchronous_commit = on")
        connection.commit()

    return engine


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of the connection's dialect, which knows ``on_conflict_do_…``."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)

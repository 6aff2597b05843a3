"""The durable truth: one database and the blobs beside it.

On SQLite one connection writes and alone checkpoints, and one process at a time
may have it (a lock file says which); any number of connections read. On
PostgreSQL any number of processes write.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.journal import dialects, lanes, letter_counts, migrate
from gateway.journal.blobs import Blobs, sync_directory
from gateway.journal.faults import (
    IdentityConflict,
    JournalFault,
    JournalInUse,
    JournalUnavailable,
    LeaseLost,
    NoJournal,
)
from gateway.journal.ownership import Ownership
from gateway.journal.times import CLOCK, utc_now
from gateway.journal.turnstile import Turnstile

__all__ = [
    "IdentityConflict",
    "Journal",
    "JournalFault",
    "JournalInUse",
    "JournalUnavailable",
    "LeaseLost",
]


# The append path speaks to SQLite's driver itself.
_AWAY = (OperationalError, sqlite3.OperationalError)
# What PostgreSQL says of itself though psycopg has it among the errors of a program: a
# transaction that idled or lasted too long (a process was frozen), a server that takes no
# writing (a standby that was not promoted), and the class XX of its internal errors, which is
# also what a file system gets that refuses to let a file grow.
_ENDED = frozenset({"25P03", "25P04"})
_READ_ONLY = "25006"
_INTERNAL_CLASS = "XX"


class Journal:
    """Transactions on the journal's database, and its blobs.

    ``url`` is ``sqlite:////absolute/path`` or ``postgresql+psycopg://…``.
    ``now`` gives aware instants; functions of this package that take no time use
    it. ``read_only`` opens an existing journal beside the process that writes it.
    ``on_ring`` is called, in the thread of the transaction, after each commit that
    rang lanes, with the names of those that have work by now; it must neither
    block nor raise. ``idle_seconds``: how long a transaction on PostgreSQL may do nothing
    before the server ends it; waiting for a lock is given up a quarter of a minute later.

    ``owner`` is this process's number while it holds the writing end of a SQLite
    journal, else None. ``dialect`` is ``sqlite`` or ``postgresql``.

    Raises ValueError for another kind of URL, JournalInUse when another process
    writes the SQLite file, JournalUnavailable when a file or folder cannot be
    opened (PostgreSQL is first connected to when it is first used).
    """

    owner: int | None = None

    def __init__(
        self,
        url: str,
        *,
        blob_directory: Path,
        now: Callable[[], datetime] = utc_now,
        read_only: bool = False,
        on_ring: Callable[[frozenset[str]], None] | None = None,
        idle_seconds: float = dialects.IDLE_SECONDS_MAX,
    ) -> None:
        address = make_url(url)
        self.now = now
        self.read_only = read_only
        self.on_ring = on_ring
        self.dialect = address.get_backend_name()
        self._ownership: Ownership | None = None
        self._turn: AbstractContextManager[None] = nullcontext()
        self._inside = threading.local()
        self._held: Connection | None = None
        if self.dialect == "sqlite":
            self._writer, self._reader = self._open_sqlite(address)
        elif self.dialect == "postgresql" and address.get_driver_name() == "psycopg":
            self._writer = self._reader = dialects.postgresql_engine(
                address, idle_seconds=idle_seconds
            )
            self._watch(self._writer)
            self._reader = self._writer.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        else:
            raise ValueError("a journal's URL begins with sqlite: or postgresql+psycopg:")
        try:
            self.blobs = Blobs(blob_directory, read_only=read_only)
        except OSError as error:
            self.close()
            raise JournalUnavailable(f"the folder of blobs: {error.strerror}") from None

    def _open_sqlite(self, address: URL) -> tuple[Engine, Engine]:
        if not address.database or address.database == ":memory:":
            raise ValueError("a journal is a file: sqlite:////path/journal.sqlite")
        path = Path(address.database).absolute()
        if self.read_only and not path.exists():
            raise NoJournal(f"{path} is not there yet: no gateway has run on this state folder")
        readers = dialects.sqlite_readers(path)
        self._watch(readers)
        if self.read_only:
            return readers, readers
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            ownership = Ownership(path.with_suffix(".lock"))
        except OSError as error:
            raise JournalUnavailable(f"the journal's folder: {error.strerror}") from None
        try:
            writer = self._open_writer(path)
        except BaseException:
            ownership.release()
            raise
        self._ownership, self.owner, self._turn = ownership, ownership.pid, Turnstile()
        return writer, readers

    def _open_writer(self, path: Path) -> Engine:
        writer = dialects.sqlite_writer(path)
        self._watch(writer)
        try:
            # SQLite gives the files beside the database the database's own mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            # Runs SQLite's recovery after a crash.
            with _translated(writing=True), writer.connect() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
            sync_directory(path.parent)
        except OSError as error:
            writer.dispose()
            raise JournalUnavailable(f"the journal's file: {error.strerror}") from None
        except BaseException:
            writer.dispose()
            raise
        return writer

    def _watch(self, engine: Engine) -> None:
        @event.listens_for(engine, "connect")
        def _clock(_connection: Any, record: Any) -> None:
            record.info[CLOCK] = self.now

    def migrate(
        self, package: str = "gateway.journal", version_table: str = "journal_version"
    ) -> None:
        """Bring the tables of ``package`` to its newest version, in one transaction.

        Raises JournalUnavailable, and JournalFault when a step fails.
        """
        with self.write() as connection:
            migrate.upgrade(connection, package, version_table)

    def close(self) -> None:
        """Close every connection and give the SQLite file to another process. Idempotent."""
        # Readers first: SQLite checkpoints when its last connection is closed.
        self._reader.dispose()
        held, self._held = self._held, None
        if held is not None:
            held.close()
        self._writer.dispose()
        if self._ownership is not None:
            self._ownership.release()
            self._ownership = None
            self.owner = None

    def compact(self) -> None:
        """Write an SQLite journal anew without its free pages, and give these back to the disk.

        Takes as long as copying the file and as much disk meanwhile; nothing else can be written.
        Raises JournalUnavailable.
        """
        if self.dialect != "sqlite" or self.read_only:
            raise ValueError("only an SQLite journal that this process writes is compacted")
        with self._turn, _translated(writing=True):
            held, self._held = self._held, None
            if held is not None:
                held.close()
            connection = self._writer.raw_connection()
            try:
                connection.cursor().execute("VACUUM")
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end of the block, undone by an exception.

        On SQLite writers take turns in the order in which they ask. Raises
        JournalUnavailable when nothing was kept (whether a PostgreSQL whose
        connection broke during the commit kept it is unknown: all that this
        package writes may be repeated), JournalFault when a statement was
        refused, RuntimeError inside another ``write`` of the same thread.
        """
        if self.read_only:
            raise JournalUnavailable("the journal was opened for reading")
        if getattr(self._inside, "writing", False):
            raise RuntimeError("a transaction is open in this thread already")
        self._inside.writing = True
        try:
            with self._turn, _translated(writing=True), self._transaction() as connection:
                lanes.begin_rings(connection)
                letter_counts.begin_counts(connection)
                yield connection
                # In this order in every transaction, so that none waits in a circle.
                letter_counts.write_counts(connection)
                rung = lanes.write_rings(connection)
        finally:
            self._inside.writing = False
        if rung and self.on_ring is not None:
            now = self.now()
            self.on_ring(frozenset(name for name, at in rung.items() if at <= now))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        connection = self._held if self._held is not None else self._writer.connect()
        if self.dialect == "sqlite":
            # Kept for the next one: there is no other that writes, and taking it from a pool
            # and giving it back costs as much as a small transaction does.
            self._held = connection
        try:
            with connection.begin():
                yield connection
        except _AWAY:
            # After an error of the disk the next transaction shall start from a
            # connection that knows nothing of this one.
            if not connection.invalidated:
                connection.invalidate()
            raise
        except Exception:
            if connection.invalidated:
                # Somebody inside took the loss of the connection for his own fault, and what came
                # after met a connection that is none.
                raise JournalUnavailable("the connection to the database was lost") from None
            raise
        finally:
            spoilt = connection.invalidated or connection.in_transaction()
            if spoilt or self._held is not connection:
                self._held = None
                connection.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database throughout and cannot write.

        Raises JournalUnavailable, JournalFault.
        """
        with _translated(writing=False), self._reader.connect() as connection, connection.begin():
            yield connection


@contextmanager
def _translated(*, writing: bool) -> Iterator[None]:
    """The database's errors as the journal's, without the values that they quote."""
    try:
        yield
    except (*_AWAY, InterfaceError, PoolTimeout) as error:
        name = _name(error)
        if name.endswith(" SQLITE_ERROR"):
            # SQLite calls a wrong statement "operational" too.
            raise JournalFault(f"the database refused a statement ({name})") from None
        raise JournalUnavailable(f"the database did not keep it ({name})") from None
    except (DBAPIError, sqlite3.Error) as error:
        if _is_the_servers(error, writing=writing):
            raise JournalUnavailable(f"the database ended it ({_name(error)})") from None
        raise JournalFault(f"the database refused a statement ({_name(error)})") from None


def _is_the_servers(error: Exception, *, writing: bool) -> bool:
    """Whether an error that looks like a program's says something of the server's state."""
    state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
    # A transaction of ours that only reads must not write: that one is the program's.
    refused = writing and state == _READ_ONLY
    return refused or state in _ENDED or state.startswith(_INTERNAL_CLASS)


def _name(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return f"{type(cause).__name__} {code}" if code else type(cause).__name__

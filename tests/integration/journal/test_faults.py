"""The disk is full, the database goes away, another process has the file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from gateway.journal import messages
from gateway.journal.faults import NoJournal
from gateway.journal.journal import Journal, JournalFault, JournalInUse, JournalUnavailable
from gateway.journal.states import MessageState
from gateway.journal.times import moment
from gateway.journal.writer import GroupWriter
from tests.integration.journal.bench import Bench
from tests.servers import Postgres

WAIT = 60


def kept(bench: Bench) -> int:
    with bench.journal.read() as connection:
        return sum(messages.counts(connection).values())


def works(bench: Bench, writer: GroupWriter) -> bool:
    future = writer.submit(bench.received(), state=MessageState.RECEIVED, lane="in:lab")
    return future.exception(WAIT) is None


def limit_pages(bench: Bench, pages: int) -> None:
    """What SQLite sees when the disk has no more room: SQLITE_FULL."""
    with bench.journal.write() as connection:
        if not pages:
            pages = 1_000_000
        else:
            pages += connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_keeps_nothing_by_halves_and_the_writer_recovers(sqlite_bench: Bench) -> None:
    bench = sqlite_bench
    writer = GroupWriter(bench.journal)
    writer.start()
    try:
        assert works(bench, writer)
        limit_pages(bench, 40)
        found = [
            writer.submit(
                bench.received(os.urandom(20_000)), state=MessageState.RECEIVED, lane="in:lab"
            )
            for _ in range(100)
        ]
        errors = [future.exception(WAIT) for future in found]
        refused = [error for error in errors if error is not None]
        assert refused
        assert all(isinstance(error, JournalUnavailable) for error in refused)
        assert "SQLITE_FULL" in str(refused[0])
        assert kept(bench) == 1 + len(errors) - len(refused)
        limit_pages(bench, 0)
        assert works(bench, writer)
        for future, error in zip(found, errors, strict=True):
            if error is None:
                with bench.journal.read() as connection:
                    assert messages.get(connection, future.result().message_id) is not None
    finally:
        writer.stop()
    with bench.journal.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_a_database_that_another_program_locks_is_waited_for_and_then_given_up(
    sqlite_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = sqlite_bench
    with bench.journal.write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    path = bench.journal.blobs.directory.parent / "journal.sqlite"
    intruder = sqlite3.connect(path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalUnavailable), bench.journal.write():
        pass
    intruder.execute("ROLLBACK")
    intruder.close()
    bench.message()
    assert kept(bench) == 1


def test_postgresql_that_is_killed_and_started_again(
    postgresql_bench: Bench, postgres: Postgres
) -> None:
    bench = postgresql_bench
    writer = GroupWriter(bench.journal)
    writer.start()
    try:
        assert works(bench, writer)
        before = kept(bench)
        postgres.kill()
        lost = bench.received()
        future = writer.submit(lost, state=MessageState.RECEIVED, lane="in:lab")
        assert isinstance(future.exception(WAIT), JournalUnavailable)
        with pytest.raises(JournalUnavailable), bench.journal.read():
            pass
        postgres.start()
        again = writer.submit(lost, state=MessageState.RECEIVED, lane="in:lab")
        assert not again.result(WAIT).duplicate
        assert kept(bench) == before + 1
    finally:
        writer.stop()
        if not postgres.answers():
            postgres.start()


def test_an_idle_connection_that_was_cut_is_not_noticed_by_the_next_message(
    postgresql_bench: Bench, postgresql_url: str
) -> None:
    """A server that was restarted while nothing happened costs no sender a refusal."""
    bench = postgresql_bench
    bench.message()
    with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as outside:
        cut = outside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    assert cut
    bench.message()
    assert kept(bench) == 2


def test_a_connection_that_is_cut_in_mid_transaction_keeps_nothing(
    postgresql_bench: Bench,
) -> None:
    bench = postgresql_bench
    with pytest.raises(JournalUnavailable), bench.journal.write() as connection:  # noqa: PT012
        connection.execute(text("INSERT INTO lane (name, token) VALUES ('half', 1)"))
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with bench.journal.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM lane")).scalar_one() == 0


def test_who_is_frozen_in_a_transaction_does_not_keep_its_locks(
    postgresql_url: str, tmp_path: Path
) -> None:
    frozen = Journal(postgresql_url, blob_directory=tmp_path / "blobs", idle_seconds=0.3)
    frozen.migrate()
    other = Journal(postgresql_url, blob_directory=tmp_path / "blobs", idle_seconds=60)
    lane = text("INSERT INTO lane (name, token) VALUES ('in:lab', :token)")
    with pytest.raises(JournalUnavailable), frozen.write() as idle:  # noqa: PT012
        idle.execute(lane, {"token": 1})
        # Until the server has ended the first transaction, this one waits for its key.
        with other.write() as connection:
            connection.execute(lane, {"token": 2})
    with frozen.read() as connection:
        assert connection.execute(text("SELECT token FROM lane")).scalars().all() == [2]
    frozen.close()
    other.close()


def test_a_lost_connection_that_somebody_made_light_of_keeps_nothing(
    postgresql_bench: Bench,
) -> None:
    bench = postgresql_bench
    with pytest.raises(JournalUnavailable), bench.journal.write() as connection:  # noqa: PT012
        with contextlib.suppress(OperationalError):
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        moment(connection, None)
    bench.message()
    assert kept(bench) == 1


@pytest.mark.parametrize(
    "refusing",
    [
        # A file system that lets no file grow; PostgreSQL has no code for that.
        "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX000'; END $$",
        "SET TRANSACTION READ ONLY",
    ],
)
def test_a_server_in_trouble_is_no_fault_of_a_statement(
    postgresql_bench: Bench, refusing: str
) -> None:
    bench = postgresql_bench
    with pytest.raises(JournalUnavailable), bench.journal.write() as connection:  # noqa: PT012
        connection.execute(text(refusing))
        connection.execute(text("INSERT INTO lane (name, token) VALUES ('half', 1)"))
    bench.message()
    assert kept(bench) == 1


def test_commits_wait_for_the_disk_whatever_the_server_says(
    postgresql_url: str, tmp_path: Path
) -> None:
    url = postgresql_url + "?options=-csynchronous_commit%3Doff"
    journal = Journal(url, blob_directory=tmp_path / "blobs")
    with journal.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
        assert connection.execute(text("SHOW timezone")).scalar_one() == "UTC"
    journal.close()


def test_the_settings_of_sqlite_are_those_that_were_promised(sqlite_bench: Bench) -> None:
    def pragma(connection: object, name: str) -> object:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()  # type: ignore[attr-defined]

    with sqlite_bench.journal.write() as connection:
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 2
        assert pragma(connection, "wal_autocheckpoint") > 0  # type: ignore[operator]
        assert pragma(connection, "busy_timeout") == 5000
    with sqlite_bench.journal.read() as connection:
        assert pragma(connection, "query_only") == 1
        assert pragma(connection, "wal_autocheckpoint") == 0


def test_a_wrong_statement_is_a_fault_of_the_program(bench: Bench) -> None:
    with pytest.raises(JournalFault), bench.journal.write() as connection:
        connection.execute(text("SELECT nothing FROM nowhere"))


def test_readers_cannot_write(bench: Bench) -> None:
    with (
        pytest.raises((JournalUnavailable, JournalFault)),
        bench.journal.read() as connection,
    ):
        connection.execute(text("INSERT INTO lane (name, token) VALUES ('x', 1)"))
    assert bench.due() == []


def test_a_reader_sees_one_state_throughout(bench: Bench) -> None:
    bench.message()
    with bench.journal.read() as connection:
        before = messages.counts(connection)
        bench.message()
        assert messages.counts(connection) == before
    with bench.journal.read() as connection:
        assert messages.counts(connection) != before


def test_errors_quote_no_values(bench: Bench) -> None:
    secret = "279035121518989"
    with bench.journal.write() as connection:
        connection.execute(
            text("INSERT INTO operation (key, at, actor, what) VALUES (:k, :t, '', '')"),
            {"k": secret, "t": "2026-11-22 08:00:00.000000+00:00"},
        )
    with pytest.raises(JournalFault) as caught, bench.journal.write() as connection:
        connection.execute(
            text("INSERT INTO operation (key, at, actor, what) VALUES (:k, :t, '', '')"),
            {"k": secret, "t": "2026-11-22 08:00:00.000000+00:00"},
        )
    assert secret not in str(caught.value)
    assert caught.value.__suppress_context__


# --- one process writes a SQLite file ------------------------------------------------


def test_a_second_writer_is_told_who_has_the_file(sqlite_bench: Bench, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    assert sqlite_bench.journal.owner == os.getpid()
    with pytest.raises(JournalInUse) as caught:
        Journal(url, blob_directory=tmp_path / "blobs")
    assert caught.value.pid == os.getpid()
    sqlite_bench.journal.close()
    assert sqlite_bench.journal.owner is None
    second = Journal(url, blob_directory=tmp_path / "blobs")
    assert second.owner == os.getpid()
    second.close()
    second.close()


def test_another_process_has_the_file_until_it_ends(sqlite_url: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gateway.journal.journal import Journal\n"
        f"Journal({sqlite_url!r}, blob_directory=Path({str(tmp_path / 'blobs')!r}))\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(JournalInUse) as caught:
            Journal(sqlite_url, blob_directory=tmp_path / "blobs")
        assert caught.value.pid == child.pid
    finally:
        child.kill()
        child.wait(WAIT)
        for stream in (child.stdin, child.stdout):
            assert stream is not None
            stream.close()
    Journal(sqlite_url, blob_directory=tmp_path / "blobs").close()


def test_reading_goes_on_beside_the_writer(sqlite_bench: Bench, tmp_path: Path) -> None:
    beside = Journal(
        f"sqlite:///{tmp_path / 'journal.sqlite'}",
        blob_directory=tmp_path / "blobs",
        read_only=True,
    )
    sqlite_bench.message()
    with beside.read() as connection:
        assert sum(messages.counts(connection).values()) == 1
    with pytest.raises(JournalUnavailable), beside.write():
        pass
    assert beside.owner is None
    sqlite_bench.journal.close()
    with beside.read() as connection:
        assert sum(messages.counts(connection).values()) == 1
    beside.close()


def test_reading_what_is_not_there_is_unavailable(tmp_path: Path) -> None:
    absent = tmp_path / "absent.sqlite"
    with pytest.raises(NoJournal, match="not there yet"):
        Journal(f"sqlite:///{absent}", blob_directory=tmp_path / "b", read_only=True)
    assert issubclass(NoJournal, JournalUnavailable)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["sqlite://", "mysql://localhost/x", "postgresql+asyncpg://h/d"])
def test_other_urls_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Journal(url, blob_directory=tmp_path / "blobs")


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalUnavailable):
        Journal(f"sqlite:///{tmp_path / 'file/journal.sqlite'}", blob_directory=tmp_path / "blobs")
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    with pytest.raises(JournalUnavailable):
        Journal(url, blob_directory=tmp_path / "file/blobs")
    # What failed holds nothing.
    Journal(url, blob_directory=tmp_path / "blobs").close()


def test_the_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'new.sqlite'}", blob_directory=tmp_path / "blobs")
    journal.migrate()
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} == {
        "new.sqlite",
        "new.sqlite-wal",
        "new.sqlite-shm",
        "new.lock",
    }
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []
    journal.close()

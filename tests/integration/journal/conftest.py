"""One journal on each database, with a clock that the test holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from gateway.journal.journal import Journal
from gateway.journal.tables import metadata
from tests.integration.journal.bench import Bench, HeldClock
from tests.servers import Postgres


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite journal that was migrated once, to be copied."""
    folder = tmp_path_factory.mktemp("migrated")
    journal = Journal(f"sqlite:///{folder / 'journal.sqlite'}", blob_directory=folder / "blobs")
    journal.migrate()
    journal.close()
    return folder / "journal.sqlite"


def migrated(postgres: Postgres, folders: pytest.TempPathFactory) -> str:
    """The URL of a new database with an empty journal."""
    url = postgres.fresh_database()
    journal = Journal(url, blob_directory=folders.mktemp("blobs"))
    journal.migrate()
    journal.close()
    return url


@pytest.fixture(scope="session")
def migrated_postgresql(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a PostgreSQL journal that was migrated once, to be emptied for each test."""
    return migrated(postgres, tmp_path_factory)


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A migrated, empty SQLite journal."""
    shutil.copy(migrated_sqlite, tmp_path / "journal.sqlite")
    return f"sqlite:///{tmp_path / 'journal.sqlite'}"


@pytest.fixture
def postgresql_url(migrated_postgresql: str) -> str:
    """A migrated, empty PostgreSQL journal. A database for each test, or new files for each
    table, would cost seconds of disk; deleting the few rows costs milliseconds."""
    with psycopg.connect(migrated_postgresql.replace("+psycopg", "")) as connection:
        for table in reversed(metadata.sorted_tables):
            if table.name == "journal_partition":
                continue  # the partitions that it names are there still
            connection.execute(f"DELETE FROM {table.name}".encode())
    return migrated_postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty journal's URL, once on each database."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def opened(url: str, folder: Path, clock: Callable[[], datetime]) -> Iterator[Journal]:
    journal = Journal(url, blob_directory=folder / "blobs", now=clock)
    try:
        yield journal
    finally:
        journal.close()


@pytest.fixture
def journal(migrated_url: str, tmp_path: Path, clock: HeldClock) -> Iterator[Journal]:
    yield from opened(migrated_url, tmp_path, clock)


@pytest.fixture
def bench(journal: Journal, clock: HeldClock) -> Bench:
    return Bench(journal, clock)


@pytest.fixture
def sqlite_bench(sqlite_url: str, tmp_path: Path, clock: HeldClock) -> Iterator[Bench]:
    for journal in opened(sqlite_url, tmp_path, clock):
        yield Bench(journal, clock)


@pytest.fixture
def postgresql_bench(postgresql_url: str, tmp_path: Path, clock: HeldClock) -> Iterator[Bench]:
    for journal in opened(postgresql_url, tmp_path, clock):
        yield Bench(journal, clock)


@pytest.fixture(scope="module")
def migrated_template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an empty journal that nobody is connected to, to be copied."""
    return migrated(postgres, tmp_path_factory)


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest) -> Bench:
    """A journal of its own on each database."""
    name = "sqlite_bench" if request.param == "sqlite" else "own_postgresql"
    made: Bench = request.getfixturevalue(name)
    return made


@pytest.fixture
def own_postgresql(
    postgres: Postgres, migrated_template: str, tmp_path: Path, clock: HeldClock
) -> Iterator[Bench]:
    """A database of its own: a purge changes PostgreSQL's tables."""
    url = postgres.fresh_database(like=migrated_template)
    journal = Journal(url, blob_directory=tmp_path / "blobs", now=clock)
    yield Bench(journal, clock)
    journal.close()

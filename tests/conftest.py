"""Fixtures that every test may use: the shared corpora, real PostgreSQL, real Redis."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.servers import Postgres, Redis, running_postgres, running_redis

# pytest's own processes are told a width; a command whose output is no terminal has none.
os.environ.pop("COLUMNS", None)
# pynetdicom installs clients with the names of DCMTK's beside Python: in an environment that was
# activated they would be found first.
os.environ["PATH"] = os.pathsep.join(
    folder
    for folder in os.get_exec_path()
    if Path(folder).resolve() != (Path(sys.prefix) / "bin").resolve()
)

REPOSITORY = Path(__file__).resolve().parent.parent


_OF_A_GATEWAY = {"ecluse-sweep", "journal-writer"}
"""Names of threads that end with their gateway, and not some time after it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """No gateway works on beside the tests of another folder, which may change modules under it."""
    yield
    if nextitem is None or nextitem.path.parent != item.path.parent:
        left = sorted(_OF_A_GATEWAY & {each.name for each in threading.enumerate()})
        assert not left, f"a gateway outlives its tests: {', '.join(left)}"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this work tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of corpora beside the project; skips where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "corpora").is_dir():
        pytest.skip(f"the corpora are not beside the project (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL cluster. Fails, not skips, without a server: `make servers`."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The SQLAlchemy URL of a fresh, empty database."""
    return postgres.fresh_database()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A private Redis with an append-only file."""
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The URL of a Redis that holds nothing."""
    import redis

    if not redis_server.answers():
        redis_server.start()
    redis.Redis(port=redis_server.port).flushall()
    return redis_server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def journal_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A journal's database URL, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    return url

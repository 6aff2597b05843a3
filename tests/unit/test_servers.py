"""The real servers of the tests answer, and so do processes that are forks of another."""

from __future__ import annotations

import signal
import tempfile

import psycopg
import redis

from tests import forking
from tests.servers import Postgres


def test_postgres_answers(postgres: Postgres, postgres_url: str) -> None:
    assert postgres_url.startswith("postgresql+psycopg://")
    with psycopg.connect(postgres.dsn(postgres_url.rsplit("/", 1)[1])) as connection:
        row = connection.execute("show fsync").fetchone()
    assert row == ("on",)


def test_redis_answers(redis_url: str) -> None:
    assert redis.Redis.from_url(redis_url).ping()


def test_a_fork_is_a_process_like_any_other() -> None:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        fork = forking.start(["--version"], stdout=out, stderr=err)
        assert fork.wait(60) == fork.returncode == fork.poll() == 0
        out.seek(0)
        assert out.read().startswith(b"ecluse ")
        assert forking.start(["no-such-command"], stdout=out, stderr=err).wait(60) == 2
        err.seek(0)
        assert b"no-such-command" in err.read()
        environment = {"PATH": "/usr/bin", "ECLUSE_STATE": "relative"}
        killed = forking.start(["demo"], stdout=out, stderr=err, environment=environment)
        killed.kill()
        assert killed.wait(60) == -signal.SIGKILL
        killed.terminate()  # of what has ended: nothing

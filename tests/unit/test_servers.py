"""The real servers of the tests answer."""

from __future__ import annotations

import psycopg
import redis

from tests.servers import Postgres


def test_postgres_answers(postgres: Postgres, postgres_url: str) -> None:
    assert postgres_url.startswith("postgresql+psycopg://")
    with psycopg.connect(postgres.dsn(postgres_url.rsplit("/", 1)[1])) as connection:
        row = connection.execute("show fsync").fetchone()
    assert row == ("on",)


def test_redis_answers(redis_url: str) -> None:
    assert redis.Redis.from_url(redis_url).ping()

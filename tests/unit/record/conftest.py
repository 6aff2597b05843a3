"""A record over both databases, in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from record.store import Record
from tests.unit.record import making
from tests.unit.record.making import MemoryBlobs


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    yield from making.made_engine(request.param, request, tmp_path_factory)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection  # rolled back: each test begins with nothing


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def record(blobs: MemoryBlobs) -> Record:
    return making.record(blobs)

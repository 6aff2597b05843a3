"""The record's migrations, and two workers at once on a real PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from gateway.journal.migrate import upgrade
from record.tables import metadata
from tests.unit.record import making
from tests.unit.record.making import document, observation, organization, patient, replacing


def test_migrations_build_the_tables(journal_url: str) -> None:
    engine = making.engine_at(journal_url)
    for _ in range(2):  # the second time there is nothing to do
        upgrade(engine, package="record", version_table="record_version")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "record_version", "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []
        names = set(inspect(connection).get_table_names())
        assert names == {*metadata.tables, "record_version"}
        indexes = {
            index["name"]
            for table in metadata.tables
            for index in inspect(connection).get_indexes(table)
        }
        expected = {index.name for table in metadata.tables.values() for index in table.indexes}
        assert expected <= indexes
    engine.dispose()


def test_journal_and_record_share_a_database(journal_url: str) -> None:
    engine = making.engine_at(journal_url)
    upgrade(engine)
    upgrade(engine, package="record", version_table="record_version")
    with engine.connect() as connection:
        assert {"message", "record_entry"} <= set(inspect(connection).get_table_names())
    engine.dispose()


def test_workers_that_share_an_organisation_do_not_lose_anything(postgres_url: str) -> None:
    """Eight lanes at once put the same organisation, whose name changes with each message."""
    engine = making.engine_at(postgres_url)
    with engine.begin() as connection:
        metadata.create_all(connection)
    record, lanes, rounds = making.record(), 8, 12
    start = threading.Barrier(lanes)

    def lane(number: int) -> None:
        owner = f"p{number}"
        start.wait(timeout=30)
        for step in range(rounds):
            sequence = step * lanes + number + 1
            entries = [
                observation(f"o{number}-{step}", owner),
                organization("z", f"Nom {sequence}"),
                organization("a", f"Nom {sequence}"),
                patient(owner, f"Nom {step}"),
            ]
            with engine.begin() as connection:
                record.put(
                    connection,
                    owner,
                    entries,
                    message_id=sequence,
                    sequence=sequence,
                    source="s",
                    mapping="m",
                )

    with ThreadPoolExecutor(lanes) as pool:
        for done in [pool.submit(lane, number) for number in range(lanes)]:
            done.result(timeout=60)
    with engine.connect() as connection:
        for one in ("a", "z"):
            found = record.read(connection, "Organization", one)
            assert found is not None
            assert found.resource["name"] == f"Nom {lanes * rounds}"
            numbers = [v.version for v in record.history(connection, "Organization", one)]
            assert sorted(numbers) == list(range(1, found.versions + 1))
        for number in range(lanes):
            page = record.search(connection, "Observation", [("patient", f"p{number}")])
            assert page.total == rounds
    engine.dispose()


def test_a_merge_and_a_put_at_once_lose_nothing(postgres_url: str) -> None:
    """Whoever is first, what was put for the subsumed patient is the survivor's."""
    engine = making.engine_at(postgres_url)
    with engine.begin() as connection:
        metadata.create_all(connection)
    record = making.record()
    for number in range(10):
        survivor, subsumed = f"s{number}", f"x{number}"
        together = threading.Barrier(2)

        def put(
            owner: str = subsumed, at: int = number, together: threading.Barrier = together
        ) -> None:
            together.wait(timeout=30)
            with engine.begin() as connection:
                entries = [patient(owner), document(f"d{at}", owner), replacing("n", owner, "d")]
                record.put(
                    connection,
                    owner,
                    entries,
                    message_id=at + 1,
                    sequence=at + 1,
                    source="s",
                    mapping="m",
                )

        def merge(
            one: str = survivor, other: str = subsumed, together: threading.Barrier = together
        ) -> None:
            together.wait(timeout=30)
            with engine.begin() as connection:
                record.merge(connection, one, other)

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(put), pool.submit(merge)]:
                done.result(timeout=60)
        with engine.connect() as connection:
            assert (
                record.search(
                    connection, "DocumentReference", [("patient", survivor), ("_id", f"d{number}")]
                ).total
                == 1
            )
            found = record.read(connection, "Patient", subsumed)
            assert found is not None
            assert found.resource["link"][0]["type"] == "replaced-by"
    engine.dispose()

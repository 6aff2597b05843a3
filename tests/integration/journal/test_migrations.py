"""The migrations make exactly the tables that the code knows."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text

from gateway.journal import deadletters, migrate
from gateway.journal.journal import Journal
from gateway.journal.purge_tables import journal_partition
from gateway.journal.tables import metadata
from gateway.journal.values import DeadLetterFilter
from gateway.model import Cause, CauseCode, Stage


def test_migrations_make_exactly_the_metadata(journal_url: str, tmp_path: Path) -> None:
    journal = Journal(journal_url, blob_directory=tmp_path / "blobs")
    journal.migrate()
    with journal.read() as connection:
        # A partition has its table's columns by itself.
        partitions = {name for (name,) in connection.execute(select(journal_partition.c.name))}
        partitions |= {"content_kept", "normalised_kept"} if partitions else set()
        opts = {
            "compare_type": True,
            "version_table": "journal_version",
            "include_name": lambda name, kind, _: kind != "table" or name not in partitions,
        }
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, metadata) == []
    journal.close()


def test_partial_indexes_have_the_conditions_that_the_code_knows(
    journal_url: str, tmp_path: Path
) -> None:
    """Alembic does not compare these, and claims are slow without them."""
    journal = Journal(journal_url, blob_directory=tmp_path / "blobs")
    journal.migrate()
    expected = {
        index.name: str(index.dialect_options["sqlite"]["where"])
        for table in metadata.sorted_tables
        for index in table.indexes
        if index.dialect_options["sqlite"]["where"] is not None
    }
    with journal.read() as connection:
        found = {}
        for table in metadata.tables:
            for index in inspect(connection).get_indexes(table):
                where = index["dialect_options"].get(f"{journal.dialect}_where")
                if where is not None:
                    found[index["name"]] = str(where)
    journal.close()
    assert set(found) == set(expected)
    for name, condition in expected.items():
        # PostgreSQL writes the condition with casts and brackets.
        words = found[name].replace("(", "").replace(")", "").replace("::text", "")
        assert words.split() == condition.split(), name


def test_migrating_again_changes_nothing(journal_url: str, tmp_path: Path) -> None:
    journal = Journal(journal_url, blob_directory=tmp_path / "blobs")
    journal.migrate()
    with journal.write() as connection:
        connection.execute(text("INSERT INTO lane (name, token) VALUES ('kept', 1)"))
    journal.migrate()
    with journal.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM lane")).scalar_one() == 1
        versions = connection.execute(text("SELECT * FROM journal_version")).all()
    journal.close()
    assert len(versions) == 1


def test_tables_of_the_newest_version_need_no_alembic(
    journal_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer to load than most of the rest of a start."""
    journal = Journal(journal_url, blob_directory=tmp_path / "blobs")
    journal.migrate()
    ran: list[str] = []
    monkeypatch.setattr(command, "upgrade", lambda config, to: ran.append(to))
    journal.migrate()
    assert ran == []
    with journal.write() as connection:
        connection.execute(text("UPDATE journal_version SET version_num = '0003'"))
    journal.migrate()
    assert ran == ["head"]
    journal.close()


def test_two_processes_may_migrate_at_once(postgres_url: str) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        engine = create_engine(postgres_url)
        try:
            migrate.upgrade(engine)
        except BaseException as error:
            errors.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_another_package_has_a_chain_of_its_own(
    journal_url: str, tmp_path: Path, monkeypatch: object
) -> None:
    """The built-in record lives in the same database under its own version table."""
    package = tmp_path / "chain_of_another_room"
    (package / "migrations/versions").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "migrations/__init__.py").write_text("")
    env = Path(migrate.__file__).parent / "migrations/env.py"
    (package / "migrations/env.py").write_text(env.read_text())
    (package / "migrations/versions/0001.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        "revision = '0001'\ndown_revision = None\n"
        "def upgrade():\n"
        "    op.create_table('shelf', sa.Column('id', sa.Integer, primary_key=True))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))  # type: ignore[attr-defined]
    journal = Journal(journal_url, blob_directory=tmp_path / "blobs")
    journal.migrate()
    journal.migrate("chain_of_another_room", "shelf_version")
    with journal.read() as connection:
        names = set(inspect(connection).get_table_names())
    journal.close()
    assert {"shelf", "shelf_version", "message", "journal_version"} <= names


def test_dead_letters_of_before_are_in_their_groups(journal_url: str, tmp_path: Path) -> None:
    """What was buried before the desk counted its groups is counted, under the new names."""
    from alembic.config import Config

    journal = Journal(journal_url, blob_directory=tmp_path / "blobs")
    with journal.write() as connection:
        config = Config()
        config.set_main_option("script_location", "gateway.journal:migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        config.attributes["version_table"] = "journal_version"
        command.upgrade(config, "0003")
        for number, (source, location) in enumerate(
            (("lab", "OBX(1)-5"), ("lab", "OBX(2)-5"), ("ward", "OBX(3)-5"), ("ward", "PID-3")), 1
        ):
            connection.execute(
                text(
                    "INSERT INTO dead_letter (message_id, source, stage, cause_code, cause_detail,"
                    " cause_location, cause_protocol_code, fingerprint, buried_at, attempts,"
                    " reason, actor) VALUES (:n, :source, 'normalise', 'mapping-failed', 'no',"
                    " :location, '', :old, :at, 1, '', '')"
                ),
                {
                    "n": number, "source": source, "location": location, "old": f"old{number}",
                    "at": "2026-11-22T08:00:00.000000+00:00",
                },
            )  # fmt: skip
    journal.migrate()
    with journal.read() as connection:
        found = deadletters.groups(connection)
        count = deadletters.count(connection, DeadLetterFilter())
    journal.close()
    assert count == 4
    cause = Cause(code=CauseCode.MAPPING_FAILED, detail="no", location="OBX(9)-5")
    assert found[0].fingerprint == deadletters.fingerprint(Stage.NORMALISE, cause)
    assert [(dict(each.by_source), each.count) for each in found] == [
        ({"lab": 2, "ward": 1}, 3), ({"ward": 1}, 1),
    ]  # fmt: skip

"""Bring a chain of migrations that lies inside a package to its newest version."""

from __future__ import annotations

import re
from importlib.resources import files

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    inspect,
    select,
    text,
)

_LOCK = 0x45434C55
_REVISION = re.compile(r"^(revision|down_revision) = ['\"](\w+)['\"]", re.MULTILINE)


def upgrade(
    bind: Engine | Connection,
    package: str = "gateway.journal",
    version_table: str = "journal_version",
) -> None:
    """Run what is missing of ``<package>/migrations``, all of it in one transaction.

    ``package`` has a folder ``migrations`` with an ``env.py`` that runs on the
    connection in ``config.attributes["connection"]`` (the journal's own serves as
    the pattern). ``version_table`` is where the chain notes how far it is; each
    chain has its own. With an engine the transaction is made and committed here,
    with a connection it is the caller's. Several processes may call at once.
    """
    if isinstance(bind, Engine):
        with bind.begin() as connection:
            _upgrade(connection, package, version_table)
    else:
        _upgrade(bind, package, version_table)


def _upgrade(connection: Connection, package: str, version_table: str) -> None:
    if connection.dialect.name == "postgresql":
        # The second process waits, then finds nothing left to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    if _noted(connection, version_table) == _newest(package):
        return  # as at most starts: alembic need not even be loaded
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    command.upgrade(config, "head")


def _noted(connection: Connection, version_table: str) -> set[str]:
    """How far the chain is; empty for a database without it."""
    if not inspect(connection).has_table(version_table):
        return set()
    noted = Table(version_table, MetaData(), Column("version_num", String))
    return set(connection.execute(select(noted)).scalars())


def _newest(package: str) -> set[str]:
    """What no other step of the chain follows, from the text of its files."""
    folder = files(package).joinpath("migrations", "versions")
    said = [
        pair
        for file in folder.iterdir()
        if file.name.endswith(".py")
        for pair in _REVISION.findall(file.read_text(encoding="utf-8"))
    ]
    return {revision for key, revision in said if key == "revision"} - {
        revision for key, revision in said if key == "down_revision"
    }

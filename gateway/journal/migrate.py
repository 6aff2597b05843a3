"""Bring a chain of migrations that lies inside a package to its newest version."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, text

_LOCK = 0x45434C55


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
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        # The second process waits, then finds nothing left to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    command.upgrade(config, "head")

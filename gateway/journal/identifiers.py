"""Patients' identifiers as keys of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, Table, text, tuple_

from gateway.journal.fitting import fit
from gateway.journal.tables import KEY_MAX
from gateway.model import Identifier

Key = tuple[str, str]

IDENTIFIERS_MAX = 256
_TYPE_MAX = 16
_LOCK = text("SELECT pg_advisory_xact_lock(k.key) FROM unnest(CAST(:keys AS bigint[])) AS k(key)")


def fitted(identifiers: Iterable[Identifier]) -> dict[Key, Identifier]:
    """Identifiers by (system, value) as they stand in the tables, sorted, each once.

    Raises ValueError for more than 256 of them.
    """
    found = {
        (identifier.system, identifier.value): identifier
        for identifier in (
            Identifier(
                system=fit(given.system, KEY_MAX),
                value=fit(given.value, KEY_MAX),
                type=fit(given.type, KEY_MAX)[:_TYPE_MAX],
            )
            for given in identifiers
        )
    }
    if len(found) > IDENTIFIERS_MAX:
        raise ValueError(f"more than {IDENTIFIERS_MAX} identifiers")
    return dict(sorted(found.items()))


def among(table: Table, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The rows of ``waiting`` or ``patient_identifier`` with one of these keys."""
    return tuple_(table.c.system, table.c.value).in_(keys)


def lock(connection: Connection, keys: Iterable[Key]) -> None:
    """Let one transaction at a time say something about these identifiers.

    Else a message could begin to wait for an identity in the very moment in
    which another message brings it, and wait for ever. SQLite has one writer
    at a time anyway.
    """
    if connection.dialect.name != "postgresql":
        return
    numbers = sorted(
        int.from_bytes(hashlib.sha256("\0".join(key).encode()).digest()[:8], "big", signed=True)
        for key in keys
    )
    if numbers:
        connection.execute(_LOCK, {"keys": numbers})

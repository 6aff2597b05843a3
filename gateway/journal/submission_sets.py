"""Which submission sets were registered (IHE XDS), so that no other takes the identifier of one.

A set is noted once the documents in it are committed: a sender that got no answer sends the
same set again, and what it holds is then known by its digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from gateway.journal import registry_objects
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.registry_tables import submission_set
from gateway.journal.tables import KEY_MAX
from gateway.model import RegistryObject

_table = submission_set


def digest_of(connection: Connection, unique_id: str) -> str | None:
    """The digest of what a set holds; None when no set has this identifier."""
    statement = select(_table.c.digest).where(_table.c.unique_id == fit(unique_id, KEY_MAX))
    return connection.execute(statement).scalar()


def note(
    connection: Connection,
    unique_id: str,
    *,
    source: str,
    digest: str,
    objects: Sequence[RegistryObject] = (),
    at: datetime,
) -> str:
    """Note a set and register what it holds; the digest that stands, which is another's where
    another came first (then nothing of this one is registered)."""
    statement = upsert(connection, _table).on_conflict_do_nothing()
    key = fit(unique_id, KEY_MAX)
    connection.execute(
        statement, {"unique_id": key, "source": source, "digest": digest, "registered_at": at}
    )
    stands = digest_of(connection, unique_id) or digest
    if stands == digest:
        registry_objects.add(connection, objects, at=at)
    return stands

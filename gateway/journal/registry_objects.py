"""What submissions of IHE XDS registered: document entries, submission sets, folders and
associations, each as it is given back.

Written in the transaction that notes the submission set, and never changed. Which documents there
are, the record says: a document entry here is what its source said of one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Connection, or_, select

from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.registry_tables import registry_object
from gateway.journal.tables import KEY_MAX
from gateway.model import RegistryKind, RegistryObject

VALUES_MAX = 500
"""Values of one statement; SQLite takes 32,766, and half of them are enough for an index."""

_columns = registry_object.c


def add(connection: Connection, objects: Sequence[RegistryObject], *, at: datetime) -> None:
    """Register; what is registered under an id stays as it is."""
    if not objects:
        return
    statement = upsert(connection, registry_object).on_conflict_do_nothing()
    rows = [
        {
            "id": each.id, "kind": each.kind.value, "submission": each.submission,
            "unique_id": fit(each.unique_id, KEY_MAX), "patient": fit(each.patient, KEY_MAX),
            "type": fit(each.type, KEY_MAX), "source_object": each.source,
            "target_object": each.target, "facts": each.facts, "content": each.content,
            "registered_at": at,
        }
        for each in objects
    ]  # fmt: skip
    connection.execute(statement, rows)


def by_id(connection: Connection, ids: Sequence[str]) -> list[RegistryObject]:
    """Those with these ids, in no order."""
    return [
        each
        for some in _some(ids)
        for each in _read(connection, _columns.id.in_(some))
    ]  # fmt: skip


def by_unique_id(
    connection: Connection, kind: RegistryKind, unique_ids: Sequence[str]
) -> list[RegistryObject]:
    """Those of a kind with these identifiers, in no order."""
    return [
        each
        for some in _some([fit(one, KEY_MAX) for one in unique_ids])
        for each in _read(
            connection, _columns.unique_id.in_(some) & (_columns.kind == kind.value)
        )
    ]  # fmt: skip


def ids_by_unique_id(
    connection: Connection, kind: RegistryKind, unique_ids: Sequence[str]
) -> dict[str, str]:
    """Only the ids, by the identifier."""
    found: dict[str, str] = {}
    for some in _some([fit(one, KEY_MAX) for one in unique_ids]):
        rows = connection.execute(
            select(_columns.unique_id, _columns.id).where(
                _columns.unique_id.in_(some), _columns.kind == kind.value
            )
        )
        found.update((row.unique_id, row.id) for row in rows)
    return found


def of_patients(
    connection: Connection, kind: RegistryKind, patients: Sequence[str], *, limit: int
) -> list[RegistryObject]:
    """Those of a kind under one of these patientIds, the last first, at most ``limit`` + 1."""
    return _read(
        connection,
        _columns.patient.in_([fit(each, KEY_MAX) for each in patients])
        & (_columns.kind == kind.value),
        limit=limit + 1,
    )


def linked(connection: Connection, ids: Sequence[str], *, limit: int) -> list[RegistryObject]:
    """The associations of which one end is one of these, each once, at most ``limit`` + 1."""
    found: dict[str, RegistryObject] = {}
    for some in _some(ids):
        ends = or_(_columns.source_object.in_(some), _columns.target_object.in_(some))
        for each in _read(connection, ends, limit=limit + 1):
            found[each.id] = each
        if len(found) > limit:
            break
    return list(found.values())


def pointing_to(
    connection: Connection, ids: Sequence[str], types: Sequence[str]
) -> list[tuple[str, str]]:
    """Source and target of the associations of these types whose target is one of these."""
    found: list[tuple[str, str]] = []
    for some in _some(ids):
        rows = connection.execute(
            select(_columns.source_object, _columns.target_object).where(
                _columns.target_object.in_(some), _columns.type.in_(types)
            )
        )
        found += [(row.source_object, row.target_object) for row in rows]
    return found


def _read(connection: Connection, condition: object, *, limit: int = 0) -> list[RegistryObject]:
    statement = select(registry_object).where(condition)  # type: ignore[arg-type]
    if limit:
        order = (_columns.registered_at.desc(), _columns.id)
        statement = statement.order_by(*order).limit(limit)
    return [
        RegistryObject(
            id=row.id, kind=RegistryKind(row.kind), submission=row.submission,
            unique_id=row.unique_id, patient=row.patient, type=row.type,
            source=row.source_object, target=row.target_object, facts=row.facts,
            content=row.content, registered_at=row.registered_at,
        )
        for row in connection.execute(statement)
    ]  # fmt: skip


def _some(values: Sequence[str]) -> Iterator[Sequence[str]]:
    unique = sorted(set(values))
    return (unique[at : at + VALUES_MAX] for at in range(0, len(unique), VALUES_MAX))

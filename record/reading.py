"""Stored entries as FHIR resources, with what the record itself knows of them.

The text in the table is what was given; ``meta.versionId``, ``meta.lastUpdated`` and
``meta.source`` are set here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Row, Select, select

from record.content import ResourceText
from record.instants import instant_text
from record.tables import record_entry, record_entry_version

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HISTORY_MAX = 1_000
"""Versions of one entry that a history lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One version of one entry.

    ``resource`` is a fresh dict with ``meta`` set. ``versions`` is how many there are;
    ``derived`` says that the record made this one (see ``record.deriving``).
    ``patient_id`` is whose record it is in, empty for what several share. ``sequence``
    and ``message_id`` are the journal's.
    """

    type: str
    id: str
    version: int
    versions: int
    current: bool
    derived: bool
    recorded_at: datetime
    message_id: int
    sequence: int
    source: str
    mapping: str
    patient_id: str
    resource: dict[str, Any]

    @property
    def reference(self) -> str:
        """The relative reference ``Type/id``."""
        return f"{self.type}/{self.id}"


def selection(*, every_version: bool = False) -> Select[Any]:
    """The columns that :func:`stored` needs: current versions, or all of them."""
    entry, version = record_entry, record_entry_version
    joined: ColumnElement[bool] = version.c.entry_key == entry.c.key
    if not every_version:
        joined &= version.c.version == entry.c.version
    return select(
        entry.c.key,
        entry.c.reference,
        entry.c.patient_id,
        entry.c.version.label("current"),
        entry.c.versions,
        entry.c.date_low,
        version.c.version,
        version.c.sequence,
        version.c.message_id,
        version.c.source,
        version.c.mapping,
        version.c.derived,
        version.c.recorded_at,
        version.c.resource,
    ).select_from(entry.join(version, joined))


def stored(rows: Sequence[Row[Any]], json: ResourceText) -> list[Stored]:
    """The rows of :func:`selection` as entries."""
    return [_stored(row, json) for row in rows]


def _stored(row: Row[Any], json: ResourceText) -> Stored:
    type_name, _, identifier = row.reference.partition("/")
    resource: dict[str, Any] = json.loads(row.resource)
    _set_meta(resource, row)
    return Stored(
        type=type_name,
        id=identifier,
        version=row.version,
        versions=row.versions,
        current=row.version == row.current,
        derived=row.derived,
        recorded_at=_EPOCH + timedelta(microseconds=row.recorded_at),
        message_id=row.message_id,
        sequence=row.sequence,
        source=row.source,
        mapping=row.mapping,
        patient_id=row.patient_id or "",
        resource=resource,
    )


def _set_meta(resource: dict[str, Any], row: Row[Any]) -> None:
    meta = {
        **resource.get("meta", {}),
        "versionId": str(row.version),
        "lastUpdated": instant_text(row.recorded_at),
        "source": _origin(row.source, row.message_id),
    }
    # Where R4 has it: after the type and the id.
    rest = {
        name: value
        for name, value in resource.items()
        if name not in ("resourceType", "id", "meta")
    }
    head = {"resourceType": resource["resourceType"], "id": resource["id"], "meta": meta}
    resource.clear()
    resource.update(head)
    resource.update(rest)


def _origin(source: str, message_id: int) -> str:
    """``meta.source``: the source's name with the message, or the message alone."""
    if not source:
        return f"urn:ecluse:message:{message_id}"
    return f"urn:ecluse:source:{quote(source, safe='')}#{message_id}"

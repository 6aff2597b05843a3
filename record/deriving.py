"""Versions that the record itself makes, because other entries imply them.

A document that another replaces is *superseded* (R4 DocumentReference.relatesTo
«replaces»), and a Patient who was merged is linked with the other (R4 Patient.link
«replaced-by», «replaces»). Whatever comes first, the outcome is the same: it follows
from the source's current content and from what is true of it now, and when that changes
back the content does too. A document in error stays in error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from record.content import ResourceText, prepare_resource
from record.indexing import index
from record.rows import locked_entries
from record.tables import (
    record_entry,
    record_entry_version,
    record_patient,
    record_replacement,
)
from record.writing import Origin, version_row

LINKS_MAX = 1_000


class Deriving:
    """Makes the versions that are implied, where they are not current already."""

    def __init__(
        self, connection: Connection, origin: Origin, json: ResourceText, zone: tzinfo
    ) -> None:
        self._connection = connection
        self._origin = origin
        self._json = json
        self._zone = zone

    def settle(self, references: Iterable[str]) -> list[str]:
        """Bring documents and patients to what is implied; those that changed."""
        concerned = [
            reference
            for reference in references
            if reference.startswith(("DocumentReference/", "Patient/"))
        ]
        rows = locked_entries(self._connection, concerned)
        return [reference for reference, row in rows.items() if self._settle(row)]

    def _settle(self, row: Row[Any]) -> bool:
        table = record_entry_version
        there = table.c.version.in_({row.base, row.version})
        contents = {
            found.version: found
            for found in self._connection.execute(
                select(table.c.version, table.c.hash, table.c.resource).where(
                    table.c.entry_key == row.key, there
                )
            )
        }
        resource: dict[str, Any] = self._json.loads(contents[row.base].resource)
        if row.type == "Patient":
            self._link(resource)
        elif resource.get("status") == "current" and self._is_replaced(row.reference):
            resource["status"] = "superseded"
        wanted = prepare_resource(resource, self._json)
        if wanted.hash == contents[row.version].hash:
            return False
        number, origin = row.versions + 1, replace(self._origin, sequence=row.sequence)
        self._connection.execute(
            table.insert(), version_row(row.key, number, wanted, origin, derived=True)
        )
        self._connection.execute(
            update(record_entry)
            .where(record_entry.c.key == row.key)
            .values(
                version=number,
                versions=number,
                recorded_at=origin.at,
                tokens=index(resource, wanted.text, self._zone).tokens,
            )
        )
        return True

    def _is_replaced(self, reference: str) -> bool:
        table = record_replacement
        statement = select(table.c.entry_key).where(table.c.replaced == reference)
        return self._connection.execute(statement.limit(1)).first() is not None

    def _link(self, patient: dict[str, Any]) -> None:
        """Add the links that merges imply to those that the source gave."""
        table, own = record_patient, patient["id"]
        merged = self._connection.execute(
            select(table.c.patient_id, table.c.survivor)
            .where(
                table.c.survivor.is_not(None),
                or_(table.c.patient_id == own, table.c.survivor == own),
            )
            .order_by(table.c.patient_id)
            .limit(LINKS_MAX)
        )
        links = list(patient.get("link", ()))
        for row in merged:
            subsumed = row.patient_id == own
            other = row.survivor if subsumed else row.patient_id
            link = {
                "other": {"reference": f"Patient/{other}"},
                "type": "replaced-by" if subsumed else "replaces",
            }
            if link not in links:
                links.append(link)
        if links:
            patient["link"] = links

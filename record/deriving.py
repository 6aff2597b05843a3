"""Versions that the record itself makes, because other entries imply them.

A document that another replaces is *superseded* (R4 DocumentReference.relatesTo
«replaces»), and a Patient who was merged is linked with the other (R4 Patient.link
«replaced-by», «replaces»). Whatever comes first, the outcome is the same: it follows
from the source's current content and from what is true of it now, and when that changes
back the content does too. A document in error stays in error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection, or_, select, update

from record.content import ResourceText, prepare_resource
from record.indexing import index
from record.rows import Current, batches, insert_rows, locked_entries
from record.tables import (
    record_entry,
    record_entry_version,
    record_patient,
    record_replacement,
)
from record.writing import Origin, version_row

LINKS_MAX = 1_000
KEYS_MAX = 500
"""Values in one IN list."""


class Deriving:
    """Makes the versions that are implied, where they are not current already."""

    def __init__(self, connection: Connection, json: ResourceText, zone: tzinfo) -> None:
        self._connection = connection
        self._json = json
        self._zone = zone

    def settle(self, touched: Mapping[str, Origin]) -> list[str]:
        """Bring documents and patients to what is implied; those that changed.

        ``touched`` names, for each reference, what caused the version that may be made.
        """
        concerned = [
            reference
            for reference in touched
            if reference.startswith(("DocumentReference/", "Patient/"))
        ]
        rows = locked_entries(self._connection, concerned)
        if not rows:
            return []
        replaced = self._replaced([name for name, row in rows.items() if row.type != "Patient"])
        merged = self._merged([name for name, row in rows.items() if row.type == "Patient"])
        # Anything else says what its source says, and nothing else is implied of it.
        open_rows = {
            reference: row
            for reference, row in rows.items()
            if reference in replaced or reference in merged or row.version != row.base
        }
        contents = self._contents([row.key for row in open_rows.values()])
        return [
            reference
            for reference, row in open_rows.items()
            if self._settle(
                row,
                contents,
                touched[reference],
                is_replaced=reference in replaced,
                merged=merged.get(reference, ()),
            )
        ]

    def _contents(self, keys: Sequence[int]) -> dict[tuple[int, int], tuple[str, str]]:
        """Hash and text of the source's and of the current content of each entry."""
        entry, version = record_entry, record_entry_version
        found: dict[tuple[int, int], tuple[str, str]] = {}
        for batch in batches(keys, KEYS_MAX):
            rows = self._connection.execute(
                select(version.c.entry_key, version.c.version, version.c.hash, version.c.resource)
                .join(entry, entry.c.key == version.c.entry_key)
                .where(
                    entry.c.key.in_(batch),
                    or_(version.c.version == entry.c.base, version.c.version == entry.c.version),
                )
            )
            found.update({(key, number): (digest, text) for key, number, digest, text in rows})
        return found

    def _settle(
        self,
        row: Current,
        contents: Mapping[tuple[int, int], tuple[str, str]],
        cause: Origin,
        *,
        is_replaced: bool,
        merged: Sequence[tuple[str, str]],
    ) -> bool:
        resource: dict[str, Any] = self._json.loads(contents[row.key, row.base][1])
        if row.type == "Patient":
            _link(resource, merged)
        elif resource.get("status") == "current" and is_replaced:
            resource["status"] = "superseded"
        wanted = prepare_resource(resource, self._json)
        if wanted.hash == contents[row.key, row.version][0]:
            return False
        number, origin = row.versions + 1, replace(cause, sequence=row.sequence)
        insert_rows(
            self._connection,
            record_entry_version,
            [version_row(row.key, number, wanted, origin, derived=True)],
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

    def _replaced(self, references: Sequence[str]) -> set[str]:
        """Those of the documents that others replace."""
        column, found = record_replacement.c.replaced, set[str]()
        for batch in batches(references, KEYS_MAX):
            statement = select(column).where(column.in_(batch)).distinct()
            found.update(self._connection.execute(statement).scalars())
        return found

    def _merged(self, references: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        """By Patient the pairs of subsumed patient and survivor in which it stands."""
        table, pairs = record_patient, dict[str, list[tuple[str, str]]]()
        for batch in batches((name.partition("/")[2] for name in references), KEYS_MAX):
            asked = set(batch)
            rows = self._connection.execute(
                select(table.c.patient_id, table.c.survivor)
                .where(
                    table.c.survivor.is_not(None),
                    or_(table.c.patient_id.in_(batch), table.c.survivor.in_(batch)),
                )
                .order_by(table.c.patient_id)
            )
            for subsumed, survivor in rows:
                for one in asked.intersection((subsumed, survivor)):
                    pairs.setdefault(f"Patient/{one}", []).append((subsumed, survivor))
        return pairs


def _link(patient: dict[str, Any], merged: Sequence[tuple[str, str]]) -> None:
    """Add the links that merges imply to those that the source gave."""
    own, links = patient["id"], list(patient.get("link", ()))
    for subsumed, survivor in merged[:LINKS_MAX]:
        link = {
            "other": {"reference": f"Patient/{survivor if subsumed == own else subsumed}"},
            "type": "replaced-by" if subsumed == own else "replaces",
        }
        if link not in links:
            links.append(link)
    if links:
        patient["link"] = links

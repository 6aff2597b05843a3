"""The statements that the record's writing shares: locks, and many rows at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, text

from gateway.bulk import Statement, insert_new, insert_rows
from record.tables import record_entry, record_patient

__all__ = [
    "Current",
    "batches",
    "insert_entries",
    "insert_new",
    "insert_rows",
    "locked_entries",
    "locked_patients",
]

# Lists go in as one value (JSON, an array), because a statement with a placeholder for each
# of them is made and prepared anew for every length.
_ENTRIES = {
    dialect: text(
        f"SELECT {', '.join(f't.{column.name}' for column in record_entry.c)} {listed}"
    ).columns(*record_entry.c)
    for dialect, listed in {
        "sqlite": "FROM json_each(:names) AS k JOIN record_entry AS t ON t.reference = k.value"
        " ORDER BY t.reference",
        "postgresql": "FROM record_entry AS t WHERE t.reference = ANY(CAST(:names AS varchar[]))"
        " ORDER BY t.reference FOR UPDATE",
    }.items()
}
_SURVIVORS = Statement(
    "SELECT patient_id, survivor FROM record_patient WHERE patient_id = ANY(:names varchar)"
    " ORDER BY patient_id FOR UPDATE"
)


@dataclass(slots=True)
class Current:
    """What is true now of one entry: its row, changed as messages are judged.

    ``said`` are hash and sequence of the contents that this transaction has added.
    """

    key: int
    reference: str
    type: str
    patient_id: str | None
    version: int
    versions: int
    base: int
    hash: str
    sequence: int
    provisional: bool
    recorded_at: int
    date_low: int
    date_high: int
    tokens: str
    revision: int
    said: list[tuple[str, int]] = field(default_factory=list)

    def changing(self) -> dict[str, Any]:
        """The columns that may have changed, and the key as ``k``."""
        return {
            "k": self.key,
            "patient_id": self.patient_id,
            "version": self.version,
            "versions": self.versions,
            "base": self.base,
            "hash": self.hash,
            "sequence": self.sequence,
            "provisional": self.provisional,
            "recorded_at": self.recorded_at,
            "date_low": self.date_low,
            "date_high": self.date_high,
            "tokens": self.tokens,
            "revision": self.revision,
        }


def insert_entries(connection: Connection, rows: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Insert entry rows (all columns but the key); the keys of those that no other
    transaction put first."""
    names = tuple(column.name for column in record_entry.c)[1:]
    found = insert_new(
        connection, record_entry, rows, columns=names, returning=("reference", "key")
    )
    return {reference: key for reference, key in found}  # noqa: C416 - typed so


def locked_entries(connection: Connection, references: Iterable[str]) -> dict[str, Current]:
    """The rows of the entries that exist, locked until the transaction ends."""
    names = sorted(set(references))
    if not names:
        return {}
    statement = _ENTRIES[connection.dialect.name]
    rows = connection.execute(statement, {"names": _list(connection, names)})
    return {row[1]: Current(*row) for row in rows}


def locked_patients(connection: Connection, patient_ids: Iterable[str]) -> dict[str, str]:
    """Lock patients' rows, made if need be; for each the patient whose record it is now.

    While the rows are locked nobody merges these patients, so that no entry is put
    beside a merge that does not see it.
    """
    wanted = sorted(set(patient_ids))
    survivors: dict[str, str | None] = {}
    asked = wanted
    while asked:
        found = _locked_survivors(connection, asked)
        missing = [one for one in asked if one not in found]
        if missing:
            rows = [[one, None, None, None] for one in missing]
            insert_new(connection, record_patient, rows)
            found.update(_locked_survivors(connection, missing))
        survivors.update(found)
        asked = sorted({one for one in found.values() if one is not None} - survivors.keys())
    return {one: _followed(one, survivors) for one in wanted}


def _locked_survivors(connection: Connection, patient_ids: Sequence[str]) -> dict[str, str | None]:
    rows = _SURVIVORS.rows(connection, names=list(patient_ids))
    return {patient_id: survivor for patient_id, survivor in rows}  # noqa: C416 - typed so


def _followed(patient_id: str, survivors: dict[str, str | None]) -> str:
    while (survivor := survivors.get(patient_id)) is not None:
        patient_id = survivor
    return patient_id


def _list(connection: Connection, values: Sequence[str]) -> Any:
    return json.dumps(values) if connection.dialect.name == "sqlite" else list(values)


def batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The values in lists of at most ``size``."""
    walk = iter(values)
    while batch := list(islice(walk, size)):
        yield batch

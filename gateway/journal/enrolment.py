"""Many new patients and cross-references at once: what ``patients.ensure`` and
``patients.link`` do for one, when the caller has read and locked the identifiers before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from gateway.journal import patients, tables
from gateway.journal.dialects import upsert
from gateway.journal.identifiers import Key
from gateway.journal.times import moment
from gateway.journal.values import Feeding, Patient, RecordStatus
from gateway.model import Identifier


@dataclass(frozen=True, slots=True)
class NewLink:
    """An identifier that a message says is a patient's."""

    patient_id: str
    identifier: Identifier
    message_id: int


def enrol(
    connection: Connection,
    new_patients: Sequence[Identifier],
    links: Sequence[NewLink],
    *,
    at: datetime | None = None,
) -> None:
    """Make the patients of these INS, then the links; what is there already stays.

    The identifiers must fit their columns (256 characters) and be locked
    (``identifiers.lock``), and the INS must be among ``links`` too.
    """
    now = moment(connection, at)
    if new_patients:
        connection.execute(
            upsert(connection, tables.patient).on_conflict_do_nothing(),
            [
                {
                    "id": patients.patient_id(ins),
                    "ins_system": ins.system,
                    "ins_value": ins.value,
                    "merged_into": None,
                    "feeding": Feeding.UNKNOWN.value,
                    "record": RecordStatus.UNKNOWN.value,
                    "feeding_message_id": None,
                    "record_message_id": None,
                    "created_at": now,
                }
                for ins in sorted(new_patients, key=lambda ins: (ins.system, ins.value))
            ],
        )
    if links:
        connection.execute(
            upsert(connection, tables.patient_identifier).on_conflict_do_nothing(),
            [
                {
                    "system": link.identifier.system,
                    "value": link.identifier.value,
                    "patient_id": link.patient_id,
                    "type": link.identifier.type[:16],
                    "since_message_id": link.message_id,
                }
                for link in sorted(links, key=lambda k: (k.identifier.system, k.identifier.value))
            ],
        )


_NAMED = {
    "sqlite": "FROM json_each(:keys) AS k JOIN {table} AS t "
    "ON t.system = json_extract(k.value, '$[0]') AND t.value = json_extract(k.value, '$[1]')",
    "postgresql": "FROM unnest(CAST(:systems AS varchar[]), CAST(:values AS varchar[])) "
    "AS k(system, value) JOIN {table} AS t ON t.system = k.system AND t.value = k.value",
}
_OWNERS = {
    dialect: text(
        "SELECT t.system, t.value, t.patient_id " + named.format(table="patient_identifier")
    )
    for dialect, named in _NAMED.items()
}
_AWAITED = {
    dialect: text("SELECT DISTINCT t.system, t.value " + named.format(table="waiting"))
    for dialect, named in _NAMED.items()
}
_PATIENTS = {
    "sqlite": text(
        "SELECT p.* FROM json_each(:ids) AS k JOIN patient AS p ON p.id = k.value"
    ).columns(*tables.patient.c),
    "postgresql": text("SELECT p.* FROM patient AS p WHERE p.id = ANY(:ids)").columns(
        *tables.patient.c
    ),
}


def owners(connection: Connection, identifiers: Iterable[Identifier]) -> dict[Key, str]:
    """The patient to whom each identifier was linked, merges not followed."""
    keys = _keys(identifiers)
    if not keys:
        return {}
    rows = connection.execute(_OWNERS[connection.dialect.name], _given(connection, keys))
    return {(row.system, row.value): row.patient_id for row in rows}


def awaited(connection: Connection, identifiers: Iterable[Identifier]) -> set[Key]:
    """Those of the identifiers for which a held message waits."""
    keys = _keys(identifiers)
    if not keys:
        return set()
    rows = connection.execute(_AWAITED[connection.dialect.name], _given(connection, keys))
    return {(row.system, row.value) for row in rows}


def patients_of(connection: Connection, ids: Iterable[str]) -> list[Patient]:
    """Patients' own rows, merged or not."""
    wanted = sorted(set(ids))
    if not wanted:
        return []
    given: Any = json.dumps(wanted) if connection.dialect.name == "sqlite" else wanted
    rows = connection.execute(_PATIENTS[connection.dialect.name], {"ids": given})
    return [
        Patient(
            id=row.id,
            ins_system=row.ins_system,
            ins_value=row.ins_value,
            merged_into=row.merged_into,
            feeding=Feeding(row.feeding),
            record=RecordStatus(row.record),
            feeding_message_id=row.feeding_message_id,
            record_message_id=row.record_message_id,
            created_at=row.created_at,
        )
        for row in rows
    ]


def _keys(identifiers: Iterable[Identifier]) -> list[Key]:
    return sorted({(each.system, each.value) for each in identifiers})


def _given(connection: Connection, keys: Sequence[Key]) -> dict[str, Any]:
    # One value for the whole list: a statement with a placeholder for each is made
    # and prepared anew for every length.
    if connection.dialect.name == "sqlite":
        return {"keys": json.dumps(keys)}
    systems, values = zip(*keys, strict=True)
    return {"systems": list(systems), "values": list(values)}

"""Many new patients and cross-references at once: what ``patients.ensure`` and
``patients.link`` do for one, when the caller has read and locked the identifiers before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from gateway.bulk import Statement, given_instant, insert_new, instant_text
from gateway.journal import patient_tables, patients
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
    created_at = instant_text(moment(connection, at))
    # Both in the order of their identifiers, so that two processes never wait in a circle.
    insert_new(
        connection,
        patient_tables.patient,
        [
            (
                *(patients.patient_id(ins), ins.system, ins.value, None),
                *(Feeding.UNKNOWN.value, RecordStatus.UNKNOWN.value, None, None, created_at),
            )
            for ins in sorted(new_patients, key=lambda ins: (ins.system, ins.value))
        ],
        columns=_PATIENT_COLUMNS,
    )
    insert_new(
        connection,
        patient_tables.patient_identifier,
        [
            (
                *(link.identifier.system, link.identifier.value, link.patient_id),
                *(link.identifier.type[:16], link.message_id),
            )
            for link in sorted(links, key=lambda k: (k.identifier.system, k.identifier.value))
        ],
        columns=_IDENTIFIER_COLUMNS,
    )


_PATIENT_COLUMNS = (
    *("id", "ins_system", "ins_value", "merged_into"),
    *("feeding", "record", "feeding_message_id", "record_message_id", "created_at"),
)
_IDENTIFIER_COLUMNS = ("system", "value", "patient_id", "type", "since_message_id")
_SQLITE_KEYS = """
    FROM json_each(:keys) AS k JOIN {} AS t
    ON t.system = json_extract(k.value, '$[0]') AND t.value = json_extract(k.value, '$[1]')
    """
_POSTGRESQL_KEYS = """
    FROM unnest(CAST(:systems AS text[]), CAST(:values AS text[])) AS k(system, value)
    JOIN {} AS t ON t.system = k.system AND t.value = k.value
    """


def _named(what: str, table: str) -> Statement:
    return Statement(
        f"SELECT {what} {_POSTGRESQL_KEYS.format(table)}",
        sqlite=f"SELECT {what} {_SQLITE_KEYS.format(table)}",
    )


_OWNERS = _named("t.system, t.value, t.patient_id", "patient_identifier")
_AWAITED = _named("DISTINCT t.system, t.value", "waiting")
_PATIENTS = Statement(
    f"SELECT {', '.join(_PATIENT_COLUMNS)} FROM patient WHERE id = ANY(:ids text)"  # noqa: S608 - our own names
)


def owners(connection: Connection, identifiers: Iterable[Identifier]) -> dict[Key, str]:
    """The patient to whom each identifier was linked, merges not followed."""
    keys = _keys(identifiers)
    rows = _OWNERS.rows(connection, **_given(connection, keys)) if keys else []
    return {(system, value): patient for system, value, patient in rows}


def awaited(connection: Connection, identifiers: Iterable[Identifier]) -> set[Key]:
    """Those of the identifiers for which a held message waits."""
    keys = _keys(identifiers)
    rows = _AWAITED.rows(connection, **_given(connection, keys)) if keys else []
    return {(system, value) for system, value in rows}


def patients_of(connection: Connection, ids: Iterable[str]) -> list[Patient]:
    """Patients' own rows, merged or not."""
    wanted = sorted(set(ids))
    return [_patient_of(row) for row in _PATIENTS.rows(connection, ids=wanted)] if wanted else []


def _patient_of(row: Sequence[Any]) -> Patient:
    number, ins_system, ins_value, merged_into, feeding, record, *row = row
    feeding_message, record_message, created_at = row
    return Patient(
        id=number,
        ins_system=ins_system,
        ins_value=ins_value,
        merged_into=merged_into,
        feeding=Feeding(feeding),
        record=RecordStatus(record),
        feeding_message_id=feeding_message,
        record_message_id=record_message,
        created_at=given_instant(created_at),
    )


def _keys(identifiers: Iterable[Identifier]) -> list[Key]:
    return sorted({(each.system, each.value) for each in identifiers})


def _given(connection: Connection, keys: Sequence[Key]) -> dict[str, Any]:
    if connection.dialect.name == "sqlite":
        return {"keys": keys}
    systems, values = zip(*keys, strict=True)
    return {"systems": list(systems), "values": list(values)}

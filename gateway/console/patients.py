"""The pages of patients: the list, a record, one analyte's course, one entry's versions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from sqlalchemy import Connection, func, select
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway import ins
from gateway.console import chart, clinical, laboratory, typography
from gateway.console.context import Console
from gateway.console.differences import Difference, differences
from gateway.console.identity import INS_KINDS, read_identity
from gateway.journal import patient_tables, patients
from gateway.journal.faults import IdentityConflict
from gateway.journal.values import Patient
from gateway.model import Identifier
from gateway.serialise import dumps
from record.faults import SearchRefused
from record.reading import Stored
from record.tables import record_entry, record_member

PAGE_ROWS = 50
FOUND_MAX = 20
VERSIONS_MAX = 50
_INS = re.compile(r"\d{5}[0-9AB]{2}\d{6}(?:\d{2})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRow:
    """One record in the list. No trait: who it is stands on the record's own page."""

    id: str
    ins_masked: str
    ins_kind: str
    feeding: str
    record: str
    entries: int
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """One version of an entry and what changed since the one before."""

    version: int
    at: datetime
    message_id: int
    mapping: str
    json: str
    changes: tuple[Difference, ...]


def patient_routes(console: Console) -> APIRouter:
    """``/patients`` and below."""
    router = APIRouter(include_in_schema=False)
    record = console.gateway.record

    @router.get("/patients", response_class=HTMLResponse)
    def list_page(after: str = "") -> Response:
        with console.journal.read() as connection:
            rows, older = _list(connection, after)
        return _list_page(console, rows, newer="/patients" if after else "", older=older)

    @router.post("/patients", response_class=HTMLResponse)
    def find_page(request: Request, find: Annotated[str, Form(max_length=200)] = "") -> Response:
        wanted = " ".join(find.split())
        with console.journal.read() as connection:
            found = find_patients(console, connection, wanted) if wanted else []
            rows = _rows(connection, found)
        console.saw(request, "patients searched", count=len(rows))
        if len(rows) == 1:
            return RedirectResponse(f"/patients/{rows[0].id}", 303)
        return _list_page(console, rows, find=wanted)

    @router.get("/patients/{patient_id}", response_class=HTMLResponse)
    def record_page(request: Request, patient_id: str) -> Response:
        with console.journal.read() as connection:
            patient = _survivor(connection, patient_id)
            if patient is None:
                return console.not_found("such record")
            if patient.id != patient_id:
                return RedirectResponse(f"/patients/{patient.id}", 303)
            shown = chart.read_chart(connection, record, patient, console.now())
        console.saw(request, "record shown", entries=shown.entries_shown)
        return console.page("patient.html", "Patients", {"patient": shown})

    @router.get("/patients/{patient_id}/analyte", response_class=HTMLResponse)
    def analyte_page(request: Request, patient_id: str, code: str) -> Response:
        with console.journal.read() as connection:
            patient = _survivor(connection, patient_id)
            found = _analyte(console, connection, patient, code) if patient else None
            if patient is None or found is None:
                return console.not_found("such result in this record")
            name = read_identity(connection, record, patient, console.now()).name
        console.saw(request, "results shown", count=len(found.lines))
        context = {"patient_id": patient.id, "patient_name": name, "analyte": found,
                   "values": found.lines, "plot": laboratory.course(found)}  # fmt: skip
        return console.page("analyte.html", "Patients", context)

    @router.get("/patients/{patient_id}/entry/{kind}/{identifier}", response_class=HTMLResponse)
    def entry_page(request: Request, patient_id: str, kind: str, identifier: str) -> Response:
        with console.journal.read() as connection:
            patient = _survivor(connection, patient_id)
            versions = record.history(connection, kind, identifier, VERSIONS_MAX)
        # Somebody else's entry does not exist here, even for one who knows its address.
        if patient is None or not versions or versions[0].patient_id not in {"", patient.id}:
            return console.not_found("such entry in this record")
        console.saw(request, "entry shown", count=len(versions))
        return console.page("entry.html", "Patients", _entry_context(patient, versions))

    return router


def _survivor(connection: Connection, patient_id: str) -> Patient | None:
    try:
        return patients.survivor(connection, patient_id)
    except IdentityConflict:
        return None


# --- the list ----------------------------------------------------------------------


def _list_page(
    console: Console, rows: Sequence[PatientRow], *, find: str = "", newer: str = "",
    older: str = "",
) -> HTMLResponse:  # fmt: skip
    context = {"rows": rows, "find": find, "newer": newer, "older": older}
    return console.page("patients.html", "Patients", context)


def _list(connection: Connection, after: str) -> tuple[list[PatientRow], str]:
    """The newest patients, and the address of the page after."""
    patient = patient_tables.patient
    wanted = select(patient.c.id).where(patient.c.merged_into.is_(None))
    if after:
        mark = connection.execute(
            select(patient.c.created_at).where(patient.c.id == after)
        ).scalar_one_or_none()
        if mark is not None:
            wanted = wanted.where(
                (patient.c.created_at < mark)
                | ((patient.c.created_at == mark) & (patient.c.id < after))
            )
    wanted = wanted.order_by(patient.c.created_at.desc(), patient.c.id.desc())
    ids = list(connection.execute(wanted.limit(PAGE_ROWS + 1)).scalars())
    older = f"/patients?after={ids[PAGE_ROWS - 1]}" if len(ids) > PAGE_ROWS else ""
    return _rows(connection, ids[:PAGE_ROWS]), older


def _rows(connection: Connection, ids: Sequence[str]) -> list[PatientRow]:
    entry, member = record_entry, record_member
    figures = {
        row[0]: (row[1], row[2])
        for row in connection.execute(
            select(member.c.patient_id, func.count(), func.max(entry.c.recorded_at))
            .join(entry, entry.c.key == member.c.entry_key)
            .where(member.c.patient_id.in_(ids))
            .group_by(member.c.patient_id)
        )
    }
    rows = []
    for patient_id in ids:
        patient = patients.get(connection, patient_id)
        if patient is None:
            continue
        entries, micros = figures.get(patient_id, (0, None))
        rows.append(
            PatientRow(
                id=patient.id,
                ins_masked=typography.masked(patient.ins_value),
                ins_kind=INS_KINDS.get(patient.ins_system, (patient.ins_system, False))[0],
                feeding=patient.feeding.value,
                record=patient.record.value,
                entries=entries,
                changed_at=_EPOCH + timedelta(microseconds=micros) if micros is not None else None,
            )
        )
    return rows


def find_patients(console: Console, connection: Connection, wanted: str) -> list[str]:
    """Ids of patients by INS (13 or 15 characters), by local identifier, or by name."""
    compact = wanted.replace(" ", "").upper()
    if _INS.fullmatch(compact):
        value = compact if len(compact) == 15 else f"{compact}{ins.key(compact)}"
        known = [
            patients.patient_id(Identifier(system=system, value=value)) for system in ins.ROOTS
        ]
        return _survivors(connection, known)
    identifier = patient_tables.patient_identifier
    local = connection.execute(
        select(identifier.c.patient_id).where(identifier.c.value == wanted).limit(FOUND_MAX)
    ).scalars()
    found = _survivors(connection, local)
    if found:
        return found
    try:
        named = console.gateway.record.search(
            connection, "Patient", [("name", wanted), ("_count", str(FOUND_MAX))]
        )
    except SearchRefused:
        return []
    return _survivors(connection, [each.id for each in named.entries])


def _survivors(connection: Connection, ids: Any) -> list[str]:
    found = [_survivor(connection, patient_id) for patient_id in ids]
    return list(dict.fromkeys(patient.id for patient in found if patient is not None))


# --- one analyte, one entry ----------------------------------------------------------


def _analyte(
    console: Console, connection: Connection, patient: Patient, code: str
) -> laboratory.Analyte | None:
    record = console.gateway.record
    results, _ = chart.read_results(connection, record, patient.id)
    found = laboratory.by_analyte(results).get(code, [])
    if not found:
        return None
    references = {each.reference for each in found}
    earlier = []
    for reference in sorted(references):
        current = record.read(connection, *reference.split("/", 1))
        if current is not None and current.versions > 1:
            earlier += chart.earlier_values(connection, record, current)
    replaced = [
        laboratory.Result(
            reference=each.reference, version=each.version, resource=each.resource, current=False
        )
        for each in earlier
    ]
    return laboratory.analyte(code, [*found, *laboratory.by_analyte(replaced).get(code, [])])


def _entry_context(patient: Patient, versions: Sequence[Stored]) -> dict[str, Any]:
    by_number = {each.version: each for each in versions}
    views = [
        VersionView(
            version=each.version,
            at=each.recorded_at,
            message_id=each.message_id,
            mapping=each.mapping,
            json=dumps(each.resource, indent=True).decode("utf-8"),
            changes=differences(by_number[each.version - 1].resource, each.resource)
            if each.version - 1 in by_number
            else (),
        )
        for each in versions
    ]
    current = versions[0]
    return {
        "patient_id": patient.id,
        "reference": current.reference,
        "type": current.type,
        "says": clinical.says(current.resource),
        "versions": views,
    }

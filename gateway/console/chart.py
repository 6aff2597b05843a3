"""One patient's record as a page: identity, laboratory, documents, imaging, every entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from adapters.dicom.manifest import KEY_OBJECTS
from gateway.console import clinical, laboratory, typography
from gateway.console.clinical import Json, items, text
from gateway.console.identity import Identity, read_identity
from gateway.journal.values import Patient
from record.reading import Stored
from record.store import Record

OBSERVATIONS_MAX = 500
ENTRIES_MAX = 500
HISTORIES_MAX = 60
"""Observations whose earlier versions are looked up, to tell which were corrected."""
DOCUMENTS_MAX = 100
AUTHORS_MAX = 3
CDA_TYPES = frozenset({"text/xml", "application/xml", "application/hl7-cda+xml"})

_BINARY = re.compile(r"Binary/([0-9a-f]{64})")
_MEDIA = {
    "application/pdf": "PDF", "text/xml": "XML", "application/xml": "XML", "text/plain": "texte",
    "application/hl7-cda+xml": "CDA", "image/jpeg": "JPEG", "image/png": "PNG",
    "application/dicom": "DICOM", "text/html": "HTML", "application/rtf": "RTF", "text/rtf": "RTF",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One form of a document: where its bytes are, what they are."""

    url: str
    label: str
    size: int | None
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLine:
    """One document. ``pdf`` is the address of its PDF, ``cda`` and ``manifest`` are those of its
    page, or empty."""

    title: str
    type: str
    date: str
    author: str
    status: str
    contents: tuple[Content, ...]
    pdf: str
    manifest: str
    cda: str
    shown: bool
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLine:
    """One series of a study."""

    number: str
    modality: str
    description: str
    body_site: str
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLine:
    """One imaging study. ``manifest`` is the address of its manifest's page, or empty."""

    modality: str
    description: str
    date: str
    accession: str
    instances: int
    series: tuple[SeriesLine, ...]
    reference: str
    manifest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """One current entry of the record."""

    reference: str
    type: str
    says: str
    version: int
    changed_at: datetime
    message_id: int


@dataclass(frozen=True, slots=True)
class Section:
    """One link of the page's own navigation."""

    anchor: str
    label: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Everything that the page shows."""

    id: str
    identity: Identity
    feeding: str
    record: str
    sections: tuple[Section, ...]
    panels: tuple[laboratory.Panel, ...]
    panels_more: bool
    observations_shown: int
    documents: tuple[DocumentLine, ...]
    studies: tuple[StudyLine, ...]
    entries: tuple[tuple[str, tuple[EntryRow, ...]], ...]
    entries_shown: int
    entries_more: bool


def read_chart(connection: Connection, record: Record, patient: Patient, now: datetime) -> Chart:
    """Read a patient's record. ``patient`` is the survivor of any merges."""
    results, more = read_results(connection, record, patient.id)
    reports = _newest(connection, record, "DiagnosticReport", patient.id, 200)
    panels = laboratory.panels(results, [each.resource for each in reports])
    newest = _newest(connection, record, "DocumentReference", patient.id, DOCUMENTS_MAX)
    documents = _first_shown([_document(connection, record, each) for each in newest])
    manifests = _manifests(newest)
    studies = [
        replace(_study(each), manifest=manifests.get(each.reference, ""))
        for each in _newest(connection, record, "ImagingStudy", patient.id, 100)
    ]
    everything = record.everything(connection, patient.id, count=ENTRIES_MAX)
    total = everything.total or len(everything.entries)
    sections = (
        Section("laboratory", "Laboratory", sum(len(panel.analytes) for panel in panels)),
        Section("documents", "Documents", len(documents)),
        Section("imaging", "Imaging", len(studies)),
        Section("entries", "All entries", total),
    )
    return Chart(
        id=patient.id,
        identity=read_identity(connection, record, patient, now),
        feeding=patient.feeding.value,
        record=patient.record.value,
        sections=tuple(each for each in sections if each.count or each.anchor == "entries"),
        panels=tuple(panels),
        panels_more=more,
        observations_shown=len(results),
        documents=tuple(documents),
        studies=tuple(studies),
        entries=_by_type(everything.entries),
        entries_shown=len(everything.entries),
        entries_more=bool(everything.next),
    )


def _newest(
    connection: Connection, record: Record, kind: str, patient_id: str, count: int
) -> list[Stored]:
    sort = {"ImagingStudy": "-started"}.get(kind, "-date")
    wanted = (("patient", patient_id), ("_sort", sort), ("_count", str(count)))
    return list(record.search(connection, kind, wanted).entries)


def read_results(
    connection: Connection, record: Record, patient_id: str
) -> tuple[list[laboratory.Result], bool]:
    """The newest results of a patient, and whether there are more than those."""
    wanted = (("patient", patient_id), ("_sort", "-date"), ("_count", str(OBSERVATIONS_MAX)))
    page = record.search(connection, "Observation", wanted)
    found, looked_up = [], 0
    for each in page.entries:
        corrected = False
        if each.versions > 1 and looked_up < HISTORIES_MAX:
            looked_up += 1
            corrected = bool(earlier_values(connection, record, each))
        found.append(
            laboratory.Result(
                reference=each.reference,
                version=each.version,
                resource=each.resource,
                corrected=corrected or each.resource.get("status") in {"corrected", "amended"},
            )
        )
    return found, bool(page.next)


def earlier_values(connection: Connection, record: Record, current: Stored) -> list[Stored]:
    """Earlier versions of an Observation that said another value than it says now."""
    now = clinical.value_text(current.resource)
    return [
        each
        for each in record.history(connection, current.type, current.id, 20)
        if not each.current
        and each.version < current.version
        and clinical.value_text(each.resource) not in {now, ""}
    ]


def _by_type(entries: Sequence[Stored]) -> tuple[tuple[str, tuple[EntryRow, ...]], ...]:
    """Entries under their type, types in the order of the alphabet, the patient first."""
    found: dict[str, list[EntryRow]] = {}
    for each in entries:
        found.setdefault(each.type, []).append(_entry(each))
    names = sorted(found, key=lambda name: (name != "Patient", name))
    return tuple((name, tuple(found[name])) for name in names)


def _entry(stored: Stored) -> EntryRow:
    return EntryRow(
        reference=stored.reference,
        type=stored.type,
        says=clinical.says(stored.resource),
        version=stored.version,
        changed_at=stored.recorded_at,
        message_id=stored.message_id,
    )


# --- documents and studies ----------------------------------------------------------


def _document(connection: Connection, record: Record, stored: Stored) -> DocumentLine:
    resource = stored.resource
    contents = []
    for each in items(resource.get("content")):
        attachment = each.get("attachment")
        found = _content(attachment) if isinstance(attachment, dict) else None
        if found is not None:
            contents.append(found)
    kind = clinical.concept(resource.get("type"))
    titles = [text(c.get("attachment", {}).get("title")) for c in items(resource.get("content"))]
    date = clinical.when(resource)
    status = text(resource.get("docStatus"))
    return DocumentLine(
        title=clinical.first((*titles, text(resource.get("description")), kind)) or "Document",
        type=kind,
        date=typography.french_date(date) if date else "",
        author=_authors(connection, record, resource),
        status=clinical.STATUSES.get(status, "") or clinical.status(resource),
        contents=tuple(contents),
        pdf=next((c.url for c in contents if c.media_type == "application/pdf"), ""),
        cda=f"/documents/record/{stored.patient_id}/{stored.reference.partition('/')[2]}"
        if any(c.media_type in CDA_TYPES for c in contents)
        else "",
        manifest=_manifest_page(stored),
        shown=False,
        reference=stored.reference,
    )


def _manifest_page(stored: Stored) -> str:
    """The address of a manifest's page; empty for any other document."""
    formats = [each.get("format") for each in items(stored.resource.get("content"))]
    if any(isinstance(one, dict) and text(one.get("code")) == KEY_OBJECTS for one in formats):
        return f"/manifests/record/{stored.patient_id}/{stored.reference.partition('/')[2]}"
    return ""


def _manifests(documents: list[Stored]) -> dict[str, str]:
    """By study the page of its manifest that is in force."""
    found: dict[str, str] = {}
    for stored in documents:
        context, page = stored.resource.get("context"), _manifest_page(stored)
        if page and text(stored.resource.get("status")) == "current" and isinstance(context, dict):
            for each in items(context.get("related")):
                found.setdefault(text(each.get("reference")), page)
    return found


def _first_shown(documents: list[DocumentLine]) -> list[DocumentLine]:
    """The newest PDF is open; the others wait for a click."""
    for place, document in enumerate(documents):
        if document.pdf:
            return [*documents[:place], replace(document, shown=True), *documents[place + 1 :]]
    return documents


def _content(attachment: Json) -> Content | None:
    """A content whose bytes the record holds. Any other address is not followed, not shown."""
    match = _BINARY.fullmatch(text(attachment.get("url")))
    if match is None:
        return None
    media_type = text(attachment.get("contentType")).split(";")[0].strip().lower()
    size = text(attachment.get("size"))
    return Content(
        url=f"/fhir/Binary/{match.group(1)}",
        label=_MEDIA.get(media_type, media_type or "fichier"),
        size=int(size) if size.isdecimal() else None,
        media_type=media_type,
    )


def _authors(connection: Connection, record: Record, resource: Json) -> str:
    names = []
    for author in items(resource.get("author"))[:AUTHORS_MAX]:
        named = text(author.get("display")) or _named(connection, record, text(
            author.get("reference")))  # fmt: skip
        if named and named not in names:
            names.append(named)
    return ", ".join(names)


def _named(connection: Connection, record: Record, reference: str) -> str:
    kind, _, identifier = reference.partition("/")
    stored = record.read(connection, kind, identifier) if identifier else None
    if stored is None:
        return ""
    if kind == "PractitionerRole":
        parts = [
            _named(connection, record, text(part.get("reference")))
            for name in ("practitioner", "organization")
            if isinstance(part := stored.resource.get(name), dict)
            and not text(part.get("reference")).startswith("PractitionerRole/")
        ]
        return ", ".join(part for part in parts if part)
    return clinical.person(stored.resource)


def _study(stored: Stored) -> StudyLine:
    resource = stored.resource
    series = [_series(each) for each in items(resource.get("series"))]
    modalities = [text(each.get("code")) for each in items(resource.get("modality"))]
    modalities += [each.modality for each in series]
    date = clinical.when(resource)
    return StudyLine(
        modality=next((each for each in modalities if each), "?"),
        description=clinical.first(
            (text(resource.get("description")), _procedure(resource), "Examen d'imagerie")
        ),
        date=typography.french_date(date) if date else "sans date",
        accession=_accession(resource),
        instances=_count(resource.get("numberOfInstances"), sum(s.instances for s in series)),
        series=tuple(series),
        reference=stored.reference,
    )


def _series(series: Json) -> SeriesLine:
    modality, site = series.get("modality"), series.get("bodySite")
    return SeriesLine(
        number=text(series.get("number")) or "–",
        modality=text(modality.get("code")) if isinstance(modality, dict) else "",
        description=text(series.get("description")) or "–",
        body_site=clinical.first(
            (text(site.get("display")), text(site.get("code"))) if isinstance(site, dict) else ()
        ),
        instances=_count(series.get("numberOfInstances"), len(items(series.get("instance")))),
    )


def _procedure(resource: Json) -> str:
    return clinical.first(clinical.concept(each) for each in items(resource.get("procedureCode")))


def _accession(resource: Json) -> str:
    """The identifier of type ACSN (HL7 table 0203), as R4's ImagingStudy has the accession."""
    for each in items(resource.get("identifier")):
        kind = each.get("type")
        codes = items(kind.get("coding")) if isinstance(kind, dict) else []
        if any(text(coding.get("code")) == "ACSN" for coding in codes):
            return text(each.get("value"))
    return ""


def _count(value: Any, otherwise: int) -> int:
    written = text(value)
    return int(written) if written.isdecimal() else otherwise

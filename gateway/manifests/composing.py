"""An exam as a manifest, or why there is none yet. Pure.

An exam is a study, its patient as the record knows them, and the reports of it. What the dialect
demands is looked at in one order, so that the cause that a person reads is the first to mend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from adapters.dicom.manifest import (
    INSTANCES_MAX,
    Issued,
    Issuer,
    Manifest,
    Person,
    Report,
    Request,
)
from adapters.dicom.manifest_writing import zone_of
from adapters.dicom.study_contents import StudyContents, merged
from gateway import ins
from gateway.manifest_settings import ManifestSettings
from gateway.manifests.elements import items, mapping, text
from gateway.manifests.reports import ReportEntry, issued, report_of
from gateway.model import Identifier

ACCESSION_MAX = 16
"""Characters of an accession number (VR SH)."""

_NAMESPACES = {
    ins.NIR: "ASIP-SANTE-INS-NIR",
    ins.NIR_TEST: "ASIP-SANTE-INS-NIR",
    ins.NIR_DEMONSTRATION: "ASIP-SANTE-INS-NIR",
    ins.NIA: "ASIP-SANTE-INS-NIA",
}
"""Issuer of Patient ID of an INS, as PID-3 names it (IHE France PAM)."""
_SEX = {"male": "M", "female": "F", "other": "O"}
_OFFSET = re.compile(r"[+-](0[0-9]|1[0-4])[0-5][0-9]")
_BIRTH_PLACE = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"
_OTHERS_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """All that a manifest is made from. ``patient`` is the record's Patient, ``identifiers`` those
    of the patient index, ``own`` those among them that are not of a patient who was merged into
    this one, ``documents`` the record's DocumentReference and DiagnosticReport."""

    contents: StudyContents
    patient: Mapping[str, Any]
    identifiers: Sequence[Identifier]
    documents: Sequence[Mapping[str, Any]]
    own: Sequence[Identifier] = ()


@dataclass(frozen=True, slots=True)
class Wanting:
    """There is no manifest yet. ``stopped``: only a person can mend it; else it is waited for.
    ``cause`` is a sentence without a value of the patient."""

    cause: str
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """Every instance is rejected: a manifest that was made holds no more. ``reason`` is the code
    of the rejection; ``manifest`` says whose and of which study, and has no series."""

    reason: str
    manifest: Manifest


Composed = Manifest | Wanting | Gone


class _Stop(Exception):
    def __init__(self, cause: str, *, stopped: bool = False) -> None:
        super().__init__(cause)
        self.wanting = Wanting(cause, stopped)


def compose(exam: Exam, settings: ManifestSettings) -> Composed:
    """What is to be said of an exam now."""
    contents = exam.contents
    national = settings.dialect.national_identity
    try:
        if not contents.series:
            if not contents.rejected:
                raise _Stop("no instance of the study is here, only documents about it")
            # Nothing else that is wanting may keep what was rejected in force.
            person = _person(exam, national=national)
            return Gone(contents.reason, _manifest(exam, settings, person, (), ()))
        if contents.conflicts:
            raise _Stop(contents.conflicts[0], stopped=True)
        reports = _reports(exam)
        if settings.after_report and not reports:
            raise _Stop("the study's report has not come")
        person = _person(exam, national=national)
        requests = _requests(exam, reports, settings)
        return _manifest(exam, settings, person, requests, reports)
    except _Stop as stop:
        return stop.wanting


def _manifest(
    exam: Exam,
    settings: ManifestSettings,
    person: Person,
    requests: tuple[Request, ...],
    reports: Sequence[ReportEntry],
) -> Manifest:
    contents = exam.contents
    offset = contents.offset
    if _OFFSET.fullmatch(offset) is None:
        offset = _offset_of(max(contents.moments, default=""), contents.date, settings.zone)
    zone = zone_of(offset)
    moments = [_moment(each).replace(tzinfo=zone) for each in contents.moments]
    moments += [each.at for each in reports if each.at is not None]
    if not moments:
        raise _Stop("neither the study nor a report of it has a date", stopped=True)
    if sum(len(each.instances) for each in contents.series) > INSTANCES_MAX:
        raise _Stop(f"the study has more than {INSTANCES_MAX} instances", stopped=True)
    named = sorted({each.identifier for each in reports if each.identifier})
    others = sorted(
        (each.at for each in reports if not each.identifier and each.at is not None), reverse=True
    )
    return Manifest(
        study=contents.study,
        patient=person,
        series=contents.series,
        at=max(moments).replace(microsecond=0),
        offset=offset,
        date=contents.date,
        time=contents.time,
        study_id=contents.study_id,
        description=contents.description,
        referrer=contents.referrer,
        requests=requests,
        reports=(
            *(Report(identifier=each) for each in named),
            *(Report(identifier="", at=each) for each in others[:1]),
        ),
    )


def _moment(written: str) -> datetime:
    form = "%Y%m%d%H%M%S" if len(written) == 14 else "%Y%m%d"
    try:
        return datetime.strptime(written, form)  # noqa: DTZ007  the caller knows the zone
    except ValueError:
        raise _Stop("a date of the study is none", stopped=True) from None


def _offset_of(latest: str, date: str, zone: str) -> str:
    """The offset of the study's own day, which all of its times were written by."""
    day = date if len(date) == 8 and date.isdecimal() else latest[:8]
    if not day:
        return "+0000"
    return _moment(day).replace(hour=12, tzinfo=ZoneInfo(zone)).strftime("%z")


# --- whose ----------------------------------------------------------------------------------


def _person(exam: Exam, *, national: bool) -> Person:
    names = items(exam.patient, "name")
    official = next((each for each in names if text(each, "use") == "official"), None)
    chosen = official or next(iter(names), {})
    usual = [each for each in names if text(each, "use") == "usual" and each is not chosen]
    others = [name for each in usual if (name := _name(each)) and name != _name(chosen)]
    born = text(exam.patient, "birthDate").replace("-", "")
    return Person(
        identifier=_national(exam) if national else _local(exam),
        name=_name(chosen),
        birth_date=born if len(born) == 8 and born.isdecimal() else "",
        sex=_SEX.get(text(exam.patient, "gender"), ""),
        other_names=tuple(dict.fromkeys(others))[:_OTHERS_MAX],
        birth_place=_birth_place(exam.patient),
    )


def _national(exam: Exam) -> Issued:
    # After a merge the survivor's INS is the patient's; the other one names nobody any more.
    own = [each for each in exam.own if ins.is_ins(each)]
    found = sorted(
        own or (each for each in exam.identifiers if ins.is_ins(each)),
        key=lambda each: (each.system, each.value),
    )
    if not found:
        raise _Stop("the patient's INS is not known")
    if len({(each.system, each.value) for each in found}) > 1:
        raise _Stop("the patient has more than one INS", stopped=True)
    oid = found[0].system.removeprefix("urn:oid:")
    return Issued(found[0].value, Issuer(_NAMESPACES[found[0].system], oid))


def _local(exam: Exam) -> Issued:
    """The identifier by which the images name the patient, with its issuer as far as known."""
    own = exam.contents.patient
    if not own.value:
        raise _Stop("the images name no patient", stopped=True)
    if own.issuer:
        return own
    known = [each for each in exam.identifiers if each.value == own.value]
    if len({each.system for each in known}) != 1:
        return own
    return issued({"system": known[0].system, "value": known[0].value})


def _name(name: Mapping[str, Any]) -> str:
    given = name.get("given")
    first = given[0] if isinstance(given, list) and given and isinstance(given[0], str) else ""
    family = text(name, "family")
    plain = [each.replace("^", " ").strip() for each in (family, first)]
    return "^".join(plain) if any(plain) else ""


def _birth_place(patient: Mapping[str, Any]) -> str:
    for each in items(patient, "extension"):
        if text(each, "url") == _BIRTH_PLACE:
            for inner in items(mapping(each, "valueAddress"), "extension"):
                if found := text(mapping(inner, "valueCoding"), "code"):
                    return found
    return ""


# --- ordered and reported how ---------------------------------------------------------------


def _reports(exam: Exam) -> list[ReportEntry]:
    numbers = [each.accession for each in exam.contents.requests if each.accession.value]
    numbers = [*numbers, *(each.filler for each in exam.contents.requests if each.filler.value)]
    found = (report_of(each) for each in exam.documents)
    study = exam.contents.study
    return [each for each in found if each is not None and each.is_of(study, numbers)]


def _requests(
    exam: Exam, reports: Sequence[ReportEntry], settings: ManifestSettings
) -> tuple[Request, ...]:
    requests = list(exam.contents.requests)
    numbered = [each for each in requests if each.accession.value]
    for report in reports:
        if numbered:
            requests = [_completed(each, report) for each in requests]
            _agrees(report, numbered)
        elif report.identifier and len(report.orders) == 1:
            requests = [_ordered(*report.orders[0])]
    made = [_with_default(each, settings.accession_issuer) for each in requests]
    if any(len(each.accession.value) > ACCESSION_MAX for each in made):
        # Cut off it would be another number.
        raise _Stop(f"an accession number has more than {ACCESSION_MAX} characters", stopped=True)
    if settings.dialect.issued_accession:
        _demand_accession(made)
    return tuple(dict.fromkeys(made))


def _ordered(accession: Issued, placer: Issued) -> Request:
    return Request(accession=accession, placer=placer)


def _completed(request: Request, report: ReportEntry) -> Request:
    """A request with what a report says of it. Raises _Stop when the two contradict."""
    for accession, placer in report.orders:
        if accession.value != request.accession.value:
            continue
        if accession.issuer.contradicts(request.accession.issuer):
            if not report.identifier:
                continue
            raise _Stop(
                "the report and the images name two issuers of one accession number", stopped=True
            )
        same_order = not request.placer.value or request.placer.value == placer.value
        return merged(request, _ordered(accession, placer if same_order else Issued("")))
    return request


def _agrees(report: ReportEntry, requests: Sequence[Request]) -> None:
    """A document that names the study, and accession numbers, names one that the images have."""
    theirs = {each.value for each in report.accessions()}
    if report.identifier and theirs and theirs.isdisjoint(e.accession.value for e in requests):
        raise _Stop("the report names the study, and another accession number", stopped=True)


def _with_default(request: Request, oid: str) -> Request:
    if not oid or not request.accession.value or request.accession.issuer:
        return request
    return replace(request, accession=Issued(request.accession.value, Issuer("", oid)))


def _demand_accession(requests: Sequence[Request]) -> None:
    numbers = [each.accession for each in requests if each.accession.value]
    if not numbers:
        raise _Stop("neither the images nor a report names an accession number")
    if any(not each.issuer.universal for each in numbers):
        raise _Stop(
            "nobody says who issued the accession number: neither the images, nor the report, nor "
            "manifest.accession_issuer"
        )

"""What the stored instances of a study say of it, as a manifest needs it.

Pure: the same instances, in the same order of arrival, give the same contents. The order matters
to rejection notes alone, of which a later one may lift an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from adapters.dicom import selection
from adapters.dicom.dataset import Level
from adapters.dicom.manifest import (
    Code,
    Issued,
    Issuer,
    ManifestInstance,
    ManifestSeries,
    Request,
)
from adapters.dicom.paths import parse
from adapters.dicom.reader import DicomReader, read_selections
from adapters.dicom.reading import READING_FAULTS
from adapters.dicom.rejection import rejections
from adapters.dicom.selection import Selection, issued, items, value
from adapters.dicom.study import InstanceScope, SeriesScope, StudyScope, read_at
from gateway.model import Payload
from gateway.ports import ValueState

_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?", re.ASCII)
REQUESTS_MAX = 100
"""Procedure requests that one study answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContents:
    """A study as it is after all rejection notes.

    ``patient`` is the Patient ID as the instances have it. ``moments`` are local times
    (``YYYYMMDD`` or ``YYYYMMDDHHMMSS``) of what the study and its notes say. ``rejected`` counts
    instances, ``reason`` is the code of the last note that took some out. ``conflicts`` are
    sentences, without a value of the patient, about identifiers whose issuers contradict.
    """

    study: str
    patient: Issued
    series: tuple[ManifestSeries, ...]
    date: str
    time: str
    offset: str
    study_id: str
    description: str
    referrer: str
    requests: tuple[Request, ...]
    moments: tuple[str, ...]
    rejected: int
    reason: str
    conflicts: tuple[str, ...]


def read_study(
    payloads: Sequence[Payload], *, only: Collection[str] | None = None
) -> StudyContents:
    """The contents of a study, from its instances in order of arrival.

    ``only`` are the SOP Instance UIDs that count, beside rejection notes and what they take out;
    None: all. Raises ``gateway.ports.Unreadable``
    when nothing can be read, or when the instances name more than one study or patient.
    """
    scope = DicomReader().read_all(payloads)
    read = read_selections(scope.instances(), payloads)
    notes = [each for each in read.values() if each.rejects or each.revokes]
    rejected = rejections(scope.study_uid, notes)
    aside = {uid for uid, each in read.items() if _is_aside(each)}
    noted = {each.uid for each in notes}

    def counts(member: InstanceScope) -> bool:
        uid = member.instance.sop_instance
        of_notes = uid in noted or bool(rejected.reason(member.instance.series, uid))
        return only is None or uid in only or of_notes

    mine = [each for each in scope.instances() if counts(each)]
    uids = {each.instance.sop_instance for each in mine}
    selections = {uid: each for uid, each in read.items() if uid in uids}
    series, gone, reason = [], 0, ""
    for one in scope.series:
        kept = []
        for member in one.members:
            uid = member.instance.sop_instance
            if uid in aside or uid not in uids:
                continue
            why = rejected.reason(member.instance.series, uid)
            if why:
                gone, reason = gone + 1, why
            else:
                kept.append(_instance(member, selections.get(uid)))
        if kept:
            series.append(_series(one, tuple(kept)))
    gathered = _Requests()
    for member in mine:
        if member.instance.sop_instance in aside:
            continue
        try:
            gathered.take(member.instance.level)
        except READING_FAULTS as fault:
            # A sequence that is broken says nothing; the instance is there all the same.
            member.findings.report("unreadable-value", str(fault), member.path)
    patients = _patients(mine)
    conflicts = [*gathered.conflicts()]
    if any(a.issuer.contradicts(b.issuer) for a in patients for b in patients):
        conflicts.append("the study's instances name two issuers of the Patient ID")
    return StudyContents(
        study=scope.study_uid,
        patient=max(patients, key=lambda each: bool(each.issuer), default=Issued("")),
        series=tuple(series),
        date=_date(_first(scope, "StudyDate")),
        time=_time(_first(scope, "StudyTime")),
        offset=_first(scope, "TimezoneOffsetFromUTC"),
        study_id=_first(scope, "StudyID"),
        description=_first(scope, "StudyDescription"),
        referrer=_first(scope, "ReferringPhysicianName"),
        requests=gathered.requests(),
        moments=tuple(_moments(scope, series, selections.values())),
        rejected=gone,
        reason=reason,
        conflicts=tuple(conflicts),
    )


def _is_aside(one: Selection) -> bool:
    """Whether a selection is about the study and no content of it."""
    return bool(one.is_manifest or one.rejects or one.revokes)


def _instance(member: InstanceScope, selected: Selection | None) -> ManifestInstance:
    level = member.instance.level
    frames = level.text(0x00280008)
    return ManifestInstance(
        uid=member.instance.sop_instance,
        sop_class=member.instance.sop_class,
        number=level.text(0x00200013),
        frames=int(frames) if frames.isdecimal() and len(frames) < 10 else 0,
        title=selected.title if selected is not None and selected.title.value else None,
        description=selected.description if selected is not None else "",
    )


def _series(scope: SeriesScope, instances: tuple[ManifestInstance, ...]) -> ManifestSeries:
    region = Code(
        *(
            _first(scope, f"AnatomicRegionSequence(1).{keyword}")
            for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        )
    )
    first = scope.members[0].instance
    return ManifestSeries(
        uid=first.series,
        modality=first.modality,
        number=_first(scope, "SeriesNumber"),
        description=_first(scope, "SeriesDescription") or _first(scope, "ProtocolName"),
        date=_date(_first(scope, "SeriesDate")),
        time=_time(_first(scope, "SeriesTime")),
        region=region if region.value and region.scheme and region.meaning else None,
        instances=instances,
    )


def _first(scope: StudyScope | SeriesScope, path: str) -> str:
    """The first value that an instance of the scope has at a path."""
    found = read_at(scope, parse(path).steps)
    return next((each.text for each in found if each.state is ValueState.PRESENT), "")


def _date(written: str) -> str:
    """A DA as PS3.5 6.2 has it now (ACR-NEMA put dots in it); empty for what is none."""
    plain = written.replace(".", "")
    return plain if len(plain) == 8 and plain.isdecimal() else ""


def _time(written: str) -> str:
    """A TM as PS3.5 6.2 has it now; empty for what is none."""
    plain = written.replace(":", "")
    return plain if _TIME.fullmatch(plain) else ""


def _patients(members: Iterable[InstanceScope]) -> list[Issued]:
    found: dict[Issued, None] = {}
    for each in members:
        try:
            found[selection.patient(each.instance.level)] = None
        except READING_FAULTS as fault:
            each.findings.report("unreadable-value", str(fault), each.path)
    return list(found)


def _moments(
    scope: StudyScope, series: Iterable[ManifestSeries], selections: Iterable[Selection]
) -> Iterable[str]:
    told = [(_first(scope, "StudyDate"), _first(scope, "StudyTime"))]
    told += [(each.date, each.time) for each in series]
    told += [(each.date, each.time) for each in selections]
    for date, time in told:
        whole = _time(time).partition(".")[0]
        if _date(date):
            yield _date(date) + (whole.ljust(6, "0") if whole else "")


class _Requests:
    """The requests that instances name, put together by accession and placer number."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Request] = {}
        self._issuers: dict[str, dict[Issuer, None]] = {}

    def take(self, level: Level) -> None:
        """What one instance says."""
        whole = Request(
            accession=issued(level, "AccessionNumber", "IssuerOfAccessionNumberSequence"),
            placer=issued(
                level, "PlacerOrderNumberImagingServiceRequest", "OrderPlacerIdentifierSequence"
            ),
            filler=issued(
                level, "FillerOrderNumberImagingServiceRequest", "OrderFillerIdentifierSequence"
            ),
            description=value(level, "RequestedProcedureDescription"),
        )
        inner = [
            selection.request(each)
            for keyword in ("RequestAttributesSequence", "ReferencedRequestSequence")
            for each in items(level, keyword)
        ]
        # A request that names no number of its own is the study's.
        inner = [
            each if each.accession.value else replace(each, accession=whole.accession)
            for each in inner
        ]
        for each in (whole, *inner):
            if each.accession.value or each.placer.value:
                self._add(each)

    def _add(self, given: Request) -> None:
        number = given.accession.value
        if given.accession.issuer:
            self._issuers.setdefault(number, {})[given.accession.issuer] = None
        key = (number, given.placer.value)
        known = self._found.get(key)
        if known is None and given.placer.value:
            # The same request, named before without the order.
            known = self._found.pop((number, ""), None)
        if known is None and not given.placer.value:
            key = next((each for each in self._found if each[0] == number), key)
            known = self._found.get(key)
        if known is not None:
            self._found[key] = merged(known, given)
        elif len(self._found) < REQUESTS_MAX:
            self._found[key] = given

    def conflicts(self) -> Iterable[str]:
        """Accession numbers that two authorities are said to have issued."""
        for issuers in self._issuers.values():
            if any(a.contradicts(b) for a in issuers for b in issuers):
                yield "the study's instances name two issuers of one accession number"
                return

    def requests(self) -> tuple[Request, ...]:
        """All, in order of accession and placer number."""
        return tuple(self._found[key] for key in sorted(self._found))


def merged(one: Request, other: Request) -> Request:
    """Both as one: what the first does not say is taken from the second."""
    return Request(
        accession=_joined(one.accession, other.accession),
        placer=_joined(one.placer, other.placer),
        filler=_joined(one.filler, other.filler),
        procedure_id=one.procedure_id or other.procedure_id,
        description=one.description or other.description,
        codes=one.codes or other.codes,
    )


def _joined(one: Issued, other: Issued) -> Issued:
    if not one.value:
        return other
    if other.value != one.value:
        return one
    return Issued(
        one.value,
        Issuer(
            one.issuer.namespace or other.issuer.namespace,
            one.issuer.universal or other.issuer.universal,
            one.issuer.kind if one.issuer.universal else other.issuer.kind,
        ),
    )

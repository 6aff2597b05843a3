"""Key Object Selection documents that arrive, as a tree: study, series, instance (PS3.3 A.35.4).

Manifests in any dialect, key images and rejection notes are read alike. What a dialect says in a
place of its own (DRIM-M's summary, MADO's image library) is put where it belongs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.dicom.dataset import Instance, Level, TooLarge
from adapters.dicom.manifest import (
    DESCRIBED_MANIFEST,
    KEY_OBJECTS,
    MANIFEST,
    REJECTIONS,
    REVOCATION,
    Code,
    Issued,
    Issuer,
    Request,
)
from adapters.dicom.paths import parse
from adapters.dicom.reading import READING_FAULTS, read
from gateway.model import Payload

CONTENT_DEPTH_MAX = 6
"""Content items inside one another that are looked at for references and descriptions."""
ITEMS_MAX = 100_000
BYTES_MAX = 8 << 20
"""Bytes of a list of instances that is read: some eighty thousand of them."""

_SUMMARY = re.compile(r"S[ée]rie-([0-9.]{1,64}) : *([A-Z]{0,16})[ @]*:? ?(.*)")
_CONTENT_SEQUENCE, _REFERENCED_SOPS = 0x0040A730, 0x00081199
_EVIDENCE, _SERIES = 0x0040A375, 0x00081115


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedInstance:
    """One instance that is named. ``number`` and ``frames`` only where the dialect says them."""

    uid: str
    sop_class: str
    number: str = ""
    frames: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedSeries:
    """One series that is named, and where it is had. Without instances the whole is meant."""

    uid: str
    instances: tuple[SelectedInstance, ...]
    number: str = ""
    modality: str = ""
    description: str = ""
    retrieve_url: str = ""
    retrieve_ae_title: str = ""
    retrieve_location_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedStudy:
    """One study that is named. Without series the whole is meant."""

    uid: str
    series: tuple[SelectedSeries, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A key object selection. ``predecessor`` is the instance that it replaces, where it says."""

    uid: str
    study: str
    title: Code
    version: str
    date: str
    time: str
    description: str
    patient: Issued
    accession: Issued
    requests: tuple[Request, ...]
    reports: tuple[str, ...]
    predecessor: str
    studies: tuple[SelectedStudy, ...]

    @property
    def is_manifest(self) -> bool:
        """Whether its title is a manifest's, or it names a repository, as those of ELGA do."""
        title = (self.title.value, self.title.scheme)
        if title in {(each.value, each.scheme) for each in (MANIFEST, DESCRIBED_MANIFEST)}:
            return True
        series = [each for study in self.studies for each in study.series]
        return any(each.retrieve_location_uid for each in series)

    @property
    def rejects(self) -> str:
        """The code of CID 7011 when it is a rejection note, else empty."""
        is_note = self.title.scheme == "DCM" and self.title.value in REJECTIONS
        return self.title.value if is_note else ""

    @property
    def revokes(self) -> bool:
        """Whether it lifts rejections."""
        return (self.title.value, self.title.scheme) == REVOCATION

    @property
    def instances(self) -> int:
        """How many instances it names."""
        return sum(len(series.instances) for study in self.studies for series in study.series)


def _silent(_code: str, _detail: str, _path: str) -> None:
    """What is odd in a value is reported when the study is mapped."""


def value(level: Level, path: str) -> str:
    """The first value at a path of keywords, decoded; empty when there is none."""
    found = read(level, parse(path).steps, "", _silent)
    return found[0].text if found else ""


def code(level: Level, path: str) -> Code:
    """The code in the first item of a code sequence; empty when there is none."""
    first = f"{path}(1)"
    coded = value(level, f"{first}.CodeValue") or value(level, f"{first}.LongCodeValue")
    return Code(
        coded,
        value(level, f"{first}.CodingSchemeDesignator"),
        value(level, f"{first}.CodeMeaning"),
    )


def issued(level: Level, keyword: str, sequence: str) -> Issued:
    """An identifier with the issuer that a sequence names (PS3.3 table 10-17)."""
    first = f"{sequence}(1)"
    return Issued(
        value(level, keyword),
        Issuer(
            value(level, f"{first}.LocalNamespaceEntityID"),
            value(level, f"{first}.UniversalEntityID"),
            value(level, f"{first}.UniversalEntityIDType") or "ISO",
        ),
    )


def patient(level: Level) -> Issued:
    """The Patient ID with its issuer (PS3.3 table C.7-1)."""
    first = "IssuerOfPatientIDQualifiersSequence(1)"
    return Issued(
        value(level, "PatientID"),
        Issuer(
            value(level, "IssuerOfPatientID"),
            value(level, f"{first}.UniversalEntityID"),
            value(level, f"{first}.UniversalEntityIDType") or "ISO",
        ),
    )


def request(level: Level) -> Request:
    """An item of the Referenced Request or the Request Attributes Sequence."""
    coded = code(level, "RequestedProcedureCodeSequence")
    return Request(
        accession=issued(level, "AccessionNumber", "IssuerOfAccessionNumberSequence"),
        placer=issued(
            level, "PlacerOrderNumberImagingServiceRequest", "OrderPlacerIdentifierSequence"
        ),
        filler=issued(
            level, "FillerOrderNumberImagingServiceRequest", "OrderFillerIdentifierSequence"
        ),
        procedure_id=value(level, "RequestedProcedureID"),
        description=value(level, "RequestedProcedureDescription"),
        codes=(coded,) if coded.value else (),
    )


def items(level: Level, keyword: str) -> list[Level]:
    """The items of a sequence. Raises DataSetError or TooLarge."""
    return level.items(parse(keyword).steps[0].tag)


def read_file(payload: Payload) -> Selection | None:
    """The selection in a DICOM file; None when it is something else.

    Raises NotPart10, DataSetError, TooLarge or OSError.
    """
    instance = Instance(payload)
    return read_selection(instance.level) if instance.sop_class == KEY_OBJECTS else None


def read_selection(level: Level) -> Selection:
    """The selection in a data set. Raises DataSetError or TooLarge."""
    for tag in (_EVIDENCE, _CONTENT_SEQUENCE):
        if (level.length(tag) or 0) > BYTES_MAX:
            raise TooLarge(f"a list of instances of more than {BYTES_MAX} bytes is not read")
    said = _Said(level)
    described = _summaries(said.descriptions)
    studies = _evidence(level, {**said.series, **described})
    if not any(series.instances for study in studies for series in study.series) and said.named:
        studies = _named(level, said.named, studies)
    evidence = "PredecessorDocumentsSequence(1).ReferencedSeriesSequence(1)"
    return Selection(
        uid=value(level, "SOPInstanceUID"),
        study=value(level, "StudyInstanceUID"),
        title=code(level, "ConceptNameCodeSequence"),
        version=value(level, "InstanceNumber"),
        date=value(level, "ContentDate"),
        time=value(level, "ContentTime"),
        description=next(iter(said.descriptions), "") or value(level, "TextValue"),
        patient=patient(level),
        accession=issued(level, "AccessionNumber", "IssuerOfAccessionNumberSequence"),
        requests=tuple(request(each) for each in items(level, "ReferencedRequestSequence")),
        reports=tuple(
            value(each, "HL7InstanceIdentifier")
            for each in items(level, "HL7StructuredDocumentReferenceSequence")
        ),
        predecessor=value(level, f"{evidence}.ReferencedSOPSequence(1).ReferencedSOPInstanceUID"),
        studies=studies,
    )


def _evidence(level: Level, described: Mapping[str, tuple[str, str]]) -> tuple[SelectedStudy, ...]:
    found = []
    for study in level.items(_EVIDENCE):
        series = [_series(each, described) for each in study.items(_SERIES)]
        found.append(SelectedStudy(uid=value(study, "StudyInstanceUID"), series=tuple(series)))
    return tuple(found)


def _series(level: Level, described: Mapping[str, tuple[str, str]]) -> SelectedSeries:
    uid = value(level, "SeriesInstanceUID")
    modality, description = described.get(uid, ("", ""))
    return SelectedSeries(
        uid=uid,
        number=value(level, "SeriesNumber"),
        modality=value(level, "Modality") or modality,
        description=description,
        retrieve_url=value(level, "RetrieveURL"),
        retrieve_ae_title=value(level, "RetrieveAETitle"),
        retrieve_location_uid=value(level, "RetrieveLocationUID"),
        instances=tuple(_instance(each) for each in level.items(_REFERENCED_SOPS)),
    )


def _instance(level: Level) -> SelectedInstance:
    return SelectedInstance(
        uid=value(level, "ReferencedSOPInstanceUID"),
        sop_class=value(level, "ReferencedSOPClassUID"),
        number=value(level, "InstanceNumber"),
        frames=value(level, "NumberOfFrames"),
    )


def _named(
    level: Level, named: Sequence[SelectedInstance], studies: tuple[SelectedStudy, ...]
) -> tuple[SelectedStudy, ...]:
    """What the content names, where the evidence (a faulty writer) names nothing."""
    series = SelectedSeries(uid="", instances=tuple(named))
    if studies:
        return (replace(studies[0], series=(*studies[0].series, series)), *studies[1:])
    return (SelectedStudy(uid=value(level, "StudyInstanceUID"), series=(series,)),)


def _summaries(descriptions: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Modality and description of series, from DRIM-M's summary."""
    found = {}
    for text in descriptions:
        for line in text.splitlines():
            if match := _SUMMARY.match(line.strip()):
                found[match[1]] = (match[2], match[3].strip())
    return found


class _Said:
    """What the content tree says: descriptions, the image library's series, instances."""

    def __init__(self, level: Level) -> None:
        self.descriptions: list[str] = []
        self.series: dict[str, tuple[str, str]] = {}
        self.named: list[SelectedInstance] = []
        self._left = ITEMS_MAX
        for each in self._children(level):
            self._item(each, 1)
        root = value(level, "TextValue")
        if root:
            self.descriptions.append(root)

    def _children(self, level: Level) -> Iterator[Level]:
        for each in level.items(_CONTENT_SEQUENCE):
            self._left -= 1
            if self._left < 0:
                return
            yield each

    def _item(self, level: Level, depth: int) -> None:
        kind = value(level, "ValueType")
        name = code(level, "ConceptNameCodeSequence").value
        if kind == "TEXT" and name == "113012":
            self.descriptions.append(value(level, "TextValue"))
        for each in level.items(_REFERENCED_SOPS):
            self.named.append(_instance(each))
        if kind != "CONTAINER" or depth >= CONTENT_DEPTH_MAX:
            return
        if name == "126200":
            self._group(level)
            return
        for each in self._children(level):
            self._item(each, depth + 1)

    def _group(self, level: Level) -> None:
        """An Image Library Group (TID 1600): one series."""
        uid = modality = description = ""
        for each in self._children(level):
            name = code(each, "ConceptNameCodeSequence").value
            if name == "112002":
                uid = value(each, "UID")
            elif name == "121139":
                modality = code(each, "ConceptCodeSequence").value
            elif name == "MADOTEMP002":
                description = value(each, "TextValue")
        if uid:
            self.series[uid] = (modality, description)


FAULTS = READING_FAULTS
"""What reading a selection raises."""

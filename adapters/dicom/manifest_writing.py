"""Manifests as bytes: one Key Object Selection document (PS3.3 A.35.4) in one dialect.

The same content gives the same bytes and the same UIDs: nothing is taken from a clock, a counter
or chance. The SOP Instance UID is made from the content and the version, so that no two different
documents ever share one.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from adapters.dicom.manifest import (
    KEY_OBJECTS,
    REJECTIONS,
    Code,
    Issued,
    Issuer,
    Manifest,
    ManifestInstance,
    ManifestSeries,
    Report,
    Request,
)
from adapters.dicom.manifest_library import code_sequence, content_item, image_library, value_type
from adapters.dicom.manifest_profiles import IMPLICIT_LITTLE_ENDIAN, Origin, Profile
from adapters.dicom.part10 import file_head

CDA_RELEASE_2 = "2.16.840.1.113883.1.7.2"
"""What stands for a SOP class in a reference to a CDA (PS3.3 C.12.1.1.6)."""


_NAMESPACE = uuid.UUID("0b1c3a2e-5d0f-5a57-8a54-6f1f0a7d5b1e")
"""For UIDs of manifests. Never to be changed: a manifest made again must have the same UID."""
_UNICODE = "ISO_IR 192"
_LATIN_1 = "ISO_IR 100"
_LO, _SH, _PN, _LT = 64, 16, 64, 10_240


@dataclass(frozen=True, slots=True)
class Written:
    """A document's bytes (PS3.10) and its SOP Instance UID."""

    uid: str
    data: bytes


def content_digest(manifest: Manifest, profile: Profile, origin: Origin) -> str:
    """Hex SHA-256 of what a manifest says, whichever version it is.

    A report that took another's place makes another content, even where no byte names it.
    """
    said = replace(manifest, version=1, predecessor="")
    return hashlib.sha256(repr((said, profile.name, origin)).encode()).hexdigest()


def write_manifest(manifest: Manifest, profile: Profile, origin: Origin) -> Written:
    """The bytes of a manifest. Raises ValueError for one without instances."""
    if not manifest.instances:
        raise ValueError("a manifest names at least one instance")
    return _written(_data_set(manifest, profile, origin), profile, origin)


def write_withdrawal(
    manifest: Manifest, profile: Profile, origin: Origin, *, reason: str, before: str = ""
) -> Written:
    """A rejection note (IHE RAD IOCM) on the manifest that is its ``predecessor``.

    It says that there is no manifest of this study any more. ``reason`` is a code of
    :data:`adapters.dicom.manifest.REJECTIONS`; ``before`` the manifest that the withdrawn one had
    replaced, which stays replaced. Raises ValueError without a predecessor.
    """
    if not manifest.predecessor:
        raise ValueError("there is no manifest that could be withdrawn")
    series = ManifestSeries(
        uid=series_uid(manifest.study, origin),
        modality="KO",
        instances=(ManifestInstance(uid=manifest.predecessor, sop_class=KEY_OBJECTS),),
    )
    noted = replace(manifest, series=(series,), reports=(), requests=(), predecessor=before)
    plain = replace(
        profile, title=REJECTIONS[reason], described=False, template=True, summary=False
    )
    nowhere = replace(origin, retrieve_url="", retrieve_ae_title="", retrieve_location_uid="")
    return _written(_data_set(noted, plain, nowhere), plain, nowhere)


def series_uid(study: str, origin: Origin) -> str:
    """The UID of the series of all manifests of a study."""
    return _uid(origin, f"series/{study}")


def _uid(origin: Origin, name: str) -> str:
    return f"{origin.uid_root}.{uuid.uuid5(_NAMESPACE, name).int}"


def _written(data: Dataset, profile: Profile, origin: Origin) -> Written:
    digest = hashlib.sha256(_encoded(data, profile)).hexdigest()
    uid = _uid(origin, f"instance/{digest}")
    data.SOPInstanceUID = uid
    head = file_head(KEY_OBJECTS, uid, profile.transfer_syntax)
    return Written(uid, head + _encoded(data, profile))


def _encoded(data: Dataset, profile: Profile) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian = True
    stream.is_implicit_VR = profile.transfer_syntax == IMPLICIT_LITTLE_ENDIAN
    write_dataset(stream, data)
    return bytes(stream.getvalue())


# --- the modules (PS3.3 table A.35.4-1) -----------------------------------------------------


def _data_set(manifest: Manifest, profile: Profile, origin: Origin) -> Dataset:
    data = Dataset()
    data.SpecificCharacterSet = _character_set(manifest, profile, origin)
    date, time = _moment(manifest)
    data.SOPClassUID = KEY_OBJECTS
    data.SOPInstanceUID = ""
    data.TimezoneOffsetFromUTC = manifest.offset
    documents = [each for each in manifest.reports if each.identifier and origin.report_url]
    if documents:
        # Type 1 in each item is where the document is had, so none without such a place.
        data.HL7StructuredDocumentReferenceSequence = [_report(each, origin) for each in documents]
    _patient(data, manifest, profile)
    _study(data, manifest, profile)
    # Key Object Document Series and General Equipment.
    data.Modality = "KO"
    data.SeriesInstanceUID = series_uid(manifest.study, origin)
    data.SeriesNumber = profile.series_number
    data.ReferencedPerformedProcedureStepSequence = []
    if profile.described:
        data.SeriesDescription = "Manifest"
    if profile.dated_series:
        data.SeriesDate, data.SeriesTime = date, time
        data.InstanceCreationDate, data.InstanceCreationTime = date, time
    data.Manufacturer = text(origin.manufacturer, _LO)
    if origin.institution:
        data.InstitutionName = text(origin.institution, _LO)
    # Key Object Document.
    data.InstanceNumber = str(manifest.version)
    data.ContentDate, data.ContentTime = date, time
    if manifest.predecessor:
        data.PredecessorDocumentsSequence = [_predecessor(manifest, origin)]
    data.ReferencedRequestSequence = [
        _request(each, manifest.study) for each in manifest.requests or (Request(),)
    ]
    data.CurrentRequestedProcedureEvidenceSequence = [_evidence(manifest, profile, origin)]
    _content(data, manifest, profile)
    return data


def _character_set(manifest: Manifest, profile: Profile, origin: Origin) -> str:
    if profile.character_set != _LATIN_1:
        return profile.character_set
    try:
        repr((manifest, origin)).encode("latin-1")
    except UnicodeEncodeError:
        return _UNICODE
    return _LATIN_1


def _moment(manifest: Manifest) -> tuple[str, str]:
    """Content Date and Content Time in the offset of all times of the document."""
    local = manifest.at.astimezone(zone_of(manifest.offset))
    return f"{local:%Y%m%d}", f"{local:%H%M%S}"


def zone_of(offset: str) -> timezone:
    """The zone of a Timezone Offset From UTC (``+hhmm``, ``-hhmm``). Raises ValueError."""
    moved = datetime.strptime(offset, "%z").utcoffset()
    return timezone(moved if moved is not None else timedelta())


def _patient(data: Dataset, manifest: Manifest, profile: Profile) -> None:
    person = manifest.patient
    data.PatientName = _name(person.name)
    _identify(data, person.identifier)
    data.PatientBirthDate = person.birth_date
    data.PatientSex = person.sex
    if person.other_names:
        data.OtherPatientNames = [_name(each) for each in person.other_names]
    if profile.national_identity:
        other = Dataset()
        _identify(other, person.identifier)
        other.TypeOfPatientID = "TEXT"
        data.OtherPatientIDsSequence = [other]
        if person.birth_place:
            data.PatientComments = text(person.birth_place, _LT)


def _identify(data: Dataset, identifier: Issued) -> None:
    data.PatientID = text(identifier.value, _LO)
    issuer = identifier.issuer
    if issuer.namespace:
        data.IssuerOfPatientID = text(issuer.namespace, _LO)
    if issuer.universal:
        data.IssuerOfPatientIDQualifiersSequence = [_universal(issuer)]


def _universal(issuer: Issuer) -> Dataset:
    data = Dataset()
    data.UniversalEntityID = issuer.universal
    data.UniversalEntityIDType = issuer.kind
    return data


def _designator(issuer: Issuer) -> list[Dataset]:
    """The items of a sequence that includes the HL7v2 Hierarchic Designator Macro."""
    if not issuer:
        return []
    data = _universal(issuer) if issuer.universal else Dataset()
    if issuer.namespace:
        data.LocalNamespaceEntityID = text(issuer.namespace, _LO)
    return [data]


def _study(data: Dataset, manifest: Manifest, profile: Profile) -> None:
    data.StudyInstanceUID = manifest.study
    data.StudyDate, data.StudyTime = manifest.date, manifest.time
    data.ReferringPhysicianName = _name(manifest.referrer)
    data.StudyID = text(manifest.study_id, _SH)
    if manifest.description:
        data.StudyDescription = text(manifest.description, _LO)
    numbers = {each.accession for each in manifest.requests if each.accession.value}
    data.AccessionNumber = ""
    if profile.accession_in_study and len(numbers) == 1:
        (only,) = numbers
        data.AccessionNumber = text(only.value, _SH)
        if only.issuer:
            data.IssuerOfAccessionNumberSequence = _designator(only.issuer)


def _report(report: Report, origin: Origin) -> Dataset:
    data = Dataset()
    data.ReferencedSOPClassUID = CDA_RELEASE_2
    data.ReferencedSOPInstanceUID = _uid(origin, f"report/{report.identifier}")
    data.HL7InstanceIdentifier = report.identifier
    root, caret, extension = report.identifier.partition("^")
    token = f"urn:oid:{root}%7C{quote(extension, safe='')}" if caret else f"urn:oid:{root}"
    data.RetrieveURI = f"{origin.report_url}/DocumentReference?identifier={token}"
    return data


def _predecessor(manifest: Manifest, origin: Origin) -> Dataset:
    """Hierarchical SOP Instance Reference (PS3.3 table C.17-3). An extension of the SOP class:
    the key object document has no attribute that says what it replaces."""
    one = Dataset()
    one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = KEY_OBJECTS, manifest.predecessor
    series = Dataset()
    series.SeriesInstanceUID = series_uid(manifest.study, origin)
    series.ReferencedSOPSequence = [one]
    study = Dataset()
    study.StudyInstanceUID = manifest.study
    study.ReferencedSeriesSequence = [series]
    return study


def _request(request: Request, study: str) -> Dataset:
    data = Dataset()
    data.StudyInstanceUID = study
    data.ReferencedStudySequence = []
    data.AccessionNumber = text(request.accession.value, _SH)
    if issuer := _designator(request.accession.issuer):
        data.IssuerOfAccessionNumberSequence = issuer
    data.PlacerOrderNumberImagingServiceRequest = text(request.placer.value, _LO)
    if issuer := _designator(request.placer.issuer):
        data.OrderPlacerIdentifierSequence = issuer
    data.FillerOrderNumberImagingServiceRequest = text(request.filler.value, _LO)
    if issuer := _designator(request.filler.issuer):
        data.OrderFillerIdentifierSequence = issuer
    data.RequestedProcedureID = text(request.procedure_id, _SH)
    data.RequestedProcedureDescription = text(request.description, _LO)
    data.RequestedProcedureCodeSequence = [code_sequence(each)[0] for each in request.codes]
    return data


def _evidence(manifest: Manifest, profile: Profile, origin: Origin) -> Dataset:
    data = Dataset()
    data.StudyInstanceUID = manifest.study
    data.ReferencedSeriesSequence = [
        _referenced_series(each, manifest.study, profile, origin) for each in manifest.series
    ]
    return data


def _referenced_series(
    series: ManifestSeries, study: str, profile: Profile, origin: Origin
) -> Dataset:
    data = Dataset()
    data.SeriesInstanceUID = series.uid
    if profile.urls and origin.retrieve_url:
        data.RetrieveURL = f"{origin.retrieve_url}/studies/{study}/series/{series.uid}"
    if profile.locations and origin.retrieve_location_uid:
        data.RetrieveLocationUID = origin.retrieve_location_uid
    data.ReferencedSOPSequence = [_reference(each) for each in series.instances]
    if not profile.numbers:
        if origin.retrieve_ae_title:
            data.RetrieveAETitle = origin.retrieve_ae_title
        return data
    if series.number:
        data.SeriesNumber = series.number
    for item, each in zip(data.ReferencedSOPSequence, series.instances, strict=True):
        if each.number:
            item.InstanceNumber = each.number
        if each.frames > 1:
            item.NumberOfFrames = str(each.frames)
    return data


def _reference(instance: ManifestInstance) -> Dataset:
    data = Dataset()
    data.ReferencedSOPClassUID = instance.sop_class
    data.ReferencedSOPInstanceUID = instance.uid
    return data


# --- SR Document Content (TID 2010) ---------------------------------------------------------


def _content(data: Dataset, manifest: Manifest, profile: Profile) -> None:
    data.ValueType = "CONTAINER"
    data.ConceptNameCodeSequence = code_sequence(profile.title)
    data.ContinuityOfContent = "SEPARATE"
    if profile.template:
        template = Dataset()
        template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
        data.ContentTemplateSequence = [template]
    items: list[Dataset] = []
    if profile.summary:
        item = content_item("CONTAINS", "TEXT", Code("113012", "DCM", "Key Object Description"))
        item.TextValue = summary(manifest)
        items.append(item)
    if profile.described:
        items.append(image_library(manifest))
    for series in manifest.series:
        for each in series.instances:
            item = content_item("CONTAINS", value_type(each.sop_class))
            item.ReferencedSOPSequence = [_reference(each)]
            items.append(item)
    data.ContentSequence = items


def summary(manifest: Manifest) -> str:
    """The Key Object Description of DRIM-M, from which consumers take each series' modality."""
    lines = [f"Examen : {_line(manifest.description)}"]
    acts = [code.meaning for request in manifest.requests for code in request.codes]
    lines += [f"Acte = {_line(act)}" for act in dict.fromkeys(acts) if act]
    lines += [
        f"Serie-{series.uid} : {series.modality} : {_line(series.description)}"
        for series in manifest.series
    ]
    return "".join(f"{line}\r\n" for line in lines)


def _line(value: str) -> str:
    return " ".join(value.split())


def text(value: str, limit: int) -> str:
    """A single value of a text VR: no backslash, which would begin a second one, and no
    control character; at most ``limit`` characters (PS3.5 6.2)."""
    kept = "".join(" " if ord(one) < 32 or ord(one) == 127 else one for one in value)
    return kept.replace("\\", "/").strip()[:limit]


def _name(value: str) -> str:
    """One PN. One without a caret is given one: else it is the retired form (PS3.5 6.2.1)."""
    name = text(value, _PN).replace("=", " ")
    return f"{name}^" if name and "^" not in name else name

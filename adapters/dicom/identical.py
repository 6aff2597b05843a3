"""A rejection note as the identical document that each other study it names should have.

PS3.3 C.17.6.2.1 (Identical Documents Sequence): a key object selection that references instances of
several studies is there once in each of them. Some writers leave one in a single study.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from adapters.dicom.loading import load_pydicom
from adapters.dicom.manifest import KEY_OBJECTS
from adapters.dicom.part10 import FileMeta, file_head, read_file_meta

EXPLICIT = "1.2.840.10008.1.2.1"
_UNICODE = "ISO_IR 192"
_OF_THE_STUDY = (
    *("StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence", "StudyID"),
    *("StudyDescription", "ReferringPhysicianName", "ReferencedRequestSequence", "AdmissionID"),
    *("RequestAttributesSequence", "ReferencedStudySequence", "ProcedureCodeSequence"),
)
"""What the copy must not say of its study: the note says it of another (PS3.3 C.7.2.1)."""


class NotCopied(Exception):
    """A note of which no identical document can be made. No value is named."""


def other_uid(uid: str, study: str) -> str:
    """The UID of what stands in a study for an instance or a series of another: always the same."""
    digest = sha256(f"identical\0{study}\0{uid}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15])}"


def identical_studies(data: bytes) -> frozenset[str]:
    """The studies of which a note says itself that an identical document is in them. Raises
    NotCopied."""
    found = _read(data).get("IdenticalDocumentsSequence") or ()
    return frozenset(str(each.get("StudyInstanceUID", "")) for each in found)


def identical(
    data: bytes, study: str, said: Mapping[str, Any], lifted: Mapping[str, str]
) -> tuple[bytes, str]:
    """The note as a document of another study: the file, and its SOP Instance UID.

    ``said`` are the attributes of that study (DICOM JSON model), ``lifted`` the notes that this one
    names and of which that study has a copy: series by SOP Instance UID. The same note gives the
    same bytes. Raises NotCopied.
    """
    load_pydicom()
    from pydicom.dataset import Dataset, FileMetaDataset

    found = _read(data)
    try:
        original, series = str(found.SOPInstanceUID), str(found.SeriesInstanceUID)
        own = str(found.StudyInstanceUID)
        found.decode()
        for keyword in _OF_THE_STUDY:
            if keyword in found:
                delattr(found, keyword)
        found.update(Dataset.from_json(dict(said)))
        found.SpecificCharacterSet = _UNICODE
        uid = other_uid(original, study)
        found.StudyInstanceUID, found.SOPInstanceUID = study, uid
        found.SeriesInstanceUID = other_uid(series, study)
        found.IdenticalDocumentsSequence = [_reference(own, {original: series})]
        if lifted:
            copies = {other_uid(u, study): other_uid(s, study) for u, s in lifted.items()}
            found.CurrentRequestedProcedureEvidenceSequence = [
                *(found.get("CurrentRequestedProcedureEvidenceSequence") or ()),
                _reference(study, copies),
            ]
        found.file_meta = FileMetaDataset()
        found.file_meta.TransferSyntaxUID = EXPLICIT
        found.file_meta.MediaStorageSOPClassUID = KEY_OBJECTS
        found.file_meta.MediaStorageSOPInstanceUID = uid
        written = io.BytesIO()
        found.save_as(written, enforce_file_format=True)
    except Exception:  # noqa: BLE001  pydicom's faults are many, and quote values
        raise NotCopied("it cannot be written") from None
    whole = written.getvalue()
    body = whole[_meta(whole).data_set_offset :]
    return file_head(KEY_OBJECTS, uid, EXPLICIT) + body, uid


def _reference(study: str, instances: Mapping[str, str]) -> Any:
    """An item of table C.17-3: a study with instances, series by SOP Instance UID."""
    load_pydicom()
    from pydicom.dataset import Dataset

    item = Dataset()
    item.StudyInstanceUID, item.ReferencedSeriesSequence = study, []
    for uid, series in sorted(instances.items()):
        one, instance = Dataset(), Dataset()
        instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = KEY_OBJECTS, uid
        one.SeriesInstanceUID, one.ReferencedSOPSequence = series, [instance]
        item.ReferencedSeriesSequence.append(one)
    return item


def _meta(data: bytes) -> FileMeta:
    return read_file_meta(io.BytesIO(data), len(data))


def _read(data: bytes) -> Any:
    import pydicom

    try:
        return pydicom.dcmread(io.BytesIO(data), force=True)
    except Exception:  # noqa: BLE001  pydicom's faults are many, and quote values
        raise NotCopied("it cannot be read") from None

"""DICOM objects without what could name a person.

The attributes of which DICOM PS3.15 annex E (Basic Application Level Confidentiality Profile) says
that they are to be removed, emptied or replaced are names, identifiers, dates, addresses, texts and
UIDs. Here what stays is listed instead, by its value representation, so that an attribute which a
later edition adds, or a private one, is not missed: numbers, code strings, and coded concepts. UIDs
of instances become others, the same within one export. Pixels, waveforms and encapsulated
documents are left out altogether. This is stricter than the profile, and no claim to conform to it.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

from gateway.masking import NotDeidentifiable
from gateway.model import Format

_KEPT = frozenset({"CS", "US", "SS", "UL", "SL", "FL", "FD", "DS", "IS", "AT", "UV", "SV"})
_CONCEPT = frozenset({"CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"})
_CONCEPT_SEQUENCES = "CodeSequence"
_REMOVED = frozenset(
    {
        "PatientSize", "PatientWeight", "PatientSexNeutered", "SmokingStatus", "PregnancyStatus",
        "Occupation", "PatientAge", "SeriesNumber", "AccessionNumber",
    }
)  # fmt: skip
"""Kept by their representation, and said to go by the profile all the same."""
_WELL_KNOWN = "1.2.840.10008."


class DicomDeidentifier:
    """See the module."""

    format = Format.DICOM
    suffix = "dcm"

    def deidentify(self, data: bytes, *, encoding: str, salt: bytes) -> bytes:  # noqa: ARG002
        """A DICOM file (PS3.10), explicit VR little endian."""
        import pydicom
        from pydicom.uid import ExplicitVRLittleEndian

        try:
            found = pydicom.dcmread(io.BytesIO(data), force=True)
            _clean(found, salt)
        except Exception:  # noqa: BLE001  pydicom's faults are many, and quote values
            raise NotDeidentifiable("it cannot be read as DICOM") from None
        if "SOPClassUID" not in found:
            raise NotDeidentifiable("it is no DICOM object")
        found.PatientIdentityRemoved = "YES"
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = found.SOPClassUID
        meta.MediaStorageSOPInstanceUID = found.get("SOPInstanceUID", "")
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.file_meta = meta
        written = io.BytesIO()
        pydicom.dcmwrite(
            written, found, enforce_file_format=True, implicit_vr=False, little_endian=True
        )
        return written.getvalue()


def _clean(found: Any, salt: bytes, *, concept: bool = False) -> None:
    for element in list(found):
        keyword, representation = element.keyword, element.VR
        if element.tag.is_private or not keyword or keyword in _REMOVED:
            del found[element.tag]
        elif representation == "SQ":
            for item in element.value:
                _clean(item, salt, concept=keyword.endswith(_CONCEPT_SEQUENCES))
        elif representation == "UI":
            element.value = _uids(element.value, salt)
        elif representation in _KEPT or (concept and keyword in _CONCEPT):
            continue
        else:
            del found[element.tag]


def _uids(value: Any, salt: bytes) -> Any:
    if isinstance(value, str):
        if value.startswith(_WELL_KNOWN) or not value:
            return value
        digest = hashlib.sha256(salt + value.encode()).digest()
        return f"2.25.{int.from_bytes(digest[:15])}"
    return [_uids(each, salt) for each in value]

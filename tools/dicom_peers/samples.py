"""The objects that are sent: pydicom's own test files under UIDs of their own, and made ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from adapters.dicom.part10 import read_file_meta
from gateway.demo.people import CAMILLE
from gateway.demo.study import ct_study
from tests.integration.dicom.department import Exam
from tests.integration.dicom.objects import PUBLISHED

ROOT = "1.2.826.0.1.3680043.9.77"
DAY = f"{datetime.now(UTC):%Y%m%d}"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

ENCODINGS = {
    "explicit VR": "CT_small.dcm",
    "implicit VR": "rtplan.dcm",
    "big endian": "MR_small_bigendian.dcm",
    "deflated": "image_dfl.dcm",
    "RLE": "MR_small_RLE.dcm",
    "JPEG baseline": "SC_rgb_small_odd_jpeg.dcm",
    "JPEG lossless": "SC_rgb_jpeg_gdcm.dcm",
    "JPEG-LS": "JPEGLSNearLossless_08.dcm",
    "JPEG 2000": "JPEG2000.dcm",
}
"""A file of pydicom's for each kind of transfer syntax."""

LOSSY = frozenset({"JPEG baseline", "JPEG-LS", "JPEG 2000"})
"""Those that are not decompressed for a receiver that does not take them."""

LARGE_SIDE = 2_000

NAMES = {
    "ISO_IR 100": "MÜLLER^ZOÉ",
    "ISO_IR 192": "ΠΑΠΑΔΟΠΟΥΛΟΣ^ΝΙΚΟΣ",
    "ISO_IR 144": "Люк^Иван",
}
"""A patient's name for each character set."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One file, and what is in it. ``digest`` is that of its data set."""

    name: str
    path: Path
    uid: str
    study: str
    sop_class: str
    syntax: str
    offset: int
    digest: str

    def as_it_stands(self) -> dict[str, Any]:
        """What dcmjs-dimse is told of it, that it be sent without being read."""
        return {
            "file": str(self.path), "uid": self.uid, "sopClass": self.sop_class,
            "syntax": self.syntax, "offset": self.offset,
        }  # fmt: skip


def sample(name: str, path: Path, study: str) -> Sample:
    """A file as a sample."""
    content = path.read_bytes()
    with path.open("rb") as stream:
        meta = read_file_meta(stream, len(content))
    return Sample(
        name, path, meta.sop_instance, study, meta.sop_class, meta.transfer_syntax,
        meta.data_set_offset, hashlib.sha256(content[meta.data_set_offset :]).hexdigest(),
    )  # fmt: skip


def _written(name: str, found: Dataset, folder: Path, number: int) -> Sample:
    study = f"{ROOT}.{number}"
    found.StudyInstanceUID, found.SeriesInstanceUID = study, f"{study}.1"
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.1"
    found.PatientID = f"PEER{number}"
    path = folder / f"{number}.dcm"
    found.save_as(path, enforce_file_format=True)
    return sample(name, path, study)


def encodings(folder: Path, first: int) -> list[Sample]:
    """One object for each transfer syntax and an odd one, each in a study of its own; ``first`` is
    the number of the first."""
    made = []
    for number, (name, file) in enumerate(ENCODINGS.items(), first):
        (path,) = PUBLISHED.rglob(file)
        made.append(_written(name, pydicom.dcmread(path), folder, number))
    return [*made, _oddity(folder, first + len(made)), _large(folder, first + len(made) + 1)]


def _oddity(folder: Path, number: int) -> Sample:
    """Sequences without items, of undefined length and with an empty item, values without bytes,
    private attributes."""
    (first,) = ct_study(CAMILLE, slices=1)
    first.ReferencedStudySequence = []
    first.ProcedureCodeSequence = [Dataset()]
    first.RequestAttributesSequence = [Dataset()]
    first["RequestAttributesSequence"].is_undefined_length = True
    first.AccessionNumber = first.StudyTime = ""
    block = first.private_block(0x0029, "OURS 1.0", create=True)
    block.add_new(0x01, "FD", 1.5)
    block.add_new(0x02, "SQ", [])
    return _written("empty sequences", first, folder, number)


def _large(folder: Path, number: int) -> Sample:
    """An image of 8 MB."""
    (image,) = ct_study(CAMILLE, slices=1)
    image.Rows = image.Columns = LARGE_SIDE
    image.PixelData = bytes(range(256)) * (LARGE_SIDE * LARGE_SIDE * 2 // 256)
    return _written("8 MB", image, folder, number)


def named(folder: Path) -> list[Sample]:
    """One object for each character set of :data:`NAMES`."""
    made = []
    for number, (charset, name) in enumerate(NAMES.items(), 60):
        exam = Exam(number, "1", study=f"{ROOT}.{number}", local=f"PEER{number}")
        given = {"SpecificCharacterSet": charset, "PatientName": name, "StudyDescription": "x"}
        path = exam.instance(folder, 1, 1, **given)
        made.append(sample(charset, path, exam.study))
    return made


def study(folder: Path, number: int, slices: int = 4) -> list[Sample]:
    """A study of a patient whom the record knows."""
    made = []
    uid = f"{ROOT}.{number}"
    for place, image in enumerate(ct_study(CAMILLE, slices=slices), 1):
        image.StudyInstanceUID, image.SeriesInstanceUID = uid, f"{uid}.1"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.{place}"
        image.AccessionNumber = f"A{number}"
        path = folder / f"{number}-{place}.dcm"
        image.save_as(path, enforce_file_format=True)
        made.append(sample(f"slice {place}", path, uid))
    return made


def order(number: int, control: str = "NW") -> str:
    """An OMI O23 with a scheduled procedure step of today."""
    who = f"{CAMILLE.family}^{CAMILLE.given}^^^^^L||{CAMILLE.birth_date}|{CAMILLE.sex}"
    return "\r".join([
        f"MSH|^~\\&|RIS|CHU|ECLUSE|X|{DAY}080000||OMI^O23^OMI_O23|{control}{number}|P|2.5.1"
        "|||||FRA|UNICODE UTF-8",
        f"PID|1||{CAMILLE.ins}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||{who}",
        f"ORC|{control}|PL{number}^DPI|FI{number}^RIS", f"TQ1|1||||||{DAY}1030||S",
        f"OBR|1|PL{number}^DPI|FI{number}^RIS|24627-2^Scanner à blanc^LN",
        f"IPC|A{number}^RIS|RP{number}^RIS|{ROOT}.{number}^RIS|SP{number}^RIS|CT||||CT1",
        "",
    ])  # fmt: skip


def step_created(study_uid: str, number: int) -> dict[str, Any]:
    """The attributes of an N-CREATE of a performed procedure step (PS3.4 table F.7.2-1)."""
    empty = dict.fromkeys(
        ("PatientBirthDate", "PerformedStationName", "PerformedLocation", "StudyID",
         "PerformedProcedureStepDescription", "PerformedProcedureTypeDescription",
         "PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime"), "",
    )  # fmt: skip
    none: dict[str, Any] = {
        each: []
        for each in (
            "ProcedureCodeSequence", "PerformedProtocolCodeSequence", "PerformedSeriesSequence"
        )
    }  # fmt: skip
    scheduled = {
        "StudyInstanceUID": study_uid, "AccessionNumber": f"A{number}",
        "RequestedProcedureID": f"RP{number}", "ScheduledProcedureStepID": f"SP{number}",
        "ReferencedStudySequence": [], "RequestedProcedureDescription": "",
        "ScheduledProcedureStepDescription": "", "ScheduledProtocolCodeSequence": [],
    }  # fmt: skip
    return {
        "SpecificCharacterSet": "ISO_IR 192", "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepID": "1", "PerformedStationAETitle": "CT1", "Modality": "CT",
        "PerformedProcedureStepStartDate": DAY, "PerformedProcedureStepStartTime": "1030",
        "PatientName": f"{CAMILLE.family}^{CAMILLE.given}", "PatientID": CAMILLE.ins,
        "PatientSex": "F", **empty, **none, "ScheduledStepAttributesSequence": [scheduled],
    }  # fmt: skip


def step_completed(samples: list[Sample]) -> dict[str, Any]:
    """The attributes of the N-SET that ends it."""
    series = {
        "PerformingPhysicianName": "", "ProtocolName": "Thorax", "OperatorsName": "",
        "SeriesInstanceUID": f"{samples[0].study}.1", "SeriesDescription": "",
        "RetrieveAETitle": "", "ReferencedNonImageCompositeSOPInstanceSequence": [],
        "ReferencedImageSequence": [
            {"ReferencedSOPClassUID": each.sop_class, "ReferencedSOPInstanceUID": each.uid}
            for each in samples
        ],
    }  # fmt: skip
    return {
        "PerformedProcedureStepStatus": "COMPLETED", "PerformedProcedureStepEndDate": DAY,
        "PerformedProcedureStepEndTime": "1045", "PerformedProtocolCodeSequence": [],
        "PerformedSeriesSequence": [series],
    }  # fmt: skip

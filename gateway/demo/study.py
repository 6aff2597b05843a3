"""A small synthetic CT study."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from gateway.demo.people import TEST_ROOT, Patient

STUDY_UID = "2.999.250.3.20261120.1"
ACCESSION = "A2611200007"
SIDE = 128


def ct_study(patient: Patient, *, slices: int = 4) -> Iterator[Dataset]:
    """The instances of one CT study of ``patient``'s chest: ``slices`` images of 128 x 128."""
    for number in range(1, slices + 1):
        yield _slice(patient, number)


def _slice(patient: Patient, number: int) -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = f"{STUDY_UID}.1.{number}"
    image.StudyInstanceUID = STUDY_UID
    image.SeriesInstanceUID = f"{STUDY_UID}.1"
    image.StudyDate, image.StudyTime = "20261120", "101500"
    image.TimezoneOffsetFromUTC = "+0100"
    image.AccessionNumber = ACCESSION
    image.Modality = "CT"
    image.StudyDescription = "Scanner thoracique"
    image.SeriesDescription = "Parenchyme 1 mm"
    image.SeriesNumber, image.InstanceNumber, image.StudyID = "1", str(number), "1"
    image.BodyPartExamined = "CHEST"
    image.PatientName = f"{patient.family}^{patient.given}"
    image.PatientID = patient.ins
    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = TEST_ROOT, "ISO"
    image.IssuerOfPatientID = "ASIP-SANTE-INS-NIR"
    image.IssuerOfPatientIDQualifiersSequence = [qualifier]
    image.PatientBirthDate, image.PatientSex = patient.birth_date, patient.sex
    image.ReferringPhysicianName = "DURAND^HÉLÈNE^^DR"
    image.Rows = image.Columns = SIDE
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.PixelSpacing = ["1.5", "1.5"]
    image.ImagePositionPatient = ["0", "0", str(number)]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.RescaleIntercept, image.RescaleSlope = "-1024", "1"
    image.PixelData = _ellipse(number)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def _ellipse(number: int) -> bytes:
    """Sixteen-bit pixels of a body-like ellipse with two dark lungs."""
    middle, rows = SIDE / 2, []
    for y in range(SIDE):
        for x in range(SIDE):
            dx, dy = (x - middle) / 52, (y - middle) / 38
            lung = min(((abs(x - middle) - 22) / 15) ** 2, 9) + ((y - middle) / (20 + number)) ** 2
            inside = dx * dx + dy * dy < 1
            rows.append(200 if inside and lung < 1 else 1064 if inside else 24)
    return b"".join(value.to_bytes(2, "little") for value in rows)

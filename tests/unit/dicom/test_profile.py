"""What de-identification leaves of an object: nothing of it leads back to where it came from."""

from __future__ import annotations

import io

from pydicom.dataset import Dataset, FileMetaDataset

from adapters.dicom.profile import BasicProfile

KEPT = frozenset({"modified-dates"})
STUDY, SERIES, SOURCE = "1.2.826.0.1.99.1", "1.2.826.0.1.99.1.1", "1.2.826.0.1.99.1.1.7"


def item(**attributes: object) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def written(found: Dataset) -> bytes:
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    stream = io.BytesIO()
    found.save_as(stream, implicit_vr=False, little_endian=True)
    return stream.getvalue()


def test_addresses_names_and_references_that_the_table_does_not_name_go() -> None:
    address = f"https://pacs.hospital.example/studies/{STUDY}/series/{SERIES}"
    series = item(
        SeriesInstanceUID=SERIES, RetrieveURL=address,
        ReferencedSOPSequence=[
            item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=SOURCE)
        ],
    )  # fmt: skip
    found = item(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59", SOPInstanceUID=f"{SERIES}.1",
        StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, PatientID="4711", PatientName="A^B",
        RetrieveURL=address, SOPInstanceUIDOfConcatenationSource=SOURCE,
        HL7StructuredDocumentReferenceSequence=[
            item(HL7InstanceIdentifier="1.2.250.1^CR4711", RetrieveURI=address,
                 ReferencedSOPInstanceUID="1.2.826.0.1.99.8")
        ],
        CurrentRequestedProcedureEvidenceSequence=[
            item(StudyInstanceUID=STUDY, ReferencedSeriesSequence=[series])
        ],
        EvaluatorName="LEROY^Paul",
        ConceptNameCodeSequence=[item(URNCodeValue="urn:lex:eu:council:directive:2010")],
    )  # fmt: skip
    BasicProfile(b"0123456789abcdef0123", KEPT).apply(found)
    data = written(found)
    for word in (b"hospital", b"1.2.826.0.1.99", b"CR4711", b"LEROY", b"4711"):
        assert word not in data, word
    (study,) = found.CurrentRequestedProcedureEvidenceSequence
    (there,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, there.SeriesInstanceUID) == (
        found.StudyInstanceUID, found.SeriesInstanceUID,
    )  # fmt: skip
    # The same instance has the same other UID wherever it is named.
    (named,) = there.ReferencedSOPSequence
    assert found.SOPInstanceUIDOfConcatenationSource == named.ReferencedSOPInstanceUID
    assert named.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    # A code that is written as an address leads to nobody.
    assert found.ConceptNameCodeSequence[0].URNCodeValue.startswith("urn:lex:eu")


def test_uids_stay_where_they_are_kept() -> None:
    found = item(SOPInstanceUIDOfConcatenationSource=SOURCE, PatientID="1")
    BasicProfile(b"0123456789abcdef0123", frozenset({"uids"})).apply(found)
    assert found.SOPInstanceUIDOfConcatenationSource == SOURCE

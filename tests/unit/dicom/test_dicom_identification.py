"""What the door reads of an object: whose it is, under which authority."""

from __future__ import annotations

import io

import pytest
from pydantic import ValidationError

from adapters.dicom.identification import (
    VALUE_BYTES_MAX,
    Authorities,
    Identification,
    identify,
    is_uid,
)
from adapters.dicom.notation import TRANSFER_SYNTAX, study_files
from adapters.dicom.part10 import read_file_meta
from adapters.dicom.settings import DicomSourceSettings
from adapters.dicom.syntaxes import accepted_syntaxes, storage_classes, transfer_syntaxes
from gateway.model import CauseCode, Identifier

KNOWN = Authorities({"CHU": "1.2.250.1.999.1"}, "1.2.250.1.999.9")
BASE = """
SOPClassUID = 1.2.840.10008.5.1.4.1.1.2
SOPInstanceUID = 2.999.1.1.1
StudyInstanceUID = 2.999.1
SeriesInstanceUID = 2.999.1.1
"""


def identified(more: str, authorities: Authorities = KNOWN) -> Identification:
    (payload,) = study_files(BASE + more)
    raw = payload.read()
    start = read_file_meta(io.BytesIO(raw), len(raw)).data_set_offset
    return identify(io.BytesIO(raw), start, len(raw), TRANSFER_SYNTAX, authorities)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("PatientID = 4711", Identifier(system="urn:oid:1.2.250.1.999.9", value="4711")),
        (
            "PatientID = 4711\nIssuerOfPatientID = CHU",
            Identifier(system="urn:oid:1.2.250.1.999.1", value="4711"),
        ),
        (
            "PatientID = 4711\nIssuerOfPatientID = RIS",
            Identifier(system="urn:ecluse:authority:RIS", value="4711"),
        ),
        (
            "PatientID = 4711\nIssuerOfPatientID = 1.2.250.1.999.3",
            Identifier(system="urn:oid:1.2.250.1.999.3", value="4711"),
        ),
        (
            "PatientID = 4711\nIssuerOfPatientID = CHU\n"
            "IssuerOfPatientIDQualifiersSequence(1).UniversalEntityID = 1.2.250.1.999.4\n"
            "IssuerOfPatientIDQualifiersSequence(1).UniversalEntityIDType = ISO\n"
            "IssuerOfPatientIDQualifiersSequence(1).IdentifierTypeCode = PI",
            Identifier(system="urn:oid:1.2.250.1.999.4", value="4711", type="PI"),
        ),
        (
            "PatientID = 188102B17295264\nIssuerOfPatientID = ASIP-SANTE-INS-NIR\n"
            "IssuerOfPatientIDQualifiersSequence(1).UniversalEntityID = 1.2.250.1.213.1.4.10\n"
            "IssuerOfPatientIDQualifiersSequence(1).UniversalEntityIDType = ISO",
            Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value="188102B17295264", type="INS"),
        ),
        # A domain name is no OID: the local name counts.
        (
            "PatientID = 4711\nIssuerOfPatientID = CHU\n"
            "IssuerOfPatientIDQualifiersSequence(1).UniversalEntityID = chu.example\n"
            "IssuerOfPatientIDQualifiersSequence(1).UniversalEntityIDType = DNS",
            Identifier(system="urn:oid:1.2.250.1.999.1", value="4711"),
        ),
    ],
)
def test_a_patient_id_has_its_issuers_authority(lines: str, expected: Identifier) -> None:
    assert identified(lines).subject == (expected,)


def test_a_patient_id_without_any_authority_identifies_nobody() -> None:
    assert identified("PatientID = 4711", Authorities()).subject == ()
    assert identified("PatientID =").subject == ()


def test_other_patient_ids_count_when_they_name_their_issuer() -> None:
    found = identified(
        "PatientID = 4711\n"
        "OtherPatientIDsSequence(1).PatientID = 42\n"
        "OtherPatientIDsSequence(1).IssuerOfPatientID = CHU\n"
        "OtherPatientIDsSequence(2).PatientID = 43\n"
        "OtherPatientIDsSequence(3).PatientID = 42\n"
        "OtherPatientIDsSequence(3).IssuerOfPatientID = CHU"
    )
    assert [(one.system, one.value) for one in found.subject] == [
        ("urn:oid:1.2.250.1.999.9", "4711"),
        ("urn:oid:1.2.250.1.999.1", "42"),
    ]


def test_identifiers_without_an_end_are_not_read() -> None:
    lines = [f"OtherPatientIDsSequence({n}).PatientID = {'9' * 60}" for n in range(1, 1_200)]
    found = identified("PatientID = 4711\n" + "\n".join(lines))
    assert len(lines) * 60 > VALUE_BYTES_MAX
    assert [one.value for one in found.subject] == ["4711"]
    assert found.fault is None


def test_a_missing_uid_is_said_by_name() -> None:
    (payload,) = study_files("SOPInstanceUID = 1.2\nSOPClassUID = 1.2.3")
    raw = payload.read()
    start = read_file_meta(io.BytesIO(raw), len(raw)).data_set_offset
    found = identify(io.BytesIO(raw), start, len(raw), TRANSFER_SYNTAX, KNOWN)
    assert found.fault is not None
    assert (found.fault.code, found.fault.location) == (
        CauseCode.REQUIRED_FIELD_MISSING, "StudyInstanceUID",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "good"),
    [("1.2.3", True), ("1.02.3", True), ("", False), ("1..2", False), ("../x", False),
     ("1.2 ", False), ("1." * 32 + "1", False), ("1." * 31 + "12", True), ("۱.۲", False)],
)  # fmt: skip
def test_uids(text: str, good: bool) -> None:
    assert is_uid(text) is good


# --- settings and negotiation ----------------------------------------------------------


def test_the_default_authority_is_what_mappings_find_under_the_empty_name() -> None:
    settings = DicomSourceSettings(name="ct", patient_id_authority="1.2.250.1.999.9")
    assert settings.authorities == {"": "1.2.250.1.999.9"}
    assert DicomSourceSettings(name="ct").authorities == {}


@pytest.mark.parametrize(
    "values",
    [
        {"name": "../x"},
        {"name": "ct", "ae_title": "A" * 17},
        {"name": "ct", "ae_title": "A\\B"},
        {"name": "ct", "calling_aets": [""]},
        {"name": "ct", "patient_id_authority": "CHU"},
        {"name": "ct", "commit_timeout_seconds": 60, "idle_timeout_seconds": 30},
        {"name": "ct", "port": 11112},
    ],
)
def test_settings_that_cannot_be(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DicomSourceSettings.model_validate(values)


def test_every_setting_is_described() -> None:
    fields = DicomSourceSettings.model_fields.values()
    assert all(field.description for field in fields)


def test_what_is_negotiated_by_default() -> None:
    classes = storage_classes()
    assert "1.2.840.10008.5.1.4.1.1.2" in classes
    assert "1.2.840.10008.5.1.4.1.1.6" in classes  # Ultrasound, retired, and still sent
    assert "1.2.840.10008.5.1.4.39.1" not in classes  # Color Palette: of no patient
    assert len(classes) == len(set(classes))
    assert len(classes) > 180
    syntaxes = transfer_syntaxes()
    assert syntaxes[:2] == ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
    assert "1.2.840.10008.1.2.4.90" in syntaxes
    assert "1.2.840.10008.1.2.4.94" not in syntaxes  # JPIP: the pixels are elsewhere
    taken = accepted_syntaxes()
    assert set(taken) == {*classes, "1.2.840.10008.1.1"}
    private = accepted_syntaxes(by_class={"2.999.7": ["1.2.840.10008.1.2"]})
    assert private["2.999.7"] == ("1.2.840.10008.1.2",)

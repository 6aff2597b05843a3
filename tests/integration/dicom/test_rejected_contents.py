"""What rejected objects had said is withdrawn in the record, as FHIR clients find it.

Objects and notes come by C-STORE to a whole gateway (:mod:`tests.integration.dicom.department`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from adapters.dicom.manifest import KEY_OBJECTS
from gateway.api import create_app
from tests.integration.dicom.department import (
    CT,
    ROOT,
    Department,
    Exam,
    item,
    named,
    running_department,
)

REPORT = "1.2.840.10008.5.1.4.1.1.88.33"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    with running_department(tmp_path_factory.mktemp("department")) as running:
        yield running


@pytest.fixture(scope="module")
def web(department: Department) -> TestClient:
    return TestClient(create_app(department.gateway), base_url="http://127.0.0.1")


def code(value: str, meaning: str, scheme: str = "DCM") -> list[Dataset]:
    return [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


def report(exam: Exam, folder: Path, series: int, number: int) -> Path:
    """A Comprehensive SR with one finding and one measurement."""
    finding = item(
        RelationshipType="CONTAINS", ValueType="TEXT",
        ConceptNameCodeSequence=code("121071", "Finding"), TextValue="Nodule",
    )  # fmt: skip
    measured = item(
        NumericValue="12", MeasurementUnitsCodeSequence=code("mm", "millimetre", "UCUM")
    )
    number_item = item(
        RelationshipType="CONTAINS", ValueType="NUM",
        ConceptNameCodeSequence=code("121206", "Distance"), MeasuredValueSequence=[measured],
    )  # fmt: skip
    return exam.instance(
        folder, series, number, SOPClassUID=REPORT, Modality="SR", ValueType="CONTAINER",
        ContinuityOfContent="SEPARATE", CompletionFlag="COMPLETE", VerificationFlag="VERIFIED",
        ContentDate="20210409", ContentTime="110000",
        ConceptNameCodeSequence=code("18748-4", "Report", "LN"),
        ContentSequence=[finding, number_item],
    )  # fmt: skip


def pdf(exam: Exam, folder: Path, series: int, number: int) -> Path:
    return exam.instance(
        folder, series, number, SOPClassUID=PDF, Modality="DOC", DocumentTitle="Scanned sheet",
        MIMETypeOfEncapsulatedDocument="application/pdf", EncapsulatedDocument=b"%PDF-1.4\n%%EOF\n",
    )  # fmt: skip


def note(
    exam: Exam, folder: Path, number: int, title: str, *aimed: tuple[Exam, int, int, str]
) -> Path:
    """A rejection note of an exam that names instances of any exams (series, number, class)."""
    studies = [
        item(
            StudyInstanceUID=other.study,
            ReferencedSeriesSequence=[
                item(
                    SeriesInstanceUID=f"{ROOT}.{other.number}.{series}",
                    ReferencedSOPSequence=[
                        item(
                            ReferencedSOPClassUID=sop_class,
                            ReferencedSOPInstanceUID=other.uid(series, each),
                        )
                    ],
                )
            ],
        )
        for other, series, each, sop_class in aimed
    ]
    return exam.instance(
        folder, 9, number, SOPClassUID=KEY_OBJECTS, Modality="KO", ValueType="CONTAINER",
        ConceptNameCodeSequence=code(title, "Rejected"), ContentDate="20210410",
        ContentTime="120000", CurrentRequestedProcedureEvidenceSequence=studies,
    )  # fmt: skip


def searched(web: TestClient, kind: str, patient: str, **parameters: str) -> list[dict[str, Any]]:
    answer = web.get(f"/fhir/{kind}", params={"patient": patient, "_count": "100", **parameters})
    answer.raise_for_status()
    return [each["resource"] for each in answer.json().get("entry", [])]


def begun(department: Department, exam: Exam) -> None:
    """Make the patient known, so that what comes goes into the record."""
    told = exam.cda(f"1.2.3.{exam.number}.1", "20210409140000+0200")
    assert department.tell(exam.report(told, department.control_id())) == "AA"


def shared(department: Department) -> None:
    """Have what the notes say reach the other studies."""
    department.gateway.holdings.catch_up()
    department.settled()


def statuses(web: TestClient, patient: str, uid: str) -> dict[str, set[str]]:
    """Of each type the statuses of what came of an instance."""
    found: dict[str, set[str]] = {}
    for kind in ("DiagnosticReport", "Observation", "DocumentReference"):
        for each in searched(web, kind, patient):
            if uid in str(each):
                found.setdefault(kind, set()).add(each["status"])
    return found


@pytest.mark.parametrize("title", ["113001", "113037"])
def test_what_a_rejected_report_or_document_had_said_is_withdrawn_and_comes_back(
    department: Department, web: TestClient, title: str
) -> None:
    number, ins = {
        "113001": (21, "279035121518989"), "113037": (22, "248039263001064"),
    }[title]  # fmt: skip
    exam, folder = Exam(number, ins), department.folder
    begun(department, exam)
    department.send(
        exam.instance(folder, 1, 1), report(exam, folder, 2, 1), pdf(exam, folder, 3, 1)
    )
    department.make()
    patient = department.account(exam).patient_id
    measured = searched(web, "Observation", patient)
    assert {each["status"] for each in measured} == {"final"}
    assert {each["status"] for each in searched(web, "DiagnosticReport", patient)} >= {"final"}

    department.send(
        note(exam, folder, 1, title, (exam, 2, 1, REPORT), (exam, 3, 1, PDF)),
    )
    gone = searched(web, "Observation", patient)
    assert {each["id"] for each in gone} == {each["id"] for each in measured}
    assert {each["status"] for each in gone} == {"entered-in-error"}
    assert statuses(web, patient, exam.uid(2, 1)).get("DiagnosticReport") == {"entered-in-error"}
    assert statuses(web, patient, exam.uid(3, 1))["DocumentReference"] == {"entered-in-error"}
    assert not searched(web, "Observation", patient, status="final")
    # Nothing is erased, and the study goes on with what is left.
    history = web.get(f"/fhir/Observation/{gone[0]['id']}/_history").json()
    assert [each["resource"]["status"] for each in history["entry"]] == [
        "entered-in-error",
        "final",
    ]
    department.make()
    assert named(department.current(exam)) == ["1.1"]

    # A later note that names the first lifts it: the same entries are good again.
    department.send(note(exam, folder, 2, title, (exam, 9, 1, KEY_OBJECTS)))
    again = searched(web, "Observation", patient)
    assert {each["id"] for each in again} == {each["id"] for each in measured}
    assert {each["status"] for each in again} == {"final"}
    assert statuses(web, patient, exam.uid(3, 1))["DocumentReference"] == {"current"}


def test_what_was_kept_long_enough_was_not_wrong(department: Department, web: TestClient) -> None:
    exam, folder = Exam(23, "279035121518989"), department.folder
    begun(department, exam)
    department.send(exam.instance(folder, 1, 1), report(exam, folder, 2, 1))
    department.make()
    patient = department.account(exam).patient_id
    department.send(note(exam, folder, 1, "113039", (exam, 2, 1, REPORT)))
    assert exam.uid(2, 1) not in str(searched(web, "ImagingStudy", patient))
    assert {each["status"] for each in searched(web, "Observation", patient)} == {"final"}


def test_one_note_on_two_studies_of_one_report_rewrites_both_manifests(
    department: Department, web: TestClient
) -> None:
    one, folder = Exam(31, "185031729526434"), department.folder
    other = Exam(32, one.ins, local=one.local)
    told = one.cda("1.2.3.31.1", "20210409140000+0200", other.study).replace(
        b"</order></inFulfillmentOf>",
        b'</order></inFulfillmentOf><inFulfillmentOf><order><id root="1.2.3.8" extension="P32"/>'
        b'<ps3-20:accessionNumber root="1.2.3.7" extension="ACC32"/></order></inFulfillmentOf>',
        1,
    )
    assert department.tell(one.report(told, department.control_id())) == "AA"
    department.send(*(each.instance(folder, 1, n) for each in (one, other) for n in (1, 2)))
    department.make()
    assert [department.account(each).version for each in (one, other)] == [1, 1]

    # The note lies in the first study alone; nobody sent the identical one for the second.
    department.send(note(one, folder, 1, "113037", (one, 1, 1, CT), (other, 1, 1, CT)))
    shared(department)
    department.make()
    read = {
        each.studies[0].uid: named(each)
        for each in map(
            department.selection,
            [d for d in department.documents(one) if d["status"] == "current"],
        )
    }
    assert read == {one.study: ["1.2"], other.study: ["1.2"]}
    for exam in (one, other):
        listed = searched(web, "ImagingStudy", department.account(exam).patient_id)
        mine = next(each for each in listed if exam.study in str(each["identifier"]))
        uid = exam.uid(1, 1)
        assert uid not in str(mine["series"])
        assert exam.uid(1, 2) in str(mine["series"])
        address = f"/dicomweb/studies/{exam.study}/series/{uid.rsplit('.', 1)[0]}/instances/{uid}"
        asked = {"Accept": "application/dicom; transfer-syntax=*"}
        assert web.get(address, headers=asked).status_code == 404

    # All of the second is rejected by a note of the first: only the second is withdrawn.
    department.send(note(one, folder, 2, "113037", (other, 1, 2, CT)))
    shared(department)
    department.make()
    assert department.account(other).state == "withdrawn"
    assert department.account(one).state == "made"

    # Rejecting the notes lifts them in both studies.
    lifting = [(one, 9, 1, KEY_OBJECTS), (one, 9, 2, KEY_OBJECTS)]
    department.send(*(note(one, folder, 3 + n, "113037", each) for n, each in enumerate(lifting)))
    shared(department)
    department.make()
    current = [d for d in department.documents(one) if d["status"] == "current"]
    assert sorted(named(department.selection(each)) for each in current) == [["1.1", "1.2"]] * 2

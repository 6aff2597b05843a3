"""A validated report ends the wait for a study: over MLLP and C-STORE, into the record.

The images come by a source that would wait ten minutes for quiet, so that whatever reaches the
record within a test does so because of its report.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep
from starlette.testclient import TestClient

from gateway.api import create_app
from gateway.holdings import BATCH
from gateway.journal import holdings, studies
from gateway.journal.studies import StudyAccount
from gateway.reported import Reported
from gateway.study_reports import StudyReports
from tests.eventually import eventually
from tests.integration.dicom.department import (
    AUTHORITY,
    PUBLISHED,
    Department,
    Exam,
    item,
    running_department,
)

SLOW = {
    "name": "slow", "type": "dicom", "listen": "127.0.0.1:0", "free_bytes_min": 0,
    "quiet_seconds": 600, "reported_quiet_seconds": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    with running_department(tmp_path_factory.mktemp("department"), SLOW) as running:
        yield running


def account(department: Department, exam: Exam) -> StudyAccount:
    with department.gateway.journal.read() as connection:
        (found,) = studies.accounts(connection, sources=["slow"], study=exam.study)
    return found


def waits(department: Department, exam: Exam) -> bool:
    return account(department, exam).due_at is not None


def told(department: Department, message: bytes) -> None:
    """Send a message and wait until it is read, whatever else waits."""
    with socket.create_connection(("127.0.0.1", department.port("hl7")), timeout=30) as peer:
        peer.sendall(b"\x0b" + message + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            answer += peer.recv(65_536)
    assert b"MSA|AA" in answer

    def read() -> bool:
        with department.gateway.journal.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT count(*) FROM message WHERE source = 'hl7' AND state = 'received'"
            )
            return rows.scalar_one() == 0

    eventually(read, timeout=60)


def oru(exam: Exam, status: str, control_id: str, issuer: str = "1.2.3.7") -> bytes:
    """A report in plain text, by the numbers of its order alone."""
    return "\r".join(
        [
            f"MSH|^~\\&|RIS|HOP|ECLUSE|HOP|20210409120000||ORU^R01^ORU_R01|{control_id}|P|2.5",
            f"PID|1||{exam.local}^^^HOP&{AUTHORITY}&ISO^PI||PAT-TROIS^DOMINIQUE",
            f"ORC|RE|P{exam.number}|{exam.accession}^^{issuer}^ISO",
            f"OBR|1|P{exam.number}|{exam.accession}^^{issuer}^ISO|24725-4^CT Head^LN|||20210409"
            f"||||||||||||||||||{status}",
            f"OBX|1|TX|24725-4^CT Head^LN||Rien.||||||{status}",
            "",
        ]
    ).encode()


def scheduled(exam: Exam, control_id: str) -> bytes:
    """The accession number in OBR-18 alone, as IHE's scheduled workflow has it (RAD-4)."""
    whole = oru(exam, "F", control_id).decode()
    placed = f"|||20210409{'|' * 11}{exam.accession}{'|' * 7}F"
    whole = whole.replace(f"|||20210409{'|' * 18}F", placed)
    return whole.replace(f"{exam.accession}^^1.2.3.7^ISO", f"R{exam.number}").encode()


def mdm(exam: Exam, completion: str, control_id: str) -> bytes:
    """The same as a document (MDM^T02), with its completion status in TXA-17."""
    return "\r".join(
        [
            f"MSH|^~\\&|RIS|HOP|ECLUSE|HOP|20210409120000||MDM^T02^MDM_T02|{control_id}|P|2.5",
            "EVN|T02|20210409120000",
            f"PID|1||{exam.local}^^^HOP&{AUTHORITY}&ISO^PI||PAT-TROIS^DOMINIQUE",
            "PV1|1|O",
            f"ORC|RE|P{exam.number}|{exam.accession}^^1.2.3.7^ISO",
            f"OBR|1|P{exam.number}|{exam.accession}^^1.2.3.7^ISO|24725-4^CT Head^LN",
            f"TXA|1|DI|TX|20210409||||||||D{exam.number}||{exam.accession}^^1.2.3.7^ISO|||"
            f"{completion}",
            "OBX|1|TX|24725-4^CT Head^LN||Rien.||||||F",
            "",
        ]
    ).encode()


def issued_by(oid: str) -> list[Dataset]:
    return [item(UniversalEntityID=oid, UniversalEntityIDType="ISO")]


def test_the_published_report_ends_the_wait_for_its_study(
    department: Department, shared: Path
) -> None:
    exam = Exam(
        1, "248039263001064", study=PUBLISHED, accession="0901160050", local="2963001",
        authority="2.25.308558515749272265601084678280819623195.3.2.1",
    )  # fmt: skip
    department.store(*(exam.instance(department.folder, 1, n) for n in (1, 2, 3)), source="slow")
    assert waits(department, exam)
    # The demonstrator's own message has neither PID nor OBR around its CDA.
    told(department, exam.report((shared / "corpora/dicom/DOC00002.xml").read_bytes(), "R1"))
    department.settled()
    department.make()
    found = department.account(exam)
    assert (found.state, found.version, found.instances) == ("made", 1, 3)
    assert len(department.entries(found.patient_id, "ImagingStudy")) == 1
    documents = department.entries(found.patient_id, "DocumentReference")
    reports = [
        each for each in documents if each["content"][0]["attachment"]["contentType"] == "text/xml"
    ]
    assert len(reports) == 1
    assert len(department.documents(exam)) == 1
    assert len(documents) == 2
    ours = account(department, exam)
    assert ours.evidence == (("report", "complete"),)
    assert ours.why == "complete: its report came"
    pages = TestClient(create_app(department.gateway), base_url="http://127.0.0.1")
    assert "complete: its report came" in pages.get("/studies").text


def test_only_a_validated_report_of_this_number_and_issuer_counts(department: Department) -> None:
    exam, folder = Exam(2, "279035121518989"), department.folder
    department.store(
        exam.instance(folder, 1, 1, IssuerOfAccessionNumberSequence=issued_by("1.2.3.7")),
        source="slow",
    )
    told(department, oru(exam, "P", "P1"))
    told(department, oru(exam, "F", "P2", issuer="1.2.3.99"))
    told(department, oru(Exam(3, "", accession="ACC22"), "F", "P3"))
    told(department, mdm(exam, "DI", "P4"))
    assert waits(department, exam)
    assert account(department, exam).evidence == ()
    told(department, oru(exam, "F", "P5"))
    eventually(lambda: not waits(department, exam), timeout=60)
    assert account(department, exam).round == 1
    other = Exam(7, "279035121518989")
    department.store(other.instance(folder, 1, 1), source="slow")
    told(department, scheduled(other, "P6"))
    eventually(lambda: not waits(department, other), timeout=60)


def test_a_document_of_a_grouped_order_counts(department: Department) -> None:
    exam, folder = Exam(4, "279035121518989"), department.folder
    requests = [
        item(AccessionNumber="OTHER4", IssuerOfAccessionNumberSequence=issued_by("1.2.3.7")),
        item(AccessionNumber="ACC4", IssuerOfAccessionNumberSequence=issued_by("1.2.3.7")),
    ]
    department.store(
        exam.instance(folder, 1, 1, AccessionNumber="", RequestAttributesSequence=requests),
        source="slow",
    )
    assert waits(department, exam)
    told(department, mdm(exam, "AU", "M1"))
    eventually(lambda: not waits(department, exam), timeout=60)
    ((kind, state),) = account(department, exam).evidence
    assert (kind, state) == ("report", "complete")


def step(exam: Exam, status: str, *numbers: int) -> Dataset:
    made = item(PerformedProcedureStepStatus=status)
    if status == "IN PROGRESS":
        made.ScheduledStepAttributesSequence = [item(StudyInstanceUID=exam.study)]
    images = [
        item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
             ReferencedSOPInstanceUID=exam.uid(1, each))
        for each in numbers
    ]  # fmt: skip
    made.PerformedSeriesSequence = [item(SeriesInstanceUID="1.2.3", ReferencedImageSequence=images)]
    return made


def test_a_report_ends_a_forgotten_step_and_waits_for_what_is_missing(
    department: Department,
) -> None:
    forgotten, missing = Exam(5, "279035121518989"), Exam(6, "279035121518989")
    ae = AE(ae_title="MODALITY")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    association = ae.associate("127.0.0.1", department.port("slow"), ae_title="ECLUSE")
    assert association.is_established
    try:
        for exam in (forgotten, missing):
            uid = f"{exam.study}.77"
            answer, _ = association.send_n_create(
                step(exam, "IN PROGRESS"), ModalityPerformedProcedureStep, uid
            )
            assert answer.Status == 0
            department.store(exam.instance(department.folder, 1, 1), source="slow")
        answer, _ = association.send_n_set(
            step(missing, "COMPLETED", 1, 2), ModalityPerformedProcedureStep, f"{missing.study}.77"
        )
        assert answer.Status == 0
    finally:
        association.release()
    for exam in (forgotten, missing):
        told(department, oru(exam, "F", f"S{exam.number}"))
    eventually(lambda: not waits(department, forgotten), timeout=60)
    assert account(department, forgotten).why == "complete: its report came"
    assert waits(department, missing)
    assert account(department, missing).why == "instances are missing that were announced"
    department.store(missing.instance(department.folder, 1, 2), source="slow")
    eventually(lambda: not waits(department, missing), timeout=60)
    kinds = json.dumps(account(department, missing).evidence)
    assert "step" in kinds
    assert "report" in kinds


def test_a_report_does_little_however_much_is_not_in_the_index(department: Department) -> None:
    """Another study's many instances wait for the index; the one that is reported is found."""
    large, exam = Exam(41, "185031729526434"), Exam(42, "185031729526434")
    index = department.gateway.holdings
    index.stop()
    many = [large.instance(department.folder, 1, number) for number in range(1, 2 * BATCH + 51)]
    department.store(*many, exam.instance(department.folder, 1, 1), source="slow")
    heard = StudyReports(department.gateway.journal, index, {"slow": timedelta(0)})
    heard.hear([(1, Reported((), (("urn:oid:1.2.3.7", exam.accession),)))])
    with department.gateway.journal.read() as connection:
        left = holdings.waiting(connection)
        evidence = connection.exec_driver_sql(
            "SELECT count(*) FROM study_evidence WHERE kind = 'report'"
            f" AND group_key = '{exam.study}'"
        ).scalar_one()
    assert left >= BATCH
    assert evidence == 1

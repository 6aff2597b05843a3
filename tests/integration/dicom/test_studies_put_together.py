"""A study that comes by two sources, studies of two patients who are one: over real sockets, in a
whole gateway of this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.journal import deadletters
from gateway.journal.deadletters import DeadLetterFilter
from gateway.model import CauseCode
from tests.integration.dicom.department import Department, Exam, named, running_department

PACS = {"name": "pacs", "type": "dicom", "listen": "127.0.0.1:0", "quiet_seconds": 0.2,
        "free_bytes_min": 0}  # fmt: skip


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    with running_department(tmp_path_factory.mktemp("department"), PACS) as running:
        yield running


def listed(department: Department, exam: Exam) -> list[str]:
    (study,) = department.entries(department.account(exam).patient_id, "ImagingStudy")
    uids = [each["uid"] for series in study["series"] for each in series["instance"]]
    assert study["numberOfInstances"] == len(uids)
    return [".".join(uid.split(".")[-2:]) for uid in uids]


def test_the_record_and_the_manifest_have_what_both_sources_brought(
    department: Department,
) -> None:
    exam, folder = Exam(1, "279035121518989"), department.folder
    department.tell(exam.report(exam.cda("1.2.3.1.1", "20210409140000+0200"), "R1"))
    department.send(*(exam.instance(folder, 1, number) for number in (1, 2)))
    department.make()
    assert listed(department, exam) == ["1.1", "1.2"]
    department.store(exam.instance(folder, 2, 1), source="pacs")
    department.settled()
    department.make()
    assert listed(department, exam) == ["1.1", "1.2", "2.1"]
    assert named(department.current(exam)) == ["1.1", "1.2", "2.1"]
    # The archive rejects what the modality sent: nothing else goes.
    department.store(exam.note(folder, 1, "113001", (1, 1)), source="pacs")
    department.settled()
    department.make()
    assert listed(department, exam) == ["1.2", "2.1"]
    assert named(department.current(exam)) == ["1.2", "2.1"]


def test_a_study_that_another_source_says_is_of_another_patient_stays_where_it_is(
    department: Department,
) -> None:
    exam, folder = Exam(2, "248039263001064"), department.folder
    other = Exam(3, "279035121518989", study=exam.study)
    for each, root in ((exam, "1.2.3.2.1"), (other, "1.2.3.3.1")):
        department.tell(each.report(each.cda(root, "20210409140000+0200"), f"P{each.number}"))
    department.send(exam.instance(folder, 1, 1))
    department.make()
    patient = department.account(exam).patient_id
    department.store(other.instance(folder, 2, 1), source="pacs")
    department.settled()
    department.make()
    assert department.account(exam).patient_id == patient
    assert listed(department, exam) == ["1.1"]
    with department.gateway.journal.read() as connection:
        (letter,) = deadletters.page(connection, DeadLetterFilter(source="pacs"))
    assert letter.cause.code is CauseCode.UNREADABLE


def merged(stays: Exam, goes: Exam, control_id: str) -> bytes:
    nir = "^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS"
    return "\r".join(
        [
            "MSH|^~\\&|GAM|HOP|ECLUSE|HOP|20210410120000+0200||ADT^A40^ADT_A39|"
            f"{control_id}|P|2.5|||||FRA|UNICODE UTF-8",
            "EVN||20210410120000+0200",
            f"PID|1||{stays.ins}{nir}~{stays.local}^^^HOP&{stays.authority}&ISO^PI"
            "||PAT-TROIS^DOMINIQUE^^^^^L||19790328|F|||||||||||||||||||||||||VALI",
            f"MRG|{goes.ins}{nir}~{goes.local}^^^HOP&{goes.authority}&ISO^PI",
            "",
        ]
    ).encode()


def test_a_merge_gives_each_study_a_manifest_with_the_survivors_identity(
    department: Department,
) -> None:
    stays, goes = Exam(41, "277076322082910"), Exam(42, "188102B17295264")
    for each in (stays, goes):
        report = each.report(
            each.cda(f"1.2.3.{each.number}.1", "20210409140000+0200"), department.control_id()
        )
        department.tell(report)
        department.send(each.instance(department.folder, 1, 1))
    department.make()
    assert department.current_of(goes).patient.value == goes.ins
    assert department.tell(merged(stays, goes, department.control_id())) == "AA"
    department.make()
    for each in (stays, goes):
        account = department.account(each)
        assert (account.state, account.cause) == ("made", "")
        assert account.patient_id == department.account(stays).patient_id
        assert department.current_of(each).patient.value == stays.ins

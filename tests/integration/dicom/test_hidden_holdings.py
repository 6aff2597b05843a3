"""What is rejected, or denied by the patient, is neither found nor retrieved; its bytes stay.

Asked with DCMTK's findscu and getscu and over DICOMweb, of a whole gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from starlette.testclient import TestClient

from adapters.dicom.holding_settings import HoldingsSettings
from adapters.dicom.manifest import KEY_OBJECTS
from gateway.api import create_app
from gateway.served_holdings import ServedHoldings
from tests.integration.dicom.department import AUTHORITY, Department, Exam, running_department
from tests.integration.dicom.test_storage_clients import dcmtk

PEERS = [{"ae_title": "FINDSCU"}, {"ae_title": "GETSCU"}]
DOOR = {
    "name": "door", "type": "dicom", "listen": "127.0.0.1:0", "free_bytes_min": 0,
    "quiet_seconds": 0.2, "peers": PEERS,
}  # fmt: skip


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    with running_department(tmp_path_factory.mktemp("department"), DOOR) as running:
        yield running


@pytest.fixture(scope="module")
def web(department: Department) -> TestClient:
    return TestClient(create_app(department.gateway), base_url="http://127.0.0.1")


def found(department: Department, folder: Path, *keys: str) -> list[pydicom.Dataset]:
    """What findscu gets."""
    options = [part for key in keys for part in ("-k", key)]
    port = str(department.port("door"))
    done = dcmtk("findscu", "-S", "-X", "-od", str(folder), *options, "127.0.0.1", port)
    assert done.returncode == 0, done.stderr
    answers = sorted(folder.glob("rsp*.dcm"))
    read = [pydicom.dcmread(each, force=True) for each in answers]
    for each in answers:
        each.unlink()
    return read


def images(department: Department, folder: Path, exam: Exam) -> list[str]:
    asked = ("QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={exam.study}", "SOPInstanceUID")
    uids = [str(each.SOPInstanceUID) for each in found(department, folder, *asked)]
    return [".".join(uid.split(".")[-2:]) for uid in uids]


def got(department: Department, folder: Path, exam: Exam) -> list[str]:
    """What getscu gets of a study."""
    place = folder / "got"
    place.mkdir()
    done = dcmtk(
        "getscu", "-S", "+B", "-od", str(place), "-k", "QueryRetrieveLevel=STUDY", "-k",
        f"StudyInstanceUID={exam.study}", "127.0.0.1", str(department.port("door")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    uids = [str(pydicom.dcmread(each).SOPInstanceUID) for each in sorted(place.iterdir())]
    for each in place.iterdir():
        each.unlink()
    place.rmdir()
    return [".".join(uid.split(".")[-2:]) for uid in uids]


def retrieved(web: TestClient, exam: Exam, series: int, number: int) -> int:
    """The status of WADO-RS."""
    uid = exam.uid(series, number)
    parent = uid.rsplit(".", 1)[0]
    address = f"/dicomweb/studies/{exam.study}/series/{parent}/instances/{uid}"
    return web.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"}).status_code


def study(department: Department, exam: Exam) -> dict[str, Any]:
    """The ImagingStudy in the record."""
    department.make()
    (entry,) = [
        each
        for each in department.entries(department.account(exam).patient_id, "ImagingStudy")
        if exam.study in str(each["identifier"])
    ]
    return entry


def listed_in(entry: dict[str, Any]) -> list[str]:
    """The instances that an ImagingStudy lists."""
    return [each["uid"] for one in entry.get("series", ()) for each in one["instance"]]


def told(department: Department, exam: Exam) -> None:
    """Make the patient of an exam known, so that its study goes into the record."""
    department.tell(exam.report(exam.cda(f"1.2.3.{exam.number}.1", "20210409140000+0200"), "R"))


def permission(department: Department, exam: Exam, said: str) -> None:
    """An ADT with what the patient lets (PAM France ZFA)."""
    message = "\r".join(
        [
            "MSH|^~\\&|GAM|HOP|ECLUSE|HOP|20260101||ADT^A08^ADT_A01|"
            f"{department.control_id()}|P|2.5^FRA^2.11",
            "EVN||20260101",
            f"PID|||{exam.ins}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS~"
            f"{exam.local}^^^HOP&{AUTHORITY}&ISO^PI||PAT-TROIS^DOMINIQUE^^^^^L||19790328|F"
            "|||||||||||||||||||||||||VALI",
            "PV1||I",
            said,
            "",
        ]
    )
    department.tell(message.encode())


def test_what_a_note_rejects_is_neither_found_nor_retrieved(
    department: Department, web: TestClient, tmp_path: Path
) -> None:
    exam, folder = Exam(1, "279035121518989"), department.folder
    told(department, exam)
    department.send(*(exam.instance(folder, 1, number) for number in (1, 2, 3)))
    assert images(department, tmp_path, exam) == ["1.1", "1.2", "1.3"]
    department.send(exam.note(folder, 1, "113001", (1, 1)), exam.note(folder, 2, "113037", (1, 2)))
    # Neither what is rejected nor the notes, at any level and by any protocol.
    assert images(department, tmp_path, exam) == ["1.3"]
    assert got(department, tmp_path, exam) == ["1.3"]
    (one,) = found(
        department, tmp_path, "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={exam.study}",
        "NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries", "ModalitiesInStudy",
    )  # fmt: skip
    assert (one.NumberOfStudyRelatedInstances, one.ModalitiesInStudy) == (1, "CT")
    assert one.NumberOfStudyRelatedSeries == 1
    (searched,) = web.get("/dicomweb/studies", params={"StudyInstanceUID": exam.study}).json()
    listed = web.get(f"/dicomweb/studies/{exam.study}/series").json()
    assert [each["00080060"]["Value"] for each in listed] == [["CT"]]
    assert [retrieved(web, exam, 1, number) for number in (1, 2, 3)] == [404, 404, 200]
    assert retrieved(web, exam, 9, 1) == 404
    entry = study(department, exam)
    assert entry["status"] == "available"
    assert listed_in(entry) == [exam.uid(1, 3)]
    # The record counts what queries count: a note is no content of the study.
    assert (entry["numberOfSeries"], entry["numberOfInstances"]) == (1, 1)
    assert [searched[tag]["Value"] for tag in ("00201206", "00201208")] == [[1], [1]]
    # What is rejected for quality may be shown for regular use, with its note; nothing else.
    regular = ServedHoldings(
        department.gateway.holdings, lambda: HoldingsSettings(rejected_for_quality="show")
    )
    shown = regular.instances(study=exam.study)
    assert [each.sop_instance for each in shown] == [
        exam.uid(1, 1), exam.uid(1, 3), exam.uid(9, 1),
    ]  # fmt: skip
    # The bytes are evidence: the house itself still has all of it.
    assert len(department.gateway.holdings.instances(study=exam.study)) == 5
    # Another note lifts the first one.
    department.send(exam.note(folder, 3, "113037", (9, 1)))
    assert images(department, tmp_path, exam) == ["1.1", "1.3"]
    assert retrieved(web, exam, 1, 1) == 200


def test_a_note_that_comes_first_and_one_that_takes_everything(
    department: Department, web: TestClient, tmp_path: Path
) -> None:
    exam, folder = Exam(2, "279035121518989"), department.folder
    told(department, exam)
    department.send(exam.note(folder, 1, "113039", (1, 1)))
    department.send(exam.instance(folder, 1, 1), exam.instance(folder, 1, 2))
    assert images(department, tmp_path, exam) == ["1.2"]
    department.send(exam.note(folder, 2, "113038", (1, 2)))
    assert images(department, tmp_path, exam) == []
    asked = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={exam.study}")
    assert found(department, tmp_path, *asked) == []
    assert web.get("/dicomweb/studies", params={"StudyInstanceUID": exam.study}).status_code == 204
    entry = study(department, exam)
    assert entry["status"] == "entered-in-error"
    assert (entry["numberOfSeries"], entry["numberOfInstances"], listed_in(entry)) == (0, 0, [])
    # The object that replaces another comes with a UID of its own, and the study is there again.
    department.send(exam.instance(folder, 1, 3))
    assert images(department, tmp_path, exam) == ["1.3"]
    entry = study(department, exam)
    assert entry["status"] == "available"
    assert (entry["numberOfInstances"], listed_in(entry)) == (1, [exam.uid(1, 3)])
    kept = department.gateway.holdings.instances(study=exam.study)
    assert {each.sop_class for each in kept} > {KEY_OBJECTS}
    assert len(kept) == 5


def test_studies_of_a_patient_who_denies_are_hidden_unless_the_site_says_otherwise(
    department: Department, web: TestClient, tmp_path: Path
) -> None:
    exam, folder = Exam(3, "207058575627097"), department.folder
    told(department, exam)
    department.send(exam.instance(folder, 1, 1))
    other = Exam(4, "279035121518989")
    department.send(other.instance(folder, 1, 1))
    for said in (
        "ZFA|ACTIF|20260101|||||||IO|20260102|INC|20260102",
        "ZFA|FERME|20260101|20260103||||||INO|20260103|NA",
    ):
        assert images(department, tmp_path, exam) == ["1.1"]
        assert retrieved(web, exam, 1, 1) == 200
        permission(department, exam, said)
        assert images(department, tmp_path, exam) == []
        assert got(department, tmp_path, exam) == []
        assert retrieved(web, exam, 1, 1) == 404
        assert images(department, tmp_path, other) == ["1.1"]
        own = ServedHoldings(department.gateway.holdings, lambda: HoldingsSettings(denied="show"))
        assert [each.sop_instance for each in own.instances(study=exam.study)] == [exam.uid(1, 1)]
        permission(department, exam, "ZFA|ACTIF|20260104|||||||INO|20260104|INC|20260104")

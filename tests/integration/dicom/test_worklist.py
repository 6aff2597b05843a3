"""The modality worklist: orders come as HL7 v2, and findscu asks as a modality does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind

from adapters.dicom.listener import DicomSource
from adapters.dicom.settings import DicomSourceSettings
from gateway.gate import PermissionGate
from gateway.intake import JournalIntake
from gateway.journal.journal import Journal
from gateway.journal.writer import GroupWriter
from gateway.model import Format, Payload, Received
from gateway.sources import SystemClock
from gateway.studies import SourceStudies
from gateway.worklist import JournalWorklist
from tests.integration.dicom.running import in_loop
from tests.integration.dicom.test_query_retrieve import gone_on
from tests.integration.dicom.test_storage_clients import dcmtk

TODAY = datetime.now(UTC)
DAY, NEXT = f"{TODAY:%Y%m%d}", f"{TODAY + timedelta(days=1):%Y%m%d}"
STUDY = "1.2.826.0.1.3680043.9.2"


@dataclass
class House:
    """A source that offers the worklist, and the journal to which orders come."""

    journal: Journal
    intake: JournalIntake
    port: int
    sent: int = 0

    def order(self, *lines: str, kind: str = "OMI^O23", number: int = 1, name: str = "") -> int:
        """An order comes; the number of its message."""
        self.sent += 1
        who = name or f"MÜLLER{number}^ZOÉ^^^Mme"
        head = [
            f"MSH|^~\\&|RIS|CHU|ECLUSE|X|{DAY}080000||{kind}^{kind.replace('^', '_')}|{self.sent}|P|2.5.1|||||FRA|UNICODE UTF-8",
            f"PID|1||1790328{number}^^^ASIP&1.2.250.1.213.1.4.10&ISO^INS~P{number}^^^CHU&1.2.250.1.999.1&ISO^PI||{who}||19790328|F",
            "PV1|1|I|RAD^12^A||||10001^HOUSE^GREG^^^Dr|20002^CUDDY^LISA",
        ]
        data = "\r".join([*head, *lines, ""]).encode()
        received = Received(
            source="ris", format=Format.HL7V2, payload=Payload.from_bytes(data),
            received_at=datetime.now(UTC), control_id=str(self.sent), kind=kind,
        )  # fmt: skip
        return self.intake.submit(received).result(timeout=30).message_id

    def ct(self, number: int, control: str = "NW", status: str = "", **given: str) -> int:
        """An OMI O23 for a CT, as IHE's scheduled workflow sends it."""
        day, at = given.get("day", DAY), given.get("at", "1030")
        return self.order(
            f"ORC|{control}|PL{number}^DPI|FI{number}^RIS||{status}||||{DAY}0700|||3003^WILSON^JAMES",
            f"TQ1|1||||||{day}{at}||S",
            f"OBR|1|PL{number}^DPI|FI{number}^RIS|24627-2^Scanner thoracique^LN|||||||||||||||||||||||||||^Nodule",
            f"IPC|A{number}^RIS|RP{number}^RIS|{STUDY}.{number}^RIS|SP{number}^RIS|CT|THX^Thorax low dose^99RIS|CT_1|Room 2|{given.get('title', 'CT1')}",
            number=number, name=given.get("name", ""),
        )  # fmt: skip


@contextlib.contextmanager
def house(url: str, folder: Path) -> Iterator[House]:
    journal = Journal(url, blob_directory=folder / "blobs")
    journal.migrate()
    writer = GroupWriter(journal)
    writer.start()
    settings = DicomSourceSettings.model_validate({
        "name": "ct", "listen": "127.0.0.1:0", "free_bytes_min": 0,
        "peers": [{"ae_title": "FINDSCU"}, {"ae_title": "CT1"}],
    })  # fmt: skip
    source = DicomSource(
        settings, JournalIntake(writer, PermissionGate(), quiet={}), SystemClock(),
        folder / "spool", SourceStudies(journal, "ct", {}, {}),
        worklist=JournalWorklist(journal),
    )  # fmt: skip
    try:
        with in_loop(source):
            intake = JournalIntake(writer, PermissionGate(), quiet={})
            yield House(journal, intake, int(source.address().rsplit(":", 1)[1]))
    finally:
        writer.stop()
        journal.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Four orders: two CTs of today, one of tomorrow for another device, and an ORM for an MR."""
    folder = tmp_path_factory.mktemp("worklist")
    url = f"sqlite:///{folder / 'journal.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").fresh_database()
    with house(url, folder) as made:
        made.ct(1)
        made.ct(2, at="1415", name="DUPONT^JEAN")
        made.ct(3, day=NEXT, title="CT2")
        made.order(
            "ORC|NW|PL4^DPI|FI4^RIS",
            f"OBR|1|PL4^DPI|FI4^RIS|24558-9^IRM abdominale^LN||{DAY}0900||||||||||||A4|RP4|SP4||||MR",
            f"ZDS|{STUDY}.4^RIS^Application^DICOM", kind="ORM^O01", number=4,
        )  # fmt: skip
        # An order of a laboratory comes the same way, and is none of imaging.
        made.order(
            "ORC|NW|PL5^DPI", "OBR|1|PL5^DPI||2160-0^Creatinine^LN", kind="ORM^O01", number=5
        )
        yield made


STEP = "ScheduledProcedureStepSequence[0]."
ASKED = (
    "PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "RequestedProcedureID",
    f"{STEP}ScheduledProcedureStepID", f"{STEP}ScheduledProcedureStepStartTime",
    f"{STEP}ScheduledProcedureStepStatus",
)  # fmt: skip


def listed(made: House, folder: Path, *keys: str) -> list[Dataset]:
    """What findscu -W gets for some keys."""
    given = {key.partition("=")[0] for key in keys}
    asked = [*keys, *(each for each in ASKED if each not in given)]
    options = [part for key in asked for part in ("-k", key)]
    done = dcmtk("findscu", "-W", "-X", "-od", str(folder), *options, "127.0.0.1", str(made.port))
    assert done.returncode == 0, done.stderr
    paths = sorted(folder.glob("rsp*.dcm"))
    found = [pydicom.dcmread(each, force=True) for each in paths]
    for each in paths:
        each.unlink()
    return found


def accessions(made: House, folder: Path, *keys: str) -> list[str]:
    return [str(each.AccessionNumber) for each in listed(made, folder, *keys)]


def test_an_item_has_what_the_order_says(full: House, tmp_path: Path) -> None:
    (item,) = listed(
        full, tmp_path, "AccessionNumber=A1", "PatientBirthDate", "PatientSex", "AdmissionID",
        "IssuerOfPatientID", "ReferringPhysicianName", "RequestingPhysician", "PatientWeight",
        "RequestedProcedureDescription", "RequestedProcedurePriority", "CurrentPatientLocation",
        "PlacerOrderNumberImagingServiceRequest", "RequestedProcedureCodeSequence[0].CodeValue",
        f"{STEP}Modality", f"{STEP}ScheduledStationAETitle",
        f"{STEP}ScheduledProcedureStepStartDate",
        f"{STEP}ScheduledProcedureStepDescription", f"{STEP}ScheduledProtocolCodeSequence",
    )  # fmt: skip
    assert str(item.PatientName) == "MÜLLER1^ZOÉ^^Mme"
    assert item.SpecificCharacterSet == "ISO_IR 100"
    assert (item.PatientID, item.IssuerOfPatientID) == ("P1", "CHU")
    assert (item.PatientBirthDate, item.PatientSex) == ("19790328", "F")
    assert item.StudyInstanceUID == f"{STUDY}.1"
    assert str(item.RequestingPhysician) == "WILSON^JAMES"
    assert str(item.ReferringPhysicianName) == "CUDDY^LISA"
    assert item.RequestedProcedureDescription == "Scanner thoracique"
    assert item.RequestedProcedureCodeSequence[0].CodeValue == "24627-2"
    assert item.RequestedProcedurePriority == "STAT"
    assert item.PlacerOrderNumberImagingServiceRequest == "PL1"
    assert item.CurrentPatientLocation == "RAD 12 A"
    assert item.PatientWeight is None
    (step,) = item.ScheduledProcedureStepSequence
    assert (step.Modality, step.ScheduledStationAETitle) == ("CT", "CT1")
    assert step.ScheduledProcedureStepStartDate == DAY
    assert step.ScheduledProcedureStepStartTime == "1030"
    assert step.ScheduledProcedureStepDescription == "Thorax low dose"
    assert step.ScheduledProtocolCodeSequence[0].CodeValue == "THX"
    assert step.ScheduledProcedureStepStatus == "SCHEDULED"


def test_an_orm_is_read_as_the_scheduled_workflow_has_it(full: House, tmp_path: Path) -> None:
    (item,) = listed(full, tmp_path, f"{STEP}Modality=MR")
    assert (item.AccessionNumber, item.RequestedProcedureID) == ("A4", "RP4")
    assert item.StudyInstanceUID == f"{STUDY}.4"
    step = item.ScheduledProcedureStepSequence[0]
    assert (step.ScheduledProcedureStepID, step.ScheduledProcedureStepStartTime) == ("SP4", "0900")


def test_items_are_matched_by_their_keys(full: House) -> None:
    date, at = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
    title = "ScheduledStationAETitle"
    ae = AE(ae_title="CT1")
    ae.add_requested_context(ModalityWorklistInformationFind)
    association = ae.associate("127.0.0.1", full.port, ae_title="ECLUSE")
    wanted: list[tuple[dict[str, Any], dict[str, str], list[str]]] = [
        ({}, {}, ["A1", "A2", "A3", "A4"]),
        ({}, {date: DAY}, ["A1", "A2", "A4"]),
        ({}, {date: f"{DAY}-{NEXT}", "Modality": "CT"}, ["A1", "A2", "A3"]),
        ({}, {date: f"{NEXT}-"}, ["A3"]),
        ({}, {date: f"-{DAY}", at: "1000-1100"}, ["A1"]),
        ({}, {at: "1415"}, ["A2"]),
        ({}, {title: "CT2"}, ["A3"]),
        ({"PatientName": "muller*"}, {}, ["A1", "A3", "A4"]),
        ({"PatientName": "*jean"}, {}, ["A2"]),
        ({"PatientID": "P2"}, {}, ["A2"]),
        ({"AccessionNumber": "A?"}, {"Modality": "MR"}, ["A4"]),
        ({"StudyInstanceUID": [f"{STUDY}.3", f"{STUDY}.1"]}, {}, ["A1", "A3"]),
        ({"RequestedProcedureID": "RP2"}, {}, ["A2"]),
        ({"PatientID": "P5"}, {}, []),
    ]
    for keys, step, expected in wanted:
        asked, item = Dataset(), Dataset()
        for keyword, value in {"AccessionNumber": "", **keys}.items():
            setattr(asked, keyword, value)
        for keyword, value in step.items():
            setattr(item, keyword, value)
        asked.ScheduledProcedureStepSequence = [item]
        gone_on(association)
        answers = association.send_c_find(asked, ModalityWorklistInformationFind)
        found = [each.AccessionNumber for _, each in answers if each is not None]
        assert found == expected, (keys, step)
    association.release()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    with house(f"sqlite:///{tmp_path / 'journal.sqlite'}", tmp_path) as made:
        yield made


def test_what_is_not_to_be_made_disappears(own: House, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        own.ct(number)
    assert accessions(own, tmp_path) == ["A1", "A2", "A3"]
    # A cancellation speaks of the order, with or without its device.
    own.order("ORC|CA|PL1^DPI|FI1^RIS", "OBR|1|PL1^DPI|FI1^RIS")
    own.ct(2, control="XO", at="1600")
    own.ct(3, control="SC", status="CM")
    (item,) = listed(own, tmp_path)
    assert item.AccessionNumber == "A2"
    step = item.ScheduledProcedureStepSequence[0]
    assert step.ScheduledProcedureStepStartTime == "1600"
    own.ct(2, control="HD")
    assert accessions(own, tmp_path) == []
    own.ct(2, control="XO", at="1700")
    own.ct(2, control="UA")
    assert accessions(own, tmp_path) == ["A2"]
    own.ct(2, control="DC")
    assert accessions(own, tmp_path) == []
    # Long past, and nobody has said what became of it.
    own.ct(6, day="20200101")
    assert accessions(own, tmp_path) == []


def performed(own: House, status: str, uid: str, number: int) -> int:
    ae = AE(ae_title="CT1")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    association = ae.associate("127.0.0.1", own.port, ae_title="ECLUSE")
    body = Dataset()
    body.PerformedProcedureStepStatus = status
    if status == "IN PROGRESS":
        scheduled = Dataset()
        scheduled.StudyInstanceUID = f"{STUDY}.{number}"
        scheduled.ScheduledProcedureStepID = f"SP{number}"
        body.ScheduledStepAttributesSequence = [scheduled]
        answer, _ = association.send_n_create(body, ModalityPerformedProcedureStep, uid)
    else:
        answer, _ = association.send_n_set(body, ModalityPerformedProcedureStep, uid)
    association.release()
    return int(answer.Status)


def test_a_performed_step_takes_its_item_off_the_list(own: House, tmp_path: Path) -> None:
    own.ct(1)
    own.ct(2)
    status = f"{STEP}ScheduledProcedureStepStatus=STARTED"
    assert accessions(own, tmp_path) == ["A1", "A2"]
    assert performed(own, "IN PROGRESS", f"{STUDY}.77", 1) == 0
    assert performed(own, "IN PROGRESS", f"{STUDY}.78", 2) == 0
    assert accessions(own, tmp_path, status) == ["A1", "A2"]
    assert performed(own, "COMPLETED", f"{STUDY}.77", 1) == 0
    # What was broken off is still to be made.
    assert performed(own, "DISCONTINUED", f"{STUDY}.78", 2) == 0
    assert accessions(own, tmp_path) == ["A2"]
    # The order is said again: it was done all the same.
    own.ct(1, control="XO")
    assert accessions(own, tmp_path) == ["A2"]


def test_an_order_without_numbers_of_its_own_can_be_made_all_the_same(
    own: House, tmp_path: Path
) -> None:
    own.order("ORC|NW|PL9^DPI", "OBR|1|||24558-9^IRM^LN||||||||||||||||||||MR", kind="ORM^O01")
    (item,) = listed(own, tmp_path)
    assert item.AccessionNumber == item.RequestedProcedureID == "PL9"
    assert item.StudyInstanceUID.startswith("2.25.")
    (again,) = listed(own, tmp_path)
    assert again.StudyInstanceUID == item.StudyInstanceUID


def test_only_peers_and_only_what_can_be_matched(own: House) -> None:
    def ask(title: str, **keys: str) -> list[int]:
        ae = AE(ae_title=title)
        ae.add_requested_context(ModalityWorklistInformationFind)
        ae.add_requested_context("1.2.840.10008.1.1")
        association = ae.associate("127.0.0.1", own.port, ae_title="ECLUSE")
        if not any(
            each.abstract_syntax == ModalityWorklistInformationFind
            for each in association.accepted_contexts
        ):
            association.release()
            return []
        asked = Dataset()
        for keyword, value in keys.items():
            setattr(asked, keyword, value)
        answers = association.send_c_find(asked, ModalityWorklistInformationFind)
        found: list[Any] = [status.Status for status, _ in answers]
        association.release()
        return found

    own.ct(1)
    assert ask("NOBODY", PatientID="P1") == []
    assert ask("CT1", PatientID="P1") == [0xFF00, 0]
    assert ask("CT1", PatientID="P1", PatientComments="x") == [0xFF01, 0]
    assert ask("CT1", StudyInstanceUID="1.2.*") == [0xA900]

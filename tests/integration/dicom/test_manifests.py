"""Exams over real sockets: images, report and rejection notes become one manifest in the record.

The gateway is a whole one in this process; only the thread that makes manifests is replaced by
steps that a test takes itself, so that it says when.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from starlette.testclient import TestClient
from typer.testing import CliRunner

from adapters.dicom.manifest import KEY_OBJECTS
from adapters.dicom.selection import Selection, read_file
from adapters.dicom.sender import send_files
from gateway.api import create_app
from gateway.bootstrap import Gateway
from gateway.cli.application import app
from gateway.journal import manifests, messages
from gateway.journal.ledger import ledger
from gateway.journal.manifests import ManifestAccount
from gateway.manifests import making
from gateway.manifests.making import Manifests
from gateway.model import Payload, Received
from gateway.ports import IntakeUnavailable
from gateway.settings import Settings
from record import store
from tests.eventually import eventually
from tests.integration.dicom.objects import data_set_of

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.9.64"
AUTHORITY = "1.2.250.1.999.7"
PUBLISHED = "2.16.840.1.113669.632.20.1211.10000231621"


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@dataclass
class Exam:
    """One study of one patient. ``number`` makes both its own."""

    number: int
    ins: str
    study: str = ""
    accession: str = ""
    local: str = ""
    authority: str = AUTHORITY

    def __post_init__(self) -> None:
        self.study = self.study or f"{ROOT}.{self.number}"
        self.accession = self.accession or f"ACC{self.number}"
        self.local = self.local or f"IPP{self.number}"

    def uid(self, series: int, number: int) -> str:
        return f"{ROOT}.{self.number}.{series}.{number}"

    def instance(self, folder: Path, series: int, number: int, **attributes: Any) -> Path:
        """A file of one instance."""
        uid = self.uid(series, number)
        data = item(
            **{
                "SpecificCharacterSet": "ISO_IR 100", "SOPClassUID": CT, "SOPInstanceUID": uid,
                "StudyInstanceUID": self.study, "SeriesInstanceUID": f"{ROOT}.{self.number}.{series}",
                "StudyDate": "20210409", "StudyTime": "101500", "SeriesDate": "20210409",
                "SeriesTime": "101600", "Modality": "CT", "PatientName": "PAT-TROIS^DOMINIQUE",
                "PatientID": self.local, "IssuerOfPatientID": "HOP",
                "IssuerOfPatientIDQualifiersSequence": [
                    item(UniversalEntityID=self.authority, UniversalEntityIDType="ISO")
                ],
                "AccessionNumber": self.accession, "StudyDescription": "Tête",
                "SeriesNumber": str(series), "InstanceNumber": str(number),
                "SeriesDescription": "Dentascan", **attributes,
            }
        )  # fmt: skip
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.file_meta.MediaStorageSOPInstanceUID = uid
        path = folder / f"{uid}.dcm"
        data.save_as(path, enforce_file_format=True)
        return path

    def note(self, folder: Path, number: int, title: str, *aimed: tuple[int, int]) -> Path:
        """A file of a rejection note (IHE RAD IOCM)."""
        references = [
            item(
                ReferencedSOPClassUID=KEY_OBJECTS if series == 9 else CT,
                ReferencedSOPInstanceUID=self.uid(series, each),
            )
            for series, each in aimed
        ]
        series = item(
            SeriesInstanceUID=f"{ROOT}.{self.number}.{aimed[0][0]}",
            ReferencedSOPSequence=references,
        )
        study = item(StudyInstanceUID=self.study, ReferencedSeriesSequence=[series])
        title_code = item(CodeValue=title, CodingSchemeDesignator="DCM", CodeMeaning="Rejected")
        return self.instance(
            folder, 9, number, SOPClassUID=KEY_OBJECTS, Modality="KO", ValueType="CONTAINER",
            ConceptNameCodeSequence=[title_code], ContentDate="20210410", ContentTime="120000",
            CurrentRequestedProcedureEvidenceSequence=[study],
        )  # fmt: skip

    def report(self, cda: bytes, control_id: str) -> bytes:
        """An ORU^R01 with the report in it."""
        packed = base64.b64encode(cda).decode()
        return "\r".join(
            [
                "MSH|^~\\&|RIS|HOP|ECLUSE|HOP|20210409120000+0200||ORU^R01^ORU_R01|"
                f"{control_id}|P|2.5|||||FRA|UNICODE UTF-8",
                f"PID|1||{self.ins}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS~"
                f"{self.local}^^^HOP&{self.authority}&ISO^PI||PAT-TROIS^DOMINIQUE^^^^^L||19790328|F"
                "|||||||||||||||||||||||||VALI",
                f"ORC|RE|P{self.number}|{self.accession}",
                f"OBR|1|P{self.number}|{self.accession}|18748-4^CR^LN|||20210409101500+0200"
                "|||||||||||||||||F",
                f"OBX|1|ED|18748-4^CR^LN||^TEXT^XML^Base64^{packed}||||||F",
                "",
            ]
        ).encode()

    def cda(self, root: str, at: str, *others: str, issuer: str = "1.2.3.7") -> bytes:
        """A small report document of this exam and of ``others`` (Study Instance UIDs)."""
        events = "".join(
            f'<documentationOf><serviceEvent><id root="{study}"/></serviceEvent></documentationOf>'
            for study in (self.study, *others)
        )
        return (
            '<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:ps3-20="urn:dicom-org:ps3-20">'
            '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
            f'<id root="{root}"/><code code="18748-4" codeSystem="2.16.840.1.113883.6.1"/>'
            f'<title>CR</title><effectiveTime value="{at}"/><recordTarget><patientRole>'
            f'<id root="1.2.250.1.213.1.4.10" extension="{self.ins}"/></patientRole></recordTarget>'
            f'<inFulfillmentOf><order><id root="1.2.3.8" extension="P{self.number}"/>'
            f'<ps3-20:accessionNumber root="{issuer}" extension="{self.accession}"/></order>'
            f"</inFulfillmentOf>{events}<component><nonXMLBody><text>Rien.</text></nonXMLBody>"
            "</component></ClinicalDocument>"
        ).encode()


@dataclass
class Department:
    """A gateway that runs, and the department around it."""

    gateway: Gateway
    maker: Manifests
    folder: Path
    control: int = field(default=0)

    def port(self, source: str) -> int:
        return int(self.gateway.addresses()[source].rsplit(":", 1)[1])

    def send(self, *paths: Path) -> None:
        """C-STORE, and wait until the gateway has read what came."""
        done = list(send_files("127.0.0.1", self.port("dicom"), "ECLUSE", "PACS", list(paths)))
        assert [each.status for each in done] == [0] * len(paths)
        self.settled()

    def tell(self, message: bytes) -> str:
        """MLLP, and wait until the message is where it belongs; its acknowledgement's code."""
        with socket.create_connection(("127.0.0.1", self.port("hl7")), timeout=30) as peer:
            peer.sendall(b"\x0b" + message + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                answer += peer.recv(65_536)
        self.settled()
        return answer.split(b"MSA|")[1][:2].decode()

    def control_id(self) -> str:
        self.control += 1
        return f"C{self.control}"

    def settled(self) -> None:
        def still() -> bool:
            with self.gateway.journal.read() as connection:
                return all(line.pending == 0 for line in ledger(connection).values())

        eventually(still, timeout=60)

    def make(self) -> None:
        """Take all steps that are due, and wait for what they handed in."""
        while self.maker.step():
            pass
        self.settled()

    def account(self, exam: Exam) -> ManifestAccount:
        with self.gateway.journal.read() as connection:
            found = manifests.accounts(connection, limit=1_000)
        (mine,) = [each for each in found if each.study == exam.study]
        return mine

    def entries(self, patient_id: str, kind: str) -> list[dict[str, Any]]:
        with self.gateway.journal.read() as connection:
            found = self.gateway.record.everything(connection, patient_id, types=(kind,))
        return [each.resource for each in found.entries]

    def documents(self, exam: Exam) -> list[dict[str, Any]]:
        """The manifests of an exam's patient, in the order in which they came."""
        found = self.entries(self.account(exam).patient_id, "DocumentReference")
        return [each for each in found if KEY_OBJECTS in json.dumps(each["content"])]

    def bytes_of(self, document: dict[str, Any]) -> bytes:
        digest = document["content"][0]["attachment"]["url"].removeprefix("Binary/")
        with self.gateway.journal.read() as connection:
            found = self.gateway.record.document(connection, digest)
        assert found is not None
        return found.payload.read()

    def selection(self, document: dict[str, Any]) -> Selection:
        found = read_file(Payload.from_bytes(self.bytes_of(document)))
        assert found is not None
        return found

    def current(self, exam: Exam) -> Selection:
        (document,) = [each for each in self.documents(exam) if each["status"] == "current"]
        return self.selection(document)


def named(selection: Selection) -> list[str]:
    """Series and number of the instances that a manifest names."""
    uids = [
        each.uid
        for study in selection.studies
        for series in study.series
        for each in series.instances
    ]
    return [".".join(uid.split(".")[-2:]) for uid in uids]


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    folder = tmp_path_factory.mktemp("department")
    settings = Settings.model_validate(
        {
            "state": folder / "state",
            "manifest": {
                "profile": "drim-m",
                "retrieve_url": "https://wado.example/rs",
                "report_url": "https://fhir.example/fhir",
                "institution": "Centre^^^^^^^^^499700367909006",
            },
            "sources": [
                {"name": "hl7", "type": "mllp", "listen": "127.0.0.1:0"},
                {
                    "name": "dicom", "type": "dicom", "listen": "127.0.0.1:0",
                    "quiet_seconds": 0.2, "free_bytes_min": 0,
                },
            ],
            "worker": {"mapping_processes": 0, "sweep_seconds": 0.2},
        }
    )  # fmt: skip
    gateway = Gateway.build(settings)
    maker = gateway.manifests
    assert maker is not None
    gateway.manifests = None
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(gateway.start(), loop).result(timeout=60)
        (folder / "files").mkdir()
        yield Department(gateway, maker, folder / "files")
    finally:
        asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(timeout=120)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


def test_the_published_exam_becomes_one_study_one_report_and_one_manifest(
    department: Department, shared: Path
) -> None:
    cda = (shared / "corpora/dicom/DOC00002.xml").read_bytes()
    exam = Exam(
        1, "248039263001064", study=PUBLISHED, accession="0901160050", local="2963001",
        authority="2.25.308558515749272265601084678280819623195.3.2.1",
    )  # fmt: skip
    images = [exam.instance(department.folder, 1, number) for number in (1, 2)]
    department.send(*images)
    with department.gateway.journal.read() as connection:
        # Without an INS the study itself waits, visibly: there is no record to put it in.
        lines = ledger(connection)
    assert lines["dicom"].held == 2
    assert department.tell(exam.report(cda, department.control_id())) == "AA"
    department.make()
    account = department.account(exam)
    assert (account.state, account.version, account.instances) == ("made", 1, 2)
    patient = account.patient_id
    assert len(department.entries(patient, "ImagingStudy")) == 1
    (manifest,) = department.documents(exam)
    (report,) = [
        each
        for each in department.entries(patient, "DocumentReference")
        if each["content"][0]["attachment"]["contentType"] == "text/xml"
    ]
    assert {"reference": account.reference} in manifest["context"]["related"]
    assert manifest["context"]["related"][-1]["identifier"] == report["masterIdentifier"]
    read = department.current(exam)
    assert read.patient.value == exam.ins
    assert read.patient.issuer.universal == "1.2.250.1.213.1.4.10"
    # Number and issuer as the report has them; the sample's own manifest has another issuer.
    assert read.requests[0].accession.value == "0901160050"
    assert read.requests[0].accession.issuer.universal == "1.2.840.113619.2.62.994044785528.27"
    assert read.requests[0].placer.value == "1298989898"
    assert read.reports == (report["masterIdentifier"]["value"].removeprefix("urn:oid:"),)
    series = read.studies[0].series[0]
    assert series.retrieve_url == (f"https://wado.example/rs/studies/{PUBLISHED}/series/{ROOT}.1.1")
    # Looking again, and the same objects once more, change nothing.
    department.send(*images)
    with department.gateway.journal.write() as connection:
        manifests.mark_all(connection, department.gateway.journal.now())
    department.make()
    assert department.account(exam).version == 1
    assert len(department.documents(exam)) == 1


def test_late_images_a_new_report_and_rejection_notes_make_versions(
    department: Department,
) -> None:
    exam, folder = Exam(2, "279035121518989"), department.folder
    department.tell(exam.report(exam.cda("1.2.3.2.1", "20210409140000+0200"), "V1"))
    department.send(*(exam.instance(folder, 1, number) for number in (1, 2)))
    department.make()
    assert named(department.current(exam)) == ["1.1", "1.2"]
    first = department.bytes_of(department.documents(exam)[0])

    department.send(exam.instance(folder, 2, 1))
    department.make()
    second = department.current(exam)
    assert (named(second), second.version) == (["1.1", "1.2", "2.1"], "2")
    assert len(department.entries(department.account(exam).patient_id, "ImagingStudy")) == 1
    statuses = [each["status"] for each in department.documents(exam)]
    assert sorted(statuses) == ["current", "superseded"]
    replaced = next(d for d in department.documents(exam) if d["status"] == "superseded")
    assert department.bytes_of(replaced) == first

    department.tell(exam.report(exam.cda("1.2.3.2.2", "20210412090000+0200"), "V2"))
    department.make()
    third = department.current(exam)
    assert third.version == "3"
    assert third.predecessor == second.uid
    assert (third.date, third.time) == ("20210412", "090000")

    department.send(exam.note(folder, 1, "113001", (1, 1)))
    department.make()
    assert named(department.current(exam)) == ["1.2", "2.1"]
    department.send(exam.note(folder, 2, "113001", (9, 1)))
    department.make()
    lifted = department.current(exam)
    assert (named(lifted), lifted.version) == (["1.1", "1.2", "2.1"], "5")

    department.send(exam.note(folder, 3, "113037", (1, 1), (1, 2), (2, 1)))
    department.make()
    assert department.account(exam).state == "withdrawn"
    statuses = [each["status"] for each in department.documents(exam)]
    assert "current" not in statuses
    assert statuses.count("entered-in-error") == 1

    department.send(exam.note(folder, 4, "113037", (9, 3)))
    department.make()
    again = department.current(exam)
    assert (named(again), again.version, again.predecessor) == (["1.1", "1.2", "2.1"], "7", "")
    with department.gateway.journal.read() as connection:
        line = ledger(connection)["manifest"]
    assert (line.dead, line.held, line.refused) == (0, 0, 0)


def test_one_report_of_two_studies_gives_each_its_manifest(department: Department) -> None:
    one, folder = Exam(3, "277076322082910"), department.folder
    other = Exam(4, one.ins, local=one.local, accession=one.accession)
    department.tell(one.report(one.cda("1.2.3.3.1", "20210409140000+0200", other.study), "W1"))
    department.send(one.instance(folder, 1, 1))
    department.send(other.instance(folder, 1, 1))
    department.make()
    for exam in (one, other):
        assert department.account(exam).state == "made"
    uids = {department.account(exam).uid for exam in (one, other)}
    read = [department.selection(each) for each in department.documents(one)]
    assert {each.uid for each in read} == uids
    assert {each.studies[0].uid for each in read} == {one.study, other.study}


def test_a_study_waits_for_its_report_and_a_contradiction_stops_it(department: Department) -> None:
    exam, folder = Exam(5, "188102B17295264"), department.folder
    # Somebody else's report tells whose the local identifier is.
    department.tell(exam.report(exam.cda("1.2.3.5.0", "20210409140000+0200"), "X0").replace(
        exam.accession.encode(), b"OTHER"
    ))  # fmt: skip
    unrelated = Exam(6, exam.ins, local=exam.local)
    issued = [item(UniversalEntityID="1.2.3.99", UniversalEntityIDType="ISO")]
    department.send(unrelated.instance(folder, 1, 1, IssuerOfAccessionNumberSequence=issued))
    department.make()
    account = department.account(unrelated)
    assert (account.state, account.cause) == ("waiting", "the study's report has not come")
    department.tell(unrelated.report(unrelated.cda("1.2.3.6.1", "20210409150000+0200"), "X1"))
    department.make()
    account = department.account(unrelated)
    assert account.state == "stopped"
    assert account.cause == "the report and the images name two issuers of one accession number"
    assert not department.documents(unrelated)
    right = unrelated.cda("1.2.3.6.2", "20210409160000+0200", issuer="1.2.3.99")
    related = (
        b'<relatedDocument typeCode="RPLC"><parentDocument><id root="1.2.3.6.1"/>'
        b"</parentDocument></relatedDocument><component><nonXMLBody>"
    )
    replacing = right.replace(b"<component><nonXMLBody>", related)
    department.tell(unrelated.report(replacing, "X2"))
    department.make()
    assert department.account(unrelated).state == "made"


def test_the_newest_of_many_documents_are_looked_at(
    department: Department, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Exam(31, "185031729526434")
    exam = Exam(32, old.ins, local=old.local)
    department.tell(old.report(old.cda("1.2.3.31.0", "20210409140000+0200"), "M0"))
    department.send(exam.instance(department.folder, 1, 1))
    department.tell(exam.report(exam.cda("1.2.3.32.0", "20210409150000+0200"), "M1"))
    monkeypatch.setattr(making, "DOCUMENTS_MAX", 1)
    monkeypatch.setattr(store, "COUNT_MAX", 1)
    department.make()
    assert department.account(exam).state == "made"


def test_a_maker_that_dies_between_its_two_commits_hands_in_the_same_bytes(
    department: Department,
) -> None:
    exam, folder = Exam(7, "207058575627097"), department.folder
    department.tell(exam.report(exam.cda("1.2.3.7.1", "20210409140000+0200"), "Y1"))
    department.send(exam.instance(folder, 1, 1))

    class Away:
        """An intake that takes a message and dies before it says so."""

        def __init__(self, real: Any) -> None:
            self.real = real

        def submit(self, received: Received) -> Any:
            self.real.submit(received).result(timeout=30)
            raise IntakeUnavailable("test")

    maker, gateway = department.maker, department.gateway
    real = maker._intake
    maker._intake = Away(real)  # type: ignore[assignment]
    try:
        assert maker.step()
    finally:
        maker._intake = real
    pending = department.account(exam)
    assert pending.pending
    assert pending.version == 1
    # More comes before anybody looks again: the reserved bytes go first, then a version of it.
    department.send(exam.instance(folder, 1, 2))
    with gateway.journal.write() as connection:
        manifests.mark_studies(
            connection, {pending.reference: pending.patient_id}, gateway.journal.now()
        )
    department.make()
    account = department.account(exam)
    assert (account.version, account.pending) == (2, "")
    assert len(department.documents(exam)) == 2
    with gateway.journal.read() as connection:
        made = messages.get(connection, account.message_id or 0)
        assert made is not None
        line = ledger(connection)["manifest"]
    assert line.duplicates >= 1
    assert line.dead == 0


def test_a_manifest_of_another_archive_is_a_document_and_its_study_is_known(
    department: Department, shared: Path
) -> None:
    published = shared / "corpora/dicom/kos.dcm"
    theirs = pydicom.dcmread(published)
    theirs.StudyInstanceUID = f"{ROOT}.8"
    theirs.save_as(path := department.folder / "theirs.dcm")
    before = len(department.documents(Exam(1, "", study=PUBLISHED)))
    department.send(path)
    department.make()
    documents = department.documents(Exam(1, "", study=PUBLISHED))
    assert len(documents) == before + 1
    # The data set is theirs, byte for byte; the file's head is this gateway's.
    kept = [department.bytes_of(each) for each in documents]
    assert sum(each.endswith(data_set_of(path)) for each in kept) == 1
    account = department.account(Exam(8, "", study=f"{ROOT}.8"))
    assert account.state == "waiting"
    assert account.cause.startswith("no instance of the study is")


def test_the_command_line_lists_studies_and_shows_a_tree(department: Department) -> None:
    document = department.documents(Exam(2, ""))[0]
    path = department.folder / "shown.dcm"
    path.write_bytes(department.bytes_of(document))
    tree = CliRunner().invoke(app, ["dicom", "show", str(path)])
    assert tree.exit_code == 0
    assert f"Study {ROOT}.2" in tree.stdout
    assert "└─ 2 " in tree.stdout
    header = CliRunner().invoke(app, ["dicom", "show", "--header", str(path)])
    assert "SOPInstanceUID" in header.stdout
    asked = ["dicom", "manifests", "--json", "--state-folder"]
    listed = CliRunner().invoke(app, [*asked, str(department.gateway.settings.state)])
    found = {each["study"]: each["state"] for each in json.loads(listed.stdout)}
    assert found[f"{ROOT}.2"] == "made"
    assert found[f"{ROOT}.8"] == "waiting"


def test_the_console_shows_studies_and_the_tree_of_a_manifest(department: Department) -> None:
    pages = TestClient(create_app(department.gateway), base_url="http://127.0.0.1")
    patient = department.account(Exam(2, "")).patient_id
    current = next(
        each for each in department.documents(Exam(2, "")) if each["status"] == "current"
    )
    listed = pages.get("/manifests?state=waiting").text
    assert f"<code>{ROOT}.8</code>" in listed
    assert f"<code>{ROOT}.2</code>" not in listed
    address = f"/manifests/record/{patient}/{current['id']}"
    chart = pages.get(f"/patients/{patient}").text
    assert chart.count(f'href="{address}"') == 2  # of the document, and of the study
    tree = pages.get(address)
    assert tree.status_code == 200
    assert f"<code>{ROOT}.2.1.2</code>" in tree.text
    assert f"https://wado.example/rs/studies/{ROOT}.2/series/{ROOT}.2.1" in tree.text
    listed = pages.get("/api/v1/manifests", params={"state": "made"}).json()["manifests"]
    assert {each["state"] for each in listed} == {"made"}
    assert pages.get("/api/v1/manifests", params={"state": "lost"}).status_code == 400
    metrics = pages.get("/metrics").text
    assert 'ecluse_manifests{state="waiting"}' in metrics
    stranger = department.account(Exam(1, "", study=PUBLISHED)).patient_id
    assert pages.get(f"/manifests/record/{stranger}/{current['id']}").status_code == 404


def test_the_thread_of_a_gateway_makes_what_is_due_and_only_what_is_another(
    department: Department,
) -> None:
    exam = Exam(2, "")
    before = department.account(exam)
    answer = TestClient(create_app(department.gateway), base_url="http://127.0.0.1").post(
        "/api/v1/manifests/again", headers={"Origin": "http://127.0.0.1"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["studies"] >= 7
    department.maker.start()
    try:
        department.send(exam.instance(department.folder, 3, 1))
        eventually(lambda: department.account(exam).version > before.version, timeout=60)
    finally:
        department.maker.stop()
    department.settled()
    assert named(department.current(exam)) == ["1.1", "1.2", "2.1", "3.1"]
    # The others were looked at, and had nothing else to say.
    assert department.account(Exam(1, "", study=PUBLISHED)).version == 1

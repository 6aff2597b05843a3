"""Exams over real sockets: images, report and rejection notes become one manifest in the record.

The gateway is a whole one in this process (:mod:`tests.integration.dicom.department`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from gateway.api import create_app
from gateway.cli.application import app
from gateway.journal import manifests, messages
from gateway.journal.ledger import ledger
from gateway.manifests import making
from gateway.model import Received
from gateway.ports import IntakeUnavailable
from record import store
from tests.eventually import eventually
from tests.integration.dicom.department import (
    PUBLISHED,
    ROOT,
    Department,
    Exam,
    item,
    named,
    running_department,
)
from tests.integration.dicom.objects import data_set_of


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    with running_department(tmp_path_factory.mktemp("department")) as running:
        yield running


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

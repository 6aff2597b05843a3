"""Files of HPRIM and HL7 v2, dropped and posted to a running gateway, arrive in the record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.demo import documents, hl7_messages
from gateway.demo.hl7_messages import Result
from gateway.demo.people import CAMILLE, GABRIEL, HOSPITAL, LABORATORY, TEST_ROOT, Patient
from tests.acceptance.gateway_process import HTTP, GatewayProcess
from tests.eventually import eventually
from tests.integration.xdm.archives import archive

pytestmark = pytest.mark.acceptance

SANTE = f"""H|~^\\&|R1.HPR||LABO~Laboratoire||ORU|||CHU~CHU||P|H2.4~C|20261120101500
P|1|{CAMILLE.ipp}|||LAMBERT~CAMILLE||19850314|F
OBR|1||~H4711|GLY~Glycémie~L|||20261120093000|||||||||||||||20261120101500|||F
OBX|1|NM|GLY~Glycémie à jeun~L||0.91|g/l|0.74 - 1.06|N|||F|||20261120100000
C|1|L|à jeun
L|1
""".replace("\n", "\r\n").encode("cp1252")
LETTER = f"""{CAMILLE.ipp}
LAMBERT
CAMILLE
12 QUAI DES ÉCLUSES

69002 LYON
14/03/1985

D815
20/11/2026
CARDIO     Cabinet de cardiologie
MED        Dr Martin

Chère consœur,
rien à signaler.
****FIN****
****FINFICHIER****
""".replace("\n", "\r\n").encode("cp1252")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("files")
    drops = {"poll_seconds": 0.05, "settle_seconds": 0.05}
    hospital = {"authorities": {"": HOSPITAL}}
    running = GatewayProcess(
        folder,
        extra={
            "sources": [
                {"name": "practice", "type": "cda-http"},
                {"name": "web", "type": "hl7-http"},
                {"name": "files", "type": "hl7-folder", "path": str(folder / "hl7"), **drops},
                {"name": "labo", "type": "hprim-folder", "path": str(folder / "hprim"),
                 **drops, **hospital},
                {"name": "letters", "type": "hprim-http", **hospital},
                {"name": "mail", "type": "xdm-http"},
                {"name": "export", "type": "xdm-folder", "path": str(folder / "xdm"), **drops},
            ]
        },
    )  # fmt: skip
    running.start()
    yield running
    assert running.stop() == 0, running.log_tail()


def put(folder: Path, name: str, data: bytes) -> None:
    part = folder / "incoming" / f"{name}.part"
    part.write_bytes(data)
    part.rename(folder / "incoming" / name)


def found(gateway: GatewayProcess, kind: str) -> list[dict[str, Any]]:
    patients = gateway.get("/fhir/Patient", identifier=f"urn:oid:{TEST_ROOT}|{CAMILLE.ins}")
    if not patients.get("entry"):
        return []
    patient = patients["entry"][0]["resource"]["id"]
    bundle = gateway.get(f"/fhir/{kind}", patient=patient)
    return [entry["resource"] for entry in bundle.get("entry", [])]


def test_files_arrive_in_the_record(gateway: GatewayProcess, tmp_path: Path) -> None:
    # A result comes before anybody has said whose the local identifier is: it waits.
    put(gateway.folder / "hprim", "r1.hpr", SANTE)
    eventually((gateway.folder / "hprim/accepted/r1.hpr").is_file)
    eventually(lambda: gateway.ledger()["labo"]["held"] == 1)
    assert found(gateway, "Observation") == []

    # The admission comes as HL7 over HTTP, by our own client; it links the identifier.
    admission = tmp_path / "a01.hl7"
    admission.write_bytes(hl7_messages.admission(CAMILLE, "A1"))
    sent = gateway.command("send", str(admission), "--to", gateway.url, "--json")
    assert [each["code"] for each in sent["messages"]] == ["AA"]
    eventually(lambda: len(found(gateway, "Observation")) == 1, timeout=30)
    (glucose,) = found(gateway, "Observation")
    assert glucose["code"]["coding"][0]["display"] == "Glycémie à jeun"
    assert str(glucose["valueQuantity"]["value"]) == "0.91"
    assert glucose["note"][0]["text"] == "à jeun"
    (report,) = found(gateway, "DiagnosticReport")
    assert report["result"][0]["reference"].endswith(glucose["id"])

    # A batch of HL7 v2 in a folder: each message goes its own way, the answer lies beside.
    batch = b"BHS|^~\\&|SGL|LABO|ECLUSE|CHU|20261120||||B1\r" + b"".join(
        hl7_messages.laboratory_report(
            CAMILLE, f"L{n}", f"O{n}", (Result("2345-7", "Glucose", f"5.{n}", "mmol/L", ""),)
        )
        for n in range(3)
    )
    put(gateway.folder / "hl7", "day.hl7", batch + b"BTS|3\r")
    put(gateway.folder / "hl7", "short.hl7", batch + b"BTS|4\r")
    # The file takes its name there first; its answer is whole when it is there.
    answered = gateway.folder / "hl7/accepted/day.hl7.ack"
    eventually(answered.is_file)
    answer = answered.read_bytes()
    assert answer.count(b"MSA|AA|") == 3
    eventually(lambda: len(found(gateway, "Observation")) == 4, timeout=30)
    eventually((gateway.folder / "hl7/refused/short.hl7").is_file)

    # A letter of HPRIM Médecin, posted by our own client, is a document of the record.
    letter = tmp_path / "letter.hpr"
    letter.write_bytes(LETTER)
    sent = gateway.command("send", str(letter), "--to", gateway.url, "--json")
    assert [each["code"] for each in sent["messages"]] == ["201"]
    eventually(lambda: len(found(gateway, "DocumentReference")) == 1, timeout=30)
    (document,) = found(gateway, "DocumentReference")
    url = document["content"][0]["attachment"]["url"]
    text = HTTP.get(f"{gateway.url}/fhir/{url.split('/fhir/')[-1]}", headers={"Accept": "*/*"})
    assert "Chère consœur,\nrien à signaler." in text.content.decode("utf-8")

    eventually(gateway.settled, timeout=30)
    ledger = gateway.ledger()
    assert ledger["labo"]["delivered"] == 1
    assert ledger["web"]["delivered"] == 1
    assert (ledger["files"]["delivered"], ledger["files"]["refused"]) == (3, 1)
    assert ledger["letters"]["delivered"] == 1
    log = gateway.log_tail(lines=400)
    assert "LAMBERT" not in log
    assert LABORATORY not in log
    check_what_people_see(gateway, tmp_path)


def check_what_people_see(gateway: GatewayProcess, tmp_path: Path) -> None:
    """The console and the command line know the format."""
    path = tmp_path / "r2.hpr"
    path.write_bytes(SANTE.replace(b"H4711", b"H4712"))
    made = gateway.command("mapping", "run", str(path), "--json")
    assert "Glycémie à jeun" in (made if isinstance(made, str) else str(made))
    # What is no HPRIM at all is refused at the door, with its reason beside it.
    put(gateway.folder / "hprim", "no.hpr", b"nothing of the kind")
    eventually((gateway.folder / "hprim/refused/no.hpr.reason.txt").is_file)
    listed = gateway.get("/api/v1/messages", source="labo")["items"]
    taken = next(each["id"] for each in listed if each["state"] == "delivered")
    view = HTTP.get(f"{gateway.url}/messages/{taken}/bytes", timeout=30)
    assert "Glycémie à jeun" in view.text
    assert "windows-1252, 6 lines" in view.text
    for each in listed:
        page = HTTP.get(f"{gateway.url}/messages/{each['id']}", timeout=30)
        assert page.status_code == 200
        assert "HPRIM" in page.text
    original = HTTP.get(f"{gateway.url}/api/v1/messages/{taken}/bytes", timeout=30)
    assert original.content == SANTE
    assert f"message-{taken}.hpr" in original.headers["content-disposition"]


def test_an_xdm_archive_gives_what_its_documents_give_alone(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    """By our own client over HTTP, by folder, and then the document alone: one document each."""
    report = documents.cda_laboratory_report(GABRIEL)
    sent = tmp_path / "IHE_XDM.ZIP"
    sent.write_bytes(archive(report))
    told = gateway.command("send", str(sent), "--to", gateway.url, "--json")
    assert [(each["code"], each["accepted"]) for each in told["messages"]] == [("201", True)]
    eventually(lambda: len(of(gateway, GABRIEL, "DocumentReference")) == 1, timeout=30)
    eventually(gateway.settled, timeout=30)
    before = {kind: of(gateway, GABRIEL, kind) for kind in KINDS}
    assert before["Observation"]
    [document] = before["DocumentReference"]
    url = document["content"][0]["attachment"]["url"].split("/fhir/")[-1]
    kept = HTTP.get(f"{gateway.url}/fhir/{url}", headers={"Accept": "*/*"})
    assert kept.content == report

    put(gateway.folder / "xdm", "IHE_XDM.ZIP", archive(report))
    put(gateway.folder / "xdm", "wrong.zip", archive(report)[:-30])
    eventually((gateway.folder / "xdm/accepted/IHE_XDM.ZIP").is_file)
    eventually((gateway.folder / "xdm/refused/wrong.zip.reason.txt").is_file)
    alone = HTTP.post(
        f"{gateway.url}/intake/cda", content=report, headers={"Content-Type": "application/xml"}
    )
    assert alone.status_code == 201
    eventually(gateway.settled, timeout=30)
    after = {kind: of(gateway, GABRIEL, kind) for kind in KINDS}
    for kind in KINDS:
        assert [without_version(each) for each in after[kind]] == [
            without_version(each) for each in before[kind]
        ]
    ledger = gateway.ledger()
    assert ledger["mail"]["delivered"] == ledger["export"]["delivered"] == 1
    assert ledger["export"]["refused"] == 1


KINDS = ("DocumentReference", "Composition", "DiagnosticReport", "Observation")


def of(gateway: GatewayProcess, person: Patient, kind: str) -> list[dict[str, Any]]:
    patients = gateway.get("/fhir/Patient", identifier=f"urn:oid:{TEST_ROOT}|{person.ins}")
    if not patients.get("entry"):
        return []
    patient = patients["entry"][0]["resource"]["id"]
    bundle = gateway.get(f"/fhir/{kind}", patient=patient, _count="200")
    found = [entry["resource"] for entry in bundle.get("entry", [])]
    return sorted(found, key=lambda each: str(each["id"]))


def without_version(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != "meta"}

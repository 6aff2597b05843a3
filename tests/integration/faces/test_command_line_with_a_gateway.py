"""The command line beside a running gateway, and alone with its state folder."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from gateway.cli import main
from gateway.cli.output import Code
from gateway.journal import deadletters, messages
from gateway.journal.states import MessageState
from gateway.journal.values import DeadLetterFilter
from gateway.journal.writer import GroupWriter
from gateway.model import Cause, CauseCode, Format, Payload, Received, Stage
from gateway.opening import open_journal
from gateway.settings import load_settings
from tests.integration.faces import messages as hl7
from tests.integration.faces.house import CONFIGURATION, House


class Shell:
    """Runs commands in this process; what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], configuration: Path) -> None:
        self.capsys = capsys
        self.configuration = configuration
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        found = main([*arguments, "--config", str(self.configuration)])
        out = self.capsys.readouterr()
        self.err = out.err
        assert found == code, (arguments, found, out.err)
        return out.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def ecluse(capsys: pytest.CaptureFixture[str], house: House) -> Shell:
    return Shell(capsys, house.configuration)


def test_status_adds_up_and_says_that_the_gateway_runs(ecluse: Shell, house: House) -> None:
    account = ecluse.json("status")
    assert account["running"]["http"] == house.http
    line = account["sources"]["lab"]
    assert line["received"] == line["accepted"] + line["refused"] + line["duplicates"]
    assert "lab" in ecluse("status")


def test_waits_are_ended_through_the_running_gateway(ecluse: Shell, house: House) -> None:
    body = hl7.results("WAIT2", "WAIT2", {"2823-3^K": "4.4"}, ins="", ipp="IPPNEVER2")
    assert house.send(body) == ["AA"]
    house.wait()
    number, gone = house.number("WAIT2"), house.number("ORU1")
    trial = ecluse.json("message", "bury", str(number), "--reason", "mistyped", "--dry-run")
    assert trial == {
        "dry_run": True,
        "buried": [{"message": number, "dead_letter": None}],
        "not_waiting": [],
    }
    done = ecluse.json(
        "message", "bury", str(number), str(gone), "--reason", "mistyped", code=Code.FAILED
    )
    assert done["not_waiting"] == [gone]
    assert ecluse.json("message", "show", str(number))["state"] == "dead"
    ecluse("message", "bury", str(number), "--reason", "", code=Code.USAGE)


def test_messages_are_listed_and_shown(ecluse: Shell, house: House) -> None:
    number = house.number("ORU1")
    found = ecluse.json("message", "list", "--control-id", "ORU1")
    assert [each["id"] for each in found] == [number]
    assert "ORU1" in ecluse("message", "list", "--state", "delivered", "--limit", "100")
    life = ecluse.json("message", "show", str(number))
    assert life["deliveries"][0]["state"] == "delivered"
    assert hl7.FAMILY not in ecluse("message", "show", str(number))
    assert "6.10" in ecluse("message", "show", str(number), "--entries")
    ecluse("message", "show", "999999", code=Code.FAILED)


def test_raw_bytes_are_exact(capfdbinary: pytest.CaptureFixture[bytes], house: House) -> None:
    number = house.number("ADT1")
    assert (
        main(["message", "show", str(number), "--raw", "--config", str(house.configuration)]) == 0
    )
    assert capfdbinary.readouterr().out == hl7.admission("ADT1")


def test_records_are_listed_without_names_and_shown(ecluse: Shell) -> None:
    found = ecluse.json("record", "list")
    patient = next(each for each in found if each["ins"]["value"] == hl7.INS)
    assert patient["entries"] > 3
    assert hl7.FAMILY not in ecluse("record", "list")
    for name in (patient["id"], patient["id"][:8], hl7.INS, hl7.IPP):
        assert "Glucose" in ecluse("record", "show", name, "--resource", "Observation")
    lines = ecluse("record", "show", hl7.INS, "--resource", "Patient", "--json").splitlines()
    (resource,) = map(json.loads, lines)
    assert resource["resourceType"] == "Patient"
    assert '"value":6.10' in ecluse("record", "show", hl7.INS, "--json").replace(" ", "")
    ecluse("record", "show", "nobody", code=Code.FAILED)


def test_dead_letters_are_listed_shown_and_tried(ecluse: Shell, house: House) -> None:
    letter = house.letter("DEAD2")
    found = ecluse.json("dead", "list", "--cause", "identity-invalid", "--limit", "500")
    assert letter in {each["id"] for each in found}
    groups = ecluse.json("dead", "list", "--groups")
    assert any(group["code"] == "identity-invalid" for group in groups)
    shown = ecluse("dead", "show", str(letter))
    assert "what to do" in shown
    assert ecluse.json("dead", "show", str(letter))["message"]["control_id"] == "DEAD2"
    tried = ecluse.json("dead", "replay", str(letter), "--dry-run")
    assert tried["counts"] == {"replayed": 1}
    assert house.letter("DEAD2") == letter


def test_repair_and_discard_go_through_the_gateway(
    ecluse: Shell, house: House, tmp_path: Path
) -> None:
    body = hl7.results("CLIFIX", "CLIFIX", {"2823-3^K": "4.4"}, ins=hl7.WRONG_INS)
    gone = hl7.results("CLIGONE", "CLIGONE", {"2823-3^K": "4.4"}, ins=hl7.WRONG_INS)
    house.send(body, gone)
    house.wait()
    repaired = tmp_path / "repaired.hl7"
    repaired.write_bytes(body.replace(hl7.WRONG_INS.encode(), hl7.INS.encode()))
    letter = str(house.letter("CLIFIX"))
    ecluse("dead", "replay", letter, "--with", str(repaired), code=Code.USAGE)
    ecluse("dead", "replay", letter, "--with", str(repaired), "--dry-run", code=Code.USAGE)
    report = ecluse.json("dead", "replay", letter, "--with", str(repaired), "--reason", "by phone")
    house.wait()
    assert house.state(report["items"][0]["child"]) is MessageState.DELIVERED
    # What is settled cannot be settled again: nothing is done, and the code says so.
    ecluse("dead", "replay", letter, code=Code.FAILED)
    other = str(house.letter("CLIGONE"))
    ecluse("dead", "discard", other, "--reason", "not ours")
    assert house.state(house.number("CLIGONE")) is MessageState.DISCARDED
    ecluse("dead", "discard", other, "--reason", " ", code=Code.USAGE)


def test_files_are_sent_over_each_protocol(
    ecluse: Shell, house: House, tmp_path: Path, shared: Path
) -> None:
    folder = tmp_path / "hl7"
    folder.mkdir()
    batch = b"".join(hl7.results(f"SEND{n}", f"S{n}", {"2823-3^K": "4.4"}) for n in range(3))
    (folder / "a.hl7").write_bytes(batch)
    (folder / "b.txt").write_bytes(b"this is no message")
    (folder / ".hidden").write_bytes(b"left alone")
    host, port = house.mllp
    told = ecluse.json("send", str(folder), "--to", f"mllp://{host}:{port}")
    assert [m["code"] for m in told["messages"]] == ["AA", "AA", "AA", "AR"]
    assert [m["index"] for m in told["messages"]] == [1, 2, 3, 1]
    assert told["messages"][0]["control_id"] == "SEND0"
    assert told["messages"][3]["error"]
    assert told["codes"] == {"AA": 3, "AR": 1}
    assert told["unanswered"] == 0
    with house.gateway.journal.read() as connection:
        kept = messages.get(connection, house.number("SEND1"))
    assert kept is not None
    assert kept.body == hl7.results("SEND1", "S1", {"2823-3^K": "4.4"})

    ct = str(get_testdata_file("CT_small.dcm"))
    told = ecluse.json("send", ct, str(folder / "b.txt"), "--to",
                       f"dicom://ECLUSE@{house.source('scanner')}", code=Code.FAILED)  # fmt: skip
    assert told["messages"][0]["code"] == "0x0000"
    assert told["messages"][1]["error"].startswith("not sent")

    cda = sorted((shared / "corpora" / "cda").glob("BIO-CR-BIO_2024.01_TSH_1.xml"))[0]
    told = ecluse.json("send", str(cda), str(folder / "b.txt"), "--to", house.url)
    assert told["messages"][0]["code"] == "201"
    assert told["messages"][0]["control_id"]
    assert told["messages"][1]["code"].startswith("4")
    assert told["messages"][1]["accepted"] is False
    out = ecluse("send", str(folder), "--to", f"mllp://{host}:{port}")
    assert out.startswith("AR\t")
    assert "4 messages in 2 files" in ecluse.err
    house.wait()


@pytest.mark.parametrize("scheme", ["mllp", "dicom", "http"])
def test_nobody_there_is_4(capsys: pytest.CaptureFixture[str], tmp_path: Path, scheme: str) -> None:
    from tests.servers import free_port

    path = tmp_path / "a"
    ct = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    path.write_bytes(ct if scheme == "dicom" else hl7.admission("NOBODY"))
    code = main(
        ["send", str(path), "--to", f"{scheme}://127.0.0.1:{free_port()}", "--timeout", "5"]
    )
    assert code == Code.UNREACHABLE
    assert "127.0.0.1" in capsys.readouterr().err


def test_a_mapping_is_run_on_a_file(ecluse: Shell, tmp_path: Path) -> None:
    path = tmp_path / "oru.hl7"
    path.write_bytes(hl7.results("X", "B", {"2345-7^Glucose": "6.10"}))
    lines = ecluse("mapping", "run", str(path), "--json").splitlines()
    kinds = {json.loads(line)["resourceType"] for line in lines}
    assert {"Patient", "Observation", "DiagnosticReport"} <= kinds
    traced = ecluse.json("mapping", "run", str(path), "--trace")
    assert any(step["source"].startswith("OBX") for step in traced)
    path.write_bytes(b"MSH|^~\\&|A|B|C|D|20240101||DFT^P03^DFT_P03|1|P|2.5\r")
    assert ecluse("mapping", "run", str(path), code=Code.FINDINGS) == ""
    assert "unmapped" in ecluse.err
    ecluse("mapping", "run", str(path), "--format", "pdf", code=Code.USAGE)
    ecluse("mapping", "run", str(path), "--source", "nobody", code=Code.USAGE)


def test_mappings_are_checked_with_file_line_and_column(ecluse: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "typo.yaml").write_text(
        "mapping: mine.typo\nversion: 1.0.0\n"
        'source: {format: hl7v2, versions: ["2.5"], match: {MSH-9.1: [ADT], MSH-9.2: [A99]}}\n'
        "entries:\n  - resource: Patient\n    id: {key: [PID-3(1).1], authority: worldwide}\n"
        "    set:\n      brithDate: PID-7\n",
        encoding="utf-8",
    )
    found = ecluse.json("mapping", "check", str(folder), "--no-twins", code=Code.FINDINGS)
    assert found["ok"] is False
    finding = next(f for f in found["findings"] if f["file"].endswith("typo.yaml"))
    assert (finding["line"], finding["column"]) == (8, 7)
    out = ecluse("mapping", "check", str(folder), "--no-twins", code=Code.FINDINGS)
    assert "typo.yaml:8:7 " in out


def test_the_doctor_finds_a_sound_house_sound(ecluse: Shell, house: House) -> None:
    checks = {each["name"]: each for each in ecluse.json("doctor")}
    assert checks["journal"]["level"] == "ok"
    assert checks["packages"]["level"] == "ok"
    assert checks["mappings"]["level"] == "ok"
    assert "the gateway runs" in checks["http"]["found"]
    assert checks["identity"]["level"] == "warning"


# --- alone ------------------------------------------------------------------------


@pytest.fixture
def alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    """A state folder with one dead letter, and no gateway."""
    configuration = tmp_path / "ecluse.yaml"
    configuration.write_text(
        CONFIGURATION.format(state=tmp_path / "state", token="", lab=""), encoding="utf-8"
    )
    settings = load_settings(configuration, environment={})
    with contextlib.closing(open_journal(settings, read_only=False)) as journal:
        writer = GroupWriter(journal)
        writer.start()
        from datetime import UTC, datetime

        received = Received(
            source="lab", format=Format.HL7V2, payload=Payload.from_bytes(hl7.admission("OLD1")),
            received_at=datetime.now(UTC), control_id="OLD1", kind="ADT^A01",
        )  # fmt: skip
        number = writer.submit(received, state=MessageState.RECEIVED, lane="in:lab").result(10)
        writer.stop()
        with journal.write() as connection:
            cause = Cause(code=CauseCode.MAPPING_FAILED, location="hl7/x.yaml:1:1")
            deadletters.bury(connection, number.message_id, Stage.NORMALISE, cause)
    return Shell(capsys, configuration)


def test_without_a_gateway_the_journal_is_read_and_changed(alone: Shell) -> None:
    account = alone.json("status")
    assert account["running"] is None
    assert account["sources"]["lab"]["dead"] == 1
    assert "does not run" in (alone("status") and alone.err)
    (letter,) = alone.json("dead", "list")
    report = alone.json("dead", "replay", "--cause", "mapping-failed", "--reason", "corrected")
    assert report["counts"] == {"replayed": 1}
    assert alone.json("dead", "list") == []
    (settled,) = alone.json("dead", "list", "--settled")
    assert settled["id"] == letter["id"]
    assert settled["actor"]
    assert alone.json("message", "list")[0]["state"] == "received"


def test_an_action_with_a_key_acts_once(alone: Shell) -> None:
    first = alone.json("dead", "discard", "--all", "--reason", "r", "--key", "k1")
    second = alone.json("dead", "discard", "--all", "--reason", "r", "--key", "k1")
    assert first["again"] is False
    assert second["again"] is True
    settings = load_settings(alone.configuration, environment={})
    with contextlib.closing(open_journal(settings, read_only=True)) as journal:
        with journal.read() as connection:
            assert deadletters.count(connection, DeadLetterFilter(resolved=True)) == 1


def test_a_stale_status_file_is_not_a_running_gateway(alone: Shell, tmp_path: Path) -> None:
    told = {"pid": 2**22 + 1, "http": "127.0.0.1:1", "sources": {}}
    (tmp_path / "state" / "gateway.json").write_text(json.dumps(told), encoding="utf-8")
    assert alone.json("status")["running"] is None
    (tmp_path / "state" / "gateway.json").write_text("{", encoding="utf-8")
    assert alone.json("status")["running"] is None


def test_the_doctor_names_a_taken_port(alone: Shell, house: House) -> None:
    text = alone.configuration.read_text(encoding="utf-8")
    alone.configuration.write_text(
        text.replace("listen: '127.0.0.1:0'}", f"listen: '{house.http}'}}", 1), encoding="utf-8"
    )
    checks = {each["name"]: each for each in alone.json("doctor", code=Code.FINDINGS)}
    assert checks["http"]["level"] == "error"

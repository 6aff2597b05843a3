"""The commands of the workbench: what they print, how they end, what they say of wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.deployment import loading
from gateway.deployment.files import MappingFolders
from gateway.mapping import Library
from gateway.model import Format
from gateway.workbench.coverage import Coverage, PathCount
from gateway.workbench.files import Message, NoMessage, messages_of_files
from tests.unit.workbench.bench import ORU, bench


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "messages" / "m.hl7"
    path.parent.mkdir()
    path.write_text(ORU, newline="")
    return path


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        found = main(["mapping", *arguments])
        out = self.capsys.readouterr()
        self.err = out.err
        assert found == code, (found, out.err)
        return out.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def ecluse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    monkeypatch.chdir(tmp_path)
    load = loading.load_folders

    def once(given: MappingFolders, *rest: Any) -> Library:
        """The shipped mappings are loaded once for all tests."""
        return load(given, *rest) if len(given.folders) > 1 else bench().library

    monkeypatch.setattr(loading, "load_folders", once)
    return Shell(capsys)


def test_coverage_counts_a_folder_and_lists_what_is_no_message(
    ecluse: Shell, message: Path
) -> None:
    (message.parent / "notes.txt").write_text("nothing for us")
    (message.parent / "broken.xml").write_text("<ClinicalDocument><id>")
    (message.parent / "ack.hl7").write_text(
        "MSH|^~\\&|A|B|C|D|2024||ACK|1|P|2.5\rMSA|AA|1\r", newline=""
    )
    found = ecluse.json("coverage", str(message.parent))
    assert found["messages"] == 1
    assert found["not_counted"]["no_message"] == 1
    assert found["not_counted"]["unreadable"] == 1
    (broken,) = [each for each in found["not_counted"]["listed"] if "broken" in each["message"]]
    assert broken["heading"] == "unreadable"
    assert "unreadable" in broken["detail"]
    assert found["not_counted"]["unmapped"] == 1
    values = found["values"]
    assert values["present"] == values["mapped"] + values["ignored"] + values["lost"]
    assert set(found["measures"].values()) == {0}
    assert {path["path"] for path in found["paths"]} >= {"OBX-5", "PID-5.1.1"} or found["paths"]
    assert "retention" in ecluse("coverage", str(message))


def test_coverage_fails_under_what_is_wanted(ecluse: Shell, message: Path) -> None:
    ecluse("coverage", str(message), "--fail-under", "100", code=3)
    assert "100 % is wanted" in ecluse.err
    ecluse("coverage", str(message), "--fail-under", "1")
    ecluse("coverage", str(message), "--fail-under", "101", code=2)
    (message.parent / "empty").mkdir()
    ecluse("coverage", str(message.parent / "empty"), "--fail-under", "1", code=3)
    assert "nothing was counted" in ecluse.err


def test_a_measure_that_is_not_zero_fails_whatever_the_retention() -> None:
    found = Coverage(messages=1, invented=1)
    found.counts["m", "p"] = PathCount(Format.HL7V2, "m", "p", present=1, mapped=1)
    assert found.retention == 100
    assert found.failures(95) == ["invented values: 1, and none may be"]


def test_retention_leaves_out_what_is_ignored_on_both_sides() -> None:
    found = Coverage()
    found.counts["m", "p"] = PathCount(
        Format.HL7V2, "m", "p", present=10, mapped=3, ignored=6, lost=1
    )
    assert found.retention == 75


def test_explain_prints_rule_source_and_row(ecluse: Shell, message: Path) -> None:
    text = ecluse("explain", str(message), "Patient.gender")
    assert "hl7/patient.yaml" in text
    assert "PID-8.1 = F" in text
    assert "terminology/hl7/0001.yaml" in text
    every = ecluse.json("explain", str(message))
    assert len(every) > 50
    assert {"target", "value", "origin", "rule", "sources", "steps", "row"} <= set(every[0])
    ecluse("explain", str(message), "Patient.photo", code=3)
    assert "--why-absent" in ecluse.err
    ecluse("explain", str(message), "no target", code=2)
    absent = ecluse.json("explain", str(message), "--why-absent", "Patient.photo")
    assert absent["tried"]
    ecluse("explain", str(message), "--why-absent", "Patient.gender", code=3)


def test_explain_tells_what_became_of_a_place(ecluse: Shell, message: Path) -> None:
    out = ecluse("explain", str(message), "--becomes", "PID-7")
    assert out.startswith("PID-7 is mapped\n")
    assert "#birthDate (hl7/patient.yaml:" in out
    assert "is ignored\n    reason    " in ecluse("explain", str(message), "--becomes", "MSH-10")
    every = ecluse.json("explain", str(message), "--becomes", "*")
    assert {each["fate"] for each in every} >= {"mapped", "ignored"}
    ecluse("explain", str(message), "--becomes", "PID-77", code=3)
    assert "says nothing at PID-77" in ecluse.err
    ecluse("explain", str(message), "Patient.name", "--becomes", "PID-5", code=2)


def test_a_target_that_r4_does_not_have_is_said_with_the_nearest(
    ecluse: Shell, message: Path
) -> None:
    for words in (("Patient.nme",), ("--why-absent", "Patient.nme")):
        ecluse("explain", str(message), *words, code=2)
        assert "Patient has no element nme; did you mean Patient.name?" in ecluse.err
    ecluse("explain", str(message), "Patinet.name", code=2)
    assert "did you mean Patient?" in ecluse.err
    ecluse("explain", str(message), "PID-5", code=2)
    assert "--becomes" in ecluse.err


def test_coverage_names_the_codes_that_no_table_has(ecluse: Shell, message: Path) -> None:
    message.write_text(ORU.replace("|F|||", "|QQ|||", 1), newline="")
    [unknown] = [
        each
        for each in ecluse.json("coverage", str(message))["unknown_codes"]
        if each["code"] == "QQ"
    ]
    assert (unknown["table"], unknown["times"]) == ("hl7/0001", 1)
    assert unknown["example"] == str(message)
    assert "Codes that no table has" in ecluse("coverage", str(message))


def test_run_names_the_file_and_the_kind_that_no_mapping_takes(
    ecluse: Shell, message: Path
) -> None:
    other = message.parent / "other.hl7"
    other.write_text("MSH|^~\\&|A|B|C|D|2024||MFN^M02|1|P|2.5\r", newline="")
    ecluse("run", str(message), str(other), "--json", code=3)
    assert f"{other}: unmapped: no loaded mapping takes hl7v2 MFN^M02 (version 2.5)" in ecluse.err
    ecluse("run", str(other), "--trace", code=3)
    assert f"{other}: unmapped: " in ecluse.err


def test_what_needs_a_journal_or_a_reason_says_so(ecluse: Shell, message: Path) -> None:
    ecluse("diff", str(message), "--to", str(message.parent), code=1)
    assert "nothing was deployed yet" in ecluse.err
    assert "--from FOLDER" in ecluse.err
    ecluse("versions", code=4)
    assert "no gateway has run on this state folder" in ecluse.err
    for words in (("deploy",), ("rollback",), ("rollback", "2")):
        ecluse(*words, code=1)
        assert "--reason TEXT" in ecluse.err


@pytest.mark.parametrize(
    "content", ["", "nothing", "MSH|^~\\&|A|B|C|D|2024||ACK|1|P|2.5\r", "<a/>"]
)
def test_explain_of_what_gives_no_entries_says_why(
    ecluse: Shell, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "x"
    path.write_text(content, newline="")
    ecluse("explain", str(path), code=3)
    assert str(path) in ecluse.err


def test_run_takes_folders_and_batches(ecluse: Shell, message: Path) -> None:
    (message.parent / "n.hl7").write_text(
        "FHS|^~\\&\rBHS|^~\\&\r" + ORU + ORU + "BTS|2\rFTS|1\r", newline=""
    )
    lines = ecluse("run", str(message.parent), "--json").splitlines()
    kinds = [json.loads(line)["resourceType"] for line in lines]
    assert kinds.count("Patient") == 3
    ecluse("run", str(message), "--source", "nobody", code=2)
    ecluse("run", str(message), "--format", "x12", code=2)


def test_test_runs_the_twins_and_tells_what_differs(ecluse: Shell, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    given = ORU.replace("\r", "\n    ")
    (mine / "own.test.yaml").write_text(
        "- name: own test\n  format: hl7v2\n  given: |\n    "
        + given.rstrip()
        + "\n  expect: {Patient: {count: 1, '[0].gender': male}}\n"
    )
    out = ecluse("test", str(mine), "--only", "own.test", code=3)
    assert "own.test.yaml:1:1 test-failed own test" in out
    assert "Patient[0].gender: female, expected male" in out
    [result] = ecluse.json("test", str(mine), "--only", "own.test", code=3)
    assert not result["passed"]
    ecluse("test", "--only", "no such test", code=3)


def test_docs_tell_every_mapping_with_version_and_digest(ecluse: Shell) -> None:
    text = ecluse("docs", "--mapping", "hl7.oru_r01")
    assert text.startswith("# hl7.oru_r01 ")
    assert "Digest `" in text
    assert "hl7/0078" in text
    assert "Left out on purpose" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    bare = [line.replace("\\|", "") for line in rows]
    assert {line.count("|") for line in bare} <= {4, 7}
    page = ecluse("docs", "--html")
    assert page.startswith("<!doctype html>")
    assert page.count("<h1>") == page.count('class="sign"')
    assert "<script" not in page
    ecluse("docs", "--mapping", "hl7.nothing", code=2)


def test_schema_is_json_of_the_kind_asked_for(ecluse: Shell) -> None:
    assert json.loads(ecluse("schema"))["title"] == "Écluse mapping"
    assert json.loads(ecluse("schema", "twins"))["type"] == "array"
    ecluse("schema", "novel", code=2)


def test_messages_of_files_are_found_by_their_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_bytes(b"\xef\xbb\xbf" + ORU.encode())
    (tmp_path / "b.hl7").write_bytes(
        b"\x0b" + ORU.encode() + b"\x1c\r\x0b" + ORU.encode() + b"\x1c\r"
    )
    (tmp_path / "c.xml").write_text("<ClinicalDocument/>")
    (tmp_path / "d.dcm").write_bytes(bytes(128) + b"DICM" + b"broken")
    (tmp_path / "e.txt").write_text("no")
    (tmp_path / ".hidden").write_text(ORU)
    found = list(messages_of_files([tmp_path]))
    kinds = [each.format.value for each in found if isinstance(each, Message)]
    assert kinds == ["hl7v2", "hl7v2", "hl7v2", "cda"]
    assert len([each for each in found if isinstance(each, NoMessage)]) == 2

"""What a change of the mappings does to a message, before anybody deploys it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.formats import languages
from gateway.mapping import Library, packaged_mappings
from gateway.model import Cause, CauseCode, Format, Payload
from gateway.workbench.comparing import Change, compare
from gateway.workbench.examining import Bench, examine
from tests.unit.workbench.bench import CONTEXT, ORU, bench, examined


def changed(folder: Path, file: str, old: str, new: str) -> Bench:
    shutil.copytree(packaged_mappings(), folder)
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return Bench(
        readers=bench().readers,
        library=Library.load([folder], languages()),
        inventories=bench().inventories,
    )


def test_nothing_differs_from_itself() -> None:
    assert not compare("m", examined(ORU), examined(ORU)).any


def test_a_changed_fact_is_told_with_old_and_new(tmp_path: Path) -> None:
    other = changed(tmp_path / "new", "terminology/hl7/0001.yaml", "F: female", "F: other")
    new = examine(other, Format.HL7V2, [Payload.from_bytes(ORU.encode())], CONTEXT, trace=False)
    found = compare("m", examined(ORU), new)
    [fact] = found.facts
    assert (fact.change, fact.old, fact.new) == (Change.CHANGED, "female", "other")
    assert fact.target.endswith("#gender")
    assert not found.identities


def test_a_changed_identity_is_told_and_not_taken_for_other_facts(tmp_path: Path) -> None:
    old, new = examined(ORU), examined(ORU.replace("42^^^CHU", "43^^^CHU"))
    found = compare("m", old, new)
    patients = [each for each in found.identities if each.old.startswith("Patient/")]
    assert len(patients) == 1
    assert patients[0].old != patients[0].new
    assert not [fact for fact in found.facts if fact.target.endswith("subject.reference")]
    assert [(f.old, f.new) for f in found.facts if f.target.endswith("identifier[0].value")] == [
        ("42", "43")
    ]


def test_entries_that_come_and_go_are_told() -> None:
    shorter = "\r".join(line for line in ORU.split("\r") if not line.startswith("OBX|2"))
    gone = compare("m", examined(ORU), examined(shorter))
    assert {fact.change for fact in gone.facts if "Observation" in fact.target} == {Change.REMOVED}
    come = compare("m", examined(shorter), examined(ORU))
    assert {fact.change for fact in come.facts if fact.target.startswith("Observation")} == {
        Change.ADDED
    }
    assert come.flags_added


def test_a_message_that_one_of_them_refuses_is_told() -> None:
    refusal = Cause(code=CauseCode.MAPPING_FAILED, detail="no key")
    found = compare("m", examined(ORU), refusal)
    assert found.outcome.endswith("→ mapping-failed no key")
    assert not compare("m", refusal, refusal).any


def test_a_sites_folder_is_compared_on_what_ships(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, row in (("old", ""), ("new", "  F: other\n")):
        site = tmp_path / name / "here"
        (site / "terminology").mkdir(parents=True)
        (site / "x.yaml").write_text("extends: hl7.oru_r01\n")
        (site / "terminology" / "sex.yaml").write_text(
            "table: hl7/0001\nversion: 1\nsource: ours\nlicence: ours\n"
            f"system: http://hl7.org/fhir/administrative-gender\nrows:\n  XX: unknown\n{row}"
        )
    message = tmp_path / "m.hl7"
    message.write_text(ORU, newline="")
    arguments = ["mapping", "diff", str(message), "--json", "--from", str(tmp_path / "old/here")]
    assert main([*arguments, "--to", str(tmp_path / "new/here")]) == 0
    [found] = json.loads(capsys.readouterr().out)["differences"]
    facts = [(f["target"].partition("#")[2], f["old"], f["new"]) for f in found["facts"]]
    assert facts == [("gender", "female", "other")]


def test_the_command_ends_with_3_when_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(tmp_path / "new", "terminology/hl7/0001.yaml", "F: female", "F: other")
    message = tmp_path / "m.hl7"
    message.write_text(ORU, newline="")
    arguments = ["mapping", "diff", str(message), "--from", str(packaged_mappings())]
    assert main([*arguments, "--to", str(tmp_path / "new"), "--exit-code", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["messages"], found["differing"]) == (1, 1)
    assert main([*arguments, "--to", str(packaged_mappings()), "--exit-code"]) == 0
    assert main([*arguments, "--to", str(tmp_path / "nowhere")]) == 2

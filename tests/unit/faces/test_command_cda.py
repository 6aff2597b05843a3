"""``ecluse cda check`` and ``ecluse cda show`` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.output import Code
from tests.unit.cda.hostile import NARRATIVES, hostile_document
from tests.unit.cda.samples import BODY, document


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two documents, one of them with an extension in its id, and a file that is none."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "in"
    made.mkdir()
    patient = (
        '<recordTarget><patientRole><id root="1.2.3" extension="7"/></patientRole></recordTarget>'
    )
    (made / "a.xml").write_text(document(patient=patient, body=BODY))
    (made / "b.xml").write_text(document(patient=patient, extension="9"))
    (made / "notes.txt").write_text("not a document")
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["cda", *map(str, arguments)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_check_of_a_folder_prints_findings_and_a_summary(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    code, out, err = run(capsys, "check", folder)
    assert code == Code.FINDINGS
    assert "a.xml: 0 errors, 1 warning" in out
    assert "b.xml: 1 error, 1 warning" in out
    assert "ID-EXTENSION  line 1  /ClinicalDocument/id/@extension" in out
    assert "2 documents: 1 without an error, 1 with errors" in err
    assert "no validation pack" in err
    assert run(capsys, "check", folder / "a.xml")[0] == Code.DONE


def test_check_for_programs(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = run(capsys, "check", folder, "--json", "--jobs", "2")
    assert code == Code.FINDINGS
    told = json.loads(out)
    assert [Path(each["file"]).name for each in told] == ["a.xml", "b.xml"]
    assert {each["rule"] for each in told[1]["findings"]} == {"INS-ABSENTE", "ID-EXTENSION"}
    code, out, _ = run(capsys, "check", folder / "b.xml", "--sarif")
    (found,) = json.loads(out)["runs"]
    assert code == Code.FINDINGS
    assert {(each["ruleId"], each["level"]) for each in found["results"]} == {
        ("Écluse/ID-EXTENSION", "error"), ("Écluse/INS-ABSENTE", "warning"),
    }  # fmt: skip
    assert {each["id"] for each in found["tool"]["driver"]["rules"]} == {
        each["ruleId"] for each in found["results"]
    }
    place = found["results"][0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"].endswith("/b.xml")
    assert place["logicalLocations"][0]["fullyQualifiedName"].startswith("/ClinicalDocument")


def test_check_as_a_page(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    hostile = folder / "<script>.xml"
    hostile.write_bytes(hostile_document(NARRATIVES["script"]))
    code, out, _ = run(capsys, "check", folder, "--html")
    assert code == Code.FINDINGS
    assert "<script" not in out
    assert "ID-EXTENSION" in out


def test_what_cannot_be_checked(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(capsys, "check", folder, "--json", "--sarif")[0] == Code.USAGE
    assert run(capsys, "check", folder / "none.xml")[0] == Code.USAGE
    code, _, err = run(capsys, "check", folder, "--pack", folder)
    assert (code, "neither a pack.yaml" in err) == (Code.USAGE, True)
    code, out, _ = run(capsys, "check", folder / "notes.txt")
    assert (code, "Le document ne peut pas être lu" in out) == (Code.FINDINGS, True)


def test_show_prints_header_and_sections(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = run(capsys, "show", folder / "a.xml")
    assert code == Code.DONE
    for told in ("CR d'examens", "02/01/2024 à 03:04 (UTC+01:00)", "Biochimie", "18719-5"):
        assert told in out
    code, out, _ = run(capsys, "show", folder / "a.xml", "--json")
    assert json.loads(out)["sections"][0]["entries"] == 1
    code, out, _ = run(capsys, "show", folder / "a.xml", "--html")
    assert out.startswith("<!doctype html>")
    code, _, err = run(capsys, "show", folder / "notes.txt")
    assert (code, "this is not XML" in err) == (Code.FINDINGS, True)

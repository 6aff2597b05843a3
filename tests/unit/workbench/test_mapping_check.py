"""Every kind of mistake is found, with its place; and what finds them in other forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.formats import languages
from gateway.mapping import Finding, Library, MappingError, TwinResult
from gateway.workbench.linting import unreachable
from gateway.workbench.sarif import sarif

HEAD = """\
mapping: test.adt
version: "1"
source: {format: hl7v2, versions: ["2.5"], match: {MSH-9.1: [ADT]}}
defaults: {invalid: flag, unknown: flag}
"""
ENTRY = """\
entries:
  - resource: Patient
    id: {key: [PID-3.1], authority: worldwide}
    set:
      birthDate: PID-7
"""

WRONG = [
    ("a tab", HEAD + ENTRY + "\tnote: x\n", "not-yaml", 10),
    ("not YAML", HEAD + ENTRY + "ignore: [\n", "not-yaml", 0),
    ("a duplicate key", HEAD + ENTRY + "      birthDate: PID-7\n", "duplicate-key", 10),
    ("an anchor", HEAD + ENTRY + "      gender: &x {from: PID-8}\n", "anchor", 10),
    ("a key of the file", HEAD + "entires: []\n" + ENTRY, "unknown-key", 5),
    ("a key of an entry", HEAD + ENTRY + "    keep: true\n", "unknown-key", 10),
    ("a key of a rule", HEAD + ENTRY + "      gender: {form: PID-8}\n", "unknown-key", 10),
    ("a policy", HEAD.replace("invalid", "invalide") + ENTRY, "unknown-key", 4),
    ("a field", HEAD + ENTRY + "      gender: PID-99\n", "path", 10),
    ("a component", HEAD + ENTRY + "      name: [{set: {family: PID-5.99}}]\n", "path", 10),
    ("a segment", HEAD + ENTRY + "      gender: {from: PIE-8.x}\n", "path", 10),
    ("an element", HEAD + ENTRY + "      birthdate: PID-7\n", "unknown-element", 10),
    ("a resource", HEAD + ENTRY.replace("Patient", "Patiant"), "unknown-element", 6),
    ("an element with a wrong type", HEAD + ENTRY + "      maritalStatus: {from: PID-16, as: date}\n",
     "type", 10),
    ("a conversion", HEAD + ENTRY + "      gender: {from: PID-8, as: sexe}\n", "unknown-type", 10),
    ("a table", HEAD + ENTRY + "      gender: {from: PID-8, table: hl7/9}\n", "unknown-table", 10),
    ("a condition", HEAD + ENTRY + '      gender: {from: PID-8, when: "PID-8 is nice"}\n', "condition", 10),
    ("a constant without a reason", HEAD + ENTRY + "      gender: {const: male}\n", "reason", 10),
    ("a code outside a binding", HEAD + ENTRY + "      gender: {const: masculin, reason: x}\n",
     "binding", 10),
    ("a code that can fail", HEAD.replace(", unknown: flag", "").replace("invalid: flag", "missing: skip")
     + ENTRY + "      gender: PID-8\n", "fallible", 0),
    ("no version", HEAD.replace('version: "1"\n', "") + ENTRY, "missing-key", 0),
    ("no id", HEAD + ENTRY.replace("    id: {key: [PID-3.1], authority: worldwide}\n", ""),
     "missing-key", 6),
    ("cyclic blocks", HEAD + "blocks: {a: {use: b}, b: {use: a}}\n" + ENTRY + "      gender: {use: a}\n",
     "cyclic-use", 0),
    ("a cyclic file", HEAD + "use: [test.adt]\n" + ENTRY, "cyclic-use", 5),
    ("a mapping that is not there", HEAD + "use: [test.none]\n" + ENTRY, "unknown-mapping", 5),
    ("an unknown reference", HEAD + ENTRY + "      managingOrganization: {ref: Organisation}\n",
     "unknown-entry", 10),
    ("a switch without else", HEAD + ENTRY + "      gender: {switch: PID-8, cases: {M: {skip: x}}}\n",
     "fallible", 10),
]  # fmt: skip


def findings_of(folder: Path, text: str) -> tuple[Finding, ...]:
    (folder / "test.yaml").write_text(text)
    with pytest.raises(MappingError) as error:
        Library.load([folder], languages())
    return error.value.findings


@pytest.mark.parametrize(
    ("text", "code", "line"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG]
)
def test_every_mistake_is_found_where_it_stands(
    tmp_path: Path, text: str, code: str, line: int
) -> None:
    found = findings_of(tmp_path, text)
    fitting = [each for each in found if each.code == code]
    assert fitting, [str(each) for each in found]
    assert not line or line in {each.line for each in fitting}, [str(each) for each in found]
    assert all(each.column >= 1 and each.message for each in found)


def test_two_mappings_for_one_message_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(HEAD.replace("test.adt", "test.other") + ENTRY)
    assert "ambiguous" in {each.code for each in findings_of(tmp_path, HEAD + ENTRY)}


def test_rules_that_can_never_give_anything_are_warnings(tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text(
        HEAD + ENTRY + "      gender:\n        first:\n"
        "          - {const: male, reason: x}\n          - {from: PID-8}\n"
        "      active: {const: 'true', reason: x, unknown: flag}\n"
    )
    found = unreachable([path])
    assert [(each.code, each.severity, each.line) for each in found] == [
        ("unreachable", "warning", 13), ("unreachable", "warning", 14),
    ]  # fmt: skip


def test_a_constant_under_a_condition_leaves_the_rest_within_reach(tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text(
        HEAD + ENTRY + "      gender: {first: [{const: male, reason: x, when: PID-8 = M}, PID-8]}\n"
    )
    assert unreachable([path]) == []


def test_sarif_has_what_the_standard_requires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SARIF 2.1.0 sections 3.13, 3.14, 3.19, 3.27, 3.30: names, levels, indexes, regions from 1."""
    monkeypatch.chdir(tmp_path)
    found = findings_of(tmp_path, HEAD + ENTRY + "      gender: PID-99\n")
    warning = Finding("elsewhere.yaml", 0, 0, "ambiguous", "two", severity="warning")
    log = sarif([*found, warning], [TwinResult("t.test.yaml", 3, "a test", ("x: 1",))], "1.0.0")
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted({rule["id"] for rule in rules})
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note", "none")
        assert result["message"]["text"]
        [location] = result["locations"]
        physical = location["physicalLocation"]
        assert physical["region"]["startLine"] >= 1
        assert physical["region"]["startColumn"] >= 1
        assert not physical["artifactLocation"]["uri"].startswith("/")
    assert (
        run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        == "test.yaml"
    )
    assert {each["ruleId"] for each in run["results"]} >= {"path", "ambiguous", "test-failed"}
    json.dumps(log)


def test_the_command_prints_sarif_and_says_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "test.yaml").write_text(HEAD + ENTRY + "      gender: PID-99\n")
    assert main(["mapping", "check", "mine", "--sarif"]) == 3
    [run] = json.loads(capsys.readouterr().out)["runs"]
    assert run["results"][0]["ruleId"] == "path"

"""Provenance: where each value came from, and the same entries with and without it."""

from __future__ import annotations

from pathlib import Path

from tests.unit.mapping.pretend import load, run

BODY = """\
defaults: {invalid: flag, unknown: flag}
types: {HumanName: {set: {family: $.1, given: [$.2, $.3]}}}
entries:
  - resource: Patient
    id: {key: [KEY], authority: worldwide}
    set:
      name: [{from: A}, {from: B}]
      birthDate: DATE
      maritalStatus: {from: C, table: colours}
      contact: {each: {group: G}, set: {name: {from: D}, gender: {from: E}}}
"""
MESSAGE = {
    "KEY": "1", "A": ["x^y^z", "v"], "B": "w", "DATE": "2024", "C": "R",
    "G": [{"D": "p", "E": "male"}, {"D": "q"}],
}  # fmt: skip


def test_every_value_says_its_rule_its_source_and_its_steps(tmp_path: Path) -> None:
    mapped = run(load(tmp_path, BODY), MESSAGE, trace=True)
    lead = f"{mapped.entries[0].reference}#"
    found = {
        step.target.removeprefix(lead): (step.source, step.rule, step.steps)
        for step in mapped.trace
    }
    assert found["name[0].family"] == ("A(1).1", "test.yaml:5:35", ("string",))
    assert found["name[0].given[0]"][0] == "A(1).2"
    assert found["name[0].given[1]"][0] == "A(1).3"
    assert found["name[1].family"][0] == "A(2).1"
    assert found["name[2].family"][0] == "B(1).1"
    assert found["birthDate"] == ("DATE(1)", "test.yaml:11:18", ("date",))
    assert found["maritalStatus"] == ("C(1)", "test.yaml:12:22", ("table colours 1",))
    assert found["contact[0].name.family"][0] == "G(1).D(1).1"
    assert found["contact[1].name.family"][0] == "G(2).D(1).1"
    assert found["contact[0].gender"][0] == "G(1).E(1)"
    assert found["id"][0] == "KEY(1)"


def test_a_traced_run_gives_the_same(tmp_path: Path) -> None:
    for contents in (False, True):
        program = load(tmp_path, BODY, contents=contents)
        plain, traced = run(program, MESSAGE), run(program, MESSAGE, trace=True)
        assert traced.entries == plain.entries
        assert traced.flags == plain.flags
        assert not plain.trace

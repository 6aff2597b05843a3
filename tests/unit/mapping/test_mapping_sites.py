"""A site changes a mapping by target path; blocks and types are shared, never copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.mapping import Library, MappingError
from gateway.model import Format
from tests.unit.mapping.pretend import (
    HEAD,
    TABLE,
    PretendLanguage,
    codes,
    load,
    resources,
    run,
    write,
)

BASE = """\
use: [shared]
defaults: {invalid: flag, unknown: flag}
entries:
  - use: person
    set:
      name:
        - {set: {text: A}}
        - {set: {text: B}}
      maritalStatus: {from: C, table: colours}
      birthDate: {from: DATE, final: true}
"""
SHARED = """\
mapping: shared
version: 1.0.0
source: {format: hl7v2}
defaults: {invalid: skip}
types:
  HumanName: {set: {family: $.1}}
blocks:
  person:
    resource: Patient
    id: {key: [KEY], authority: [OWNER]}
    set:
      name: {set: {text: F}}
      gender: {from: E}
"""
MESSAGE = {"KEY": "1", "A": "a", "B": "b", "C": "R", "DATE": "2024", "E": "female"}


def site(folder: Path, change: str, **more: str) -> dict:
    """The one resource after a site's change."""
    files = {"shared.yaml": SHARED, "sites/here/change.yaml": change, **more}
    program = load(folder, BASE, site="here", more=files)
    return resources(run(program, MESSAGE))[0]


def found(folder: Path, change: str) -> list[str]:
    with pytest.raises(MappingError) as wrong:
        site(folder, change)
    return [f"{Path(each.file).name}:{each.line} {each.code}" for each in wrong.value.findings]


def test_a_block_is_merged_target_by_target(tmp_path: Path) -> None:
    program = load(tmp_path, BASE, more={"shared.yaml": SHARED})
    made = resources(run(program, MESSAGE))[0]
    assert made["name"] == [{"text": "a"}, {"text": "b"}], "the mapping's own rule is taken"
    assert made["gender"] == "female", "what it does not say comes from the block"


def test_a_rule_keeps_the_defaults_of_the_file_it_is_written_in(tmp_path: Path) -> None:
    program = load(tmp_path, BASE, more={"shared.yaml": SHARED})
    mapped = run(program, {**MESSAGE, "E": "x", "DATE": "y"})
    assert [(flag.code, flag.target) for flag in mapped.flags] == [
        ("invalid-value", "Patient.birthDate")
    ]


@pytest.mark.parametrize(
    ("change", "element", "expected"),
    [
        ('override: {"Patient.gender": {const: male, reason: x}}', "gender", "male"),
        ('override: {"Patient.gender.from": TYPE}', "gender", None),
        ('override: {"Patient.name[1].text": C}', "name", [{"text": "a"}, {"text": "R"}]),
        ('append: {"Patient.name": [{set: {text: C}}]}', "name", [{"text": "a"}, {"text": "b"}, {"text": "R"}]),
        ('append: {"Patient.maritalStatus.table": {R: blue}}', "maritalStatus",
         {"coding": [{"system": "http://example.org/colours", "code": "blue"}], "text": "R"}),
        ("remove: [Patient.gender]", "gender", None),
        ('remove: ["Patient.name[0]"]', "name", [{"text": "b"}]),
        ('override: {"Patient.active": {const: "true", reason: x}}', "active", True),
    ],
)  # fmt: skip
def test_a_change(tmp_path: Path, change: str, element: str, expected: object) -> None:
    assert site(tmp_path, f"extends: test\n{change}\n").get(element) == expected


def test_a_changed_policy(tmp_path: Path) -> None:
    change = 'extends: test\noverride: {"Patient.maritalStatus.unknown": skip}\n'
    files = {"shared.yaml": SHARED, "sites/here/change.yaml": change}
    message = {**MESSAGE, "C": "nowhere"}
    assert codes(run(load(tmp_path, BASE, more=files), message)) == ["unknown-code"]
    assert codes(run(load(tmp_path, BASE, site="here", more=files), message)) == []


def test_a_change_of_a_shared_block_reaches_all_that_use_it(tmp_path: Path) -> None:
    made = site(
        tmp_path, 'extends: shared\noverride: {"person.gender": {const: male, reason: x}}\n'
    )
    assert made["gender"] == "male"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('override: {"Patient.birthDate": A}', "final"),
        ('override: {"Patient.birthDate.from": A}', "final"),
        ("remove: [Patient.birthDate]", "final"),
        ('append: {"Patient.birthDate": {when: A exists}}', "final"),
        ('override: {"Patiant.gender": A}', "unknown-target"),
        ('override: {"Patient.name[7].text": A}', "unknown-target"),
        ("remove: [Patient.photo]", "unknown-target"),
        ('append: {"Patient.gender": [x]}', "wrong-shape"),
        ('overide: {"Patient.gender": A}', "unknown-key"),
    ],
)
def test_what_a_site_may_not_do(tmp_path: Path, change: str, expected: str) -> None:
    assert found(tmp_path, f"extends: test\n{change}\n") == [f"change.yaml:2 {expected}"]


def test_an_unknown_mapping_and_an_unknown_site(tmp_path: Path) -> None:
    assert found(tmp_path, "extends: tast\nremove: [x]\n") == ["change.yaml:1 unknown-mapping"]
    with pytest.raises(MappingError):
        load(tmp_path, BASE, site="nowhere", more={"shared.yaml": SHARED})
    with pytest.raises(MappingError):
        load(tmp_path, BASE, site="../here", more={"shared.yaml": SHARED})


def test_a_site_may_change_and_add_rows_of_a_table(tmp_path: Path) -> None:
    table = TABLE.replace(
        "rows: {R: red, G: {code: green, display: Green}}", "rows: {R: crimson, W: white}"
    )
    files = {"sites/here/colours.yaml": table}
    assert (
        site(tmp_path, "extends: test\nremove: []\n", **files)["maritalStatus"]["coding"][0]["code"]
        == "crimson"
    )
    program = load(tmp_path, BASE, site="here", more={"shared.yaml": SHARED, **files})
    green = resources(run(program, {**MESSAGE, "C": "G"}))[0]["maritalStatus"]["coding"][0]
    assert green["code"] == "green", "rows that the site does not name stay"


def test_the_digest_covers_all_that_went_in(tmp_path: Path) -> None:
    seen = set()
    base = {"test.yaml": HEAD + BASE, "shared.yaml": SHARED, "colours.yaml": TABLE}
    changed = [
        base,
        {**base, "test.yaml": HEAD + BASE + "# a remark\n"},
        {**base, "shared.yaml": SHARED.replace("skip", "flag")},
        {**base, "colours.yaml": TABLE.replace("red", "rouge")},
        {**base, "sites/here/c.yaml": "extends: test\nremove: [Patient.gender]\n"},
    ]
    for position, files in enumerate(changed):
        folder = write(tmp_path / str(position), files)
        site_name = "here" if (folder / "sites").exists() else None
        library = Library.load([folder], {Format.HL7V2: PretendLanguage()}, site=site_name)
        seen.add(library.program("test").digest)
    assert len(seen) == len(changed)
    same = write(tmp_path / "elsewhere", base)
    library = Library.load([same], {Format.HL7V2: PretendLanguage()})
    assert library.program("test").digest in seen, "the place of the folder does not count"


def test_mappings_of_formats_without_a_language_are_left_out(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"test.yaml": HEAD + BASE, "shared.yaml": SHARED, "colours.yaml": TABLE}
    )
    assert Library.load([folder], {}).programs == ()

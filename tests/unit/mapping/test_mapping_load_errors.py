"""Everything wrong with a mapping is found at load, with file, line and column."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.mapping import Library, MappingError
from gateway.model import Format
from tests.unit.mapping.pretend import HEAD, TABLE, PretendLanguage, findings, write

# A body starts at line 4 of the file: three lines of head stand before it.
PATIENT = """\
entries:
  - resource: Patient
    id: {key: [KEY], authority: [OWNER]}
    set: {RULE}
"""
OBSERVATION = """\
entries:
  - resource: Observation
    id: {key: [KEY], authority: [OWNER]}
    set:
      status: {const: final, reason: "a test"}
      code: {const: {text: x}, reason: "a test"}
      RULE
"""


def patient(rule: str) -> str:
    return PATIENT.replace("RULE", rule)


def observation(rule: str) -> str:
    return OBSERVATION.replace("RULE", rule)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # unknown keys, at every level
        ("entry: []\n", ["4:1 unknown-key"]),
        ("entries:\n  - {resource: Patient, fish: 1}\n", ["5:5 missing-key", "5:5 missing-key", "5:25 unknown-key"]),
        (patient("gender: {form: A, table: colours}"), ["7:19 source", "7:20 unknown-key"]),
        (patient("birthDate: {from: A, invalid: flag, missing: {fish: x}}"), ["7:56 policy", "7:57 unknown-key"]),
        ("defaults: {invald: flag}\n", ["4:12 unknown-key"]),
        # targets
        (patient("gendre: A"), ["7:11 unknown-element"]),
        (patient("name: {set: {familly: A}}"), ["7:24 unknown-element"]),
        (patient("_contact: {set: {}}"), ["7:11 unknown-element"]),
        (patient("birthDate: {from: A, as: decimal, invalid: flag}"), ["7:36 type"]),
        (patient("gender: {set: {x: A}}"), ["7:25 type"]),
        (patient("name: {from: A}"), ["7:17 unknown-type"]),
        (observation("value: A"), ["10:14 type"]),
        (observation("value: {from: A, as: Patient}"), ["10:28 unknown-type"]),
        (observation("value: {from: A, as: HumanNme}"), ["10:28 unknown-type"]),
        (observation("subject: {ref: Fish}"), ["10:22 unknown-entry"]),
        (observation("encounter: {ref: Observation}"), ["10:24 type"]),
        (observation("subject: {refer: Patient, id: {key: [A], authority: worldwide}}"), ["10:16 type"]),
        (observation("subject: {set: {reference: {refer: Fish, id: {key: [A], authority: worldwide}}}}"), ["10:42 unknown-element"]),
        (observation("subject: {set: {reference: {refer: Patient}}}"), ["10:34 missing-key"]),
        (observation("subject: {set: {reference: {refer: Patient, id: {key: [A], authority: worldwide, otherwise: [B]}}}}"), ["10:34 unknown-key"]),
        # sources
        (patient("birthDate: {from: a, invalid: flag}"), ["7:29 path"]),
        (patient("birthDate: {from: PID-7, invalid: flag}"), ["7:29 path"]),
        (patient("birthDate: {invalid: flag}"), ["7:22 source"]),
        (patient("birthDate: {from: A, const: '2024', reason: x, invalid: flag}"), ["7:22 source"]),
        (patient("name: {each: {group: X}, set: {family: A}}"), ["7:24 path"]),
        (patient("active: {from: A, when: A is full, invalid: flag}"), ["7:40 condition"]),
        (patient("active: {from: A, when: PID-1 exists, invalid: flag}"), ["7:35 path"]),
        # what may fail says what then
        (patient("birthDate: A"), ["7:22 fallible"]),
        (patient("gender: {from: A, table: colours}"), ["7:19 fallible"]),
        (patient("active: {switch: A, cases: {x: {const: 'true', reason: t}}}"), ["7:38 fallible"]),
        (patient("birthDate: {from: A, invalid: fish}"), ["7:41 policy"]),
        (patient("birthDate: {from: A, invalid: {text: B}}"), ["7:48 policy"]),
        (patient("birthDate: {from: A, invalid: {map: '2024'}}"), ["7:41 reason"]),
        (patient("birthDate: {from: A, invalid: {map: 'x', reason: t}}"), ["7:47 type"]),
        (patient("birthDate: {from: A, invalid: {absent: unknown}}"), ["7:50 policy"]),
        # codes and constants
        (patient("gender: {const: homme, reason: x}"), ["7:27 binding"]),
        (patient("gender: {const: male}"), ["7:19 reason"]),
        (patient("active: {const: yes, reason: x}"), ["7:27 type"]),
        (patient("gender: {from: A, table: colors, unknown: flag}"), ["7:36 unknown-table"]),
        (patient("communication: [{set: {preferred: {const: 'true', reason: x}}}]"), ["7:33 missing-element"]),
        # identifiers
        ("entries:\n  - {resource: Patient, set: {active: {const: 'true', reason: x}}}\n", ["5:5 missing-key"]),
        ("entries:\n  - {resource: Patient, id: {key: [KEY]}, set: {active: {const: 'true', reason: x}}}\n", ["5:29 missing-key"]),
        ("entries:\n  - {resource: Patient, id: {key: [], authority: worldwide}, set: {active: {const: 'true', reason: x}}}\n", ["5:35 wrong-shape"]),
        ("entries:\n  - {resource: Fish, id: {key: [KEY], authority: worldwide}, set: {}}\n", ["5:16 unknown-element"]),
        # blocks and types
        ("entries: [{use: fish}]\n", ["4:11 missing-key", "4:17 unknown-block"]),
        ("blocks: {a: {use: b}, b: {use: a}}\nentries: [{use: a}]\n", None),
        ("use: [nothing]\n", ["4:7 unknown-mapping"]),
        ("use: [test]\n", ["4:7 cyclic-use"]),
        ("types: {Coding: {from: $, as: Coding}}\n" + observation("value: {from: A, as: Coding}"), None),
        ("types: {HumanName: {set: {family: A}}}\n" + patient("name: {from: A}"), ["4:35 path"]),
        # ignored paths
        ("ignore: [{path: A}]\n", ["4:10 missing-key"]),
        ("ignore: [{path: a, reason: x}]\n", ["4:17 path"]),
    ],
)  # fmt: skip
def test_an_error_says_where(tmp_path: Path, body: str, expected: list[str] | None) -> None:
    found = findings(tmp_path, body)
    if expected is None:
        assert found, "something is wrong and must be found"
    else:
        assert found == expected


def test_all_errors_are_shown_at_once(tmp_path: Path) -> None:
    body = patient("gendre: A, birthDate: B, active: {from: x, invalid: flag}")
    assert [each.split()[1] for each in findings(tmp_path, body)] == [
        "unknown-element",
        "fallible",
        "path",
    ]


def test_a_suggestion_goes_with_it(tmp_path: Path) -> None:
    write(tmp_path, {"test.yaml": HEAD + patient("birtDate: A"), "colours.yaml": TABLE})
    with pytest.raises(MappingError) as wrong:
        Library.load([tmp_path], {Format.HL7V2: PretendLanguage()})
    [finding] = wrong.value.findings
    assert finding.suggestion == "did you mean birthDate?"
    assert str(finding).startswith(f"{tmp_path / 'test.yaml'}:7:11 unknown-element ")
    assert str(finding) in str(wrong.value)


def test_a_row_outside_a_required_binding_is_an_error(tmp_path: Path) -> None:
    body = patient("gender: {from: A, table: colours, unknown: flag}")
    write(tmp_path, {"test.yaml": HEAD + body, "colours.yaml": TABLE})
    with pytest.raises(MappingError) as wrong:
        Library.load([tmp_path], {Format.HL7V2: PretendLanguage()})
    assert {(Path(f.file).name, f.line, f.code) for f in wrong.value.findings} == {
        ("colours.yaml", 6, "binding")
    }


def test_a_kept_code_has_no_place_under_a_required_binding(tmp_path: Path) -> None:
    table = TABLE.replace("colours\n", "sex\n").replace(
        "R: red, G: {code: green, display: Green}", "M: male"
    )
    body = patient("gender: {from: A, table: sex, unknown: keep-and-flag}")
    assert findings(tmp_path, body, **{"sex.yaml": table}) == ["7:50 binding"]


def test_two_mappings_for_the_same_messages_are_ambiguous(tmp_path: Path) -> None:
    entry = patient("active: {const: 'true', reason: x}, name: {set: {family: A}}")
    head = "mapping: {}\nversion: '1'\nsource: {{format: hl7v2, match: {{TYPE: [a, {}]}}}}\n"
    write(
        tmp_path,
        {"one.yaml": head.format("one", "b") + entry, "two.yaml": head.format("two", "c") + entry},
    )
    with pytest.raises(MappingError) as wrong:
        Library.load([tmp_path], {Format.HL7V2: PretendLanguage()})
    assert [f.code for f in wrong.value.findings] == ["ambiguous"]


def test_the_same_name_twice_and_a_file_of_neither_kind(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a.yaml": HEAD, "b.yaml": HEAD, "c.yaml": "x: 1\n", "d.yaml": TABLE, "e.yaml": TABLE},
    )
    with pytest.raises(MappingError) as wrong:
        Library.load([tmp_path], {Format.HL7V2: PretendLanguage()})
    assert sorted(f.code for f in wrong.value.findings) == [
        "defined-twice",
        "defined-twice",
        "missing-key",
    ]


def test_what_cannot_be_looked_into_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere.yaml")
    scandir = os.scandir

    def locked(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(MappingError) as raised:
        Library.load([tmp_path], {Format.HL7V2: PretendLanguage()})
    said = [str(each) for each in raised.value.findings]
    assert said[1].endswith("locked:1:1 unreadable it cannot be looked into: Permission denied")
    assert said[0].endswith("gone.yaml:1:1 unreadable it points to a file that is not there")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MappingError):
        Library.load([tmp_path / "none"], {Format.HL7V2: PretendLanguage()})

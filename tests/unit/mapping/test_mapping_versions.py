"""A path is held against the versions that the mapping names which writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.hl7.language import Hl7Language
from gateway.mapping import Library, MappingError
from gateway.model import Format

USED = """\
mapping: test.used
version: 1.0.0
source: {format: hl7v2, versions: ["2.5", "2.7"]}
blocks:
  patient:
    resource: Patient
    id: {key: [PID-3.1], authority: [PID-3.4.2]}
    set:
      telecom: {from: PID-40(*), set: {value: $.1}}
"""
MAPPING = """\
mapping: test.mine
version: 1.0.0
source: {format: hl7v2, versions: [VERSIONS], match: {MSH-9.1: [ADT], MSH-3.1: [MINE]}}
use: [test.used]
defaults: {invalid: flag, unknown: flag}
entries:
  - resource: Patient
    use: patient
    when: "CONDITION"
    set: {birthDate: RULE}
ignore:
  - {path: IGNORED, reason: "a test"}
"""
# Version 2.5 has PID-1 to PID-39; PID-40 came with 2.7 (HL7 v2.5 and v2.7, 3.4.2).


def load(
    folder: Path,
    versions: str,
    *,
    rule: str = "PID-7",
    condition: str = "PID-5 exists",
    ignored: str = "PID-1",
    site: str = "",
) -> Library:
    text = MAPPING.replace("VERSIONS", versions).replace("RULE", rule)
    text = text.replace("CONDITION", condition).replace("IGNORED", ignored)
    mine = folder / "mine"
    mine.mkdir()
    (mine / "used.yaml").write_text(USED)
    (mine / "mine.yaml").write_text(text)
    if site:
        (folder / "sites" / "here").mkdir(parents=True)
        (folder / "sites" / "here" / "mine.yaml").write_text(site)
    return Library.load(
        [mine],
        {Format.HL7V2: Hl7Language()},
        sites=folder / "sites" if site else None,
        site="here" if site else None,
    )


def faults(folder: Path, versions: str, **parts: str) -> list[str]:
    with pytest.raises(MappingError) as raised:
        load(folder, versions, **parts)
    return [str(each).removeprefix(str(folder) + "/") for each in raised.value.findings]


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"rule": "PID-40"}, "mine.yaml:10:22"),
        ({"condition": "PID-40 exists"}, "mine.yaml:9:11"),
        ({"ignored": "PID-40"}, "mine.yaml:12:12"),
    ],
)
def test_a_path_that_only_a_used_file_has_is_an_error(
    tmp_path: Path, parts: dict[str, str], place: str
) -> None:
    [fault] = faults(tmp_path, '"2.5"', **parts)
    assert f"{place} path PID has 39 fields in 2.5" in fault


def test_what_a_site_writes_counts_as_the_mappings_own(tmp_path: Path) -> None:
    site = 'extends: test.mine\noverride: {"Patient.birthDate.from": PID-40}\n'
    [fault] = faults(tmp_path, '"2.5"', rule="{from: PID-7}", site=site)
    assert "2:38 path PID has 39 fields in 2.5" in fault


def test_the_same_path_is_right_in_a_version_that_has_it(tmp_path: Path) -> None:
    assert load(tmp_path, '"2.5", "2.7"', rule="{from: PID-40.1}").programs


def test_a_used_file_may_name_what_the_mappings_version_does_not_have(tmp_path: Path) -> None:
    [program] = load(tmp_path, '"2.5"').programs
    assert program.entries


def test_a_version_that_there_is_none_of_is_said_where_it_stands(tmp_path: Path) -> None:
    [fault] = faults(tmp_path, '"2.5", "2.55"')
    assert "mine.yaml:3:43 version HL7 version '2.55' is not one of 2.1," in fault
    assert "did you mean 2.5" in fault


def test_versions_that_are_no_list_are_said(tmp_path: Path) -> None:
    text = MAPPING.replace("[VERSIONS]", "2.5")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(MappingError) as raised:
        Library.load([tmp_path], {Format.HL7V2: Hl7Language()})
    assert '3:35 wrong-shape versions: is a list of texts (["2.5"])' in str(
        raised.value.findings[0]
    )

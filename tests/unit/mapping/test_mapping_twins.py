"""The tests beside the shipped mappings, and what a failing one shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.hl7.language import Hl7Language, Hl7Reader
from gateway.deployment.loading import checked_mappings
from gateway.mapping import Library, MappingError, packaged_mappings, run_twins
from gateway.model import Format
from tests.unit.mapping.pretend import HEAD, write


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load(
        [packaged_mappings()], {Format.HL7V2: Hl7Language()}, checked=checked_mappings()
    )


def test_all_tests_beside_the_hl7_mappings_pass(library: Library) -> None:
    results = run_twins(library, {Format.HL7V2: Hl7Reader()})
    assert len(results) >= 24
    failed = {
        f"{Path(each.file).name}:{each.line}": each.differences
        for each in results
        if not each.passed
    }
    assert not failed


def test_every_mapping_has_its_test(library: Library) -> None:
    beside = {path.name.removesuffix(".test.yaml") for path in library.twins}
    assert {Path(program.file).stem for program in library.programs} <= beside


def test_what_is_ignored_says_why(library: Library) -> None:
    for program in library.programs:
        assert program.ignored, program.name
        assert all(len(each.reason) > 10 for each in program.ignored)


MAPPING = (
    HEAD.replace("versions: []", 'versions: ["2.5"], match: {MSH-9.1: [ADT]}')
    + """\
entries:
  - resource: Patient
    id: {key: [PID-3.1], authority: [PID-3.4.1]}
    set: {name: {set: {text: PID-5.1}}}
"""
)
TEST = """\
- name: a wrong expectation
  given: |
    MSH|^~\\&|A|B|C|D|20240101||ADT^A01|1|P|2.5
    PID|||1^^^X||ESSAI
  expect:
    Patient: {count: 2, "[0].name[0].text": AUTRE, "[0].gender": male, create_only: true}
    Encounter: {count: 1}
  absent: ["Patient[0].name"]
  flags: [fish]
  attachments: 1
- name: unmapped
  given: "MSH|^~\\\\&|A|B|C|D|20240101||ORU^R01|1|P|2.5"
- name: unmapped as expected
  given: "MSH|^~\\\\&|A|B|C|D|20240101||ORU^R01|1|P|2.5"
  unmapped: true
- name: not refused
  given: |
    MSH|^~\\&|A|B|C|D|20240101||ADT^A01|1|P|2.5
    PID|||1^^^X||ESSAI
  rejected: true
"""


def test_a_failing_test_shows_what_differs(tmp_path: Path) -> None:
    write(tmp_path, {"test.yaml": MAPPING, "test.test.yaml": TEST})
    library = Library.load([tmp_path], {Format.HL7V2: Hl7Language()})
    first, unmapped, expected, refused = run_twins(library, {Format.HL7V2: Hl7Reader()})
    assert (first.name, first.line, first.passed) == ("a wrong expectation", 1, False)
    assert first.differences == (
        "Patient: 1, expected 2",
        "Patient[0].name[0].text: ESSAI, expected AUTRE",
        "Patient[0].gender: (nothing), expected male",
        "Patient: create_only is not true",
        "Encounter: 0, expected 1",
        'Patient[0].name is there: [{"text":"ESSAI"}]',
        "flags are [], expected ['fish']",
        "attachments: 0, expected 1",
    )
    assert unmapped.differences == ("no mapping is for this message",)
    assert expected.passed
    assert refused.differences == ("was not refused",)


def test_a_wrong_test_file_is_a_finding(tmp_path: Path) -> None:
    write(tmp_path, {"test.yaml": MAPPING, "test.test.yaml": "- {nme: x, given: y}\n"})
    library = Library.load([tmp_path], {Format.HL7V2: Hl7Language()})
    with pytest.raises(MappingError) as wrong:
        run_twins(library, {Format.HL7V2: Hl7Reader()})
    assert [each.code for each in wrong.value.findings] == ["unknown-key"]


def test_tests_of_a_format_without_a_reader_are_left_out(library: Library) -> None:
    assert run_twins(library, {}) == []

"""A set of mapping files that was checked is compiled when it is asked for, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.mapping import Library, MappingContext, MappingError
from gateway.mapping.checked import KEPT_MAX, CheckedSets
from gateway.model import Format
from tests.unit.mapping.pretend import PretendLanguage, PretendScope

MAPPING = """\
mapping: test.one
version: 1.0.0
source: {format: hl7v2, match: {KEY: [A]}}
defaults: {invalid: flag, unknown: flag}
entries:
  - resource: Basic
    id: {key: [KEY], authority: worldwide}
    set:
      code: {const: {text: x}, reason: x}
"""


def load(folder: Path, checked: CheckedSets | None) -> Library:
    return Library.load([folder], {Format.HL7V2: PretendLanguage()}, checked=checked)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mappings"
    made.mkdir()
    made.joinpath("one.yaml").write_text(MAPPING)
    return made


@pytest.fixture
def checked(tmp_path: Path) -> CheckedSets:
    return CheckedSets(tmp_path / "cache" / "checked")


def test_a_set_is_compiled_whole_once(folder: Path, checked: CheckedSets) -> None:
    first, second = load(folder, checked), load(folder, checked)
    assert first.programs[0]._rules is not None
    assert second.programs[0]._rules is None
    assert first.programs[0].digest == second.programs[0].digest
    message = PretendScope({"KEY": "A"}, "", None)
    context = MappingContext()
    assert second.programs[0].run(message, context) == first.programs[0].run(message, context)
    assert second.programs[0]._rules is not None


def test_a_changed_file_is_checked_again(folder: Path, checked: CheckedSets) -> None:
    load(folder, checked)
    folder.joinpath("one.yaml").write_text(MAPPING.replace("resource: Basic", "resource: Bsic"))
    for _ in range(2):  # and a set with an error is never taken for a good one
        with pytest.raises(MappingError, match="Bsic"):
            load(folder, checked)


def test_a_file_of_anything_else_is_taken_for_empty(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "checked"
    path.write_bytes(b"\xff\xfe" * 500)
    assert load(folder, CheckedSets(path)).programs[0]._rules is not None
    assert load(folder, CheckedSets(path)).programs[0]._rules is None


def test_without_a_place_to_write_every_load_checks(folder: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_text("no folder")
    nowhere = CheckedSets(tmp_path / "file" / "checked")
    assert load(folder, nowhere).programs[0]._rules is not None
    assert load(folder, nowhere).programs[0]._rules is not None


def test_the_oldest_is_forgotten(tmp_path: Path) -> None:
    sets = CheckedSets(tmp_path / "checked")
    for number in range(KEPT_MAX + 1):
        sets.add(f"{number:064d}")
    assert f"{0:064d}" not in sets
    assert f"{KEPT_MAX:064d}" in sets

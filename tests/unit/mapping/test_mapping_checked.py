"""A mapping that was checked before is compiled when it is asked for, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.mapping import Library, MappingContext, MappingError
from gateway.mapping.checked import KEPT_MAX, CheckedMappings
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


def load(folder: Path, checked: CheckedMappings | None) -> Library:
    return Library.load([folder], {Format.HL7V2: PretendLanguage()}, checked=checked)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mappings"
    made.mkdir()
    made.joinpath("one.yaml").write_text(MAPPING)
    return made


@pytest.fixture
def checked(tmp_path: Path) -> CheckedMappings:
    return CheckedMappings(tmp_path / "cache" / "checked")


def test_a_mapping_is_checked_once(folder: Path, checked: CheckedMappings) -> None:
    first, second = load(folder, checked), load(folder, checked)
    assert first.programs[0]._rules is not None
    assert second.programs[0]._rules is None
    assert first.programs[0].digest == second.programs[0].digest
    message = PretendScope({"KEY": "A"}, "", None)
    context = MappingContext()
    assert second.programs[0].run(message, context) == first.programs[0].run(message, context)
    assert second.programs[0]._rules is not None


def test_a_changed_file_is_checked_again(folder: Path, checked: CheckedMappings) -> None:
    load(folder, checked)
    folder.joinpath("one.yaml").write_text(MAPPING.replace("resource: Basic", "resource: Bsic"))
    for _ in range(2):  # and a set with an error is never taken for a good one
        with pytest.raises(MappingError, match="Bsic"):
            load(folder, checked)


def test_a_file_of_anything_else_is_taken_for_empty(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "checked"
    path.write_bytes(b"\xff\xfe" * 500)
    assert load(folder, CheckedMappings(path)).programs[0]._rules is not None
    assert load(folder, CheckedMappings(path)).programs[0]._rules is None


def test_without_a_place_to_write_only_who_checked_knows(folder: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_text("no folder")
    for path in (tmp_path / "file" / "checked", None):
        nowhere = CheckedMappings(path)
        assert load(folder, nowhere).programs[0]._rules is not None
        assert load(folder, CheckedMappings(path)).programs[0]._rules is not None
        assert load(folder, nowhere).programs[0]._rules is None


def test_notes_of_the_build_count_as_well(folder: Path, tmp_path: Path) -> None:
    built = CheckedMappings(None, shipped=None)
    load(folder, built)
    shipped = tmp_path / "shipped"
    shipped.write_text("".join(f"{each}\n" for each in built.added()))
    assert load(folder, CheckedMappings(None, shipped=shipped)).programs[0]._rules is None


def test_only_what_changed_is_checked_again(folder: Path, checked: CheckedMappings) -> None:
    folder.joinpath("two.yaml").write_text(
        MAPPING.replace("test.one", "test.two").replace("[A]", "[B]")
    )
    load(folder, checked)
    folder.joinpath("two.yaml").write_text(
        MAPPING.replace("test.one", "test.two").replace("[A]", "[C]")
    )
    again = load(folder, checked)
    assert again.program("test.one")._rules is None
    assert again.program("test.two")._rules is not None


def test_the_oldest_is_forgotten(tmp_path: Path) -> None:
    mappings = CheckedMappings(tmp_path / "checked")
    mappings.add(f"{number:064d}" for number in range(KEPT_MAX))
    mappings.add([f"{KEPT_MAX:064d}"])
    assert f"{0:064d}" not in mappings.known()
    assert f"{KEPT_MAX:064d}" in mappings.known()

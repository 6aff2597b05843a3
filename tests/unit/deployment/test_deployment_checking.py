"""A set is loaded and tested as a deployment would, in a process apart, and names files as the
set does."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from gateway.deployment.apart import Apart
from gateway.deployment.checking import Checked, check
from gateway.deployment.files import FileSet, MappingFolders
from gateway.deployment.testing import Results, Told
from gateway.mapping import Finding, Library, MappingError, TwinResult

MAPPING = b"""\
mapping: test.one
version: 1.0.0
source: {format: hl7v2, versions: ["2.5"], match: {MSH-9.1: [ADT]}}
defaults: {invalid: flag, unknown: flag}
entries:
  - resource: Patient
    id: {key: [PID-3.1], authority: worldwide}
    set: {birthDate: PID-7}
"""
TWIN = b"""\
- name: a birth date
  given: |
    MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5
    PID|||42||DOE^J||19800102
  expect: {Patient: {"[0].birthDate": "1980-01-02"}}
"""
OVERLAY = b"extends: test.one\nremove: [Patient.birthDate]\nappend: {Patient.gender: {const: other, reason: x}}\n"


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was checked before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)


def a_set(*, site: str = "", **files: bytes) -> FileSet:
    found = {"base/a.yaml": MAPPING, "base/a.test.yaml": TWIN}
    return FileSet(
        {**found, **{name.replace("__", "/") + ".yaml": data for name, data in files.items()}},
        site,
        0,
    )


def apart(files: FileSet, *, tests: bool = True, **limits: object) -> tuple[Checked, list[str]]:
    steps: list[str] = []
    made = Apart(**limits)  # type: ignore[arg-type]
    found = made.check(
        files, lambda step, done, of: steps.append(f"{step} {done}/{of}"), tests=tests
    )
    return found, steps


def test_a_fit_set_and_the_way_to_it() -> None:
    checked, steps = apart(a_set())
    assert checked.fit
    assert [(each.file, each.name) for each in checked.tests] == [
        ("base/a.test.yaml", "a birth date")
    ]
    assert checked.library is not None
    assert [each.name for each in checked.library.programs] == ["test.one"]
    assert steps[0].startswith("loading")
    assert steps[-1] == "testing 1/1"


def test_an_error_is_named_by_its_path_in_the_set() -> None:
    checked, _ = apart(a_set(base__b=b"mapping: x\nmapping: y\n"))
    assert not checked.fit
    assert [each.file for each in checked.errors] == ["base/b.yaml"]


def test_a_failed_test() -> None:
    files = a_set().with_files({"base/a.test.yaml": TWIN.replace(b'"1980-01-02"', b'"1981-01-02"')})
    checked, _ = apart(files)
    assert not checked.fit
    assert "1981" in checked.failed[0].differences[0]
    assert apart(files, tests=False)[0].fit


def test_what_passed_is_not_run_again_and_is_told_all_the_same() -> None:
    first, second = apart(a_set())[0], apart(a_set())[0]
    assert [each.noted for each in (*first.tests, *second.tests)] == [False, True]
    assert [each.name for each in first.tests] == [each.name for each in second.tests]


def test_a_site_that_changes_what_ships_is_told_so_until_it_says_what_is_right() -> None:
    files = a_set(site="chu", sites__chu__a=OVERLAY)
    checked, _ = apart(files)
    assert checked.fit
    (warning,) = checked.findings
    assert (warning.code, warning.file, warning.severity) == (
        "changed-by-site",
        "base/a.test.yaml",
        "warning",
    )
    assert "overrides: 'a birth date'" in warning.suggestion
    own = b"- name: here\n  overrides: a.test.yaml#a birth date\n  expect: {Patient: {'[0].gender': other}}\n"
    checked, _ = apart(files.with_files({"sites/chu/a.test.yaml": own}))
    assert checked.fit
    assert checked.findings == ()
    assert [each.name for each in checked.tests] == ["a birth date", "here"]
    checked, _ = apart(files.with_files({"sites/chu/a.test.yaml": own.replace(b"other", b"male")}))
    assert [each.name for each in checked.failed] == ["here"]


def test_a_test_that_overrides_nothing_is_an_error() -> None:
    own = b"- name: here\n  overrides: a birth dates\n  expect: {Patient: {count: 1}}\n"
    files = a_set(site="chu", sites__chu__a=OVERLAY).with_files({"sites/chu/a.test.yaml": own})
    checked, _ = apart(files)
    assert [(each.code, each.file, each.line) for each in checked.errors] == [
        ("unknown-test", "sites/chu/a.test.yaml", 2)
    ]
    assert "a birth date" in checked.errors[0].suggestion


def test_files_that_cannot_be_written() -> None:
    checked, _ = apart(FileSet({"base/a": b"", "base/a/b.yaml": b""}))
    assert "cannot be written" in checked.errors[0].message


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(text))


@pytest.mark.parametrize(
    ("text", "limits", "said"),
    [
        ("import time; time.sleep(60)", {"seconds": 0.3}, "more than 0 s"),
        ("import sys; sys.exit(7)", {}, "exit status 7"),
        ("import sys; sys.stdin.read(); print('no json', flush=True)", {}, "cannot be read"),
        (
            "import json, sys; from gateway.deployment.check_process import limit;"
            "limit(json.load(sys.stdin)['memory']); bytearray(1 << 30)",
            {"memory": 300 << 20}, "300 MiB",
        ),
    ],
)  # fmt: skip
def test_a_check_that_takes_too_much_or_dies_refuses_the_set(
    text: str, limits: dict[str, float], said: str
) -> None:
    checked, _ = apart(a_set(), command=program(text), **limits)
    assert not checked.fit
    assert checked.errors[0].code == "check-ended"
    assert said in checked.errors[0].message


def test_a_test_that_cannot_run(tmp_path: Path) -> None:
    folders = MappingFolders((tmp_path,))

    def broken(_library: Library, _folders: MappingFolders, _told: Told) -> Results:
        raise FileNotFoundError

    def wrong(_folders: MappingFolders) -> Library:
        raise MappingError((Finding("a", 4, 2, "x", "y"),))

    def load(_folders: MappingFolders) -> Library:
        return Library((), {}, (), ())

    def failing(_library: Library, _folders: MappingFolders, _told: Told) -> Results:
        return Results((TwinResult("a.test.yaml", 3, "a name", ("b",)),))

    assert not check(folders, load, broken, print).fit
    assert not check(folders, wrong, failing, print).fit
    assert len(check(folders, load, failing, print).failed) == 1


def test_the_same_set_is_asked_once() -> None:
    """A deployment follows its dry run."""
    made, steps = Apart(), []
    first = made.check(a_set(), lambda step, done, of: steps.append(step), tests=True)
    count = len(steps)
    second = made.check(a_set(), lambda step, done, of: steps.append(step), tests=True)
    assert count
    assert len(steps) == count
    assert (first.findings, first.tests) == (second.findings, second.tests)
    assert second.fit

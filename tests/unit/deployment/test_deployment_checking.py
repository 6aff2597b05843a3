"""A set is loaded and tested as a deployment would, and names files as the set does."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.deployment.checking import check
from gateway.deployment.files import FileSet, MappingFolders
from gateway.mapping import Finding, Library, MappingError, TwinResult

FILES = FileSet({"base/a.yaml": b"x", "sites/chu/b.yaml": b"y"}, "chu", 0)


def load(folders: MappingFolders) -> Library:
    assert folders.sites is not None
    assert (folders.sites / "chu" / "b.yaml").read_bytes() == b"y"
    return Library((), {}, (), ())


def passing(_library: Library, folders: MappingFolders) -> Sequence[TwinResult]:
    return [TwinResult(f"{folders.folders[0]}/a.test.yaml", 3, "a name")]


def test_a_fit_set() -> None:
    checked = check(FILES, load, passing)
    assert checked.fit
    assert checked.tests[0].file == "base/a.test.yaml"


def test_an_error_is_named_by_its_path_in_the_set() -> None:
    def wrong(folders: MappingFolders) -> Library:
        raise MappingError((Finding(f"{folders.folders[0]}/a.yaml", 4, 2, "x", "y"),))

    checked = check(FILES, wrong, passing)
    assert not checked.fit
    assert [str(each) for each in checked.errors] == ["base/a.yaml:4:2 x y"]


def test_a_failed_test_and_one_that_cannot_run() -> None:
    def failing(_library: Library, folders: MappingFolders) -> Sequence[TwinResult]:
        return [TwinResult(f"{folders.folders[0]}/a.test.yaml", 3, "a name", ("b",))]

    def broken(_library: Library, _folders: MappingFolders) -> Sequence[TwinResult]:
        raise FileNotFoundError

    assert not check(FILES, load, failing).fit
    assert len(check(FILES, load, failing).failed) == 1
    assert not check(FILES, load, broken).fit


def test_files_that_cannot_be_written() -> None:
    both = FileSet({"base/a": b"", "base/a/b.yaml": b""})
    checked = check(both, load, passing)
    assert "cannot be written" in checked.errors[0].message

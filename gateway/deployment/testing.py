"""The tests beside the mappings, as a deployment and ``ecluse mapping check`` run them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.deployment.files import MappingFolders
from gateway.mapping import Finding, Library, TwinResult, run_twins
from gateway.mapping.checked import CheckedMappings, digest_of
from gateway.mapping.findings import Findings
from gateway.mapping.twins import Encode, is_called, name_of, overridden_by, tests_in
from gateway.model import Format
from gateway.ports import Reader

Load = Callable[[MappingFolders], Library]
Told = Callable[[int, int], None]
"""Told how many are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Results:
    """The results, and as ``warnings`` what a site's changes make of tests that ship."""

    results: tuple[TwinResult, ...]
    warnings: tuple[Finding, ...] = ()


class Tests:
    """Runs the site's tests with the site's changes, and all others without them: a change of a
    site is no fault of what it changes.

    Where a site's changes make one of the others differ, that is a warning, unless a test of
    the site says ``overrides:`` and what is right there.

    The others are not run again while their files stay the same: they give the same. So it
    is when an earlier process of this user, or the build of the wheel, noted that they passed.
    """

    def __init__(
        self,
        load: Load,
        readers: Mapping[Format, Reader],
        encoders: Mapping[Format, Encode],
        checked: CheckedMappings | None = None,
    ) -> None:
        self._checked = checked
        self._load = load
        self._readers = readers
        self._encoders = encoders

    def run(
        self,
        library: Library,
        folders: MappingFolders,
        progress: Told = lambda _done, _of: None,
    ) -> Results:
        """Run what has to be run. Raises MappingError when a test file is wrong, OSError when a
        message that one names cannot be read."""
        counted = _Count(_count(library.twins), progress)
        own = _own(folders)
        every = digest_of(f"tests {_digest(folders, own)}")
        if self._passed(every):
            return Results(tuple(counted.all(_noted(library.twins))))
        mine = [each for each in library.twins if own is not None and each.is_relative_to(own)]
        others = [each for each in library.twins if each not in set(mine)]
        without = self._load(replace(folders, site="")) if own is not None else library
        shipped = digest_of(f"tests {_digest(folders, None)}")
        if self._passed(shipped):
            results = counted.all(_noted(others))
        else:
            results = self._run(without, others, counted)
            self._note(shipped, results)
        results += self._run(library, mine, counted)
        before = {each.digest for each in without.programs}
        changed = {each.digest: each.name for each in library.programs if each.digest not in before}
        warnings = self._differing(library, changed, others, mine, folders.site) if changed else []
        if not warnings:
            self._note(every, results)
        return Results(tuple(results), tuple(warnings))

    def _passed(self, noted: str) -> bool:
        return self._checked is not None and noted in self._checked.known()

    def _note(self, noted: str, results: Sequence[TwinResult]) -> None:
        if self._checked is not None and all(each.passed for each in results):
            self._checked.add([noted])

    def _run(self, library: Library, files: Sequence[Path], counted: _Count) -> list[TwinResult]:
        return run_twins(
            library, self._readers, encoders=self._encoders, files=files, each=counted.one
        )

    def _differing(
        self,
        library: Library,
        changed: Mapping[str, str],
        others: Sequence[Path],
        mine: Sequence[Path],
        site: str,
    ) -> list[Finding]:
        """The tests that the site's changes make differ, and that none of its own overrides.
        ``changed`` names the mappings that the site changes, by digest."""
        results = run_twins(
            library, self._readers, encoders=self._encoders, files=others, mappings=changed
        )
        overriding = [overridden_by(test) for path in mine for test in tests_in(path, Findings())]
        tests = {
            (str(path), test.place.line): (path, test)
            for path in others
            for test in tests_in(path, Findings())
        }
        return [
            _warning(each, changed[each.mapping], site)
            for each in results
            if not each.passed
            and not any(is_called(*tests[each.file, each.line], *named) for named in overriding)
        ]


class _Count:
    """Tells how many tests are done."""

    def __init__(self, of: int, progress: Told) -> None:
        self._done, self._of, self._progress = 0, of, progress

    def one(self, _result: TwinResult) -> None:
        """One more."""
        self._done += 1
        self._progress(self._done, self._of)

    def all(self, results: list[TwinResult]) -> list[TwinResult]:
        """All of these."""
        self._done += len(results)
        self._progress(self._done, self._of)
        return results


def _own(folders: MappingFolders) -> Path | None:
    """The folder of the site's own files."""
    if not folders.site:
        return None
    return (folders.sites or folders.folders[0] / "sites") / folders.site


def _count(files: Iterable[Path]) -> int:
    return sum(len(tests_in(path, Findings())) for path in files)


def _noted(files: Iterable[Path]) -> list[TwinResult]:
    return [
        TwinResult(str(path), test.place.line, name_of(test), noted=True)
        for path in files
        for test in tests_in(path, Findings())
    ]


def _warning(result: TwinResult, mapping: str, site: str) -> Finding:
    more = len(result.differences) - 1
    what = result.differences[0] + (f" (and {more} more)" if more else "")
    return Finding(
        result.file, result.line, 1, "changed-by-site",
        f"what the site {site} changes in {mapping} makes this test differ, "
        f"{result.name!r}: {what}",
        f"if that is meant, say so in a test of the site with overrides: {result.name!r}",
        "warning",
    )  # fmt: skip


def _digest(given: MappingFolders, own: Path | None) -> str:
    """SHA-256 over all files below the folders, by their paths there: those of the site when its
    ``own`` folder is given, none of other sites, none of Python's."""
    digest = hashlib.sha256()
    parts = [(folder, given.sites or folder / "sites") for folder in given.folders]
    if own is not None:
        parts.append((own, own / "sites"))
    for number, (folder, skip) in enumerate(parts):
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".pyc"} or path.is_relative_to(skip) or not path.is_file():
                continue
            data = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            digest.update(f"{number}\0{name}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()

"""Is a set of files fit to be deployed? It is loaded as the gateway would, and its tests run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.deployment.files import FileSet, MappingFolders
from gateway.mapping import Finding, Library, MappingError, TwinResult

Load = Callable[[MappingFolders], Library]
Test = Callable[[Library, MappingFolders], Sequence[TwinResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check found. Files are named by their paths in the set.

    ``library`` is there when they load.
    """

    files: FileSet
    findings: tuple[Finding, ...]
    tests: tuple[TwinResult, ...] = ()
    library: Library | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps it from being deployed, failed tests not counted."""
        return tuple(each for each in self.findings if each.severity == "error")

    @property
    def failed(self) -> tuple[TwinResult, ...]:
        """The tests that failed."""
        return tuple(each for each in self.tests if not each.passed)

    @property
    def fit(self) -> bool:
        """Whether it may be deployed."""
        return self.library is not None and not self.errors and not self.failed


def check(files: FileSet, load: Load, test: Test) -> Checked:
    """Load a set and run its tests."""
    with tempfile.TemporaryDirectory(prefix="ecluse-mappings-") as parent:
        try:
            root = files.extract(Path(parent))
        except OSError as error:
            said = f"the files cannot be written: {error.strerror}"
            return Checked(files=files, findings=(Finding("", 1, 1, "unreadable", said),))
        return _check(files, root, load, test)


def _check(files: FileSet, root: Path, load: Load, test: Test) -> Checked:
    folders = files.folders_below(root)
    try:
        library = load(folders)
    except MappingError as error:
        return Checked(files=files, findings=_named(error.findings, root))
    findings = library.findings
    try:
        tests = test(library, folders)
    except MappingError as error:
        findings = (*findings, *error.findings)
        return Checked(files=files, findings=_named(findings, root))
    except (OSError, ValueError) as error:
        said = Finding("", 1, 1, "test-failed", f"a test cannot be run ({type(error).__name__})")
        return Checked(files=files, findings=(*_named(findings, root), said), library=library)
    return Checked(
        files=files,
        findings=_named(findings, root),
        tests=tuple(replace(each, file=_name(each.file, root)) for each in tests),
        library=library,
    )


def _named(findings: Sequence[Finding], root: Path) -> tuple[Finding, ...]:
    return tuple(replace(each, file=_name(each.file, root)) for each in findings)


def _name(file: str, root: Path) -> str:
    return file.removeprefix(f"{root}/")

"""Is a set of files fit to be deployed? It is loaded as the gateway would, and its tests run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.deployment.files import MappingFolders
from gateway.deployment.testing import Results, Told
from gateway.mapping import Finding, Library, MappingError, TwinResult

Load = Callable[[MappingFolders], Library]
Test = Callable[[Library, MappingFolders, Told], Results]
Progress = Callable[[str, int, int], None]
"""Told the step in hand, ``loading`` or ``testing``, how many are done and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check found. Files are named by their paths in the set.

    ``library`` is there when they load.
    """

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


def check(folders: MappingFolders, load: Load, test: Test | None, progress: Progress) -> Checked:
    """Load folders and run their tests (without ``test``: only load)."""
    try:
        library = load(folders)
    except MappingError as error:
        return Checked(findings=error.findings)
    if test is None:
        return Checked(findings=library.findings, library=library)
    try:
        tested = test(library, folders, lambda done, of: progress("testing", done, of))
    except MappingError as error:
        return Checked(findings=(*library.findings, *error.findings))
    except (OSError, ValueError) as error:
        said = Finding("", 1, 1, "test-failed", f"a test cannot be run ({type(error).__name__})")
        return Checked(findings=(*library.findings, said), library=library)
    findings = (*library.findings, *tested.warnings)
    return Checked(findings=findings, tests=tested.results, library=library)


def named_in_set(checked: Checked, root: Path) -> Checked:
    """The same with files below ``root`` named by their paths there."""
    prefix = f"{root}/"

    def findings(found: Sequence[Finding]) -> tuple[Finding, ...]:
        return tuple(replace(each, file=each.file.removeprefix(prefix)) for each in found)

    return replace(
        checked,
        findings=findings(checked.findings),
        tests=tuple(replace(each, file=each.file.removeprefix(prefix)) for each in checked.tests),
    )

"""All mappings of an installation: loaded, checked and compiled together."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from gateway.mapping.building import Builder, Progress
from gateway.mapping.checked import CheckedMappings
from gateway.mapping.findings import Finding, Findings, MappingError
from gateway.mapping.loading import Loader
from gateway.mapping.matching import Matcher
from gateway.mapping.program import Program
from gateway.mapping.tables import CodeTable
from gateway.model import Format
from gateway.ports import Scope, SourceLanguage


@contextmanager
def _without_collection() -> Iterator[None]:
    """Nothing that a load makes is garbage in cycles, and looking for it is a third of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def packaged_mappings() -> Path:
    """The folder of the mappings that are shipped with Écluse."""
    return Path(str(files("mappings")))


class Library:
    """Every mapping that can be used. Immutable: a reload makes a new library."""

    def __init__(
        self,
        programs: tuple[Program, ...],
        tables: Mapping[str, CodeTable],
        findings: tuple[Finding, ...],
        twins: tuple[Path, ...],
    ) -> None:
        self.programs = programs
        self.tables = tables
        self.findings = findings
        """Warnings; a library with errors is never made."""
        self.twins = twins
        self._matchers = {
            kind: Matcher([program for program in programs if program.format is kind])
            for kind in Format
        }

    @classmethod
    def load(
        cls,
        folders: Sequence[Path],
        languages: Mapping[Format, SourceLanguage],
        *,
        sites: Path | None = None,
        site: str | None = None,
        checked: CheckedMappings | None = None,
        progress: Progress = lambda _done, _of: None,
    ) -> Library:
        """Load every ``*.yaml`` below the folders, with the changes of one site.

        ``sites`` is the folder that holds a folder per site; ``site`` names one of
        them. Mappings of a format without a language here are left out. Raises
        MappingError with all findings when one of them is an error.

        A mapping that is among those ``checked`` is compiled when it is asked for; one that
        is not, and of which nothing has to be said, is added to them. ``progress`` is told how
        many mappings are done, of how many.
        """
        findings = Findings()
        loader = Loader(findings)
        with _without_collection():
            for folder in folders:
                loader.read_folder(folder, skip=sites or folder / "sites")
            if site is not None:
                loader.read_site(sites or folders[0] / "sites", site)
            programs = Builder(loader, languages, findings, checked, progress).compile()
        if findings.failed:
            raise MappingError(findings.all())
        return cls(tuple(programs), loader.tables, findings.all(), tuple(loader.twins))

    def match(self, root: Scope, format: Format) -> Program | None:  # noqa: A002 - the field's word
        """The mapping for a message: the one with the most matching paths. None: unmapped."""
        return self._matchers[format].find(root)

    def program(self, name: str) -> Program:
        """A mapping by name. Raises KeyError."""
        for program in self.programs:
            if program.name == name:
                return program
        raise KeyError(name)

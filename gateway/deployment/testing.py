"""The tests beside the mappings, as a deployment runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.deployment.checking import Load
from gateway.deployment.files import MappingFolders
from gateway.mapping import Library, TwinResult, run_twins
from gateway.mapping.checked import CheckedMappings, digest_of
from gateway.mapping.twins import Encode
from gateway.model import Format
from gateway.ports import Reader


class Tests:
    """Runs the site's tests with the site's changes, and all others without them: a change of a
    site is no fault of what it changes.

    The others are not run again while their files stay the same: they give the same. So it
    is when an earlier process of this user noted that they passed; then they have no results.
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
        self._passed: tuple[str, tuple[TwinResult, ...]] = ("", ())

    def run(self, library: Library, folders: MappingFolders) -> Sequence[TwinResult]:
        """The results. Raises MappingError when a test file is wrong, OSError when a message
        that one names cannot be read."""
        if not folders.site:
            return self._run(library, library.twins)
        own = (folders.sites or folders.folders[0] / "sites") / folders.site
        mine = [each for each in library.twins if each.is_relative_to(own)]
        return [*self._others(folders), *self._run(library, mine)]

    def _others(self, folders: MappingFolders) -> Sequence[TwinResult]:
        digest = _digest(folders.folders)
        if self._passed[0] == digest:
            return self._passed[1]
        noted = digest_of(f"tests {digest}")
        if self._checked is not None and noted in self._checked.known():
            return ()
        without = self._load(replace(folders, site=""))
        results = tuple(self._run(without, without.twins))
        if all(each.passed for each in results):
            self._passed = digest, results
            if self._checked is not None:
                self._checked.add([noted])
        return results

    def _run(self, library: Library, files: Sequence[Path]) -> Sequence[TwinResult]:
        return run_twins(library, self._readers, encoders=self._encoders, files=files)


def _digest(folders: Sequence[Path]) -> str:
    """SHA-256 over all files below the folders, by their paths there."""
    digest = hashlib.sha256()
    for number, folder in enumerate(folders):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                name = path.relative_to(folder).as_posix()
                digest.update(f"{number}\0{name}\0{len(data)}\0".encode())
                digest.update(data)
    return digest.hexdigest()

"""Check what ships and note that it is right: ``python -m gateway.deployment.stamping FILE``.

Run by ``hatch_build.py`` when a wheel is built. The notes are digests of the files and of the
program (:mod:`gateway.mapping.checked`), so a fresh machine need not check what was checked
here, and checks whatever differs from it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.deployment.files import MappingFolders
from gateway.deployment.loading import load_folders
from gateway.deployment.testing import Tests
from gateway.formats import encoders, readers
from gateway.mapping import packaged_mappings
from gateway.mapping.checked import CheckedMappings


def stamp(path: Path) -> int:
    """Write the notes; how many mappings ship. Raises MappingError for one with an error, and
    ValueError for a failed test."""
    checked = CheckedMappings(None, shipped=None)
    folders = MappingFolders((packaged_mappings(),))
    library = load_folders(folders, checked)
    tests = Tests(lambda each: load_folders(each, checked), readers(), encoders(), checked)
    failed = [each for each in tests.run(library, folders).results if not each.passed]
    if failed:
        raise ValueError(f"{failed[0].file}:{failed[0].line}: {failed[0].name} failed")
    path.write_text("".join(f"{each}\n" for each in checked.added()), encoding="utf-8")
    return len(library.programs)


if __name__ == "__main__":
    stamp(Path(sys.argv[1]))

"""A process that checks a set of mappings: ``python -m gateway.deployment.check_process``.

Started by :mod:`gateway.deployment.apart`, never by hand, so that a check of many seconds takes
neither the gateway's processor time nor, whatever is in the files, its memory. It takes one
JSON object on standard input (``folders``, ``sites``, ``site``, ``tests``, ``memory``) and writes
JSON objects on standard output, one a line: how far it is, at last what it found and what it
noted as checked.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from gateway.deployment.checking import check
from gateway.deployment.files import MappingFolders
from gateway.deployment.loading import checked_mappings, load_folders
from gateway.deployment.testing import Tests
from gateway.formats import encoders, readers

TELLS_MAX = 200
"""How often the process says how far it is."""


def answer(asked: dict[str, Any], out: TextIO) -> None:
    """Check what is asked and say what was found."""
    told: dict[str, int] = {}

    def progress(step: str, done: int, of: int) -> None:
        share = done * TELLS_MAX // of if of else 0
        if told.get(step) != share:
            told[step] = share
            _say(out, {"step": step, "done": done, "of": of})

    checked = checked_mappings()

    def load(folders: MappingFolders) -> Any:
        return load_folders(folders, checked, progress=lambda *at: progress("loading", *at))

    folders = MappingFolders(
        tuple(Path(each) for each in asked["folders"]),
        Path(asked["sites"]) if asked["sites"] else None,
        asked["site"],
    )
    tests = Tests(load, readers(), encoders(), checked) if asked["tests"] else None
    found = check(folders, load, tests.run if tests is not None else None, progress)
    _say(
        out,
        {
            "loaded": found.library is not None,
            "findings": [asdict(each) for each in found.findings],
            "tests": [asdict(each) for each in found.tests],
            "checked": checked.added(),
        },
    )


def _say(out: TextIO, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


def limit(memory: int) -> None:
    """Let the system refuse more memory than this, in bytes; POSIX only."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def main() -> None:
    """Answer on the standard streams."""
    asked = json.load(sys.stdin)
    limit(asked["memory"])
    answer(asked, sys.stdout)


if __name__ == "__main__":
    main()

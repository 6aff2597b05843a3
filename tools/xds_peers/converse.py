"""Lets IPF talk to a gateway of its own, document by document.

    tools/xds_peers/converse.py CORPUS -- java …

Starts a gateway as a process (SQLite) with a source of type ``xds``, and hands IPF each CDA of the
corpus that names a patient. Says for each whether what came back is what was sent; fails if one
is not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from adapters.cda.transmitted import CdaHeaders
from benchmarks.xds import start
from tests.integration.xds.submissions import REPOSITORY


def described(path: Path) -> str:
    """A line for IPF; empty for what is no CDA, or names nobody by an OID."""
    header = CdaHeaders().header(path.read_bytes())
    if header is None:
        return ""
    found = [each for each in header.patient if each.system.startswith("urn:oid:")]
    first = next((each for each in found if each.type == "INS"), found[0] if found else None)
    if first is None:
        return ""
    root = first.system.removeprefix("urn:oid:")
    return "\t".join((str(path.resolve()), header.identifier, first.value, root))


def main() -> int:
    """Converse, and say what came of it."""
    corpus, dashes, *command = sys.argv[1:]
    assert dashes == "--"
    lines = [line for path in sorted(Path(corpus).glob("*.xml")) if (line := described(path))]
    with tempfile.TemporaryDirectory() as folder:
        process, base = start(Path(folder), unknown_patients="hold")
        address = f"{base.removeprefix('http://')}/intake/xds"
        try:
            told = subprocess.run(
                [*command, address, REPOSITORY], input="\n".join(lines), text=True,
                capture_output=True, check=False,
            )  # fmt: skip
        finally:
            process.terminate()
            process.wait(30)
    print(told.stdout, end="")
    if told.returncode:
        print("\n".join(told.stderr.splitlines()[-30:]), file=sys.stderr)
    same = sum(1 for line in told.stdout.splitlines() if line.startswith("same\t"))
    print(f"{same} of {len(lines)} documents: ITI-41, ITI-18 and ITI-43 by IPF give what was sent")
    return told.returncode


if __name__ == "__main__":
    raise SystemExit(main())

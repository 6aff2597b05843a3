"""The shipped CDA mappings beside python-fhir-converter (MIT), on the same documents, in turns.

    make compare-documents     installs it into an environment of its own (build/compare-documents)

Écluse's figure is reading, mapping, the R4 check and JSON; the peer's its one call from text to a bundle
as JSON, with the template of a continuity of care document, the nearest that it ships: of documents with
French templates it makes the header and little else. So the time of a resource is told as well. Both are
medians of rounds of one thread's processor time, after one round that warms up. Only documents that
both take count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.cda import normaliser
from gateway.garbage import calm_collector
from gateway.mapping import walking
from gateway.mapping.serialise import dumps
from gateway.model import Format, Payload
from gateway.normalise import Original, Reading

Measured = tuple[float, int]
"""Milliseconds and resources of one document."""


class Ecluse:
    """Stage 2 with what is shipped."""

    def __init__(self) -> None:
        self.stage = normaliser()
        calm_collector()

    def one(self, content: bytes) -> Measured | None:
        """The document as entries in JSON; None when it is not taken."""
        start = time.process_time()
        payload = Payload.from_bytes(content)
        made = self.stage.normalise(Original(source="b", format=Format.CDA, payloads=[payload]))
        if not isinstance(made, Reading):
            return None
        dumps([entry.resource for entry in made.mapped.entries])
        return (time.process_time() - start) * 1000, len(made.mapped.entries)


class Peer:
    """The other side, in its own process."""

    def __init__(self, command: list[str], files: list[Path]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.asked = json.dumps([str(path) for path in files]) + "\n"

    def round(self) -> list[Measured | None]:
        """All documents once."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(self.asked)
        self.process.stdin.flush()
        answers = json.loads(self.process.stdout.readline())
        return [(each[0], each[1]) if each else None for each in answers]

    def end(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def compare(files: list[Path], command: list[str], rounds: int) -> dict[str, Any]:
    """Medians of both, and their ratio."""
    contents = [path.read_bytes() for path in files]
    ours, theirs = Ecluse(), Peer(command, files)
    turns: tuple[list[list[Measured | None]], list[list[Measured | None]]] = ([], [])
    try:
        for _ in range(rounds + 1):
            turns[0].append([ours.one(each) for each in contents])
            turns[1].append(theirs.round())
    finally:
        theirs.end()
    both = [at for at in range(len(files)) if all(turn[at] for side in turns for turn in side)]
    sides: dict[str, dict[str, float]] = {}
    for side, name in zip(turns, ("ecluse", "python-fhir-converter"), strict=True):
        taken = statistics.median(
            sum(one[0] for at in both if (one := turn[at])) for turn in side[1:]
        )
        made = sum(one[1] for at in both if (one := side[-1][at]))
        sides[name] = {
            "documents_per_second": round(1000 * len(both) / taken, 1),
            "resources": made,
            "milliseconds_per_resource": round(taken / made, 2),
        }
    first, second = sides.values()
    return {
        "documents": len(both),
        "compiled": not str(walking.__file__).endswith(".py"),
        **sides,
        "times_as_fast_per_document": round(
            first["documents_per_second"] / second["documents_per_second"], 2
        ),
        "times_as_fast_per_resource": round(
            second["milliseconds_per_resource"] / first["milliseconds_per_resource"], 1
        ),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("documents", type=Path)
    parser.add_argument("command", nargs="+", help="what starts the peer")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    found = sorted(given.documents.resolve().glob("*.xml"))
    print(json.dumps(compare(found, given.command, given.rounds), indent=2))

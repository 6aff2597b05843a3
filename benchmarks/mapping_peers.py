"""The shipped mappings beside LinuxForHealth's HL7 v2 to FHIR converter, on the same messages.

    make compare-mappings          needs a JDK, Maven and the corpora beside the project

The messages are the corpora's ORU^R01 that both sides take. Écluse's figure is the whole of reading,
mapping, the R4 check and JSON; the peer's is its one call that gives a bundle as JSON. Both are the
median of several rounds of the working thread's processor time, after rounds that warm up.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from adapters.hl7.language import Hl7Language, Hl7Reader
from gateway.mapping import Library, MappingContext, packaged_mappings, walking
from gateway.mapping.r4.checker import Checker
from gateway.mapping.serialise import dumps
from gateway.model import Format, Payload
from gateway.ports import Unreadable

CORPORA = Path(__file__).resolve().parent.parent.parent / "shared" / "corpora" / "hl7v2"
MESSAGE_BYTES_MAX = 1024 * 1024

_START = re.compile(rb"(?:(?<=[\r\n\x0b])|^)(?=MSH[^A-Za-z0-9])")
_RESULT = re.compile(rb"MSH(.)(?:[^\r\n]*?\1)ORU.R01")


def results(folder: Path) -> list[bytes]:
    """Every ORU^R01 of a folder that is UTF-8, with the line ends of the standard, each once."""
    found: dict[bytes, None] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size > 16 * MESSAGE_BYTES_MAX:
            continue
        for part in _START.split(path.read_bytes()):
            message = b"\r".join(part.strip(b"\x0b\x1c\r\n").splitlines()) + b"\r"
            if not _RESULT.match(message) or len(message) > MESSAGE_BYTES_MAX:
                continue
            try:
                message.decode()
            except UnicodeDecodeError:
                continue
            found[message] = None
    return list(found)


class Ecluse:
    """Reads, maps, checks and serialises with what is shipped."""

    def __init__(self) -> None:
        self.library = Library.load([packaged_mappings()], {Format.HL7V2: Hl7Language()})
        self.reader, self.checker = Hl7Reader(), Checker.load()
        self.context = MappingContext(
            zone="Europe/Paris", source="bench", authorities={"": "1.2.250.1.999.1"}
        )

    def complete(self, message: bytes) -> list[dict[str, Any]]:
        """The entries' resources; empty where no mapping takes the message."""
        root = self.reader.read([Payload.from_bytes(message)])
        program = self.library.match(root, Format.HL7V2)
        if program is None:
            return []
        resources = [entry.resource for entry in program.run(root, self.context).entries]
        if self.checker.check_entries(resources, mapped=True):
            raise SystemExit("an entry does not pass the R4 check")
        dumps(resources)
        return resources

    def takes(self, message: bytes) -> bool:
        """Whether the reader takes the message and a mapping makes entries of it."""
        try:
            return bool(self.complete(message))
        except Unreadable:
            return False

    def rounds(self, given: list[bytes], warm: int, measured: int) -> list[float]:
        """Seconds of processor time for all messages, round by round."""
        figures = []
        for number in range(warm + measured):
            gc.collect()
            start = time.process_time()
            for message in given:
                self.complete(message)
            if number >= warm:
                figures.append(time.process_time() - start)
        return figures


def peer_rounds(
    command: list[str], given: list[bytes], warm: int, measured: int
) -> tuple[list[bytes], list[float], int]:
    """Which messages the peer takes, its seconds per round for these, and the resources it makes."""
    done = subprocess.run(
        [*command, str(warm), str(measured)],
        input=b"\n".join(base64.b64encode(message) for message in given) + b"\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    first, *lines, last = done.stdout.decode().splitlines()
    which = first.removeprefix("taken ")
    taken = [message for message, flag in zip(given, which, strict=True) if flag == "1"]
    return taken, [int(line) / 1e9 for line in lines], int(last.removeprefix("resources "))


def main() -> int:
    """Run both and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--warm", type=int, default=3, help="rounds that warm up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    split = sys.argv.index("--")
    options, command = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    ours = Ecluse()
    given = [message for message in results(options.corpora) if ours.takes(message)]
    if not given:
        print("no messages: the corpora are not beside the project", file=sys.stderr)
        return 1
    both, peer, peer_resources = peer_rounds(command, given, options.warm, options.rounds)
    own = ours.rounds(both, options.warm, options.rounds)
    speeds = {
        "ecluse": len(both) / statistics.median(own),
        "linuxforhealth": len(both) / statistics.median(peer),
    }
    report = {
        "benchmark": "mapping_peers",
        "compiled": not str(walking.__file__).endswith(".py"),
        "messages": {"ecluse takes": len(given), "both take": len(both)},
        "bytes_mean": round(statistics.mean(len(message) for message in both)),
        "resources": {
            "ecluse": sum(len(ours.complete(message)) for message in both),
            "linuxforhealth": peer_resources,
        },
        "messages_per_second": {name: round(speed, 1) for name, speed in speeds.items()},
        "ratio": round(speeds["ecluse"] / speeds["linuxforhealth"], 2),
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Lets IPF talk to a gateway of its own, document by document.

    tools/xds_peers/converse.py CORPUS [--seconds 120] -- java …

Starts a gateway as a process (SQLite) with a source of type ``xds``, and hands IPF each CDA of the
corpus that names a patient. Says of each, as it comes, whether what came back is what was sent,
and how long each step took. No step may take longer than ``--seconds``: where one does, it is
named and the run ends. A document that the gateway has taken and does not give to the record
(a wrong INS, an identity that waits) can be found by nobody; its cause is told.

Exit code: 0 when every document came back as it was sent or was kept back with a cause that is
about the patient's identity; 1 when one did not, 2 when a step took too long or IPF ended.
"""

from __future__ import annotations

import argparse
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx2

from adapters.cda.transmitted import CdaHeaders
from benchmarks.xds import start
from tests.integration.xds.submissions import REPOSITORY

IDENTITY = "identity-"
"""How the causes begin for which a document waits for its patient, or is refused to the record."""

AT_REST = frozenset({"held", "unmapped", "refused", "dead", "discarded", "replaced"})
ROWS_SHOWN = 30


class Stopped(Exception):
    """The conversation cannot go on; the text says at which step and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One document as IPF is told of it, and how it is named to people."""

    name: str
    identifier: str
    line: str


def described(path: Path) -> Sent | None:
    """What IPF is told of a file; None for what is no CDA, or names nobody by an OID."""
    header = CdaHeaders().header(path.read_bytes())
    if header is None:
        return None
    found = [each for each in header.patient if each.system.startswith("urn:oid:")]
    first = next((each for each in found if each.type == "INS"), found[0] if found else None)
    if first is None:
        return None
    root = first.system.removeprefix("urn:oid:")
    line = "\t".join((str(path.resolve()), header.identifier, first.value, root))
    return Sent(name=path.name, identifier=header.identifier, line=line)


class Peer:
    """IPF as a process that is spoken to line by line."""

    def __init__(self, command: list[str], errors: IO[bytes], seconds: float) -> None:
        self._seconds = seconds
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self._said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.rstrip("\n"))
        self._said.put(None)

    def tell(self, line: str) -> None:
        """Say a line. Raises Stopped when it does not listen any more."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            raise Stopped("IPF has ended") from None

    def hear(self, step: str) -> str:
        """Its next line. Raises Stopped when there is none within the time of a step."""
        try:
            said = self._said.get(timeout=self._seconds)
        except queue.Empty:
            raise Stopped(f"{step} took longer than {self._seconds:g} seconds") from None
        if said is None:
            raise Stopped(f"IPF has ended during {step}")
        return said

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait(30)


def settled(base: str, identifier: str, seconds: float) -> str:
    """Wait until the gateway is done with a document: ``delivered``, or its cause when it keeps
    it back. Raises Stopped when that takes too long."""
    end = time.monotonic() + seconds
    with httpx2.Client(base_url=base, timeout=seconds) as client:
        while time.monotonic() < end:
            answer = client.get("/api/v1/messages", params={"control_id": identifier})
            answer.raise_for_status()
            items = answer.json()["items"]
            if items and items[0]["state"] == "delivered":
                return "delivered"
            if items and items[0]["state"] in AT_REST:
                cause = items[0].get("cause") or {}
                return str(cause.get("code") or items[0]["state"])
            time.sleep(0.05)
    raise Stopped(f"the gateway has not been done with it after {seconds:g} seconds")


def converse(peer: Peer, base: str, sent: Sent, seconds: float) -> tuple[str, dict[str, float]]:
    """One document there and back: what came of it, and the seconds of each step."""
    took: dict[str, float] = {}
    began = time.monotonic()

    def lap(step: str) -> None:
        nonlocal began
        took[step] = time.monotonic() - began
        began = time.monotonic()

    peer.tell(sent.line)
    said = peer.hear("ITI-41")
    lap("ITI-41")
    if said != "sent":
        return said, took
    state = settled(base, sent.identifier, seconds)
    lap("record")
    if state != "delivered":
        peer.tell("leave")
        return f"kept back: {state}", took
    peer.tell("find")
    said = peer.hear("ITI-18")
    lap("ITI-18")
    if said == "found":
        said = peer.hear("ITI-43")
        lap("ITI-43")
    return said, took


def all_of(peer: Peer, base: str, documents: list[Sent], seconds: float) -> Counter[str]:
    """All documents, each told as it comes. Raises Stopped."""
    outcomes: Counter[str] = Counter()
    for number, sent in enumerate(documents, 1):
        try:
            outcome, took = converse(peer, base, sent, seconds)
        except Stopped as stopped:
            print(f"{number}/{len(documents)}\t{sent.name}\tstopped", flush=True)
            raise Stopped(f"{sent.name}: {stopped}") from None
        steps = ", ".join(f"{step} {each:.1f} s" for step, each in took.items())
        print(f"{number}/{len(documents)}\t{outcome}\t{sent.name}\t{steps}", flush=True)
        outcomes[outcome] += 1
    return outcomes


def summary(outcomes: Counter[str], count: int) -> int:
    """Say what came of all, and give the exit code."""
    same = outcomes.pop("same", 0)
    print(f"{same} of {count} documents: ITI-41, ITI-18 and ITI-43 by IPF give what was sent")
    for outcome, times in sorted(outcomes.items()):
        print(f"{times} of {count} documents: {outcome}")
    return int(any(not each.startswith(f"kept back: {IDENTITY}") for each in outcomes))


def main() -> int:
    """Converse, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    documents = [sent for path in sorted(options.corpus.glob("*.xml")) if (sent := described(path))]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        process, base = start(Path(folder), unknown_patients="hold")
        address = f"{base.removeprefix('http://')}/intake/xds"
        peer = Peer([*options.command, address, REPOSITORY], errors, options.seconds)
        try:
            return summary(all_of(peer, base, documents, options.seconds), len(documents))
        except Stopped as stopped:
            errors.seek(0)
            rows = errors.read().decode(errors="replace").splitlines()
            print("\n".join(rows[-ROWS_SHOWN:]), file=sys.stderr)
            print(f"stopped: {stopped}", file=sys.stderr)
            return 2
        finally:
            peer.end()
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    raise SystemExit(main())

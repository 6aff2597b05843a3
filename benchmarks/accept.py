"""Durable accept over MLLP: the gateway beside the bare loop, in turns, 1, 8 and 64 connections.

    python -m benchmarks.accept [--rounds 5] [--seconds 3]

The gateway runs as a listener process without workers (``worker.threads: 0``), so that the figure
is the door's own. One answer is one commit that holds the exact bytes. At 64 connections there is a
second line, in which each connection counts its control ids for itself: they belong to 64 places of
the index that finds what was sent twice, instead of one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONNECTIONS = (1, 8, 64)
STEADY_PER_SECOND = 500


def load(port: int, connections: int, seconds: float, *more: str) -> dict[str, float]:
    """Run the load generator in its own process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", str(port), str(connections), str(seconds), *more],
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Medians per number of connections, and the ratio to the bare loop."""
    from tests.acceptance.gateway_process import GatewayProcess

    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
        folder = Path(name)
        bare = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_loop", str(folder / "bare.sqlite")],
            stdout=subprocess.PIPE,
            text=True,
        )
        gateway = GatewayProcess(folder / "gateway", extra={"worker": {"threads": 0}})
        try:
            assert bare.stdout is not None
            bare_port = int(bare.stdout.readline())
            gateway.start()
            for connections in CONNECTIONS:
                result[str(connections)] = _one(
                    bare_port, gateway.mllp_port, connections, rounds, seconds
                )
            result["64, a counter each"] = _one(
                bare_port, gateway.mllp_port, 64, rounds, seconds, "--counters"
            )
            result[f"at {STEADY_PER_SECOND} a second"] = _steady(gateway.mllp_port, rounds, seconds)
        finally:
            bare.kill()
            gateway.stop()
    return result


def _one(
    bare_port: int, port: int, connections: int, rounds: int, seconds: float, *more: str
) -> dict[str, float]:
    ours, theirs = [], []
    for number in range(rounds):
        run = ("--run", f"a{connections}.{number}{''.join(more)}", *more)
        theirs.append(load(bare_port, connections, seconds, *run))
        ours.append(load(port, connections, seconds, *run))
    median = statistics.median
    assert not any(line["negative"] for line in ours), "the gateway refused messages"
    return {
        "gateway_per_second": median(line["per_second"] for line in ours),
        "bare_per_second": median(line["per_second"] for line in theirs),
        "ratio": round(
            median(o["per_second"] / b["per_second"] for o, b in zip(ours, theirs, strict=True)), 3
        ),
        "gateway_p50_ms": median(line["p50_ms"] for line in ours),
        "gateway_p99_ms": median(line["p99_ms"] for line in ours),
    }


def _steady(port: int, rounds: int, seconds: float) -> dict[str, float]:
    """Latencies of the acknowledgement at a rate that the door has to spare."""
    rate, lines = ("--rate", str(STEADY_PER_SECOND)), []
    for number in range(rounds):
        lines.append(load(port, 64, seconds, "--run", f"s{number}", *rate))
    return {
        name: statistics.median(line[name] for line in lines)
        for name in ("per_second", "p50_ms", "p99_ms")
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    print(json.dumps(measure(given.rounds, given.seconds), indent=2))

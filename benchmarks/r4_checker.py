"""How long the R4 checker looks at one resource.

    python -m benchmarks.r4_checker [--rounds 5] [--no-corpora]

Checks what the shipped mappings make of the corpora (``r4_corpus``), message by
message as stage 2 does, and writes the same resources with ``json.dumps`` of the
standard library in the same run. Every figure is the median of the rounds, in
processor time; JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.r4_corpus import Resources, entries
from gateway.mapping.r4.checker import Checker
from gateway.mapping.serialise import dumps, loads


def microseconds(work: Callable[[Resources], object], written: list[bytes], count: int) -> float:
    """One round of the work over all messages: processor time in microseconds a resource.

    Each message's resources are read from JSON just before, for stage 2 has just made them too.
    """
    gc.collect()
    spent = 0.0
    for message in written:
        resources: Resources = loads(message)
        start = time.thread_time()
        work(resources)
        spent += time.thread_time() - start
    return spent / count * 1e6


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-corpora", action="store_true", help="the mappings' own tests only")
    options = parser.parse_args()
    messages: list[Resources] = [made for _, made in entries(corpora=not options.no_corpora)]
    every = [resource for made in messages for resource in made]
    written = [dumps(made) for made in messages]
    started = time.thread_time()
    checker = Checker.load()
    refused = sum(1 for made in messages if checker.check_entries(made))
    first = (time.thread_time() - started) / len(every) * 1e6

    def check(resources: Resources) -> None:
        for resource in resources:
            checker.check(resource)

    def write(resources: Resources) -> None:
        for resource in resources:
            json.dumps(resource)

    works: dict[str, Callable[[Resources], object]] = {
        "check": check,
        "check_entries": checker.check_entries,
        "json_dumps": write,
    }
    figures: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.rounds):
        # One after the other in every round, so that a busy machine slows all of them.
        for name, work in works.items():
            figures[name].append(microseconds(work, written, len(every)))
    median = {name: statistics.median(found) for name, found in figures.items()}
    report: dict[str, Any] = {
        "benchmark": "r4_checker",
        "python": platform.python_version(),
        "compiled": not _interpreted(),
        "messages": len(messages),
        "messages_refused": refused,
        "resources": len(every),
        "types": dict(Counter(str(resource["resourceType"]) for resource in every)),
        "microseconds_a_resource": {name: round(figure, 2) for name, figure in median.items()},
        "first_pass_with_loading": round(first, 2),
        "check_to_json_dumps": round(median["check"] / median["json_dumps"], 2),
        "check_entries_to_json_dumps": round(median["check_entries"] / median["json_dumps"], 2),
    }
    print(json.dumps(report, indent=2))


def _interpreted() -> bool:
    """Whether the checker runs as Python rather than as compiled ahead of time."""
    from gateway.mapping.r4 import checker

    return str(checker.__file__).endswith(".py")


if __name__ == "__main__":
    main()

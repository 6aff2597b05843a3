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


def microseconds(work: Callable[[], None], resources: int) -> float:
    """One round of the work: processor time in microseconds a resource."""
    gc.collect()
    start = time.process_time()
    work()
    return (time.process_time() - start) / resources * 1e6


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-corpora", action="store_true", help="the mappings' own tests only")
    options = parser.parse_args()
    messages: list[Resources] = [made for _, made in entries(corpora=not options.no_corpora)]
    every = [resource for made in messages for resource in made]
    started = time.process_time()
    checker = Checker.load()
    refused = sum(1 for made in messages if checker.check_entries(made))
    first = (time.process_time() - started) / len(every) * 1e6

    def check() -> None:
        for resource in every:
            checker.check(resource)

    def check_entries() -> None:
        for made in messages:
            checker.check_entries(made)

    def write() -> None:
        for resource in every:
            json.dumps(resource)

    figures: dict[str, list[float]] = {"check": [], "check_entries": [], "json_dumps": []}
    for _ in range(options.rounds):
        # One after the other in every round, so that a busy machine slows all of them.
        for name, work in (
            ("check", check),
            ("check_entries", check_entries),
            ("json_dumps", write),
        ):
            figures[name].append(microseconds(work, len(every)))
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

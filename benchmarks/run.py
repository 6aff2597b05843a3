"""Run every measurement, or some, and write one file with medians and ratios.

    python -m benchmarks.run [--quick] [--only NAME …] [--results FOLDER]

Writes benchmarks/results/<UTC time>.json and prints it; after each part, so that what was measured
is there when a later part fails. What was measured of both databases stands under their names.
``make bench`` measures the compiled wheel (``make bench BENCH="--only backlog one_down"``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    accept,
    backlog,
    cda,
    dead_letters,
    dicom_store,
    dicom_study,
    end_to_end,
    endurance,
    journal_claim,
    one_down,
)
from gateway.mapping import walking
from tests.servers import running_postgres

RESULTS = Path(__file__).resolve().parent / "results"


def script(name: str) -> Any:
    """Run one measuring script that prints a JSON object."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def reader() -> Any:
    """The reader's script prints a table for people and writes its figures into a file."""
    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as folder:
        path = Path(folder) / "figures.json"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.hl7_reader", "--json", str(path)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return json.loads(path.read_text(encoding="utf-8"))


def beside_corpora(name: str) -> Any:
    """What a script measures that reads the shared corpora; a word where they are absent."""
    if not (cda.CORPORA / "cda").is_dir():
        return "not measured: the corpora are not beside the project"
    return script(name)


def on_both(run: Callable[[str], Any]) -> dict[str, Any]:
    """What a measurement of a journal gives on a fresh SQLite file and on a private PostgreSQL."""
    with running_postgres() as server:
        return {"sqlite": run(""), "postgresql": run(server.fresh_database())}


Part = Callable[[bool], Any]
"""Measures, in one short round where the argument says so; the figures."""

PARTS: dict[str, Part] = {
    "hl7_reader": lambda _quick: reader(),
    "mapping_oru": lambda _quick: script("mapping_oru"),
    "journal_append": lambda _quick: script("journal_append"),
    "journal_claim": lambda quick: on_both(
        lambda url: journal_claim.run(url, (1_000, 20_000 if quick else 1_000_000))
    ),
    "accept": lambda quick: accept.measure(1 if quick else 5, 1.0 if quick else 3.0),
    "backlog": lambda quick: backlog.measure(
        backlog.STORES, 500 if quick else 2_000, 0, 1 if quick else 5
    ),
    "one_down": lambda quick: on_both(
        lambda url: one_down.run(url, 5_000 if quick else 100_000, 50 if quick else 200)
    ),
    "dead_letters": lambda quick: on_both(
        lambda url: dead_letters.run(
            url,
            (1_000, 20_000 if quick else 1_000_000),
            (1_000, 2_000 if quick else 100_000),
            10 if quick else 40,
        )
    ),
    "cda": lambda _quick: beside_corpora("cda"),
    "xds": lambda _quick: beside_corpora("xds"),
    "dicom_study": lambda quick: dicom_study.measure(1 if quick else 5, 130 if quick else 1300),
    "dicom_store": lambda quick: dicom_store.measure(1 if quick else 5, 0.1 if quick else 1.0),
    "endurance": lambda quick: endurance.measure(10_000, 20_000 if quick else 200_000, 10),
    "end_to_end": lambda quick: end_to_end.measure(5.0 if quick else 20.0, 100.0),
}


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument(
        "--only", nargs="+", default=list(PARTS), choices=PARTS, metavar="NAME",
        help=f"some of {', '.join(PARTS)}",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for the file")
    options = parser.parse_args()
    at = datetime.now(UTC)
    figures: dict[str, Any] = {
        "at": at.isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "compiled": not str(walking.__file__).endswith(".py"),
            "sqlite": sqlite3.sqlite_version,
            "system": platform.platform(),
            # By which is seen whether others worked on the machine, too.
            "load_before": os.getloadavg()[0],
        },
    }
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{at:%Y%m%dT%H%M%SZ}.json"
    for name, measure in PARTS.items():
        if name in options.only:
            print(f"measuring {name} …", file=sys.stderr)
            figures[name] = measure(options.quick)
            path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

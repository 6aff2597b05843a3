"""Run every measurement and write one file with medians and ratios.

    python -m benchmarks.run [--quick] [--results FOLDER]

Writes benchmarks/results/<UTC time>.json and prints it. ``make bench`` measures the compiled wheel.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import accept, dicom_store, end_to_end, endurance
from gateway.mapping import walking

RESULTS = Path(__file__).resolve().parent / "results"
SCRIPTS = ("mapping_oru", "journal_append")


def script(name: str) -> Any:
    """Run one measuring script that prints a JSON object."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def reader() -> Any:
    """The reader's script prints a table for people and writes its figures into a file."""
    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as folder:
        path = Path(folder) / "figures.json"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.hl7_reader", "--json", str(path)],
            check=True,
            capture_output=True,
        )
        return json.loads(path.read_text(encoding="utf-8"))


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for the file")
    options = parser.parse_args()
    quick: bool = options.quick
    figures: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "compiled": not str(walking.__file__).endswith(".py"),
            "sqlite": sqlite3.sqlite_version,
            "system": platform.platform(),
        },
    }
    print("measuring hl7_reader …", file=sys.stderr)
    figures["hl7_reader"] = reader()
    for name in SCRIPTS:
        print(f"measuring {name} …", file=sys.stderr)
        figures[name] = script(name)
    print("measuring accept …", file=sys.stderr)
    figures["accept"] = accept.measure(1 if quick else 5, 1.0 if quick else 3.0)
    print("measuring dicom_store …", file=sys.stderr)
    figures["dicom_store"] = dicom_store.measure(1 if quick else 5, 0.1 if quick else 1.0)
    print("measuring endurance …", file=sys.stderr)
    figures["endurance"] = endurance.measure(10_000, 20_000 if quick else 200_000, 10)
    print("measuring end_to_end …", file=sys.stderr)
    figures["end_to_end"] = end_to_end.measure(5.0 if quick else 20.0, 100.0)
    text = json.dumps(figures, indent=2)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

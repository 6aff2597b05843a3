"""Run every measurement and write one file with medians and ratios.

    python -m benchmarks.run [--quick]

Writes benchmarks/results/<UTC time>.json and prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import accept, end_to_end

RESULTS = Path(__file__).resolve().parent / "results"
SCRIPTS = ("hl7_reader", "mapping_oru", "journal_append")


def script(name: str) -> Any:
    """Run one measuring script with ``--json``; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    quick = parser.parse_args().quick
    figures: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "system": platform.platform(),
        },
    }
    for name in SCRIPTS:
        print(f"measuring {name} …", file=sys.stderr)
        figures[name] = script(name)
    print("measuring accept …", file=sys.stderr)
    figures["accept"] = accept.measure(1 if quick else 5, 1.0 if quick else 3.0)
    print("measuring end_to_end …", file=sys.stderr)
    figures["end_to_end"] = end_to_end.measure(5.0 if quick else 20.0, 100.0)
    text = json.dumps(figures, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

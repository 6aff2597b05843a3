"""A gateway whose clock can be moved while it runs, by writing seconds into a file.

    python -m tests.chaos.clock FILE run --config …

Every instant that the gateway decides by comes from two places, and both are moved. (libfaketime does
this for any program, but makes every wait of a Python program slower by far.)
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.journal import times
from gateway.sources import SystemClock


def _moved_utc_now() -> datetime:
    return datetime.now(UTC) + offset()  # type: ignore[name-defined,no-any-return]  # noqa: F821


def main() -> None:
    """Move the clock with the file, then run the command line."""
    path = Path(sys.argv.pop(1))
    known: tuple[int, timedelta] = (-1, timedelta())

    def offset() -> timedelta:
        nonlocal known
        written = path.stat().st_mtime_ns
        if written != known[0]:
            known = (written, timedelta(seconds=int(path.read_text(encoding="ascii"))))
        return known[1]

    # Many modules hold the function itself, so it is its code that changes.
    times.offset = offset  # type: ignore[attr-defined]
    times.utc_now.__code__ = _moved_utc_now.__code__
    SystemClock.now = lambda self: times.utc_now()  # type: ignore[method-assign]
    from gateway.cli import main as command

    command()


if __name__ == "__main__":
    main()

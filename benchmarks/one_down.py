"""What deliveries to one destination cost while 100,000 wait for another that is down.

    python -m benchmarks.one_down [--url postgresql+psycopg://…] [--waiting 100000] [--turns 200]

Without --url on a fresh SQLite file; a given PostgreSQL database must be empty, and is left full.
Prints the median and the quickest by the clock and the least processor time (of this process and
the server's), in milliseconds, of what workers and the sweep do all the time, first with nothing
waiting and then with all of it, and the ratio of the least; exit 1 when one of them takes a tenth
longer than before, and more than 0.05 ms.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from benchmarks.journal_claim import _CONTENT, _DELIVERY, _ENTRIES, _MESSAGE, _SERIES
from benchmarks.turns import Work, compare, measure
from gateway.journal import deliveries, lanes, standings
from gateway.journal.journal import Journal
from gateway.shares import Shares

RATIO_MAX = 1.1
_SLACK_MILLISECONDS = 0.05
_LANES = 1_000
"""Lanes of the destination that is there, each with one delivery."""
_DOWN = "down"
_LANE = "lane (name, next_at, token, room)", "'p' || n || '@{to}', {at}, 0, '{to}/lab'"


def fill(journal: Journal, destination: str, first: int, last: int) -> None:
    """Deliveries numbered first to last, each in a lane of its own that is due."""
    words = (
        {"at": "'2026-11-22T08:00:00.000000+00:00'", "bytes": "BLOB"}
        if journal.dialect == "sqlite"
        else {"at": "CAST('2026-11-22T08:00:00+00:00' AS timestamptz)", "bytes": "bytea"}
    )
    with journal.write() as connection:
        for table, values in (_MESSAGE, _CONTENT, _ENTRIES, _DELIVERY, _LANE):
            given = values.replace("record'", f"{destination}'").replace("n % 50000", "n")
            made = given.format(to=destination, **words)
            statement = _SERIES[journal.dialect].format(made)
            if journal.dialect == "sqlite":
                statement = statement.replace("AS JSON)", "AS TEXT)")
            connection.execute(
                text(f"INSERT INTO {table} {statement}"), {"first": first, "last": last}
            )
    if journal.dialect == "postgresql":
        with journal.write() as connection:
            connection.execute(text("ANALYZE"))


def works(journal: Journal) -> dict[str, Work]:
    """What is done all the time for the destination that is there."""
    shares = Shares(["record", _DOWN])

    def turn(connection: Connection, number: int) -> None:
        now = journal.now()
        view = shares.look(connection, now)
        assert lanes.due(connection, now, 64, destination="record", rank=view.rank)
        lane = f"p{number + 1}@record"
        token = lanes.lease(connection, lane, "bench", timedelta(seconds=30), now)
        assert token is not None
        assert deliveries.claim(connection, lane, token, 8, now)
        lanes.release(connection, lane, token, now)

    def sweep(connection: Connection, _number: int) -> None:
        now = journal.now()
        found = lanes.due(connection, now, 100, rank=shares.look(connection, now).rank)
        assert not any(each.endswith(_DOWN) for each in found)

    return {"a worker's turn": turn, "the sweep": sweep}


def close(journal: Journal) -> None:
    """The other destination is left alone, by its breaker."""
    now = datetime.now(UTC)
    with journal.write() as connection:
        row = standings.lock(connection, _DOWN, now)
        until = now + timedelta(days=1)
        standings.store(connection, {**row, "breaker": "open", "until": until, "changed_at": now})


def run(url: str, waiting: int, turns: int) -> dict[str, Any]:
    """The figures on the empty database of the URL, or on a fresh SQLite file."""
    folder = Path(tempfile.mkdtemp(prefix="ecluse-bench-"))
    url = url or f"sqlite:///{folder / 'journal.sqlite'}"
    journal = Journal(url, blob_directory=folder / "blobs")
    try:
        journal.migrate()
        fill(journal, "record", 1, _LANES)
        close(journal)
        before = measure(journal, works(journal), turns)
        fill(journal, _DOWN, _LANES + 1, _LANES + waiting)
        after = measure(journal, works(journal), turns)
    finally:
        journal.close()
        shutil.rmtree(folder, ignore_errors=True)
    told, slow = compare(
        before, after, ("before_ms", "after_ms"), ratio_max=RATIO_MAX, slack=_SLACK_MILLISECONDS
    )
    return {"waiting": waiting, "figures": told, "too_slow": slow}


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="")
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=200)
    options = parser.parse_args()
    figures = run(options.url, options.waiting, options.turns)
    print(json.dumps(figures, indent=2))
    return 1 if figures["too_slow"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

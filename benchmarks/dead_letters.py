"""What the dead-letter desk and claiming cost with little and with much that waits.

    python benchmarks/dead_letters.py [--url postgresql+psycopg://…] [--waiting 1000 1000000]
                                      [--dead 1000 100000] [--turns 40]

Without --url on a fresh SQLite file; a given PostgreSQL database must be empty, and is left full.
Prints for the small and the large fill the median and the quickest by the clock and the least
processor time (of this process and the server's), in milliseconds, and the ratio of the least, as
JSON; exit 1 when something that the desk or a worker does all the time takes more than twice as
long with the large one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from benchmarks.journal_claim import _LETTER, _SERIES, fill
from benchmarks.turns import Work, compare, measure
from deadletter.triage import GROUPS_MAX
from gateway import figures
from gateway.console import letters
from gateway.console.desk_rows import cards
from gateway.journal import deadletters, deliveries, lanes, messages
from gateway.journal.deadletters import DeadLetterFilter, Resolution
from gateway.journal.journal import Journal
from gateway.model import Cause, CauseCode, Stage

RATIO_MAX = 2.0
_SLACK_MILLISECONDS = 0.3
"""A ratio of what takes no time says nothing."""
_GROUPS = (
    "INSERT INTO dead_letter_group (fingerprint, source, stage, cause_code, location, destination,"
    " open_count, total, first_at, last_at) SELECT fingerprint, source, min(stage),"
    " min(cause_code), '', '', count(*), count(*), min(buried_at), max(buried_at)"
    " FROM dead_letter WHERE resolved_at IS NULL GROUP BY fingerprint, source"
)


def fill_to(journal: Journal, before: tuple[int, int], after: tuple[int, int]) -> None:
    """From so many messages waiting and letters dead to so many."""
    fill(journal, before[0] + 1, after[0])
    at = (
        "'2026-11-22T08:00:00.000000+00:00'"
        if journal.dialect == "sqlite"
        else "CAST('2026-11-22T08:00:00+00:00' AS timestamptz)"
    )
    with journal.write() as connection:
        # The letters of the other benchmark go: here there are exactly so many.
        connection.execute(text("DELETE FROM dead_letter"))
        connection.execute(text("DELETE FROM dead_letter_group"))
        table, values = _LETTER
        statement = _SERIES[journal.dialect].format(values.format(at=at))
        connection.execute(
            text(f"INSERT INTO {table} {statement} WHERE true"), {"first": 1, "last": after[1]}
        )
        connection.execute(text(_GROUPS))
    if journal.dialect == "postgresql":
        with journal.write() as connection:
            connection.execute(text("ANALYZE"))


def works(journal: Journal, dead: int) -> dict[str, Work]:
    """What is done all the time."""
    now = datetime.now(UTC)
    page = deadletters.page

    def groups_page(connection: Connection, _turn: int) -> None:
        found = deadletters.groups(connection, limit=GROUPS_MAX, now=now)
        assert cards(connection, found)
        assert deadletters.count(connection, DeadLetterFilter()) == dead
        page(connection, DeadLetterFilter(resolved=True), limit=12)

    def letters_page(**wanted: object) -> Work:
        chosen = DeadLetterFilter(**wanted)  # type: ignore[arg-type]
        return lambda c, _turn: letters.read_letters(c, page(c, chosen, limit=50))

    def claim(connection: Connection, turn: int) -> None:
        lane = f"p{turn + 1}@record"
        due = lanes.due(connection, journal.now(), 100)
        assert due
        token = lanes.lease(connection, lane, "bench", timedelta(seconds=30), journal.now())
        if token is not None:
            deliveries.claim(connection, lane, token, 8, journal.now())
            lanes.release(connection, lane, token, journal.now())

    def bury_and_settle(connection: Connection, turn: int) -> None:
        cause = Cause(code=CauseCode.UNREADABLE, location="OBX-5")
        letter = deadletters.bury(connection, turn + 1, Stage.NORMALISE, cause)
        deadletters.resolve(connection, letter, Resolution.REPLAYED, actor="bench")

    return {
        "the desk's first page": groups_page,
        "the navigation's count": lambda c, _turn: figures.open_dead_letters(c),
        "newest 50 letters": letters_page(),
        "50 of a group": letters_page(fingerprint="f3"),
        "50 of a source": letters_page(source="lab"),
        "50 of a cause": letters_page(code="unreadable"),
        "50 from the middle": lambda c, _turn: page(
            c, DeadLetterFilter(), before_id=dead // 2, limit=50
        ),
        "one message's life": lambda c, turn: messages.events(c, turn + 1),
        "due lanes, claim of one": claim,
        "bury one and settle it": bury_and_settle,
    }


def run(url: str, waiting: Sequence[int], dead: Sequence[int], turns: int) -> dict[str, Any]:
    """The figures of a small and a large fill of so many messages and letters, on the empty
    database of the URL or on a fresh SQLite file."""
    folder = Path(tempfile.mkdtemp(prefix="ecluse-bench-"))
    url = url or f"sqlite:///{folder / 'journal.sqlite'}"
    journal = Journal(url, blob_directory=folder / "blobs")
    sizes = list(zip(waiting, dead, strict=True))
    try:
        journal.migrate()
        figures_of = []
        before = (0, 0)
        for size in sizes:
            fill_to(journal, before, size)
            figures_of.append(measure(journal, works(journal, size[1]), turns))
            before = size
    finally:
        journal.close()
        shutil.rmtree(folder, ignore_errors=True)
    small, large = figures_of
    told, slow = compare(
        small, large, ("small_ms", "large_ms"), ratio_max=RATIO_MAX, slack=_SLACK_MILLISECONDS
    )
    return {"sizes": sizes, "figures": told, "too_slow": slow}


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="")
    parser.add_argument("--waiting", type=int, nargs=2, default=[1_000, 1_000_000])
    parser.add_argument("--dead", type=int, nargs=2, default=[1_000, 100_000])
    parser.add_argument("--turns", type=int, default=40)
    options = parser.parse_args()
    figures = run(options.url, options.waiting, options.dead, options.turns)
    print(json.dumps(figures, indent=2))
    return 1 if figures["too_slow"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

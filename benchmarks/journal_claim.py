"""What a claim, a ring and a listing cost with 1,000 and with 1,000,000 messages waiting.

    python benchmarks/journal_claim.py [--url postgresql+psycopg://…] [--rows 1000 1000000]

Without --url on a fresh SQLite file. Fills one source lane and as many delivery
lanes as there are patients, straight in SQL, then measures medians of 50 calls.
Prints milliseconds and the ratio of the largest fill to the smallest, as JSON.
A given PostgreSQL database must be empty, and is left full.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from benchmarks.turns import Work, spent
from gateway.journal import deadletters, deliveries, lanes, messages
from gateway.journal.journal import Journal
from gateway.journal.messages import MessageFilter
from gateway.journal.states import MessageState
from gateway.model import Stage

_TURNS = 50
_SERIES = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM s WHERE n < :last)"
    " SELECT {} FROM s",
    "postgresql": "SELECT {} FROM generate_series(CAST(:first AS bigint), :last) AS s(n)",
}
_MESSAGE = (
    "message (id, sequence, source, format, kind, control_id, dedupe_key, group_key, lane, state,"
    " cause_code, cause_detail, cause_location, cause_protocol_code, sha256, size, encoding, peer,"
    " received_at, changed_at, attributes, arrivals, starts, mapping, mapping_version,"
    " mapping_digest, flags)",
    "n, n, 'lab', 'hl7v2', 'ORU^R01', 'C' || n, 'D' || n, '', 'in:lab',"
    " CASE WHEN n % 10 = 0 THEN 'dead' ELSE 'received' END,"
    " '', '', '', '', 'x', 4, '', '', {at}, {at}, CAST('{{}}' AS JSON), 1, 0, '', '', '',"
    " CAST('[]' AS JSON)",
)
_CONTENT = ("content (message_id, body, answer)", "n, CAST('body' AS {bytes}), CAST('' AS {bytes})")
_ENTRIES = (
    "normalised (message_id, entries, entries_size, attachments, mapping, version, digest)",
    "n, CAST('[]' AS {bytes}), 2, CAST('[]' AS JSON), 'm', '1', ''",
)
_DELIVERY = (
    "delivery (id, message_id, lane, patient_id, destination, sequence, idempotency_key, state,"
    " attempts, starts, unfinished, cause_code, cause_detail, cause_location,"
    " cause_protocol_code, evidence, merged_patients, created_at, changed_at)",
    "n, n, 'p' || n % 50000 || '@record', 'p' || n % 50000, 'record', n, 'k' || n, 'pending',"
    " 0, 0, 0, '', '', '', '', '', CAST('[]' AS JSON), {at}, {at}",
)
_LANE = ("lane (name, next_at, token)", "'p' || n || '@record', {at}, 0")
_LETTER = (
    "dead_letter (message_id, source, stage, cause_code, cause_detail, cause_location,"
    " cause_protocol_code, fingerprint, buried_at, attempts, reason, actor)",
    "n, 'lab', 'normalise', 'unreadable', '', 'OBX-5', '', 'f' || n % 5, {at}, 1, '', ''",
)


def fill(journal: Journal, first: int, last: int) -> None:
    """Rows numbered first to last, a tenth of them dead."""
    words = (
        {"at": "'2026-11-22T08:00:00.000000+00:00'", "bytes": "BLOB"}
        if journal.dialect == "sqlite"
        else {"at": "CAST('2026-11-22T08:00:00+00:00' AS timestamptz)", "bytes": "bytea"}
    )
    with journal.write() as connection:
        for table, values in (_MESSAGE, _CONTENT, _ENTRIES, _DELIVERY):
            statement = _SERIES[journal.dialect].format(values.format(**words))
            if journal.dialect == "sqlite":
                statement = statement.replace("AS JSON)", "AS TEXT)")
            connection.execute(
                text(f"INSERT INTO {table} {statement}"), {"first": first, "last": last}
            )
        for (table, values), span in ((_LANE, 50_000), (_LETTER, 100_000)):
            statement = _SERIES[journal.dialect].format(values.format(**words))
            connection.execute(
                text(f"INSERT INTO {table} {statement} WHERE true ON CONFLICT DO NOTHING"),
                {"first": first, "last": min(last, first + span)},
            )
        lanes.ring(connection, "in:lab", journal.now())
    if journal.dialect == "postgresql":
        with journal.write() as connection:
            connection.execute(text("ANALYZE"))


def median(journal: Journal, work: Work, turns: int = _TURNS) -> float:
    """Milliseconds of one transaction that does the work."""
    return statistics.median(spent(journal, work, turns)[0])


def claim_messages(token: int) -> Work:
    def work(connection: Connection, _turn: int) -> None:
        for message in messages.claim(connection, "in:lab", token, 8):
            messages.move(
                connection, message.id, MessageState.UNMAPPED, event="x", stage=Stage.NORMALISE
            )

    return work


def drain_a_lane(journal: Journal) -> Work:
    def work(connection: Connection, turn: int) -> None:
        lane = f"p{turn + 1}@record"
        now = journal.now()
        token = lanes.lease(connection, lane, "bench", timedelta(seconds=30), now)
        assert token is not None
        deliveries.claim(connection, lane, token, 8, now)
        lanes.release(connection, lane, token, now)

    return work


def measure(journal: Journal) -> dict[str, float]:
    """Medians in milliseconds of what is done all the time."""
    with journal.write() as connection:
        token = lanes.lease(connection, "in:lab", "bench", timedelta(hours=1), journal.now())
    assert token is not None
    dead = MessageFilter(states=(MessageState.DEAD,))
    often: dict[str, Work] = {
        "empty transaction": lambda _c, _t: None,
        "claim and move 8 messages": claim_messages(token),
        "lease, claim, release a lane": drain_a_lane(journal),
        "100 due lanes": lambda c, _t: lanes.due(c, journal.now(), 100),
        "newest 50 messages": lambda c, _t: messages.page(c, MessageFilter(), limit=50),
        "newest 50 dead messages": lambda c, _t: messages.page(c, dead, limit=50),
    }
    rarely: dict[str, Work] = {
        "dead-letter groups": lambda c, _t: deadletters.groups(c),
        "counts by source and state": lambda c, _t: messages.counts(c),
        "ledger": lambda c, _t: messages.ledger(c),
    }
    return {
        **{name: median(journal, work) for name, work in often.items()},
        **{name: median(journal, work, 3) for name, work in rarely.items()},
    }


def run(url: str, sizes: Sequence[int]) -> dict[str, Any]:
    """The figures with so many rows, on the empty database of the URL or on a fresh SQLite file."""
    folder = Path(tempfile.mkdtemp(prefix="ecluse-bench-"))
    url = url or f"sqlite:///{folder}/journal.sqlite"
    found: dict[int, dict[str, float]] = {}
    try:
        journal = Journal(url, blob_directory=folder / "blobs")
        journal.migrate()
        there = 0
        for rows in sorted(sizes):
            fill(journal, there + 1, rows)
            there = rows
            found[rows] = measure(journal)
            with journal.write() as connection:
                connection.execute(text("UPDATE lane SET lease_owner = NULL, lease_until = NULL"))
        journal.close()
    finally:
        shutil.rmtree(folder)
    least, most = found[min(found)], found[max(found)]
    return {
        "database": url.split(":", maxsplit=1)[0],
        "milliseconds": {
            rows: {name: round(ms, 2) for name, ms in values.items()}
            for rows, values in found.items()
        },
        "ratio": {name: round(most[name] / least[name], 1) for name in most},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 1_000_000])
    options = parser.parse_args()
    print(json.dumps(run(options.url, options.rows), indent=2))


if __name__ == "__main__":
    main()

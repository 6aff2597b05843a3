"""How many messages of 2 kB a second the journal keeps, durably, beside a bare loop.

    python benchmarks/journal_append.py [--messages 20000] [--submitters 64] [--rounds 5]

Each round measures, one after the other on fresh files: the journal (SQLite, WAL,
synchronous=FULL) with N threads that each wait for their commit before the next
message; the same with N asyncio tasks; and a bare sqlite3 loop that inserts the
same bytes with the same settings and the same number of rows per commit.
Prints medians, and the ratios of medians of the same run, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.writer import GroupWriter
from gateway.model import Format, Payload, Received

_SIZE = 2000


def messages(count: int) -> list[Received]:
    """Distinct messages of 2 kB from one source."""
    body = b"OBX|1|NM|718-7^Hemoglobin^LN||13.2|g/dL|12.0-16.0|N|||F\r" * 40
    now = datetime.now(UTC)
    made = []
    for number in range(count):
        head = f"MSH|^~\\&|LAB|H|ECLUSE|R|20261122||ORU^R01|{number:010d}|P|2.5\r".encode()
        made.append(
            Received(
                source="lab",
                format=Format.HL7V2,
                payload=Payload.from_bytes((head + body)[:_SIZE]),
                received_at=now,
                peer="127.0.0.1:40000",
                control_id=f"{number:010d}",
                kind="ORU^R01",
                answer=head + b"MSA|AA|1\r",
            )
        )
    return made


def with_threads(writer: GroupWriter, received: list[Received], submitters: int) -> None:
    def submit(mine: list[Received]) -> None:
        for one in mine:
            writer.submit(one, state=MessageState.RECEIVED, lane="in:lab").result(30)

    threads = [
        threading.Thread(target=submit, args=(received[start::submitters],))
        for start in range(submitters)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def with_tasks(writer: GroupWriter, received: list[Received], submitters: int) -> None:
    async def submit(mine: list[Received]) -> None:
        for one in mine:
            await asyncio.wrap_future(
                writer.submit(one, state=MessageState.RECEIVED, lane="in:lab")
            )

    async def run() -> None:
        await asyncio.gather(*(submit(received[start::submitters]) for start in range(submitters)))

    asyncio.run(run())


def journal_rate(
    folder: Path,
    received: list[Received],
    submitters: int,
    drive: Callable[[GroupWriter, list[Received], int], None],
) -> tuple[float, float]:
    """Messages a second, and messages per commit."""
    journal = Journal(f"sqlite:///{folder}/journal.sqlite", blob_directory=folder / "blobs")
    journal.migrate()
    commits = 0

    def count(_lanes: set[str]) -> None:
        nonlocal commits
        commits += 1

    writer = GroupWriter(journal, on_commit=count)
    writer.start()
    began = time.perf_counter()
    drive(writer, received, submitters)
    seconds = time.perf_counter() - began
    writer.stop()
    journal.close()
    return len(received) / seconds, len(received) / commits


def bare_rate(folder: Path, received: list[Received], batch: int) -> float:
    """The same bytes in one table with one unique key, ``batch`` rows per commit."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, key TEXT UNIQUE, body BLOB)")
    rows = [(one.payload.sha256, one.payload.data) for one in received]
    began = time.perf_counter()
    for start in range(0, len(rows), batch):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO bare (key, body) VALUES (?, ?)", rows[start : start + batch]
        )
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    return len(rows) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--submitters", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    options = parser.parse_args()
    received = messages(options.messages)
    rates: dict[str, list[float]] = {"threads": [], "tasks": [], "bare": []}
    batches = []
    for _ in range(options.rounds):
        for name, drive in (("threads", with_threads), ("tasks", with_tasks)):
            folder = Path(tempfile.mkdtemp(dir=options.folder))
            try:
                rate, batch = journal_rate(folder, received, options.submitters, drive)
                rates[name].append(rate)
                if name == "tasks":
                    batches.append(batch)
                    rates["bare"].append(bare_rate(folder, received, round(batch)))
            finally:
                shutil.rmtree(folder)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(
        json.dumps(
            {
                "messages": options.messages,
                "bytes": _SIZE,
                "submitters": options.submitters,
                "rounds": options.rounds,
                "messages_per_second": {name: round(rate) for name, rate in medians.items()},
                "spread": {n: [round(min(v)), round(max(v))] for n, v in rates.items()},
                "messages_per_commit": round(statistics.median(batches), 1),
                "ratio_to_bare": {
                    name: round(medians[name] / medians["bare"], 2) for name in ("threads", "tasks")
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

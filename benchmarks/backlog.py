"""How fast a backlog of mapped messages goes into the built-in record.

    python -m benchmarks.backlog [--messages 2000] [--patients 0] [--rounds 5] [--store both]

Results of 13 tests each are taken, read and mapped by the gateway's own stages and wait, their
deliveries due, each patient's in a lane of his own; that is not measured. Each round copies this
journal, drains it with the workers of the default configuration in this process, and checks that
every message is in the record exactly once. For SQLite with the embedded broker, and for PostgreSQL
with Redis, both servers private and without any tuning.

Prints medians of deliveries and entries (resources that the mapping made; the record's own
Provenance of each message is not counted) a second of wall clock, and processor time a delivery
(on PostgreSQL with that of its backends); beside them the rate of a bare loop that inserts the
rows that the same round left in the record's tables, as many messages in a transaction, through
the database's driver, and the ratio to it. The loop judges, locks and notes nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from benchmarks import bare_record
from benchmarks.mapping_oru import messages
from gateway.delivery_side import make_destinations, make_pool, make_record, retry_policy
from gateway.demo.people import ins_with_key
from gateway.drain import Drainer
from gateway.garbage import calm_collector
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.writer import GroupWriter
from gateway.mapping_side import load_library, make_normaliser
from gateway.model import Format, Payload, Received
from gateway.normalise import Normaliser
from gateway.opening import open_journal
from gateway.settings import Settings
from gateway.worker import WorkerPool
from tests.eventually import eventually
from tests.servers import Postgres, Redis, running_postgres, running_redis

STORES = ("sqlite", "postgresql")
SOURCE = "lab"
_SETTLE_SECONDS = 3_600.0
_INS = re.compile(rb"~([0-9]{13})[0-9]{2}\^")
_PID = re.compile(rb"\rPID\|[^\r]*")
_LEFT = text("SELECT 1 FROM delivery WHERE state = 'pending' LIMIT 1")


@dataclass(frozen=True)
class Site:
    """Where the backlog of one store waits, and what it needs."""

    folder: Path
    waiting: Settings
    messages: int
    references: frozenset[str]
    """All that its entries put, without what the record adds."""
    entries: int
    postgres: Postgres | None = None
    redis: Redis | None = None


@dataclass(frozen=True)
class Round:
    """One round: seconds of wall clock and of processor time, and the bare loop's seconds."""

    seconds: float
    processor: float
    bare: float
    group: int
    """Messages in one transaction, the mean."""


def settings_of(state: Path, journal: str = "", broker: str = "") -> Settings:
    """The default configuration with one source."""
    listen = {"name": SOURCE, "type": "mllp", "listen": "127.0.0.1:0"}
    tree: dict[str, Any] = {"state": str(state), "sources": [listen]}
    if journal:
        tree |= {"journal": {"url": journal}, "broker": {"url": broker}}
    return Settings.model_validate(tree)


def results(count: int, patients: int) -> list[bytes]:
    """Messages, no two of one patient; or of so many patients in turns. With right keys, so that
    the index of patients takes them."""
    made = [_INS.sub(_with_key, each) for each in messages(count)]
    if not patients:
        return made
    who = [found[0] for each in made[:patients] if (found := _PID.search(each))]
    return [
        _PID.sub(lambda _, place=place: who[place % patients], each)  # type: ignore[misc]
        for place, each in enumerate(made)
    ]


def _with_key(found: re.Match[bytes]) -> bytes:
    return b"~%b^" % ins_with_key(found[1].decode()).encode()


def drainer_of(settings: Settings, journal: Journal, normaliser: Normaliser) -> Drainer:
    """What works on the lanes, the record among them, as ``make_drainer`` makes it."""
    record = make_record(settings, journal)
    return Drainer(
        journal,
        normaliser,
        make_destinations(settings, record, journal),
        policy=retry_policy(settings),
    )


def accept(journal: Journal, bodies: Sequence[bytes]) -> None:
    """Keep messages as the door does."""
    writer = GroupWriter(journal)
    writer.start()
    now = datetime.now(UTC)
    kept = [
        writer.submit(
            Received(
                source=SOURCE,
                format=Format.HL7V2,
                payload=Payload.from_bytes(body),
                received_at=now,
                peer="127.0.0.1:40000",
                control_id=str(place),
                kind="ORU^R01",
                answer=b"",
            ),
            state=MessageState.RECEIVED,
            lane=f"in:{SOURCE}",
        )
        for place, body in enumerate(bodies)
    ]
    for each in kept:
        each.result(600)
    writer.stop()


def fill(
    settings: Settings, bodies: Sequence[bytes], normaliser: Normaliser
) -> tuple[frozenset[str], int]:
    """Take messages through stages 1 to 5; what their entries put, and how many they are."""
    journal = open_journal(settings, read_only=False)
    try:
        drainer = drainer_of(settings, journal, normaliser)
        for first in range(0, len(bodies), 5_000):
            accept(journal, bodies[first : first + 5_000])
            while drainer.drain(f"in:{SOURCE}"):
                pass
        references: set[str] = set()
        entries = 0
        with journal.read() as connection:
            for (stored,) in connection.execution_options(stream_results=True).execute(
                text("SELECT entries FROM normalised")
            ):
                for each in json.loads(bytes(stored)):
                    references.add(f"{each['resource']['resourceType']}/{each['resource']['id']}")
                    entries += 1
            waits = connection.execute(
                text("SELECT count(*) FROM delivery WHERE state = 'pending'")
            ).scalar_one()
        assert waits == len(bodies), f"{waits} of {len(bodies)} wait for delivery"
    finally:
        journal.close()
    return frozenset(references), entries


def drain(settings: Settings, normaliser: Normaliser) -> tuple[float, float]:
    """Seconds of wall clock, and of this process and of its connections' backends."""
    pools: list[WorkerPool] = []

    def ring(lanes: frozenset[str]) -> None:
        for each in pools:
            each.ring_all(lanes)

    journal = open_journal(settings, read_only=False, on_ring=ring)
    try:
        pool = make_pool(settings, journal, drainer_of(settings, journal, normaliser))
        pools.append(pool)

        def ended() -> bool:
            with journal.read() as connection:
                return connection.execute(_LEFT).first() is None

        before, began = _processor(journal), time.perf_counter()
        pool.start()
        try:
            eventually(ended, timeout=_SETTLE_SECONDS, every=0.02)
            seconds = time.perf_counter() - began
            spent = _processor(journal) - before
        finally:
            pool.stop()
    finally:
        journal.close()
    return seconds, spent


def _processor(journal: Journal) -> float:
    """Seconds of processor time of this process, and of the server's processes that live."""
    spent = time.process_time()
    if journal.dialect == "postgresql":
        with journal.read() as connection:
            mine = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        for each in psutil.Process(psutil.Process(mine).ppid()).children():
            times = each.cpu_times()
            spent += times.user + times.system
    return spent


def verify(settings: Settings, site: Site) -> None:
    """Every message is delivered, by one attempt, and everything is there exactly once."""
    journal = open_journal(settings, read_only=True)
    try:
        with journal.read() as connection:

            def one(statement: str) -> int:
                return int(connection.execute(text(statement)).scalar_one())

            expected = {
                "SELECT count(*) FROM delivery WHERE state = 'delivered'": site.messages,
                "SELECT count(*) FROM message WHERE state = 'delivered'": site.messages,
                "SELECT count(*) FROM attempt WHERE outcome = 'delivered'": site.messages,
                "SELECT count(*) FROM attempt": site.messages,
                "SELECT count(*) FROM dead_letter": 0,
                "SELECT count(*) FROM record_entry": len(site.references) + site.messages,
                "SELECT count(*) FROM record_entry WHERE type = 'Provenance'": site.messages,
                # Of one message an entry has one version; with one hash it has one at all.
                "SELECT count(*) FROM (SELECT entry_key FROM record_entry_version"
                " GROUP BY entry_key, message_id HAVING count(*) > 1) AS twice": 0,
                "SELECT count(*) FROM record_entry AS e WHERE e.versions <> (SELECT count(*)"
                " FROM record_entry_version AS v WHERE v.entry_key = e.key)": 0,
            }
            for statement, wanted in expected.items():
                found = one(statement)
                assert found == wanted, f"{found}, not {wanted}: {statement}"
            there = {
                row[0] for row in connection.execute(text("SELECT reference FROM record_entry"))
            }
            assert site.references <= there, "not all entries are in the record"
    finally:
        journal.close()


@contextmanager
def prepared(store: str, count: int, patients: int, normaliser: Normaliser) -> Iterator[Site]:
    """A backlog that waits in one store; everything ends with the block."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="ecluse-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = redis = None
        waiting = settings_of(folder / "waiting")
        if store == "postgresql":
            postgres = stack.enter_context(running_postgres())
            redis = stack.enter_context(running_redis())
            waiting = settings_of(folder / "waiting", postgres.fresh_database(), redis.url)
        references, entries = fill(waiting, results(count, patients), normaliser)
        yield Site(folder, waiting, count, references, entries, postgres, redis)


def copied(site: Site, number: int) -> Settings:
    """The settings of a copy of the backlog."""
    state = site.folder / f"round-{number}"
    if site.postgres is None or site.redis is None:
        shutil.copytree(site.waiting.state, state)
        return settings_of(state)
    url = site.postgres.fresh_database(like=site.waiting.journal.url)
    return settings_of(state, url, site.redis.url)


def play(site: Site, number: int, normaliser: Normaliser) -> Round:
    """One round."""
    settings = copied(site, number)
    seconds, processor = drain(settings, normaliser)
    verify(settings, site)
    journal = open_journal(settings, read_only=True)
    try:
        groups = bare_record.groups(journal)
    finally:
        journal.close()
    size = round(statistics.mean(len(each.messages) for each in groups))
    if site.postgres is None:
        bare = bare_record.sqlite_seconds(site.folder / f"bare-{number}.sqlite", groups)
        shutil.rmtree(settings.state)
    else:
        bare = bare_record.postgresql_seconds(site.postgres.fresh_database(), groups)
    return Round(seconds, processor, bare, size)


def told(site: Site, rounds: Sequence[Round]) -> dict[str, Any]:
    """What is printed of one store."""
    seconds = statistics.median(each.seconds for each in rounds)
    bare = statistics.median(each.bare for each in rounds)
    return {
        "messages": site.messages,
        "entries_per_message": round(site.entries / site.messages, 1),
        "rounds": len(rounds),
        "deliveries_per_second": round(site.messages / seconds),
        "entries_per_second": round(site.entries / seconds),
        "spread": [
            round(site.entries / max(each.seconds for each in rounds)),
            round(site.entries / min(each.seconds for each in rounds)),
        ],
        "processor_ms_per_delivery": round(
            1000 * statistics.median(each.processor for each in rounds) / site.messages, 2
        ),
        "messages_per_transaction": round(statistics.mean(each.group for each in rounds)),
        "bare_entries_per_second": round(site.entries / bare),
        "ratio_to_bare": round(statistics.median(each.bare / each.seconds for each in rounds), 2),
    }


def measure(stores: Sequence[str], count: int, patients: int, rounds: int) -> dict[str, Any]:
    """The figures of each store."""
    found = {}
    for store in stores:
        with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
            settings = settings_of(Path(name))
            normaliser = make_normaliser(settings, load_library(settings))
            calm_collector()
        with prepared(store, count, patients, normaliser) as site:
            played = [play(site, number, normaliser) for number in range(rounds)]
            found[store] = told(site, played)
    return found


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--patients", type=int, default=0, help="0: no two messages of one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", choices=[*STORES, "both"], default="both")
    options = parser.parse_args()
    stores = STORES if options.store == "both" else (options.store,)
    figures = measure(stores, options.messages, options.patients, options.rounds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

"""Several listeners and workers over one PostgreSQL, told by Redis or by PostgreSQL alone, each
restarted in turn while clients send: nothing is lost, doubled or out of order."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.broker import make_broker
from gateway.journal import chain, consistency, messages
from gateway.journal.chain import Verified
from gateway.journal.journal import Journal
from gateway.journal.times import utc_now
from gateway.worker import WorkerPool
from tests.eventually import eventually
from tests.integration.pipeline.conftest import empty
from tests.integration.pipeline.rig import Rig, ToyRecord, ToyRemote, national, recorded

PATIENTS = 7


class Member:
    """What one process has: a connection pool, a writer, and workers or none."""

    def __init__(
        self, url: str, folder: Path, remote: ToyRemote, *, broker: str, threads: int
    ) -> None:
        self.url, self.folder, self.remote = url, folder, remote
        self.broker, self.threads = broker, threads
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.url, blob_directory=self.folder / "blobs", now=utc_now)
        record = ToyRecord.__new__(ToyRecord)
        record.name, record.answers = "record", {}
        self.rig = Rig(self.journal, utc_now, destinations=[record, self.remote])
        self.pool = WorkerPool(
            self.journal,
            self.rig.drainer,
            make_broker(self.broker),
            threads=self.threads,
            notify=self.url if self.broker == "postgresql" else "",
            sweep_seconds=20,
        )
        self.journal.on_ring = self.pool.ring_all
        self.pool.start()

    def stop(self) -> None:
        """As on SIGTERM: take no more, finish what is in hand, give the lanes back."""
        self.rig.writer.stop()
        self.pool.stop()
        self.journal.close()

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture
def database(migrated_postgres: str, tmp_path: Path) -> str:
    empty(migrated_postgres)
    journal = Journal(migrated_postgres, blob_directory=tmp_path / "blobs", now=utc_now)
    ToyRecord(journal)
    journal.close()
    return migrated_postgres


@pytest.mark.parametrize("broker", ["redis", "postgresql"])
def test_a_rolling_restart_loses_nothing(
    database: str, tmp_path: Path, broker: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("redis_url") if broker == "redis" else broker
    remote = ToyRemote()
    listeners = [Member(database, tmp_path, remote, broker=url, threads=0) for _ in range(2)]
    workers = [Member(database, tmp_path, remote, broker=url, threads=2) for _ in range(2)]
    acknowledged: list[int] = []
    stop = threading.Event()

    def client(number: int) -> None:
        """Sends one after the other, and what was not acknowledged once more, to another."""
        count = number
        while not stop.is_set():
            content = {"patient": [national(count % PATIENTS)], "facts": [f"f{count}"]}
            for attempt in range(50):
                listener = listeners[(number + attempt) % 2]
                try:
                    future = listener.rig.submit(
                        content, control_id=f"C{count}", source=f"s{number}"
                    )
                    future.result(timeout=20)
                except Exception:
                    stop.wait(0.05)
                    continue
                acknowledged.append(count)
                break
            count += 3

    clients = [threading.Thread(target=client, args=[n]) for n in range(3)]
    for thread in clients:
        thread.start()
    for member in [*listeners, *workers]:
        seen = len(acknowledged)
        eventually(lambda seen=seen: len(acknowledged) > seen + 15, timeout=30)
        member.restart()
    seen = len(acknowledged)
    eventually(lambda: len(acknowledged) > seen + 15, timeout=30)
    stop.set()
    for thread in clients:
        thread.join(30)
    journal = workers[0].journal
    # Well before the next sweep: the listeners' rings are heard by the workers.
    eventually(lambda: len(recorded(journal)) >= len(acknowledged), timeout=15)
    eventually(lambda: len(remote.order) >= len(acknowledged), timeout=15)
    expected = sorted(f"f{n}" for n in acknowledged)
    assert sorted(fact for _, fact, _ in recorded(journal)) == expected
    assert sorted(fact for _, fact in remote.order) == expected
    for rows in (recorded(journal), [(p, f, 0) for p, f in remote.order]):
        for client_number in range(3):
            mine = [int(f[1:]) for _, f, _ in rows if int(f[1:]) % 3 == client_number % 3]
            by_patient: dict[int, list[int]] = {}
            for number in mine:
                by_patient.setdefault(number % PATIENTS, []).append(number)
            assert all(each == sorted(each) for each in by_patient.values())

    def settled() -> bool:
        with journal.read() as connection:
            line = messages.ledger(connection)
        return sum(each.delivered for each in line.values()) == len(acknowledged)

    eventually(settled, timeout=15)
    with journal.read() as connection:
        assert list(consistency.check(connection)) == []
        found = Verified()
        assert list(chain.verify(connection, found)) == []
        assert found.messages == len(acknowledged)
    for member in [*listeners, *workers]:
        member.stop()

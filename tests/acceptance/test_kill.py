"""kill -9, ten rounds: every acknowledged message is in the record exactly once, in order.

Each connection belongs to patients of its own. A patient's messages correct one and the same
observation, with the values 1, 2, 3 …; an answer that does not come is asked for again with the
same bytes. So the observation's history in the record must read 1, 2, 3 … without a gap, a
repetition or an exchange, whatever was killed in between.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.demo.people import TEST_ROOT, ins_with_key
from tests.acceptance.gateway_process import GatewayProcess
from tests.eventually import eventually
from tests.servers import Postgres, Redis, running_postgres, running_redis

ROUNDS = 10
CONNECTIONS = 6
PATIENTS_PER_CONNECTION = 2


@dataclass
class Sender(threading.Thread):
    """A stop-and-wait MLLP client that resends until it is answered positively."""

    number: int
    port: int
    stop: threading.Event
    acknowledged: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    resent: int = 0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.patients = [
            ins_with_key(f"1{50 + self.number:02d}0169{100 + n:03d}{100 + self.number:03d}")
            for n in range(PATIENTS_PER_CONNECTION)
        ]
        self.acknowledged = dict.fromkeys(self.patients, 0)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        turn = 0
        connection: socket.socket | None = None
        while not self.stop.is_set():
            patient = self.patients[turn % len(self.patients)]
            value = self.acknowledged[patient] + 1
            message = oru(patient, value)
            while not self.stop.is_set():
                try:
                    connection = connection or socket.create_connection(
                        ("127.0.0.1", self.port), timeout=10
                    )
                    connection.sendall(b"\x0b" + message + b"\x1c\r")
                    answer = read_frame(connection)
                except OSError:
                    if connection is not None:
                        connection.close()
                    connection = None
                    self.resent += 1
                    time.sleep(0.02)
                    continue
                if b"\rMSA|AA|" in answer:
                    self.acknowledged[patient] = value
                elif b"\rMSA|AR|" in answer:
                    continue  # not kept: the sender tries again
                else:
                    self.wrong.append(answer.decode("latin-1"))
                    return
                break
            turn += 1
        if connection is not None:
            connection.close()


def read_frame(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\x1c\r"):
        block = connection.recv(65536)
        if not block:
            raise ConnectionResetError("closed before an answer")
        data += block
    return data


def oru(patient: str, value: int) -> bytes:
    return (
        f"MSH|^~\\&|SGL|LABO|ECLUSE|CHU|20261120101500+0100||ORU^R01^ORU_R01|{patient}-{value}|P|2.5"
        "|||||FRA|UNICODE UTF-8\r"
        f"PID|1||{patient}^^^ASIP-SANTE-INS-NIR&{TEST_ROOT}&ISO^INS||ESSAI^PATIENT^^^^^L"
        "||19500101|M\r"
        f"OBR|1||{patient}^LABO&2.999.250.2&ISO|2345-7^Glucose^LN|||20261120101500+0100"
        "|||||||||||||||20261120101500+0100||LAB|C\r"
        f"OBX|1|NM|2345-7^Glucose^LN||{value}|mmol/L|||||C|||20261120101500+0100\r"
    ).encode()


def history(gateway: GatewayProcess, patient: str) -> list[str]:
    """The values of the patient's observation in the order in which the record took them."""
    found = gateway.get("/fhir/Patient", identifier=f"urn:oid:{TEST_ROOT}|{patient}")
    (entry,) = found["entry"]
    observations = gateway.get("/fhir/Observation", patient=entry["resource"]["id"])
    (observation,) = observations["entry"]
    versions: dict[int, str] = {}
    path: str | None = f"/fhir/Observation/{observation['resource']['id']}/_history?_count=500"
    while path:
        bundle = gateway.get(path)
        for item in bundle["entry"]:
            resource = item["resource"]
            version = int(resource["meta"]["versionId"])
            versions[version] = str(resource["valueQuantity"]["value"])
        following = [link["url"] for link in bundle.get("link", []) if link["relation"] == "next"]
        path = following[0].removeprefix(gateway.url) if following else None
    return [versions[version] for version in sorted(versions)]


@pytest.fixture
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GatewayProcess]:
    made: list[GatewayProcess] = []

    def finish() -> None:
        for process in made:
            if process.process is not None and process.process.poll() is None:
                process.kill()

    process = GatewayProcess(tmp_path / "gateway")
    made.append(process)
    yield process
    finish()


def play(gateway: GatewayProcess, seed: int, also_kill: Callable[[int], None]) -> None:
    """Send from several connections and kill at random moments; then compare."""
    chance = random.Random(seed)
    gateway.start()
    stop = threading.Event()
    senders = [Sender(number, gateway.mllp_port, stop) for number in range(CONNECTIONS)]
    for sender in senders:
        sender.start()
    for number in range(ROUNDS):
        # The wait is the randomness of the moment, not a wait for something to happen.
        time.sleep(chance.uniform(0.15, 0.9))
        gateway.kill()
        also_kill(number)
        gateway.start()
    before = sum(sum(sender.acknowledged.values()) for sender in senders)
    eventually(lambda: sum(sum(s.acknowledged.values()) for s in senders) > before, timeout=30)
    stop.set()
    for sender in senders:
        sender.join(timeout=30)
        assert not sender.is_alive()
        assert not sender.wrong, sender.wrong[0]
    eventually(gateway.settled, timeout=60, every=0.1)
    total = 0
    for sender in senders:
        for patient, count in sender.acknowledged.items():
            values = history(gateway, patient)
            # The last message may have been kept without its answer having been read.
            expected = [str(n) for n in range(1, len(values) + 1)]
            assert values == expected, f"seed {seed}: doubled, lost or out of order"
            assert count <= len(values) <= count + 1, f"seed {seed}: acknowledged but not there"
            total += count
    resent = sum(sender.resent for sender in senders)
    print(f"seed {seed}: {total} acknowledged, {resent} sent again, {gateway.starts} starts")
    assert total > ROUNDS * CONNECTIONS


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_killed_on_sqlite(gateway: GatewayProcess) -> None:
    play(gateway, random.SystemRandom().randrange(1 << 30), lambda _: None)


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_killed_on_postgresql_with_redis(gateway: GatewayProcess) -> None:
    with running_postgres() as postgres, running_redis() as redis_server:
        gateway.journal_url = postgres.fresh_database()
        gateway.broker_url = redis_server.url

        def also(number: int) -> None:
            _kill_one(number, postgres, redis_server)

        play(gateway, random.SystemRandom().randrange(1 << 30), also)


def _kill_one(number: int, postgres: Postgres, redis_server: Redis) -> None:
    """Redis dies with the gateway in every other round, PostgreSQL in every fifth."""
    if number % 2 == 0:
        redis_server.kill()
        redis_server.start()
    if number % 5 == 4:
        postgres.kill()
        postgres.start()

"""Two gateway processes over PostgreSQL and Redis with a FHIR server elsewhere: one is frozen in
the middle of an attempt, the other goes on; a person pauses and drains; everything is verified."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hl7.client import MLLPClient

from tests import fhir_server
from tests.acceptance.gateway_process import HTTP, GatewayProcess
from tests.eventually import eventually
from tests.fhir_server import FhirServer
from tests.integration.faces import messages as hl7

pytestmark = pytest.mark.acceptance

LEASE_SECONDS = 5


class Pair:
    """Two gateways of one journal, and the server elsewhere."""

    def __init__(self, folder: Path, journal: str, broker: str) -> None:
        self.server = FhirServer()
        self.gateways = [
            GatewayProcess(folder / name, journal_url=journal, broker_url=broker)
            for name in ("a", "b")
        ]
        for gateway in self.gateways:
            gateway.extra = {
                "worker": {"lease_seconds": LEASE_SECONDS, "mapping_processes": 0},
                "journal": {"url": journal, "blobs": str(folder / "blobs")},
                "sources": [
                    {"name": "lab", "type": "mllp", "listen": f"127.0.0.1:{gateway.mllp_port}"}
                ],
                "destinations": [
                    {"name": "record"},
                    {
                        "name": "region", "type": "fhir", "url": self.server.url,
                        "timeout_seconds": 4, "connections": 1,
                        "breaker": {"failures": 3, "open_seconds": 1},
                        "retry": {"base_seconds": 0.2, "cap_seconds": 1},
                    },
                ],
            }  # fmt: skip

    def send(self, message: bytes, gateway: int = 0) -> bytes:
        port = self.gateways[gateway].mllp_port
        with MLLPClient("127.0.0.1", port, encoding="utf-8") as client:
            answer: bytes = client.send_message(message.decode("utf-8"))
        return answer


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, postgres: Any, redis_server: Any
) -> Iterator[Pair]:
    if not redis_server.answers():
        redis_server.start()
    made = Pair(tmp_path_factory.mktemp("pair"), postgres.fresh_database(), redis_server.url)
    made.gateways[0].start()
    yield made
    made.server.close()
    for gateway in made.gateways:
        assert gateway.stop() == 0, gateway.log_tail()


def test_a_frozen_gateway_is_replaced_and_does_nothing_twice_when_it_wakes(pair: Pair) -> None:
    first, second = pair.gateways
    server = pair.server
    server.faults = [fhir_server.silent_after_applying]
    assert b"MSA|AA" in pair.send(hl7.admission("FROZEN1"))
    eventually(lambda: server.bundles, timeout=30)
    assert first.process is not None
    os.kill(first.process.pid, signal.SIGSTOP)
    try:
        second.start()
        assert b"MSA|AA" in pair.send(hl7.admission("FROZEN2"), gateway=1)
        # It may have been frozen with locks in its hands, which the server takes from it.
        eventually(second.settled, timeout=90)
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    eventually(first.ready, timeout=30)
    assert b"MSA|AA" in pair.send(hl7.admission("FROZEN3"))
    eventually(first.settled, timeout=60)
    # Asked, and not sent again: two messages, two transactions (the third brought nothing newer
    # than what one of the first brought, or is one more).
    receipts = [each for each in server.puts if each.startswith("Provenance/")]
    assert len(receipts) == len(set(receipts)) == 3
    assert {version for reference, (version, _) in server.resources.items()
            if reference.startswith("Provenance/")} == {1}  # fmt: skip


def test_a_person_pauses_and_drains_through_either_gateway(pair: Pair) -> None:
    first, second = pair.gateways
    told = first.command("pause", "destination", "region", "--reason", "maintenance", "--json")
    assert told["changed"]
    count = len(pair.server.bundles)
    assert b"MSA|AA" in pair.send(hl7.admission("PAUSED1"), gateway=1)
    rooms = eventually(
        lambda: [r for r in second.get("/api/v1/rooms")["items"] if r["name"] == "region"],
        timeout=20,
    )
    assert [(each["code"], each["count"]) for each in rooms] == [("destination-paused", 1)]
    assert len(pair.server.bundles) == count
    assert "region is paused" in first.command("status")
    scraped = HTTP.get(f"{second.url}/metrics").text
    assert 'ecluse_standing_still{kind="destination",mode="paused",name="region"} 1.0' in scraped
    page = HTTP.get(f"{second.url}/standing/destination/region").text
    assert "maintenance" in page
    answer = HTTP.post(f"{second.url}/api/v1/standing/destination/region/resume")
    assert answer.json()["mode"] == "running"
    eventually(first.settled, timeout=20)
    assert len(pair.server.bundles) == count + 1
    # Drained: the doors of both are closed, and open again.
    first.command("drain", "source", "lab", "--reason", "new system")
    for gateway in range(2):
        eventually(lambda gateway=gateway: refused(pair, gateway), timeout=20)
    second.command("resume", "source", "lab")
    eventually(lambda: not refused(pair, 0) and not refused(pair, 1), timeout=20)
    decisions = first.get("/api/v1/standing")["decisions"]
    assert [(each["mode"], each["reason"]) for each in decisions] == [
        ("running", ""), ("draining", "new system"), ("running", ""), ("paused", "maintenance"),
    ]  # fmt: skip
    assert HTTP.post(f"{first.url}/api/v1/standing/source/nobody/pause").status_code == 404


def refused(pair: Pair, gateway: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", pair.gateways[gateway].mllp_port), timeout=5):
            return False
    except OSError:
        return True


def test_everything_is_verified_while_it_runs(pair: Pair) -> None:
    told = pair.gateways[0].command("verify", "--content", "--json")
    assert told["intact"] is True
    assert told["acknowledged"] == told["somewhere"] >= 4
    assert told["chain"]["messages"] >= 4
    assert told["chain"]["broken"] == 0
    assert len(told["chain"]["newest"]) == 64

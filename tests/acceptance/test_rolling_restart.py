"""Two gateway processes over one PostgreSQL, restarted one after the other as an upgrade does it,
while a sender sends: it is always answered by one of them, nothing is lost, nothing doubled."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hl7.client import MLLPClient

from tests.acceptance.gateway_process import HTTP, GatewayProcess
from tests.eventually import eventually
from tests.integration.faces import messages as hl7
from tests.servers import Postgres

pytestmark = pytest.mark.acceptance


@dataclass(eq=False)
class Sender(threading.Thread):
    """Sends to the first port that answers, the same message until it is acknowledged."""

    ports: list[int]
    acknowledged: list[int] = field(default_factory=list)
    moved: int = 0
    enough: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        while not self.enough.wait(0.02):
            number = len(self.acknowledged) + 1
            message = hl7.results(f"R{number}", f"B{number}", {"2345-7^Glucose": f"{number}.5"})
            eventually(lambda: self._answered(message), timeout=60, every=0.05)  # noqa: B023
            self.acknowledged.append(number)

    def _answered(self, message: bytes) -> bool:
        try:
            with MLLPClient("127.0.0.1", self.ports[0], encoding="utf-8") as client:
                client.socket.settimeout(10)
                answer: bytes = client.send_message(message.decode())
        except OSError:
            answer = b""
        if b"MSA|AA" in answer:
            return True
        self.ports.append(self.ports.pop(0))
        self.moved += 1
        return False


@pytest.mark.timeout(300)
def test_gateways_are_restarted_one_after_the_other(postgres: Postgres, tmp_path: Path) -> None:
    journal = postgres.fresh_database()
    pair = [
        GatewayProcess(tmp_path / name, journal_url=journal, broker_url="postgresql")
        for name in ("a", "b")
    ]
    for gateway in pair:
        gateway.extra = {
            "journal": {"url": journal, "blobs": str(tmp_path / "blobs")},
            "worker": {"mapping_processes": 0},
            "sources": [
                {"name": "lab", "type": "mllp", "listen": f"127.0.0.1:{gateway.mllp_port}"}
            ],
        }
    starting = [threading.Thread(target=each.start) for each in pair]
    for each in starting:
        each.start()
    for each in starting:
        each.join(120)
    assert all(each.ready() for each in pair)
    sender = Sender([each.mllp_port for each in pair])
    try:
        with MLLPClient("127.0.0.1", pair[0].mllp_port, encoding="utf-8") as client:
            assert b"MSA|AA" in client.send_message(hl7.admission("A1").decode())
        sender.start()
        for gateway in pair:
            sent = len(sender.acknowledged)
            eventually(lambda: len(sender.acknowledged) > sent + 5, timeout=60)  # noqa: B023
            assert gateway.stop() == 0
            while_away = len(sender.acknowledged)
            eventually(lambda: len(sender.acknowledged) > while_away + 5, timeout=60)  # noqa: B023
            gateway.start()
        sender.enough.set()
        sender.join(60)
        assert sender.moved >= 1
        eventually(pair[0].settled, timeout=60)
        total = len(sender.acknowledged)
        line = pair[0].ledger()["lab"]
        # What one had kept when its connection ended, and the other got again, is a repetition.
        assert line["delivered"] == line["accepted"] == total + 1
        assert line["received"] == line["accepted"] + line["duplicates"]
        found = HTTP.get(f"{pair[1].url}/fhir/Observation", timeout=30).json()
        assert found["total"] == total
        assert pair[1].command("verify", "--content", "--json")["intact"]
    finally:
        sender.enough.set()
        for gateway in pair:
            gateway.stop()

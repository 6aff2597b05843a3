"""The mapping process of a real gateway: at work under load, and gone when the gateway is."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.load import message
from tests.acceptance.gateway_process import HTTP, GatewayProcess
from tests.eventually import eventually

pytestmark = pytest.mark.acceptance

CONNECTIONS = 4
COUNTED = re.compile(r'ecluse_stage_duration_seconds_count\{stage="normalise"\} ([0-9.]+)')


@contextlib.contextmanager
def load(port: int, run: str) -> Iterator[list[int]]:
    """Messages as fast as the gateway takes them; per connection how many were accepted."""
    stop, accepted = threading.Event(), [0] * CONNECTIONS

    def send(number: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as peer:
            answers = b""
            while not stop.is_set():
                group = range(accepted[number], accepted[number] + 32)
                peer.sendall(
                    b"".join(b"\x0b" + message(number, n, 20, run) + b"\x1c\r" for n in group)
                )
                while answers.count(b"\x1c\r") < len(group):
                    more = peer.recv(1 << 16)
                    if not more:
                        return
                    answers += more
                assert answers.count(b"\rMSA|AA|") == len(group)
                accepted[number] += len(group)
                answers = b""

    threads = [threading.Thread(target=send, args=(n,)) for n in range(CONNECTIONS)]
    for each in threads:
        each.start()
    try:
        yield accepted
    finally:
        stop.set()
        for each in threads:
            each.join()


def mapping_processes(gateway: GatewayProcess) -> list[psutil.Process]:
    assert gateway.process is not None
    children = psutil.Process(gateway.process.pid).children()
    return [each for each in children if "gateway.mapping_process" in each.cmdline()]


def with_its_process_ready(gateway: GatewayProcess) -> psutil.Process:
    """A backlog starts it; it becomes ready without one, which would only have to be worked off."""
    assert mapping_processes(gateway) == []
    with load(gateway.mllp_port, "first"):
        (process,) = eventually(lambda: mapping_processes(gateway), timeout=30)
    eventually(lambda: "a mapping process is ready" in gateway.log_tail(), timeout=60)
    eventually(gateway.settled, timeout=90, every=0.1)
    return process


def gone(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


@pytest.fixture
def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """Its lanes are free again this many seconds after it was killed."""
    lease = getattr(request, "param", 30)
    made = GatewayProcess(tmp_path / "gateway", extra={"worker": {"lease_seconds": lease}})
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("gateway", [5], indirect=True)
def test_it_maps_under_load_and_ends_with_a_killed_gateway(gateway: GatewayProcess) -> None:
    process = with_its_process_ready(gateway)
    before = process.cpu_times().user
    with load(gateway.mllp_port, "second") as accepted:
        eventually(lambda: process.cpu_times().user > before + 0.1, timeout=60)
        gateway.kill()
    eventually(lambda: gone(process), timeout=30)

    gateway.start()
    eventually(gateway.settled, timeout=90, every=0.1)
    ledger = gateway.ledger()["lab"]
    assert ledger["delivered"] == ledger["accepted"] >= sum(accepted)
    assert gateway.stop() == 0


def test_killing_it_loses_and_doubles_nothing_and_each_message_is_measured(
    gateway: GatewayProcess,
) -> None:
    process = with_its_process_ready(gateway)
    first = gateway.ledger()["lab"]["accepted"]
    before = process.cpu_times().user
    with load(gateway.mllp_port, "second") as accepted:
        eventually(lambda: process.cpu_times().user > before + 0.1, timeout=60)
        process.kill()
    eventually(gateway.settled, timeout=90, every=0.1)
    ledger = gateway.ledger()["lab"]
    assert ledger["delivered"] == ledger["accepted"] == first + sum(accepted)
    assert ledger["dead"] == 0
    found = COUNTED.search(HTTP.get(f"{gateway.url}/metrics").text)
    assert found is not None
    # One that was in hand when the process ended is measured when it is done.
    assert float(found[1]) == first + sum(accepted)
    assert gateway.stop() == 0
    eventually(lambda: gone(process))

"""Connect, abort, half objects, kill -9: no acknowledged instance is lost, nothing is left over.

A few seconds here; ``make soak`` runs it for an hour (SOAK_SECONDS).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.gateway_process import GatewayProcess
from tests.eventually import eventually
from tests.integration.dicom.objects import CT, STUDY, data_set, element
from tests.integration.dicom.peer import Peer, command, p_data

SECONDS = float(os.environ.get("SOAK_SECONDS", "1"))
MEMORY_GROWTH_MAX = 48 << 20
"""What the gateway may grow by, its own work on the studies included."""
STUDY_INSTANCES = 200
"""A sender goes on to its next study after so many; a study may have no more than 20,000."""
WARMING_MAX = 300.0
"""Seconds after which nothing should grow any more: the database's caches (64 MiB and more) are
full after two minutes of this load."""
AUTHORITY = "1.2.250.1.213.1.4.10"
"""The test root of the INS, so that the studies go all the way into the record."""
PATIENT = element(0x00100010, "PN", "PAT-TROIS^DOMINIQUE") + element(
    0x00100020, "LO", "279035121518989"
)


@dataclass(frozen=True)
class Address:
    """What a peer needs of a running source."""

    port: int
    host: str = "127.0.0.1"


@dataclass
class Ledger:
    """What was acknowledged: instance and size."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    errors: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


def good(address: Address, ledger: Ledger, who: int, stop: threading.Event) -> None:
    """Send small and large objects; note what was answered with success."""
    while not stop.is_set():
        try:
            peer = Peer(address)
            with contextlib.closing(peer):
                peer.associate(calling=f"GOOD{who}")
                for _ in range(8):
                    number = next(ledger.numbers)
                    study = f"{STUDY}.{who + 1}.{number // STUDY_INSTANCES}"
                    uid = f"{study}.{number}"
                    size = 90_000 if number % 20 == 0 else 600
                    body = data_set(uid, study=study, patient=PATIENT, pixels=bytes(size))
                    peer.store(body, uid, fragment=60_000)
                    status = peer.status()
                    if status == 0:
                        with ledger.lock:
                            ledger.acknowledged[uid] = len(body)
                    elif status != -1:
                        ledger.errors.append(f"0x{status:04X}")
                    if stop.is_set():
                        return
        except OSError:
            time.sleep(0.05)  # the gateway was killed; it comes back


def bad(address: Address, who: int, stop: threading.Event) -> None:
    """Connect and go, abort in the middle, half a PDU, a reset."""
    chance = random.Random(who)
    while not stop.wait(0.01):
        try:
            peer = Peer(address)
            with contextlib.closing(peer):
                what = chance.randrange(5)
                if what == 0:
                    continue
                if what == 1:
                    peer.send(b"\x01\x00\x00\x00")
                    continue
                peer.associate(calling=f"BAD{who}")
                uid = f"{STUDY}.99.{chance.randrange(1 << 30)}"
                peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=uid))))
                peer.send(p_data((1, 0, data_set(uid, pixels=bytes(200_000))[:100_000])))
                if what == 2:
                    peer.abort()
                elif what == 3:
                    peer.send(p_data((1, 0, bytes(1_000)))[:-9])
                else:
                    peer.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
        except OSError:
            time.sleep(0.05)


def run(
    seconds: float, gateway: GatewayProcess, ledger: Ledger, meanwhile: Callable[[], None]
) -> None:
    """Good and bad senders at once for a time."""
    stop = threading.Event()
    address = Address(gateway.dicom_port)
    threads = [threading.Thread(target=good, args=(address, ledger, n, stop)) for n in range(2)]
    threads += [threading.Thread(target=bad, args=(address, n, stop)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            meanwhile()
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def descriptors(gateway: GatewayProcess) -> int:
    assert gateway.process is not None
    return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


def memory(gateway: GatewayProcess) -> int:
    assert gateway.process is not None
    text = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def spooled(gateway: GatewayProcess) -> list[Path]:
    folder = gateway.folder / "state" / "spool"
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


def assert_all_there(gateway: GatewayProcess, ledger: Ledger) -> None:
    """Every acknowledged instance is in the journal with all of its bytes."""
    from gateway.opening import open_journal
    from gateway.settings import load_settings

    journal = open_journal(load_settings(gateway.configuration), read_only=True)
    try:
        with journal.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT control_id, sha256, size FROM message"
                " WHERE source = 'ct' AND state <> 'refused'"
            ).all()
        sizes = {row[0]: row[2] for row in rows}
        lost = [uid for uid in ledger.acknowledged if uid not in sizes]
        assert not lost, f"{len(lost)} of {len(ledger.acknowledged)} are lost"
        for uid, size in ledger.acknowledged.items():
            assert sizes[uid] > size, uid
        assert not [uid for uid in sizes if uid.startswith(f"{STUDY}.99.")]
        blobs = set(journal.blobs.stored())
        large = {row[1] for row in rows if row[2] > 65_536}
        assert large <= blobs
    finally:
        journal.close()


@pytest.mark.timeout(SECONDS * 2 + 900)
def test_aborts_and_half_objects_leave_nothing_and_kills_lose_nothing(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway")
    gateway.extra = {
        "sources": [
            {
                "name": "ct", "type": "dicom", "listen": f"127.0.0.1:{gateway.dicom_port}",
                "quiet_seconds": 1, "patient_id_authority": AUTHORITY,
            }
        ]
    }  # fmt: skip
    ledger = Ledger()
    gateway.start()
    try:
        run(min(SECONDS, WARMING_MAX), gateway, ledger, lambda: time.sleep(0.05))
        eventually(lambda: not spooled(gateway), timeout=120)
        before, used = descriptors(gateway), memory(gateway)
        run(SECONDS, gateway, ledger, lambda: time.sleep(0.05))
        eventually(lambda: not spooled(gateway), timeout=120)
        eventually(lambda: descriptors(gateway) <= before + 4, timeout=120)
        print(
            f"\n{SECONDS:.0f} seconds: {len(ledger.acknowledged)} objects acknowledged, "
            f"memory {used >> 20} to {memory(gateway) >> 20} MiB, "
            f"descriptors {before} to {descriptors(gateway)}"
        )
        assert memory(gateway) - used < MEMORY_GROWTH_MAX
        assert not ledger.errors
        assert ledger.acknowledged
        undisturbed, kills = len(ledger.acknowledged), itertools.count()

        def kill() -> None:
            time.sleep(0.5)
            gateway.kill()
            gateway.start(timeout=300)
            next(kills)

        run(max(1.0, SECONDS / 10), gateway, ledger, kill)
        eventually(lambda: not spooled(gateway), timeout=120)
        assert len(ledger.acknowledged) > undisturbed
        assert_all_there(gateway, ledger)
        print(f"{next(kills)} kills: {len(ledger.acknowledged)} acknowledged, none lost")
    finally:
        gateway.stop()

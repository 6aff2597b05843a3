"""Objects that are broken off, come in pieces or too many at once; the source's own end."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.integration.dicom.objects import CT, STUDY, data_set
from tests.integration.dicom.peer import (
    ABORT,
    ONE,
    Peer,
    associated,
    command,
    p_data,
    served,
)
from tests.integration.dicom.running import acceptors, running_source


@pytest.mark.parametrize("how", ["abort", "close", "reset"])
def test_an_object_that_is_broken_off_leaves_nothing(tmp_path: Path, how: str) -> None:
    with running_source(tmp_path) as running:
        with associated(running) as peer:
            peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
            peer.send(p_data((1, 0, data_set(pixels=bytes(90_000))[:80_000])))
            eventually(running.spooled)
            if how == "abort":
                peer.abort()
            elif how == "close":
                peer.close()
            else:
                peer.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: RST
                peer.close()
            eventually(lambda: not running.spooled())
        assert not running.intake.received
        assert served(running)


def test_silence_in_the_middle_of_an_object_ends_the_association(tmp_path: Path) -> None:
    settings = {"idle_timeout_seconds": 1.0, "commit_timeout_seconds": 0.5}
    with running_source(tmp_path, **settings) as running, associated(running) as peer:
        peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
        peer.send(p_data((1, 0, b"begun"))[:-2])
        assert peer.pdu()[0] in (ABORT, 0)
        eventually(lambda: not running.spooled())


def test_an_object_in_pieces_of_one_byte_is_whole(tmp_path: Path) -> None:
    body = data_set(pixels=b"\1\2" * 8)
    request = command(1, sop_class=CT, sop_instance=ONE)
    with running_source(tmp_path) as running, associated(running) as peer:
        values = [(1, 1, request[at : at + 1]) for at in range(len(request) - 1)]
        values.append((1, 3, request[-1:]))
        values += [(1, 0, body[at : at + 1]) for at in range(len(body))]
        values.append((1, 2, b""))
        peer.send(p_data(*values))
        assert peer.status() == 0x0000
        (received,) = running.intake.received
        assert running.intake.stored(received).endswith(body)


def test_requests_ahead_of_their_answers_are_served_in_order(tmp_path: Path) -> None:
    with running_source(tmp_path) as running:
        with associated(running) as peer:
            for number in range(1, 5):
                peer.store(data_set(f"{STUDY}.{number}"), f"{STUDY}.{number}")
            assert [peer.status() for _ in range(4)] == [0, 0, 0, 0]
        assert [r.control_id for r in running.intake.received] == [
            f"{STUDY}.{number}" for number in range(1, 5)
        ]
        with associated(running) as peer:
            for number in range(40):
                peer.store(data_set(f"{STUDY}.9.{number}"), f"{STUDY}.9.{number}")
            assert [peer.status() for _ in range(40)] == [0] * 40
        eventually(lambda: not running.spooled())
        assert served(running)


# --- the source's life ----------------------------------------------------------------


def test_a_stop_lets_the_object_in_flight_end(tmp_path: Path) -> None:
    with running_source(tmp_path) as running:
        with associated(running) as peer, associated(running) as idle:
            running.intake.committing.clear()
            peer.store(data_set(pixels=bytes(90_000)), ONE)
            eventually(running.spooled)
            stopping = threading.Thread(target=running.stop)
            stopping.start()
            assert idle.pdu()[0] in (ABORT, 0)
            running.intake.committing.set()
            assert peer.status() == 0x0000
            assert peer.pdu()[0] in (ABORT, 0)
            stopping.join(timeout=30)
            assert not stopping.is_alive()
        running.stop()
        assert len(running.intake.received) == 1
        assert not list(running.spool.rglob("*")) or not running.spooled()
        with pytest.raises(OSError):
            Peer(running)


def test_connecting_and_breaking_off_leaves_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with running_source(tmp_path) as running:
        assert served(running)
        eventually(lambda: acceptors() == 0)
        before = descriptors()
        for number in range(60):
            peer = Peer(running)
            if number % 3:
                peer.associate()
                peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
                peer.send(p_data((1, 0, b"begun")))
            if number % 3 == 1:
                peer.abort()
            peer.close()
        eventually(lambda: acceptors() == 0, timeout=30)
        eventually(lambda: descriptors() <= before, timeout=30)
        assert not running.spooled()


def test_what_a_dead_process_left_is_removed_and_a_living_one_keeps_its_own(
    tmp_path: Path,
) -> None:
    from adapters.dicom.spool import SpoolFolder

    living = SpoolFolder(tmp_path / "spool", "scanner")
    kept = living.new()
    kept.write(bytes(100_000))
    dead = tmp_path / "spool" / "scanner" / "dead"
    dead.mkdir(parents=True)
    (dead / "lock").touch()
    (dead / "object").write_bytes(b"half an object")
    with running_source(tmp_path):
        assert not dead.exists()
        assert kept.path.exists()
    kept.discard()
    living.close()
    assert not living.path.exists()


def test_a_port_that_is_taken_is_said_at_the_start(tmp_path: Path) -> None:
    with running_source(tmp_path) as running:
        taken = running.source.address()
        with pytest.raises(OSError):
            with running_source(tmp_path / "second", listen=taken):
                pytest.fail("it started")

"""Limits, a full disk, a journal that is away: what cannot be kept is never a success."""

from __future__ import annotations

import errno
import gc
from pathlib import Path

import pytest

from adapters.dicom.association import Association
from adapters.dicom.connection import Connection
from adapters.dicom.spool import SpoolFile
from gateway.model import Cause, CauseCode
from tests.eventually import eventually
from tests.integration.dicom.objects import CT, data_set
from tests.integration.dicom.peer import (
    ABORT,
    ONE,
    TWO,
    associated,
    command,
    p_data,
    served,
    store,
)
from tests.integration.dicom.running import running_source


def test_an_object_over_the_limit_is_refused_without_filling_the_disk(tmp_path: Path) -> None:
    with running_source(tmp_path, object_bytes_max=100_000) as running:
        with associated(running) as peer:
            peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
            for _ in range(8):
                peer.send(p_data((1, 0, bytes(16_000))))
            eventually(lambda: not running.spooled())
            peer.send(p_data((1, 2, bytes(16_000))))
            assert peer.status() == 0xA700
            assert store(peer, data_set(TWO), TWO) == 0x0000
        assert len(running.intake.received) == 1


def test_an_object_without_end_is_aborted(tmp_path: Path) -> None:
    with running_source(tmp_path, object_bytes_max=100_000) as running:
        with associated(running) as peer:
            peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
            try:
                for _ in range(20):
                    peer.send(p_data((1, 0, bytes(16_000))))
            except ConnectionError:
                pass
            assert peer.pdu()[0] in (ABORT, 0)
        assert served(running)


def test_nothing_is_taken_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    with running_source(tmp_path, free_bytes_min=1 << 60) as running, associated(running) as peer:
        assert store(peer, data_set()) == 0xA700
        assert not running.spooled()
        assert not running.intake.received


def test_a_full_disk_in_the_middle_of_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SpoolFile.write

    def full(self: SpoolFile, data: bytes | memoryview) -> None:
        if self.size > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, data)

    with running_source(tmp_path) as running, associated(running) as peer:
        monkeypatch.setattr(SpoolFile, "write", full)
        assert store(peer, data_set(pixels=bytes(300_000))) == 0xA700
        assert not running.spooled()
        monkeypatch.undo()
        assert store(peer, data_set(TWO), TWO) == 0x0000


def test_nothing_kept_is_never_success(tmp_path: Path) -> None:
    with running_source(tmp_path) as running, associated(running) as peer:
        running.intake.available = False
        assert store(peer, data_set()) == 0xA700
        running.intake.available = True
        assert store(peer, data_set()) == 0x0000
        eventually(lambda: not running.spooled())


def test_success_is_said_only_after_the_commit(tmp_path: Path) -> None:
    with running_source(tmp_path) as running, associated(running) as peer:
        running.intake.committing.clear()
        peer.store(data_set(pixels=bytes(90_000)), ONE)
        eventually(running.spooled)
        peer.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.pdu()
        peer.socket.settimeout(20)
        running.intake.committing.set()
        assert peer.status() == 0x0000


def test_a_commit_that_takes_too_long_is_not_acknowledged(tmp_path: Path) -> None:
    with running_source(tmp_path, commit_timeout_seconds=0.2) as running:
        with associated(running) as peer:
            running.intake.committing.clear()
            assert store(peer, data_set()) == 0xA700
            running.intake.committing.set()
            # It was kept in the end; the sender's repetition is a duplicate, and a success.
            eventually(lambda: running.intake.received)
            assert store(peer, data_set()) == 0x0000
        assert len(running.intake.received) == 1
        eventually(lambda: not running.spooled())


@pytest.mark.parametrize("code", [CauseCode.FEEDING_OPPOSED, CauseCode.RECORD_CLOSED])
def test_a_patient_who_opposes_is_not_authorised(tmp_path: Path, code: CauseCode) -> None:
    with running_source(tmp_path) as running, associated(running) as peer:
        running.intake.permission = Cause(code=code)
        assert store(peer, data_set()) == 0x0124


def test_an_association_leaves_nothing_for_the_collector(tmp_path: Path) -> None:
    """Its buffer is a quarter of a megabyte, and the collector counts objects."""

    def there() -> int:
        return sum(isinstance(each, Association | Connection) for each in gc.get_objects())

    with running_source(tmp_path) as running:
        gc.collect()
        gc.disable()
        try:
            before = there()
            with associated(running) as peer:
                assert store(peer, data_set()) == 0x0000
                assert there() == before + 2
            with associated(running) as peer:
                peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=TWO))))
                peer.abort()
            eventually(lambda: there() == before)
        finally:
            gc.enable()

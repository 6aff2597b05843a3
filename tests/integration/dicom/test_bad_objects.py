"""Objects that must not be taken, from the table: status, evidence, memory, neighbours."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.model import CauseCode
from tests.integration.dicom.hostile import BAD_OBJECTS, PATH, BadObject
from tests.integration.dicom.objects import data_set
from tests.integration.dicom.peer import TWO, associated, store
from tests.integration.dicom.running import Running, running_source

MEMORY_MAX = 16 << 20
"""What one object of less than a megabyte may cost, whatever it claims to hold."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_source(tmp_path_factory.mktemp("bad")) as started:
        yield started


@pytest.mark.parametrize("bad", BAD_OBJECTS, ids=lambda bad: f"{bad.case}-{bad.name}")
def test_a_bad_object_gets_its_status_and_is_kept(running: Running, bad: BadObject) -> None:
    body = bad.body()
    before = len(running.intake.received)
    tracemalloc.start()
    try:
        with associated(running, syntax=bad.syntax) as peer:
            peer.store(body, bad.instance, sop_class=bad.sop_class)
            assert peer.status() == bad.status
            _, peak = tracemalloc.get_traced_memory()
            # The association goes on.
            assert store(peer, body, bad.instance) in (bad.status, 0xA900)
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_MAX
    kept = running.intake.received[before]
    assert running.intake.stored(kept).endswith(body)
    if bad.cause is None:
        assert kept.refusal is None
        assert kept.attributes.get("irregular", "") == bad.irregular
    else:
        assert kept.refusal is not None
        assert kept.refusal.code is bad.cause
        assert kept.refusal.protocol_code == f"0x{bad.status:04X}"
        assert kept.group == ""
    with associated(running) as neighbour:
        assert store(neighbour, data_set(TWO), TWO) == 0x0000
    assert not running.spooled()


def test_uids_from_the_wire_name_no_file(running: Running) -> None:
    with associated(running) as peer:
        assert store(peer, data_set(PATH), PATH) == 0xC000
    refused = [one for one in running.intake.refused if one.control_id == PATH]
    assert refused
    assert not Path("/tmp/ecluse-was-here").exists()
    names = {path.name for path in running.intake.folder.iterdir()}
    assert {one.payload.sha256 for one in refused} <= names
    assert all(len(name) == 64 for name in names)


def test_every_case_says_why() -> None:
    refused = [bad for bad in BAD_OBJECTS if bad.status]
    assert all(isinstance(bad.cause, CauseCode) for bad in refused)

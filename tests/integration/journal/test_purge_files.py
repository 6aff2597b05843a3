"""Purges: files that nothing names, the one of each day, and what stands at other servers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from gateway.housekeeping import Housekeeper, run
from gateway.journal import (
    deadletters,
    messages,
    placed,
    purges,
)
from gateway.journal.blobs import Blobs
from gateway.journal.placed import Placed
from gateway.journal.retention import Part, Policy
from gateway.journal.states import MessageState
from gateway.journal.values import Resolution
from gateway.model import Payload
from gateway.retention_settings import KeepSettings, RetentionSettings
from tests.integration.journal.bench import Bench
from tests.integration.journal.purge_bench import (
    ALL,
    BYTES,
    DAY,
    EVERYTHING,
    LARGE,
    accept,
    bury,
    deliver,
    ids,
    in_order,
    move,
    purge,
    unnamed,
)


@pytest.fixture
def bench(sqlite_bench: Bench) -> Bench:
    """A journal on the database whose tests take no time."""
    return sqlite_bench


def large(bench: Bench, body: bytes) -> int:
    return accept(bench, 1, body=body.ljust(LARGE))[0]


def aged(blobs: Blobs) -> None:
    """All files are two days old."""
    for digest in blobs.stored():
        path = blobs.payload(digest).path
        assert path is not None
        os.utime(path, (time.time() - 2 * DAY,) * 2)


def test_files_go_when_nothing_names_them_any_more(bench: Bench) -> None:
    blobs = bench.journal.blobs
    alone, shared, twin = large(bench, b"a"), large(bench, b"b"), large(bench, b"b")
    document = blobs.put(b"a document of the record")
    orphan = blobs.put(b"put by a transaction that was undone")
    for each in (alone, shared):
        deliver(bench, each)
    move(bench, twin, MessageState.HELD)
    aged(blobs)
    young = blobs.put(b"put by a transaction that is to come")
    bench.clock.advance(100 * DAY)

    def named(_connection: Connection, digests: Sequence[str]) -> Iterable[str]:
        return {document} & set(digests)

    with bench.journal.write() as connection:
        begun = purges.begin(connection, "files", BYTES, actor="anna")
    *_, done = run(bench.journal, named, begun)
    with bench.journal.read() as connection:
        held = messages.get(connection, twin)
    assert held is not None
    assert set(blobs.stored()) == {document, young, held.sha256}
    assert done.counts["files"] == 2
    assert orphan not in set(blobs.stored())
    assert messages.payload(bench.journal, held).read() == b"b".ljust(LARGE)
    in_order(bench)


def test_a_file_that_is_put_again_meanwhile_stays(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    digest = blobs.put(b"x" * LARGE)
    aged(blobs)
    before = time.time() - DAY
    assert blobs.old(int(digest[:2], 16), before) == [digest]
    # Between the look and the removal somebody puts the same bytes.
    assert blobs.put(b"x" * LARGE) == digest
    assert blobs.remove(digest, before) == 0
    assert blobs.payload(digest).read() == b"x" * LARGE
    aged(blobs)
    assert blobs.remove(digest, before) == LARGE
    assert list(blobs.stored()) == []


def test_a_removal_that_a_crash_interrupted_is_undone(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    digest = blobs.put(b"x" * LARGE)
    path = blobs.payload(digest).path
    assert path is not None
    path.rename(tmp_path / "blobs/leaving" / digest)
    assert Blobs(tmp_path / "blobs").payload(digest).read() == b"x" * LARGE


def test_no_file_goes_while_files_are_copied(sqlite_bench: Bench) -> None:
    bench = sqlite_bench
    deliver(bench, large(bench, b"a"))
    aged(bench.journal.blobs)
    bench.clock.advance(100 * DAY)
    with bench.journal.write() as connection:
        begun = purges.begin(connection, "files", BYTES, actor="anna")
    with bench.journal.blobs.held(exclusive=False) as copying:
        assert copying
        *_, stopped = run(bench.journal, unnamed, begun)
        assert stopped.ended_at is None
        assert len(list(bench.journal.blobs.stored())) == 1
    *_, done = run(bench.journal, unnamed, stopped)
    assert done.ended_at is not None
    assert list(bench.journal.blobs.stored()) == []


# --- the daily one --------------------------------------------------------------------


def test_one_purge_a_day_for_all_processes(sqlite_bench: Bench) -> None:
    bench = sqlite_bench
    for each in accept(bench, 3):
        deliver(bench, each)
    bench.clock.advance(100 * DAY)
    retention = RetentionSettings(delivered=KeepSettings(bytes_days=30), daily_at="09:00")
    two = [
        Housekeeper(bench.journal, unnamed, lambda: retention, local_now=bench.clock)
        for _ in range(2)
    ]
    assert not two[0].step()  # it is 8 o'clock
    bench.clock.advance(2 * 3_600)
    for _ in range(20):
        for each in two:
            each.step()
    with bench.journal.read() as connection:
        (done,) = purges.newest(connection)
    assert (done.actor, done.counts["content.delivered"]) == ("schedule", 3)
    assert done.ended_at is not None
    bench.clock.advance(DAY)
    two[0].step()
    with bench.journal.read() as connection:
        assert len(purges.newest(connection)) == 2


def test_by_default_nothing_is_ever_purged(sqlite_bench: Bench) -> None:
    bench = sqlite_bench
    deliver(bench, accept(bench, 1)[0])
    bench.clock.advance(10_000 * DAY)
    keeper = Housekeeper(bench.journal, unnamed, RetentionSettings, local_now=bench.clock)
    assert not keeper.step()
    with bench.journal.read() as connection:
        assert purges.newest(connection) == []
    assert len(ids(bench, "content")) == 1


def test_metadata_outlast_the_rest() -> None:
    with pytest.raises(ValueError, match="nothing of a message outlasts"):
        KeepSettings(bytes_days=90, entries_days=30, metadata_days=60)
    with pytest.raises(ValueError, match="nothing of a message outlasts"):
        KeepSettings(metadata_days=60)
    assert KeepSettings(bytes_days=30, entries_days=30, metadata_days=30).metadata_days == 30


def note(bench: Bench, *given: tuple[str, int]) -> None:
    """That entries of these messages stand at a server elsewhere."""
    with bench.journal.write() as connection:
        placed.note(connection, "region", [(name, Placed(at, 0, False)) for name, at in given])


def noted(bench: Bench) -> set[str]:
    with bench.journal.read() as connection:
        return set(connection.execute(text("SELECT reference FROM placed")).scalars())


def test_what_stands_elsewhere_is_forgotten_when_nothing_older_can_go(
    both: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placed, "ROWS_LOOKED_AT", 2)
    bench = both
    first, held, *_, last = accept(bench, 6)
    for each in range(first, last + 1):
        if each != held:
            deliver(bench, each)
    move(bench, held, MessageState.HELD)
    note(bench, *((f"Observation/{each}", each) for each in range(first, last + 1)))
    bench.clock.advance(100 * DAY)
    # Without bytes_days nothing is forgotten.
    assert purge(bench, Policy({Part.NORMALISED: ALL})).counts.get("placed", 0) == 0
    # The one that is held may still go, after those that came later.
    done = purge(bench, BYTES)
    assert done.counts["placed"] == 1
    assert noted(bench) == {f"Observation/{each}" for each in range(held, last + 1)}
    move(bench, held, MessageState.DISCARDED)
    bench.clock.advance(100 * DAY)
    (fresh,) = accept(bench, 1)
    note(bench, ("Observation/fresh", fresh), (f"Observation/{last}", fresh))
    assert purge(bench, BYTES).counts["placed"] == last - held
    assert noted(bench) == {"Observation/fresh", f"Observation/{last}"}
    in_order(bench)


def test_a_repaired_copy_keeps_the_notes_of_what_came_after_its_original(bench: Bench) -> None:
    original, later = accept(bench, 2)
    letter = bury(bench, original)
    with bench.journal.write() as connection:
        child = messages.append_child(
            connection, bench.journal.blobs, original, Payload.from_bytes(b"MSH|repaired"),
            actor="anna", reason="a wrong date",
        )  # fmt: skip
        deadletters.resolve(
            connection, letter, Resolution.REPLAYED, actor="anna", child_message_id=child.id
        )
    deliver(bench, later)
    note(bench, ("Observation/later", later))
    bench.clock.advance(100 * DAY)
    purge(bench, BYTES)
    assert noted(bench) == {"Observation/later"}
    deliver(bench, child.id)
    bench.clock.advance(100 * DAY)
    purge(bench, EVERYTHING)
    # Nothing is left of any of them.
    assert noted(bench) == set()
    assert ids(bench, "message") == set()

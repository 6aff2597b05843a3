"""Purges: what is resolved and past its time goes, nothing else does, the account balances, and
the chain says what went. On both databases, interrupted at any step."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from gateway.housekeeping import Housekeeper, Purging, run
from gateway.journal import (
    chain,
    consistency,
    deadletters,
    deliveries,
    gatherings,
    messages,
    partitions,
    placed,
    purges,
    purging,
)
from gateway.journal.blobs import Blobs
from gateway.journal.chain import Fault, Verified
from gateway.journal.journal import Journal
from gateway.journal.placed import Placed
from gateway.journal.purges import Purge
from gateway.journal.retention import Ending, Part, Policy
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import Resolution
from gateway.journal.writer import GroupWriter
from gateway.model import Cause, CauseCode, Payload, Stage
from gateway.retention_settings import KeepSettings, RetentionSettings
from tests.integration.journal.bench import Bench, HeldClock
from tests.servers import Postgres

DAY = 86_400.0
LARGE = 70_000
ALL = dict.fromkeys(Ending, 30)
BYTES = Policy({Part.CONTENT: ALL, Part.NORMALISED: ALL})
EVERYTHING = Policy({Part.CONTENT: ALL, Part.NORMALISED: ALL, Part.MESSAGE: ALL})
_keys = itertools.count(1)


@pytest.fixture(scope="module")
def migrated_template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an empty journal that nobody is connected to, to be copied."""
    url = postgres.fresh_database()
    journal = Journal(url, blob_directory=tmp_path_factory.mktemp("blobs"))
    journal.migrate()
    journal.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest) -> Bench:
    """A journal of its own on each database."""
    name = "sqlite_bench" if request.param == "sqlite" else "own_postgresql"
    made: Bench = request.getfixturevalue(name)
    return made


@pytest.fixture
def own_postgresql(
    postgres: Postgres, migrated_template: str, tmp_path: Path, clock: HeldClock
) -> Iterator[Bench]:
    """A database of its own: a purge changes PostgreSQL's tables."""
    url = postgres.fresh_database(like=migrated_template)
    journal = Journal(url, blob_directory=tmp_path / "blobs", now=clock)
    yield Bench(journal, clock)
    journal.close()


@pytest.fixture
def bench(sqlite_bench: Bench) -> Bench:
    """A journal on the database whose tests take no time."""
    return sqlite_bench


def unnamed(_connection: Connection, _digests: Sequence[str]) -> Iterable[str]:
    """A record that names no document."""
    return ()


def purge(bench: Bench, policy: Policy, **options: object) -> Purge:
    """A whole purge; as it is at its end."""
    with bench.journal.write() as connection:
        begun = purges.begin(connection, f"test {next(_keys)}", policy, actor="anna")
    worker = Purging(bench.journal, unnamed, **options)  # type: ignore[arg-type]
    for _ in range(1_000):
        if begun.ended_at is not None:
            return begun
        after = worker.step(begun)
        assert after is not None
        begun = after
    raise AssertionError("the purge does not end")


def accept(bench: Bench, count: int, **fields: object) -> list[int]:
    """Messages as a process accepts them, with their links."""
    writer = GroupWriter(bench.journal, batch_max=3)
    writer.start()
    waiting = [
        writer.submit(
            bench.received(**fields),  # type: ignore[arg-type]
            state=MessageState.RECEIVED, lane="in:lab",
        )
        for _ in range(count)
    ]  # fmt: skip
    found = [each.result(timeout=30).message_id for each in waiting]
    writer.stop()
    return found


def deliver(bench: Bench, message_id: int) -> None:
    (number,) = bench.route(message_id, f"p{message_id}")
    with bench.journal.write() as connection:
        deliveries.settle(connection, number, outcome="delivered", state=DeliveryState.DELIVERED)
        deliveries.conclude(connection, [message_id])


def move(bench: Bench, message_id: int, to: MessageState) -> None:
    with bench.journal.write() as connection:
        messages.move(connection, message_id, to, event="x", stage=Stage.IDENTIFY)


def bury(bench: Bench, message_id: int) -> int:
    cause = Cause(code=CauseCode.MAPPING_FAILED, detail="no", location="PID-3")
    with bench.journal.write() as connection:
        return deadletters.bury(connection, message_id, Stage.NORMALISE, cause)


def faults(journal: Journal) -> list[Fault]:
    with journal.read() as connection:
        return list(chain.verify(connection, Verified()))


def in_order(bench: Bench) -> None:
    assert faults(bench.journal) == []
    with bench.journal.read() as connection:
        assert list(consistency.check(connection)) == []


def account(bench: Bench) -> object:
    with bench.journal.read() as connection:
        return messages.ledger(connection)


def ids(bench: Bench, table: str) -> set[int]:
    key = "id" if table == "message" else "message_id"
    with bench.journal.read() as connection:
        return set(connection.execute(text(f"SELECT {key} FROM {table}")).scalars())


def mix(bench: Bench) -> dict[str, list[int]]:
    """Messages that ended in every way, and some that did not, all of them 100 days ago; the
    month has changed, so that PostgreSQL may end it."""
    given = accept(bench, 18)
    names = ("delivered", "refused", "discarded", "held", "dead", "received")
    found = {name: given[3 * place : 3 * place + 3] for place, name in enumerate(names)}
    for each in found["delivered"]:
        deliver(bench, each)
    for each in found["refused"]:
        move(bench, each, MessageState.REFUSED)
    for each in found["discarded"]:
        move(bench, each, MessageState.DISCARDED)
    for each in found["held"]:
        move(bench, each, MessageState.HELD)
    for each in found["dead"]:
        bury(bench, each)
    bench.clock.advance(100 * DAY)
    return found


def test_bytes_go_and_what_is_unresolved_stays(both: Bench) -> None:
    bench, mixed = both, mix(both)
    before = account(bench)
    done = purge(bench, BYTES)
    resolved = {*mixed["delivered"], *mixed["refused"], *mixed["discarded"]}
    waiting = {*mixed["held"], *mixed["dead"], *mixed["received"]}
    assert ids(bench, "content") == waiting
    assert ids(bench, "normalised") == set()
    assert ids(bench, "message") == resolved | waiting
    in_order(bench)
    assert account(bench) == before
    with bench.journal.read() as connection:
        gone = messages.get(connection, mixed["delivered"][0])
    assert gone is not None
    assert (gone.body, gone.answer) == (None, b"")
    with pytest.raises(KeyError):
        messages.payload(bench.journal, gone)
    assert [done.counts[f"content.{name}"] for name in ("delivered", "refused", "discarded")] == [
        3, 3, 3,
    ]  # fmt: skip
    assert done.counts["bytes"] > 0
    assert done.actor == "anna"
    assert done.counts.get("partitions", 0) == (2 if bench.journal.dialect == "postgresql" else 0)
    if bench.journal.dialect == "postgresql":
        with bench.journal.read() as connection:
            (open_now,) = partitions.months(connection, Part.CONTENT)
        assert (open_now.first, open_now.end) == (19, None)
        # What is received from now on lies in the new month, what was left behind is settled.
        accept(bench, 2)
        for each in waiting:
            move(bench, each, MessageState.DISCARDED)
        bench.clock.advance(100 * DAY)
        purge(bench, BYTES)
        assert ids(bench, "content") == {19, 20}
        in_order(bench)


def test_what_was_purged_does_not_go_again(bench: Bench) -> None:
    mixed = mix(bench)
    purge(bench, BYTES)
    with pytest.raises(LookupError, match="not kept any more"):
        move(bench, mixed["delivered"][0], MessageState.RECEIVED)
    assert bench.state(mixed["delivered"][0]) is MessageState.DELIVERED
    bench.clock.advance(1)
    # What was not purged does.
    move(bench, mixed["held"][0], MessageState.RECEIVED)
    in_order(bench)


def test_a_repetition_of_a_purged_message_is_known(bench: Bench) -> None:
    given = bench.received()
    first = bench.append(given)[0]
    deliver(bench, first.message_id)
    bench.clock.advance(100 * DAY)
    purge(bench, BYTES)
    assert ids(bench, "content") == set()
    again = bench.append(given)[0]
    assert (again.message_id, again.duplicate, again.answer) == (first.message_id, True, b"")


def test_whole_messages_go_by_links_and_leave_seals(both: Bench) -> None:
    bench, mixed = both, mix(both)
    fresh = accept(bench, 4)
    before = account(bench)
    done = purge(bench, EVERYTHING)
    # A link that a message must stay in keeps its neighbours, too.
    left = ids(bench, "message")
    assert {*mixed["held"], *mixed["dead"], *mixed["received"], *fresh} <= left
    assert account(bench) == before
    found = Verified()
    with bench.journal.read() as connection:
        assert list(chain.verify(connection, found)) == []
    assert list(_checked(bench)) == []
    gone = 18 + 4 - len(left)
    assert gone > 0
    assert (
        found.sealed_messages
        == gone
        == sum(count for name, count in done.counts.items() if name.startswith("message."))
    )
    assert found.messages == len(left)
    for table in ("content", "normalised", "event", "delivery"):
        assert ids(bench, table) <= left
    # And it goes on: the next process takes up where the chain is.
    accept(bench, 2)
    in_order(bench)


def _checked(bench: Bench) -> Iterator[object]:
    with bench.journal.read() as connection:
        yield from list(consistency.check(connection))


def test_a_quiet_journal_goes_on_from_its_seals(bench: Bench) -> None:
    """All links are purged: the next process begins with what the last seal keeps."""
    for each in accept(bench, 5):
        deliver(bench, each)
    bench.clock.advance(100 * DAY)
    purge(bench, EVERYTHING)
    assert ids(bench, "message") == set()
    for each in accept(bench, 3):
        deliver(bench, each)
    in_order(bench)
    bench.clock.advance(100 * DAY)
    purge(bench, EVERYTHING)
    found = Verified()
    with bench.journal.read() as connection:
        assert list(chain.verify(connection, found)) == []
    assert (found.sealed_messages, found.messages) == (8, 0)
    assert found.newest_seal


TAMPERING = {
    "a seal was changed": "UPDATE chain_seal SET messages = messages - 1",
    "a seal's author was changed": "UPDATE chain_seal SET actor = 'nobody'",
    "a seal is gone": "DELETE FROM chain_seal",
    "messages beside the seals are gone": "DELETE FROM message WHERE state = 'held'",
}


@pytest.mark.parametrize("name", TAMPERING)
def test_seals_do_not_hide_what_was_tampered_with(sqlite_bench: Bench, name: str) -> None:
    bench = sqlite_bench
    for each in accept(bench, 5):
        deliver(bench, each)
    bench.clock.advance(100 * DAY)
    for each in accept(bench, 4):
        move(bench, each, MessageState.HELD)
    purge(bench, EVERYTHING)
    assert faults(bench.journal) == []
    with bench.journal.write() as connection:
        connection.execute(text(TAMPERING[name]))
    assert faults(bench.journal)


def test_a_message_without_bytes_that_no_purge_took_is_found(sqlite_bench: Bench) -> None:
    bench = sqlite_bench
    first, held, *_ = accept(bench, 6)
    deliver(bench, first)
    bench.clock.advance(100 * DAY)
    purge(bench, BYTES)
    in_order(bench)
    move(bench, held, MessageState.HELD)
    with bench.journal.write() as connection:
        connection.execute(text(f"DELETE FROM content WHERE message_id = {held}"))
    assert [each.check for each in _checked(bench)] == ["without-content"]  # type: ignore[attr-defined]


def test_a_repaired_message_goes_with_its_copy(bench: Bench) -> None:
    parent = accept(bench, 1)[0]
    letter = bury(bench, parent)
    with bench.journal.write() as connection:
        child = messages.append_child(
            connection, bench.journal.blobs, parent, Payload.from_bytes(b"MSH|repaired"),
            actor="anna", reason="a wrong date",
        )  # fmt: skip
        deadletters.resolve(
            connection, letter, Resolution.REPLAYED, actor="anna", child_message_id=child.id
        )
    bench.clock.advance(100 * DAY)
    before = account(bench)
    purge(bench, EVERYTHING)
    # The copy is on its way: what it was made of stays with it.
    assert ids(bench, "message") == {parent, child.id}
    deliver(bench, child.id)
    bench.clock.advance(100 * DAY)
    before = account(bench)
    purge(bench, EVERYTHING)
    assert ids(bench, "message") == set()
    assert account(bench) == before
    in_order(bench)


def test_a_study_goes_as_a_whole_and_counts_where_it_was(bench: Bench) -> None:
    due = bench.clock.advance(1)
    instances = accept_study(bench, 5)
    with bench.journal.write() as connection:
        carrier = gatherings.close(connection, "ct", "1", due)
    assert carrier == instances[-1]
    bench.clock.advance(100 * DAY)
    # The study is dead: its instances are needed when it is replayed.
    letter = bury(bench, carrier)
    purge(bench, EVERYTHING)
    assert ids(bench, "content") == set(instances)
    with bench.journal.write() as connection:
        deadletters.resolve(connection, letter, Resolution.DISCARDED, actor="anna")
        messages.move(connection, carrier, MessageState.DISCARDED, event="x", stage=Stage.ROUTE)
    before = account(bench)
    bench.clock.advance(100 * DAY)
    purge(bench, EVERYTHING)
    assert ids(bench, "content") == ids(bench, "message") == set()
    assert account(bench) == before
    in_order(bench)


def accept_study(bench: Bench, count: int) -> list[int]:
    writer = GroupWriter(bench.journal, batch_max=2)
    writer.start()
    waiting = [
        writer.submit(
            bench.received(source="ct", group="1"), state=MessageState.GATHERING, lane="in:ct",
            group_due_at=bench.clock(),
        )
        for _ in range(count)
    ]  # fmt: skip
    found = [each.result(timeout=30).message_id for each in waiting]
    writer.stop()
    return found


def test_a_purge_that_is_interrupted_goes_on_and_no_step_is_done_twice(
    both: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, mixed = both, mix(both)
    monkeypatch.setattr(purging, "ROWS_LOOKED_AT", 2)
    monkeypatch.setattr(purging, "LINKS_LOOKED_AT", 1)
    before = account(bench)
    with bench.journal.write() as connection:
        begun = purges.begin(connection, "once", EVERYTHING, actor="anna")
        assert purges.begin(connection, "another", BYTES, actor="bert").id == begun.id
    one, other = (Purging(bench.journal, unnamed) for _ in range(2))
    steps = 0
    while begun.ended_at is None:
        after = one.step(begun)
        assert other.step(begun) is None, "the same step was done twice"
        assert after is not None
        begun, steps = after, steps + 1
        assert faults(bench.journal) == []
        assert account(bench) == before
    assert steps > 5
    in_order(bench)
    assert ids(bench, "content") == {*mixed["held"], *mixed["dead"], *mixed["received"]}


def test_a_large_month_ends_in_three_steps_while_messages_come(
    own_postgresql: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, mixed = own_postgresql, mix(own_postgresql)
    monkeypatch.setattr(partitions, "SMALL_MAX", 0)
    monkeypatch.setattr(partitions, "AHEAD_SHARE", 1)
    one, other = (Purging(bench.journal, unnamed) for _ in range(2))
    with bench.journal.read() as connection:
        stale = partitions.due_for_cut(connection, Part.CONTENT, bench.clock())
    assert stale is not None
    one._cut_months()
    with bench.journal.read() as connection:
        ended, begun = partitions.months(connection, Part.CONTENT)
        assert partitions.due_for_cut(connection, Part.CONTENT, bench.clock()) is None
    assert (ended.end, begun.first, begun.end) == (36, 36, None)
    # Another process that had looked before does nothing.
    with bench.journal.write() as connection:
        assert partitions.cut_small(connection, stale, bench.clock()) == ""
        assert partitions.bound(connection, stale) == 0
    other._cut_months()
    # The end lies ahead: messages go on into the old month, then into the new one.
    given = accept(bench, 20)
    assert given[-1] == 38
    with bench.journal.read() as connection:
        for name, expected in ((ended.name, 35), (begun.name, 3)):
            query = text(f"SELECT count(*) FROM {name}")
            assert connection.execute(query).scalar_one() == expected
    for each in mixed["held"]:
        move(bench, each, MessageState.DISCARDED)
    purge(bench, BYTES)
    # Not past its time as a whole: its last messages came today.
    assert {*mixed["received"], *mixed["held"], *given} <= ids(bench, "content")
    in_order(bench)


# --- files ----------------------------------------------------------------------------


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

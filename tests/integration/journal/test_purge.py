"""Purges: what is resolved and past its time goes, nothing else does, the account balances, and
the chain says what went. On both databases, interrupted at any step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from gateway.housekeeping import Purging
from gateway.journal import (
    chain,
    consistency,
    deadletters,
    gatherings,
    messages,
    partitions,
    purges,
    purging,
)
from gateway.journal.chain import Verified
from gateway.journal.retention import Part
from gateway.journal.states import MessageState
from gateway.journal.values import Resolution
from gateway.model import Payload, Stage
from tests.integration.journal.bench import Bench
from tests.integration.journal.purge_bench import (
    BYTES,
    DAY,
    EVERYTHING,
    accept,
    accept_study,
    account,
    bury,
    deliver,
    faults,
    ids,
    in_order,
    mix,
    move,
    purge,
    unnamed,
)


@pytest.fixture
def bench(sqlite_bench: Bench) -> Bench:
    """A journal on the database whose tests take no time."""
    return sqlite_bench


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


def test_a_study_is_kept_while_another_source_still_brings_of_it(both: Bench) -> None:
    def closed(source: str) -> None:
        with both.journal.write() as connection:
            carrier = gatherings.close(connection, source, "1", both.clock.advance(1))
            assert carrier is not None
            for state in (MessageState.ROUTED, MessageState.DELIVERED):
                messages.move(connection, carrier, state, event="x", stage=Stage.ROUTE)

    images = accept_study(both, 3)
    closed("ct")
    both.clock.advance(60 * DAY)
    report = accept_study(both, 1, "pacs")
    both.clock.advance(60 * DAY)
    purge(both, EVERYTHING)
    # What the report's round reads.
    assert ids(both, "content") == {*images, *report}
    closed("pacs")
    both.clock.advance(100 * DAY)
    purge(both, EVERYTHING)
    assert ids(both, "content") == set()


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

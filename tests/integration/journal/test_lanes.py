"""Rings, leases, fencing tokens, releases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.journal import deliveries, lanes, messages
from gateway.journal.journal import Journal, LeaseLost
from gateway.journal.states import DeliveryState, MessageState
from gateway.model import Stage
from tests.integration.journal.bench import Bench

TTL = timedelta(seconds=30)
LANE = "in:lab"


def lease(bench: Bench, owner: str, lane: str = LANE) -> int | None:
    with bench.journal.write() as connection:
        return lanes.lease(connection, lane, owner, TTL, bench.clock())


def release(bench: Bench, token: int, lane: str = LANE) -> bool:
    with bench.journal.write() as connection:
        return lanes.release(connection, lane, token, bench.clock())


def fence(bench: Bench, token: int, lane: str = LANE) -> None:
    with bench.journal.write() as connection:
        lanes.fence(connection, lane, token)


def settle_message(bench: Bench, message_id: int) -> None:
    with bench.journal.write() as connection:
        messages.move(connection, message_id, MessageState.UNMAPPED, event="x", stage=Stage.ROUTE)


def test_one_owner_at_a_time_and_tokens_grow(bench: Bench) -> None:
    bench.message()
    first = lease(bench, "one")
    assert first == 1
    assert lease(bench, "two") is None
    bench.clock.advance(31)
    second = lease(bench, "two")
    assert second == 2
    fence(bench, 2)
    for stale in (lambda: fence(bench, 1), lambda: release(bench, 1)):
        with pytest.raises(LeaseLost):
            stale()
    with pytest.raises(LeaseLost), bench.journal.write() as connection:
        lanes.renew(connection, LANE, 1, TTL, bench.clock())
    fence(bench, 2)


def test_a_lane_that_nobody_rang_cannot_be_leased(bench: Bench) -> None:
    assert lease(bench, "one", "in:nowhere") is None
    with pytest.raises(LeaseLost):
        fence(bench, 1, "in:nowhere")
    with pytest.raises(LeaseLost):
        release(bench, 1, "in:nowhere")


def test_a_renewed_lease_lasts(bench: Bench) -> None:
    bench.message()
    token = lease(bench, "one")
    assert token is not None
    bench.clock.advance(25)
    with bench.journal.write() as connection:
        lanes.renew(connection, LANE, token, TTL, bench.clock())
    bench.clock.advance(25)
    assert lease(bench, "two") is None
    bench.clock.advance(6)
    # It ran out, but nobody else wanted the lane.
    fence(bench, token)
    with bench.journal.write() as connection:
        lanes.renew(connection, LANE, token, TTL, bench.clock())
    assert lease(bench, "two") is None


def test_a_released_token_is_worth_nothing(bench: Bench) -> None:
    settle_message(bench, bench.message())
    token = lease(bench, "one")
    assert token is not None
    assert not release(bench, token)
    with pytest.raises(LeaseLost):
        fence(bench, token)
    with pytest.raises(LeaseLost):
        release(bench, token)


def test_due_lanes_are_those_with_work_and_no_worker(bench: Bench) -> None:
    for source in ("c", "a", "b"):
        bench.message(source=source)
        bench.clock.advance(1)
    assert bench.due() == ["in:c", "in:a", "in:b"]
    with bench.journal.read() as connection:
        assert lanes.due(connection, bench.clock(), 2) == ["in:c", "in:a"]
    assert lease(bench, "one", "in:a") is not None
    assert bench.due() == ["in:c", "in:b"]
    bench.clock.advance(31)
    assert bench.due() == ["in:c", "in:a", "in:b"]


def test_release_says_whether_work_is_there_again(bench: Bench) -> None:
    first = bench.message()
    token = lease(bench, "one")
    assert token is not None
    settle_message(bench, first)
    second = bench.message()
    assert release(bench, token)
    assert bench.due() == [LANE]
    token = lease(bench, "one")
    assert token is not None
    settle_message(bench, second)
    assert not release(bench, token)
    assert bench.due() == []


def test_release_of_a_delivery_lane_looks_at_the_head(bench: Bench) -> None:
    head = bench.route(bench.message(), "p")[0]
    bench.route(bench.message(), "p")
    lane = "p@record"
    token = lease(bench, "one", lane)
    assert token is not None
    later = bench.clock() + timedelta(seconds=90)
    with bench.journal.write() as connection:
        deliveries.settle(
            connection, head, outcome="again", state=DeliveryState.PENDING, due_at=later
        )
        assert not lanes.release(connection, lane, token, bench.clock())
    assert lane not in bench.due()
    bench.clock.time = later
    assert lane in bench.due()


def test_release_of_a_lane_that_gathers_waits_for_the_study(bench: Bench) -> None:
    due_at = bench.clock() + timedelta(seconds=10)
    bench.append(
        bench.received(source="ct", group="1"), state=MessageState.GATHERING, due_at=due_at
    )
    bench.clock.time = due_at - timedelta(seconds=5)
    bench.append(
        bench.received(source="ct", group="1"),
        state=MessageState.GATHERING,
        due_at=due_at + timedelta(seconds=5),
    )
    bench.clock.time = due_at
    assert bench.due() == ["in:ct"]
    token = lease(bench, "one", "in:ct")
    assert token is not None
    assert not release(bench, token, "in:ct")
    assert bench.due() == []
    bench.clock.advance(5)
    assert bench.due() == ["in:ct"]


def test_the_earliest_ring_counts(bench: Bench) -> None:
    now = bench.clock()
    for at in (now + timedelta(seconds=20), now + timedelta(seconds=5), now + timedelta(hours=1)):
        with bench.journal.write() as connection:
            lanes.ring(connection, "x", at)
    assert bench.due() == []
    bench.clock.advance(5)
    assert bench.due() == ["x"]


def test_a_transaction_that_fails_rings_nothing(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError), bench.journal.write() as connection:  # noqa: PT012
        lanes.ring(connection, "x", bench.clock())
        _ = 1 / 0
    with bench.journal.write() as connection:
        lanes.ring(connection, "y", bench.clock())
    assert bench.due() == ["y"]


def test_the_journal_tells_what_was_rung_after_the_commit(bench: Bench) -> None:
    told: list[frozenset[str]] = []

    def on_ring(names: frozenset[str]) -> None:
        # What is told can be seen by then.
        assert names <= set(bench.due())
        told.append(names)

    bench.journal.on_ring = on_ring
    with bench.journal.write() as connection:
        lanes.ring(connection, "now", bench.clock())
        lanes.ring(connection, "later", bench.clock() + timedelta(seconds=1))
    with bench.journal.write() as connection:
        messages.counts(connection)
    assert told == [frozenset({"now"})]


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_names_have_a_limit(bench: Bench, name: str) -> None:
    with pytest.raises(ValueError), bench.journal.write() as connection:
        lanes.ring(connection, name, bench.clock())


def test_a_write_inside_a_write_is_an_error(journal: Journal) -> None:
    with journal.write(), pytest.raises(RuntimeError), journal.write():
        pass
    with journal.write():
        pass

"""What a clock that was ahead has left in the lanes, and what is no business of the clock's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.journal import clock, lanes
from gateway.journal.journal import LeaseLost
from tests.integration.journal.bench import Bench

TTL = timedelta(seconds=30)
LANE = "in:lab"


def due(bench: Bench) -> list[str]:
    with bench.journal.read() as connection:
        return lanes.due(connection, bench.clock())


def put_right(bench: Bench) -> int:
    with bench.journal.write() as connection:
        return clock.put_right(connection, bench.clock(), TTL)


def test_a_lease_of_tomorrow_ends_and_its_owner_cannot_act(bench: Bench) -> None:
    bench.clock.advance(86_400)
    bench.message()
    with bench.journal.write() as connection:
        token = lanes.lease(connection, LANE, "gone", TTL, bench.clock())
    assert token == 1
    bench.clock.advance(-86_400)
    assert due(bench) == []
    assert put_right(bench) >= 1
    assert due(bench) == [LANE]
    with pytest.raises(LeaseLost), bench.journal.write() as connection:
        lanes.fence(connection, LANE, token)


def test_what_was_due_tomorrow_is_due_now(bench: Bench) -> None:
    bench.clock.advance(3_600)
    bench.message()
    bench.clock.advance(-3_600)
    assert due(bench) == []
    assert put_right(bench) == 1
    assert due(bench) == [LANE]
    assert put_right(bench) == 0


def test_a_running_lease_and_an_empty_lane_are_left_alone(bench: Bench) -> None:
    bench.message()
    with bench.journal.write() as connection:
        token = lanes.lease(connection, LANE, "works", TTL, bench.clock())
    assert put_right(bench) == 0
    with bench.journal.write() as connection:
        lanes.fence(connection, LANE, token)

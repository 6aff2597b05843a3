"""Two workers at once on PostgreSQL, at the moments where something could get lost.

Each test holds one transaction open in the middle and lets another come.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import pytest
from sqlalchemy import Connection, text

from gateway.journal import deliveries, gatherings, lanes, messages, patients
from gateway.journal.append import append
from gateway.journal.arrival import Arrival, prepare
from gateway.journal.deliveries import NewDelivery
from gateway.journal.journal import LeaseLost
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import Appended
from gateway.model import Cause, CauseCode, Identifier, Received, Stage
from tests.eventually import eventually
from tests.integration.journal.bench import Bench

T = TypeVar("T")
TTL = timedelta(seconds=30)
WAIT = 30
M = MessageState
D = DeliveryState


@pytest.fixture
def bench(postgresql_bench: Bench) -> Bench:
    return postgresql_bench


class Other:
    """Another worker: runs a transaction in its own thread."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._pool = ThreadPoolExecutor(8)

    def run(self, work: Callable[[Connection], T]) -> Future[T]:
        def transaction() -> T:
            with self._bench.journal.write() as connection:
                return work(connection)

        return self._pool.submit(transaction)

    def run_until_it_waits(self, work: Callable[[Connection], T]) -> Future[T]:
        """Run it, and come back when it waits for a lock."""
        future = self.run(work)
        eventually(lambda: future.done() or self._waits(), timeout=WAIT)
        assert not future.done(), "it should have waited"
        return future

    def _waits(self) -> bool:
        with self._bench.journal.read() as connection:
            waiting = connection.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            ).scalar_one()
        return bool(waiting)


@pytest.fixture
def other(bench: Bench) -> Other:
    return Other(bench)


def arrival(bench: Bench, received: Received, **fields: object) -> Arrival:
    arguments: dict[str, object] = {
        "state": M.RECEIVED,
        "lane": f"in:{received.source}",
        "cause": None,
        "group_due_at": None,
        "body": received.payload.data,
    }
    return prepare(received, **{**arguments, **fields})  # type: ignore[arg-type]


def emptied_lane(bench: Bench) -> int:
    """A leased lane whose last message was just settled; the token."""
    message_id = bench.message()
    token = bench.lease("in:lab")
    with bench.journal.write() as connection:
        messages.move(connection, message_id, M.UNMAPPED, event="x", stage=Stage.ROUTE)
    return token


def test_a_ring_that_comes_before_the_release_is_waited_for(bench: Bench, other: Other) -> None:
    token = emptied_lane(bench)
    with bench.journal.write() as connection:
        append(connection, [arrival(bench, bench.received())], bench.clock())
        lanes.write_rings(connection)
        released = other.run_until_it_waits(
            lambda c: lanes.release(c, "in:lab", token, bench.clock())
        )
    assert released.result(WAIT) is True
    assert bench.due() == ["in:lab"]


def test_a_ring_that_comes_after_the_release_is_not_lost(bench: Bench, other: Other) -> None:
    token = emptied_lane(bench)
    with bench.journal.write() as connection:
        append(connection, [arrival(bench, bench.received())], bench.clock())
        # The worker cannot see the message yet, and finds the lane empty.
        released = other.run(lambda c: lanes.release(c, "in:lab", token, bench.clock()))
        assert released.result(WAIT) is False
        assert bench.due() == []
    assert bench.due() == ["in:lab"]


def test_a_ring_waits_for_a_release_in_progress(bench: Bench, other: Other) -> None:
    token = emptied_lane(bench)
    received = bench.received()
    with bench.journal.write() as connection:
        assert not lanes.release(connection, "in:lab", token, bench.clock())
        rung = other.run_until_it_waits(
            lambda c: append(c, [arrival(bench, received)], bench.clock())
        )
    rung.result(WAIT)
    assert bench.due() == ["in:lab"]


def test_arrivals_do_not_wait_for_the_work_in_their_lane(bench: Bench, other: Other) -> None:
    bench.message()
    token = bench.lease("in:lab")
    received = bench.received()
    with bench.journal.write() as connection:
        lanes.fence(connection, "in:lab", token)
        other.run(lambda c: append(c, [arrival(bench, received)], bench.clock())).result(WAIT)


def test_nobody_takes_a_lane_over_in_the_middle_of_a_fenced_transaction(
    bench: Bench, other: Other
) -> None:
    bench.message()
    token = bench.lease("in:lab", seconds=1)
    bench.clock.advance(2)

    def take(connection: Connection) -> int | None:
        return lanes.lease(connection, "in:lab", "two", TTL, bench.clock())

    with bench.journal.write() as connection:
        lanes.fence(connection, "in:lab", token)
        assert other.run(take).result(WAIT) is None
    assert other.run(take).result(WAIT) == token + 1
    with pytest.raises(LeaseLost), bench.journal.write() as connection:
        lanes.fence(connection, "in:lab", token)


def test_one_of_many_gets_the_lease(bench: Bench, other: Other) -> None:
    bench.message()
    barrier = threading.Barrier(8)

    def take(connection: Connection) -> int | None:
        barrier.wait(WAIT)
        return lanes.lease(connection, "in:lab", "any", TTL, bench.clock())

    found = [future.result(WAIT) for future in [other.run(take) for _ in range(8)]]
    assert sorted(found, key=str) == [1, *[None] * 7]


@pytest.mark.parametrize("commits", [True, False])
def test_two_processes_that_get_the_same_message(bench: Bench, other: Other, commits: bool) -> None:
    """A sender that retries at another listener while the first one is still writing."""
    same = bench.received(b"same", control_id="A", answer=b"first")
    mine, neighbour = arrival(bench, same), arrival(bench, bench.received())

    def late(connection: Connection) -> list[Appended]:
        return append(connection, [mine, neighbour], bench.clock())

    with contextlib.suppress(ZeroDivisionError), bench.journal.write() as connection:
        first = append(connection, [mine], bench.clock())[0]
        waiting = other.run_until_it_waits(late)
        _ = 1 / commits
    repeated, fresh = waiting.result(WAIT)
    assert repeated.duplicate is commits
    assert (repeated.message_id == first.message_id) is commits
    assert repeated.answer == b"first"
    assert not fresh.duplicate
    with bench.journal.read() as connection:
        assert sum(messages.counts(connection).values()) == 2
        message = messages.get(connection, repeated.message_id)
    assert message is not None
    assert message.arrivals == (2 if commits else 1)


def test_two_workers_who_settle_the_last_two_deliveries(bench: Bench, other: Other) -> None:
    """Each sees the other's delivery pending; one of them must conclude all the same."""
    message_id = bench.message()
    one, two = bench.route(message_id, "p", ("record", "pacs"))

    def settle(connection: Connection, delivery_id: int) -> MessageState:
        deliveries.settle(connection, delivery_id, outcome="delivered", state=D.DELIVERED)
        return deliveries.conclude(connection, [message_id])[message_id]

    with bench.journal.write() as connection:
        assert settle(connection, one) is M.ROUTED
        waiting = other.run_until_it_waits(lambda c: settle(c, two))
    assert waiting.result(WAIT) is M.DELIVERED


INS = Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value="1", type="INS")
LOCAL = Identifier(system="urn:oid:1.2.3", value="7", type="PI")
AWAITED = Cause(code=CauseCode.IDENTITY_AWAITED)


def bring(connection: Connection) -> list[int]:
    patient = patients.ensure(connection, INS)
    patients.link(connection, patient.id, [LOCAL], 1)
    return messages.release(connection, [INS, LOCAL])


def test_an_identity_that_comes_while_a_message_is_being_held(bench: Bench, other: Other) -> None:
    message_id = bench.message()
    with bench.journal.write() as connection:
        assert messages.hold(connection, message_id, [LOCAL], AWAITED)
        bringing = other.run_until_it_waits(bring)
    assert bringing.result(WAIT) == [message_id]
    assert bench.state(message_id) is M.RECEIVED


def test_a_message_that_is_held_while_its_identity_comes(bench: Bench, other: Other) -> None:
    message_id = bench.message()
    with bench.journal.write() as connection:
        assert bring(connection) == []
        holding = other.run_until_it_waits(lambda c: messages.hold(c, message_id, [LOCAL], AWAITED))
    assert holding.result(WAIT) is False
    assert bench.state(message_id) is M.RECEIVED
    assert "in:lab" in bench.due()


def test_an_instance_that_comes_while_its_study_is_closed(bench: Bench, other: Other) -> None:
    def instance(connection: Connection) -> int:
        received = bench.received(source="ct", group="1")
        due_at = bench.clock() + timedelta(seconds=10)
        made = arrival(bench, received, state=M.GATHERING, group_due_at=due_at)
        return append(connection, [made], bench.clock())[0].message_id

    def close(connection: Connection) -> int | None:
        return gatherings.close(connection, "ct", "1", bench.clock())

    other.run(instance).result(WAIT)
    bench.clock.advance(10)
    with bench.journal.write() as connection:
        late = instance(connection)
        closing = other.run_until_it_waits(close)
    assert closing.result(WAIT) is None
    bench.clock.advance(10)
    with bench.journal.write() as connection:
        assert close(connection) == late
        opening = other.run_until_it_waits(instance)
    newest = opening.result(WAIT)
    assert bench.state(newest) is M.GATHERING
    bench.clock.advance(10)
    assert other.run(close).result(WAIT) == newest


def two_patients(bench: Bench) -> tuple[str, str]:
    with bench.journal.write() as connection:
        found = [
            patients.ensure(connection, Identifier(system=INS.system, value=value)).id
            for value in ("1", "2")
        ]
    return found[0], found[1]


def test_a_delivery_that_is_routed_while_its_patient_is_merged(bench: Bench, other: Other) -> None:
    stays, goes = two_patients(bench)
    message_id = bench.message()
    new = NewDelivery(
        message_id=message_id,
        lane=f"{goes}@record",
        patient_id=goes,
        destination="record",
        sequence=message_id,
        idempotency_key="k",
    )
    with bench.journal.write() as connection:
        patients.merge(connection, stays, goes, message_id)
        deliveries.move_lane(connection, goes, stays)
        routing = other.run_until_it_waits(lambda c: deliveries.insert(c, [new]))
    (delivery_id,) = routing.result(WAIT)
    with bench.journal.read() as connection:
        row = deliveries.get(connection, delivery_id)
    assert row is not None
    assert (row.lane, row.merged_patients) == (f"{stays}@record", (goes,))


def test_a_merge_waits_for_the_delivery_in_progress(bench: Bench, other: Other) -> None:
    stays, goes = two_patients(bench)
    first, second = (bench.route(bench.message(), goes)[0] for _ in range(2))
    lane = f"{goes}@record"
    token = bench.lease(lane)

    def merge(connection: Connection) -> int:
        patients.merge(connection, stays, goes, 1)
        return deliveries.move_lane(connection, goes, stays)

    with bench.journal.write() as connection:
        lanes.fence(connection, lane, token)
        merging = other.run_until_it_waits(merge)
        deliveries.settle(connection, first, outcome="delivered", state=D.DELIVERED)
    assert merging.result(WAIT) == 1
    with bench.journal.read() as connection:
        rows = [deliveries.get(connection, n) for n in (first, second)]
    assert [row and (row.state, row.lane) for row in rows] == [
        (D.DELIVERED, lane),
        (D.PENDING, f"{stays}@record"),
    ]
    with pytest.raises(LeaseLost), bench.journal.write() as connection:
        lanes.fence(connection, lane, token)


def test_rings_of_the_same_lanes_never_wait_in_a_circle(bench: Bench, other: Other) -> None:
    names = [f"p{number}@record" for number in range(20)]
    barrier = threading.Barrier(2)

    def ring(connection: Connection, order: list[str]) -> None:
        for name in order:
            lanes.ring(connection, name, bench.clock())

    def round_(order: list[str]) -> None:
        barrier.wait(WAIT)
        for _ in range(50):
            with bench.journal.write() as connection:
                ring(connection, order)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(round_, names), pool.submit(round_, names[::-1])]:
            future.result(WAIT)
    assert sorted(bench.due()) == sorted(names)

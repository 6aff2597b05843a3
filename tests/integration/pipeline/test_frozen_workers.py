"""A worker that is frozen, or hangs in a call: what it may still do, and what the others do meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.times import utc_now
from gateway.model import Delivered, Delivery, Outcome
from tests.eventually import eventually
from tests.integration.pipeline.rig import HeldClock, Rig, ToyRecord, ToyRemote, national


class Gated(ToyRemote):
    """Holds the first call until it is let go, and counts what really reached it."""

    def __init__(self) -> None:
        super().__init__("remote")
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.reached: list[int] = []
        self.first = True

    def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
        with self.lock:
            first, self.first = self.first, False
        if first:
            self.inside.set()
            assert self.go_on.wait(20)
        self.reached.append(delivery.begun)
        if delivery.begun and delivery.idempotency_key in self.kept:
            return Delivered(evidence="asked")
        return super().deliver(delivery, connection)


def test_a_worker_that_was_frozen_in_a_call_cannot_settle_and_the_next_asks(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = Gated()
    rig = make_rig(destinations=[remote])
    receipt = rig.send({"patient": [national(1)], "facts": ["f1"]})
    rig.drainer.drain("in:lab")
    lane = rig.delivery(receipt).lane
    frozen = threading.Thread(target=rig.drainer.drain, args=[lane])
    frozen.start()
    assert remote.inside.wait(20)
    clock.forward(seconds=75)
    other = rig.new_drainer()
    assert other.drain(lane) is False
    assert rig.delivery(receipt).state is DeliveryState.DELIVERED
    # It knew that an attempt was at work of which nobody has heard.
    assert remote.reached == [1]
    remote.go_on.set()
    frozen.join(20)
    assert len(remote.order) == 1
    assert rig.delivery(receipt).attempts == 1


def test_a_worker_that_was_frozen_before_the_call_does_not_make_it(
    make_rig: Callable[..., Rig], clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway import elsewhere

    remote = ToyRemote()
    rig = make_rig(destinations=[remote])
    receipt = rig.send({"patient": [national(1)], "facts": ["f1"]})
    rig.drainer.drain("in:lab")
    lane = rig.delivery(receipt).lane
    renewed = elsewhere.ElsewhereDrain._renewed
    other = rig.new_drainer()

    def freeze(drain: Any, held: Any) -> None:
        if drain is rig.drainer.elsewhere:
            # It stops here, for longer than its lease; another worker does it all.
            clock.forward(seconds=75)
            other.drain(lane)
        renewed(drain, held)

    monkeypatch.setattr(elsewhere.ElsewhereDrain, "_renewed", freeze)
    assert rig.drainer.drain(lane) is False
    assert remote.calls == ["f1"]
    assert rig.delivery(receipt).state is DeliveryState.DELIVERED


def test_a_merge_takes_both_lanes_from_their_workers(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = Gated()
    rig = make_rig(destinations=[remote])
    one, two = national(1), national(2)
    early = [rig.send({"patient": [one], "facts": ["one-1"]})]
    early += [rig.send({"patient": [two], "facts": ["two-2"]})]
    early += [rig.send({"patient": [one], "facts": ["one-3"]})]
    rig.drainer.drain("in:lab")
    lane = rig.delivery(early[0]).lane
    frozen = threading.Thread(target=rig.drainer.drain, args=[lane])
    frozen.start()
    # It holds one-1 and one-3 of the survivor when two-2 moves in between.
    assert remote.inside.wait(20)
    rig.send({"patient": [one], "merges": [[two]]})
    rig.drainer.drain("in:lab")
    remote.go_on.set()
    frozen.join(20)
    rig.settle()
    assert [fact for _, fact in remote.order] == ["one-1", "two-2", "one-3"]


def test_a_destination_that_hangs_keeps_nobody_else_waiting(
    make_rig: Callable[..., Rig],
) -> None:
    hanging = Gated()
    rig = make_rig(
        clock=utc_now,
        destinations=lambda journal: [ToyRecord(journal), hanging],
    )
    rig.run_pool(threads=1, sweep_seconds=0.1)
    sent = [rig.send({"patient": [national(n)], "facts": [f"f{n}"]}) for n in range(30)]
    assert hanging.inside.wait(20)
    eventually(lambda: len(rig.facts()) == 30, timeout=30)
    hanging.go_on.set()
    eventually(lambda: all(rig.state(each) is MessageState.DELIVERED for each in sent), timeout=30)
    assert len(hanging.order) == 30


def test_a_frozen_worker_that_wakes_cannot_act_any_more(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    remote = ToyRemote()
    rig = make_rig(destinations=[remote])
    deliver = remote.deliver

    def freeze(delivery: object, connection: object) -> object:
        if not inside.is_set():
            inside.set()
            assert go_on.wait(20)
        return deliver(delivery, connection)  # type: ignore[arg-type]

    remote.deliver = freeze  # type: ignore[method-assign,assignment]
    receipt = rig.send({"patient": [national(1)], "facts": ["a"]})
    rig.drainer.drain("in:lab")
    lane = rig.delivery(receipt).lane
    frozen = threading.Thread(target=rig.drainer.drain, args=(lane,))
    frozen.start()
    assert inside.wait(20)
    clock.forward(minutes=1)
    rig.new_drainer().drain(lane)
    assert rig.state(receipt) is MessageState.DELIVERED
    go_on.set()
    frozen.join(20)
    assert len(remote.order) == 1
    assert rig.delivery(receipt).state is DeliveryState.DELIVERED

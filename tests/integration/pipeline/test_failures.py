"""What goes wrong: poison, crashes, destinations that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from deadletter import replay
from gateway.journal import deadletters, deliveries, lanes
from gateway.journal.journal import Journal
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import DeadLetter, DeadLetterFilter
from gateway.model import Again, Cause, CauseCode, Refused, Stage, Wait
from gateway.retry import RetryPolicy
from tests.integration.pipeline.rig import (
    HeldClock,
    Rig,
    ToyRecord,
    ToyRemote,
    national,
    recorded,
)

WHO = {"patient": [national(1)]}
AWAY = Cause(code=CauseCode.DESTINATION_UNAVAILABLE, detail="connection refused")
NEVER = Cause(code=CauseCode.DESTINATION_REFUSED, detail="422", protocol_code="422")


def letters(rig: Rig) -> list[DeadLetter]:
    with rig.journal.read() as connection:
        return deadletters.page(connection, DeadLetterFilter())


# --- stage 2 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no json", CauseCode.UNREADABLE),
        ({**WHO, "rejected": True}, CauseCode.MAPPING_FAILED),
        ({**WHO, "facts": ["a"], "broken": True}, CauseCode.INVALID_ENTRY),
    ],
)
def test_a_message_that_cannot_be_mapped_dies_alone(
    rig: Rig, content: object, code: CauseCode
) -> None:
    before = rig.send({**WHO, "facts": ["before"]})
    bad = rig.send(content)  # type: ignore[arg-type]
    after = rig.send({**WHO, "facts": ["after"]})
    rig.settle()
    assert rig.facts() == ["before", "after"]
    assert rig.state(before) is rig.state(after) is MessageState.DELIVERED
    assert rig.state(bad) is MessageState.DEAD
    (letter,) = letters(rig)
    assert (letter.message_id, letter.cause.code) == (bad.message_id, code)


def test_an_unmapped_message_is_held_not_dead(rig: Rig) -> None:
    receipt = rig.send({**WHO, "kind": "unknown"})
    rig.settle()
    assert rig.state(receipt) is MessageState.UNMAPPED
    assert letters(rig) == []


def test_a_fault_in_the_transaction_buries_one_message_of_the_batch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway import passage

    really = passage.permit

    def fail(index: object, *, message_id: int, **rest: object) -> object:
        if message_id == 3:
            raise KeyError("a value that must not be told")
        return really(index, message_id=message_id, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(passage, "permit", fail)
    for n in range(6):
        last = rig.submit({"patient": [national(n)], "facts": [f"f{n}"]})
    last.result(timeout=10)
    rig.settle()
    assert sorted(rig.facts()) == ["f0", "f1", "f3", "f4", "f5"]
    (letter,) = letters(rig)
    assert letter.message_id == 3
    assert letter.cause.code is CauseCode.INTERNAL
    assert letter.cause.detail == "KeyError"
    assert "must not be told" not in repr(letter)


def test_a_message_that_takes_workers_down_is_set_apart(rig: Rig) -> None:
    """A worker that dies leaves its claim. Two may have died of a neighbour; after three
    more with nothing else in hand there is no other."""

    def die() -> None:
        raise Killed

    rig.reader.bombs["kill"] = die
    first = rig.send({**WHO, "facts": ["neighbour"]})
    poison = rig.send({**WHO, "bomb": "kill"})
    after = rig.send({**WHO, "facts": ["after"]})
    deaths = 0
    for _ in range(12):
        try:
            rig.drainer.drain("in:lab")
        except Killed:
            deaths += 1
            rig.clock.forward(minutes=1)  # type: ignore[attr-defined]  # the lease runs out
    assert deaths == 5
    rig.settle()
    assert rig.code(poison) is CauseCode.UNFINISHED_ATTEMPTS
    assert rig.state(poison) is MessageState.DEAD
    assert rig.state(first) is rig.state(after) is MessageState.DELIVERED
    assert rig.facts() == ["neighbour", "after"]


# --- deliveries -------------------------------------------------------------------------


@pytest.fixture(params=[ToyRecord, ToyRemote], ids=["record", "remote"])
def failing(request: pytest.FixtureRequest, make_rig: Callable[..., Rig]) -> Rig:
    """A rig on either kind of destination; ``rig.destinations[0].answers`` rules it."""

    def destination(journal: Journal) -> list[ToyRecord | ToyRemote]:
        return [ToyRecord(journal) if request.param is ToyRecord else ToyRemote()]

    return make_rig(
        destinations=destination,
        policy=RetryPolicy(
            base=timedelta(seconds=2), cap=timedelta(seconds=30), attempts_max=4,
            give_up_after=timedelta(hours=1),
        ),
    )  # fmt: skip


def arrived(rig: Rig) -> list[str]:
    destination = rig.destinations[0]
    if isinstance(destination, ToyRemote):
        return [fact for _, fact in destination.order]
    return rig.facts()


def test_a_failing_delivery_blocks_its_lane_only_and_then_works(
    failing: Rig, clock: HeldClock
) -> None:
    failing.destinations[0].answers["a"] = [Again(cause=AWAY), Again(cause=AWAY)]
    receipt = failing.send({**WHO, "facts": ["a"]})
    failing.send({**WHO, "facts": ["b"]})
    failing.send({"patient": [national(2)], "facts": ["other"]})
    failing.settle()
    assert arrived(failing) == ["other"]
    assert failing.delivery(receipt).due_at == clock.at + timedelta(seconds=2)
    assert failing.delivery(receipt).cause == AWAY
    clock.forward(seconds=1.9)
    failing.settle()
    assert arrived(failing) == ["other"]
    clock.forward(seconds=0.2)
    failing.settle()
    assert failing.delivery(receipt).due_at == clock.at + timedelta(seconds=4)
    clock.forward(seconds=4)
    failing.settle()
    assert arrived(failing) == ["other", "a", "b"]
    assert failing.delivery(receipt).attempts == 3


def test_waiting_is_not_counted(failing: Rig, clock: HeldClock) -> None:
    closed = Wait(cause=AWAY, after=timedelta(minutes=5))
    failing.destinations[0].answers["a"] = [closed] * 6
    receipt = failing.send({**WHO, "facts": ["a"]})
    for _ in range(6):
        failing.settle()
        clock.forward(minutes=5)
    assert failing.delivery(receipt).attempts == 0
    failing.settle()
    assert arrived(failing) == ["a"]
    assert failing.delivery(receipt).attempts == 1


def test_a_refusal_is_buried_and_the_lane_goes_on(failing: Rig) -> None:
    failing.destinations[0].answers["a"] = [Refused(cause=NEVER)]
    receipt = failing.send({**WHO, "facts": ["a"]})
    failing.send({**WHO, "facts": ["b"]})
    failing.settle()
    assert arrived(failing) == ["b"]
    assert failing.state(receipt) is MessageState.DEAD
    (letter,) = letters(failing)
    assert (letter.stage, letter.cause, letter.attempts) == (Stage.DELIVER, NEVER, 1)
    assert letter.delivery_id == failing.delivery(receipt).id


def test_it_gives_up_after_the_last_attempt(failing: Rig, clock: HeldClock) -> None:
    failing.destinations[0].answers["a"] = [Again(cause=AWAY)] * 10
    receipt = failing.send({**WHO, "facts": ["a"]})
    failing.send({**WHO, "facts": ["b"]})
    for _ in range(6):
        failing.settle()
        clock.forward(seconds=30)
    assert failing.state(receipt) is MessageState.DEAD
    assert failing.code(receipt) is CauseCode.GAVE_UP
    (letter,) = letters(failing)
    assert letter.attempts == 4
    assert arrived(failing) == ["b"]


def test_it_gives_up_by_age(failing: Rig, clock: HeldClock) -> None:
    failing.destinations[0].answers["a"] = [
        Again(cause=AWAY, after=timedelta(minutes=40)) for _ in range(3)
    ]
    receipt = failing.send({**WHO, "facts": ["a"]})
    for _ in range(3):
        failing.settle()
        clock.forward(minutes=40)
    assert failing.code(receipt) is CauseCode.GAVE_UP
    assert failing.delivery(receipt).attempts == 3


def test_a_fault_of_a_destination_buries_that_item_only(failing: Rig) -> None:
    failing.destinations[0].answers["a"] = [RuntimeError("the patient's name")]
    receipt = failing.send({**WHO, "facts": ["a"]})
    for n in range(5):
        failing.send({"patient": [national(n)], "facts": [f"f{n}"]})
    failing.settle()
    assert sorted(arrived(failing)) == [f"f{n}" for n in range(5)]
    assert failing.code(receipt) is CauseCode.INTERNAL
    assert "name" not in repr(letters(failing)[0].cause)


def test_what_did_not_succeed_leaves_no_trace_in_the_record(make_rig: Callable[..., Rig]) -> None:
    """ToyRecord writes first and then answers; only Delivered may keep what was written."""
    rig = make_rig()
    record = rig.destinations[0]
    record.answers = {
        "again": [Again(cause=AWAY, after=timedelta(hours=1))],
        "refused": [Refused(cause=NEVER)],
        "raised": [ValueError()],
    }
    for n, fact in enumerate([*record.answers, "good"]):
        rig.send({"patient": [national(n)], "facts": [fact]})
    rig.settle()
    assert rig.facts() == ["good"]


class Killed(BaseException):
    """Nothing may catch it, as nothing catches SIGKILL."""


def test_an_attempt_that_kills_its_workers_is_set_apart(failing: Rig, clock: HeldClock) -> None:
    failing.destinations[0].answers["a"] = [Killed() for _ in range(9)]
    receipt = failing.send({**WHO, "facts": ["a"]})
    failing.send({**WHO, "facts": ["b"]})
    others = [failing.send({"patient": [national(n)], "facts": [f"f{n}"]}) for n in range(2, 6)]
    deaths = 0
    failing.drainer.drain("in:lab")
    for _ in range(20):
        with failing.journal.read() as connection:
            due = lanes.due(connection, clock.at)
        for lane in due:
            try:
                failing.drainer.drain(lane)
            except Killed:
                deaths += 1
        clock.forward(minutes=1)
    # For the record the first attempt was one of a batch, which accuses none of it.
    assert deaths == (4 if failing.destinations[0].transactional else 3)
    assert failing.code(receipt) is CauseCode.UNFINISHED_ATTEMPTS
    assert sorted(arrived(failing)) == ["b", "f2", "f3", "f4", "f5"]
    assert {failing.state(each) for each in others} == {MessageState.DELIVERED}


def test_a_crash_between_attempt_and_settlement_makes_no_second_effect(
    make_rig: Callable[..., Rig], clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The destination has it, the journal does not know: the next attempt has the same key."""
    remote = ToyRemote()
    rig = make_rig(destinations=[remote])
    receipt = rig.send({**WHO, "facts": ["a"]})
    rig.drainer.drain("in:lab")
    settle = deliveries.settle_all

    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(deliveries, "settle_all", die)
    with pytest.raises(Killed):
        rig.settle()
    monkeypatch.setattr(deliveries, "settle_all", settle)
    rig.settle()
    assert remote.calls == ["a"]  # the dead worker's lease still holds the lane
    clock.forward(minutes=1)
    rig.settle()
    assert remote.calls == ["a", "a"]
    assert remote.order == [(rig.message(receipt).patient_id, "a")]
    assert rig.state(receipt) is MessageState.DELIVERED
    with rig.journal.read() as connection:
        tried = deliveries.attempts(connection, rig.delivery(receipt).id)
    assert [attempt.outcome for attempt in tried] == ["delivered", "unfinished"]


def test_a_crash_in_the_records_transaction_leaves_nothing_behind(
    rig: Rig, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        rig.send({"patient": [national(n)], "facts": [f"f{n}"]})
    rig.drainer.drain("in:lab")
    conclude = deliveries.conclude

    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(deliveries, "conclude", die)
    with pytest.raises(Killed):
        rig.settle()
    monkeypatch.setattr(deliveries, "conclude", conclude)
    assert rig.facts() == []
    clock.forward(minutes=1)
    rig.settle()
    assert sorted(rig.facts()) == [f"f{n}" for n in range(5)]


def test_a_destination_that_is_no_longer_configured_keeps_its_deliveries(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote, other = ToyRemote("gone"), ToyRemote("stays")
    rig = make_rig(destinations=[remote, other])
    receipt = rig.send({**WHO, "facts": ["a"]})
    rig.drainer.drain("in:lab")
    rig.destinations = [other]
    rig.drainer = rig.new_drainer()
    rig.settle()
    assert rig.state(receipt) is MessageState.ROUTED
    with rig.journal.read() as connection:
        waiting = [
            each
            for each in deliveries.of_message(connection, receipt.message_id)
            if each.destination == "gone"
        ]
    assert waiting[0].state is DeliveryState.PENDING
    assert waiting[0].attempts == 0
    rig.destinations = [remote, other]
    rig.drainer = rig.new_drainer()
    clock.forward(minutes=1)
    rig.settle()
    assert rig.state(receipt) is MessageState.DELIVERED


def test_two_workers_never_deliver_the_same_thing_twice(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    for n in range(200):
        last = rig.submit({"patient": [national(n % 10)], "facts": [f"f{n}"]})
    last.result(timeout=20)
    workers = [threading.Thread(target=_drain_all, args=(rig,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    rig.settle()
    assert sorted(rig.facts()) == sorted(f"f{n}" for n in range(200))
    order: dict[str, list[int]] = {}
    for patient, _, sequence in recorded(rig.journal):
        order.setdefault(patient, []).append(sequence)
    assert all(each == sorted(each) for each in order.values())


def _drain_all(rig: Rig) -> None:
    drainer = rig.new_drainer()
    for _ in range(30):
        with rig.journal.read() as connection:
            due = lanes.due(connection, rig.clock())
        for lane in due:
            drainer.drain(lane)


def test_a_delivery_whose_entries_are_lost_dies_and_its_lane_goes_on(
    failing: Rig, clock: HeldClock
) -> None:
    rig = failing
    # Both wait for the destination; then the entries of the one in front are lost.
    rig.destinations[0].answers["damaged"] = [Again(cause=AWAY)]
    damaged = rig.send({**WHO, "facts": ["damaged"]})
    after = rig.send({**WHO, "facts": ["after"]})
    rig.settle()
    with rig.journal.write() as connection:
        connection.execute(
            text("DELETE FROM normalised WHERE message_id = :id"), {"id": damaged.message_id}
        )
    clock.forward(minutes=1)
    rig.settle()
    assert rig.state(damaged) is MessageState.DEAD
    assert rig.state(after) is MessageState.DELIVERED
    assert arrived(rig) == ["after"]
    (letter,) = letters(rig)
    assert (letter.message_id, letter.cause.code) == (
        damaged.message_id,
        CauseCode.ENTRIES_MISSING,
    )
    assert (letter.stage, letter.delivery_id is None) == (Stage.DELIVER, False)
    # A replay reads the message again, and its delivery goes.
    replay.replay(rig.journal, DeadLetterFilter(ids=(letter.id,)), actor="anne", key="again")
    rig.settle()
    assert rig.state(damaged) is MessageState.DELIVERED
    with rig.journal.read() as connection:
        assert deadletters.page(connection, DeadLetterFilter(resolved=False)) == []
        assert [each.state for each in deliveries.of_message(connection, damaged.message_id)] == [
            DeliveryState.DELIVERED
        ]


def test_a_message_whose_bytes_are_lost_dies_and_its_lane_goes_on(
    failing: Rig, clock: HeldClock
) -> None:
    """Before it is read, and when it is to be read again because its entries are lost, too."""
    rig = failing
    rig.destinations[0].answers["damaged"] = [Again(cause=AWAY)]
    both = rig.send({**WHO, "facts": ["damaged"]})
    rig.settle()
    unread = rig.send({**WHO, "facts": ["unread"]})
    after = rig.send({**WHO, "facts": ["after"]})
    with rig.journal.write() as connection:
        for statement, number in (
            ("DELETE FROM normalised WHERE message_id = :id", both.message_id),
            ("DELETE FROM content WHERE message_id = :id", both.message_id),
            ("DELETE FROM content WHERE message_id = :id", unread.message_id),
        ):
            connection.execute(text(statement), {"id": number})
    clock.forward(minutes=1)
    rig.settle()
    assert rig.state(after) is MessageState.DELIVERED
    first, second = sorted(letters(rig), key=lambda letter: letter.message_id)
    assert (first.message_id, first.cause.code) == (both.message_id, CauseCode.ENTRIES_MISSING)
    assert (second.message_id, second.cause.code) == (unread.message_id, CauseCode.UNREADABLE)
    replay.replay(rig.journal, DeadLetterFilter(ids=(first.id,)), actor="anne", key="again")
    rig.settle()
    assert rig.state(both) is MessageState.DEAD
    (again,) = (each for each in letters(rig) if each.message_id == both.message_id)
    assert (again.cause.code, again.cause.detail) == (
        CauseCode.UNREADABLE,
        "the message's bytes are not in the store",
    )

"""What stands still and what goes first: breaker, rate, pause, drain, shares, priorities; on both
databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from gateway import rooms
from gateway.breaker import BreakerPolicy, DestinationPolicy
from gateway.journal import lanes, standings, standstills, tables
from gateway.journal.standstills import Kind, Mode
from gateway.journal.states import DeliveryState, MessageState
from gateway.model import Again, Cause, CauseCode, Delivery, Outcome, Wait
from gateway.retry import RetryPolicy
from gateway.shares import Shares
from tests.integration.pipeline.rig import HeldClock, Rig, ToyRecord, ToyRemote, national

AWAY = Again(cause=Cause(code=CauseCode.DESTINATION_UNAVAILABLE, detail="it is away"))


def remote_rig(make_rig: Callable[..., Rig], *remotes: Any, **treatment: Any) -> Rig:
    rig = make_rig(destinations=list(remotes))
    policy = DestinationPolicy(**treatment)
    rig.drainer = rig.new_drainer(treatment={each.name: policy for each in remotes})
    return rig


def send(rig: Rig, number: int, fact: str, **fields: Any) -> Any:
    return rig.send({"patient": [national(number)], "facts": [fact]}, **fields)


def decide(rig: Rig, kind: Kind, name: str, mode: Mode) -> bool:
    with rig.journal.write() as connection:
        return standstills.change(connection, kind, name, mode, actor="tester", reason="test")


def room_codes(rig: Rig) -> dict[str, int]:
    with rig.journal.read() as connection:
        found = rooms.rooms(connection, rig.drainer.shares, rig.clock())
    assert all(sum(count for _, count in each.ages) == each.count for each in found)
    return {each.code: each.count for each in found}


# --- the breaker ------------------------------------------------------------------------


def test_an_open_breaker_uses_up_no_attempt_and_lets_one_through_at_its_end(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = ToyRemote()
    remote.always = AWAY
    breaker = BreakerPolicy(failures=3, open_for=timedelta(seconds=30))
    rig = remote_rig(make_rig, remote, breaker=breaker)
    sent = [send(rig, n, f"f{n}") for n in range(20)]
    rig.settle()
    assert len(remote.calls) == 3
    assert room_codes(rig) == {"destination-resting": 20}
    for _ in range(29):
        clock.forward(seconds=1)
        rig.settle()
    assert len(remote.calls) == 3
    # One each time, for longer each time: 30, then 60, 120, ... None of them is counted.
    clock.forward(seconds=1)
    rig.settle()
    assert len(remote.calls) == 4
    clock.forward(seconds=59)
    rig.settle()
    assert len(remote.calls) == 4
    clock.forward(seconds=1)
    rig.settle()
    assert len(remote.calls) == 5
    attempts = [rig.delivery(each).attempts for each in sent]
    assert sum(attempts) == 3
    assert max(attempts) == 1
    remote.always = None
    clock.forward(minutes=5)
    rig.settle()
    clock.forward(minutes=5)
    rig.settle()
    assert {rig.state(each) for each in sent} == {MessageState.DELIVERED}
    assert room_codes(rig) == {}


def test_its_state_is_shared_by_all_workers_and_survives_them(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = ToyRemote()
    remote.always = AWAY
    breaker = BreakerPolicy(failures=2, open_for=timedelta(seconds=30))
    rig = remote_rig(make_rig, remote, breaker=breaker)
    for n in range(4):
        send(rig, n, f"f{n}")
    rig.settle()
    assert len(remote.calls) == 2
    other = rig.new_drainer(treatment={"remote": DestinationPolicy(breaker=breaker)})
    rig.drainer.stop()
    rig.drainer = other
    rig.settle()
    assert len(remote.calls) == 2
    clock.forward(seconds=31)
    rig.settle()
    assert len(remote.calls) == 3


def test_a_refusal_is_an_answer_and_closes_it(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    from gateway.model import Refused

    remote = ToyRemote()
    refused = Refused(cause=Cause(code=CauseCode.DESTINATION_REFUSED))
    remote.answers = {"f0": [AWAY], "f1": [refused], "f2": [AWAY]}
    rig = remote_rig(make_rig, remote, breaker=BreakerPolicy(failures=2))
    for n in range(4):
        send(rig, n, f"f{n}")
    rig.settle()
    assert sorted(remote.calls) == ["f0", "f1", "f2", "f3"]


def test_what_waits_alone_keeps_only_its_own_lane(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = ToyRemote()
    awaited = Cause(code=CauseCode.OUTCOME_UNKNOWN)
    waits = Wait(cause=awaited, after=timedelta(seconds=60), alone=True)
    remote.answers = {"f0": [waits] * 20}
    rig = remote_rig(make_rig, remote, breaker=BreakerPolicy(failures=2))
    sent = [send(rig, n, f"f{n}") for n in range(3)]
    behind = send(rig, 0, "behind")
    for _ in range(20):
        rig.settle()
        assert rig.state(behind) is MessageState.ROUTED
        clock.forward(seconds=61)
    assert [rig.state(each) for each in sent[1:]] == [MessageState.DELIVERED] * 2
    rig.settle()
    # Neither the breaker nor the number of attempts has counted it.
    assert rig.state(sent[0]) is rig.state(behind) is MessageState.DELIVERED
    assert rig.delivery(sent[0]).attempts == 1


def test_a_destination_that_wants_to_rest_rests_for_all(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = ToyRemote()
    busy = Cause(code=CauseCode.DESTINATION_UNAVAILABLE, protocol_code="429")
    remote.answers = {f"f{n}": [Wait(cause=busy, after=timedelta(seconds=60))] for n in range(5)}
    rig = remote_rig(make_rig, remote)
    sent = [send(rig, n, f"f{n}") for n in range(5)]
    rig.settle()
    assert len(remote.calls) == 1
    clock.forward(seconds=59)
    rig.settle()
    assert len(remote.calls) == 1
    for _ in range(6):
        clock.forward(seconds=61)
        rig.settle()
    assert {rig.state(each) for each in sent} == {MessageState.DELIVERED}
    assert [rig.delivery(each).attempts for each in sent] == [1] * 5


def test_the_rate_holds_for_all_workers_together(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = ToyRemote()
    rig = remote_rig(make_rig, remote, per_second=2.0, burst=3)
    for n in range(12):
        send(rig, n, f"f{n}")
    rig.drainer.drain("in:lab")
    counts = []
    for _ in range(5):
        while rig.drainer.elsewhere.work("remote") == 0:
            pass
        counts.append(len(remote.calls))
        clock.forward(seconds=1)
    assert counts == [3, 5, 7, 9, 11]


def test_each_cause_may_have_its_own_patience(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = ToyRemote()
    unknown = Again(cause=Cause(code=CauseCode.OUTCOME_UNKNOWN))
    conflict = Again(cause=Cause(code=CauseCode.DESTINATION_REFUSED))
    remote.answers = {"f1": [unknown] * 9, "f2": [conflict] * 9}
    few = RetryPolicy(attempts_max=2)
    rig = make_rig(destinations=[remote])
    rig.drainer = rig.new_drainer(
        policies={"remote": RetryPolicy(causes={CauseCode.DESTINATION_REFUSED: few})},
        treatment={"remote": DestinationPolicy(breaker=BreakerPolicy(failures=0))},
    )
    first, second = send(rig, 1, "f1"), send(rig, 2, "f2")
    for _ in range(4):
        rig.settle()
        clock.forward(minutes=20)
    assert rig.state(first) is MessageState.ROUTED
    assert rig.state(second) is MessageState.DEAD
    assert remote.calls.count("f2") == 2


# --- standing still ---------------------------------------------------------------------


def test_a_paused_source_is_accepted_from_and_not_read(rig: Rig) -> None:
    assert decide(rig, Kind.SOURCE, "lab", Mode.PAUSED)
    assert not decide(rig, Kind.SOURCE, "lab", Mode.PAUSED)
    held = send(rig, 1, "held")
    other = send(rig, 2, "goes", source="ward")
    rig.settle()
    rig.drainer.drain("in:lab")
    assert rig.state(held) is MessageState.RECEIVED
    assert rig.state(other) is MessageState.DELIVERED
    assert room_codes(rig) == {"source-paused": 1}
    decide(rig, Kind.SOURCE, "lab", Mode.RUNNING)
    rig.settle()
    assert rig.state(held) is MessageState.DELIVERED
    with rig.journal.read() as connection:
        found = standstills.history(connection)
    assert [(each.mode, each.actor, each.reason) for each in found] == [
        (Mode.RUNNING, "tester", "test"), (Mode.PAUSED, "tester", "test"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["record", "remote"])
def test_a_paused_destination_gets_nothing_and_the_others_go_on(
    make_rig: Callable[..., Rig], kind: str
) -> None:
    rig = make_rig(destinations=lambda journal: [ToyRecord(journal, "record"), ToyRemote("remote")])
    remote = rig.destinations[1]
    decide(rig, Kind.DESTINATION, kind, Mode.PAUSED)
    sent = [send(rig, n, f"f{n}") for n in range(5)]
    rig.settle()
    assert len(rig.facts()) == (0 if kind == "record" else 5)
    assert len(remote.order) == (5 if kind == "record" else 0)
    assert {rig.state(each) for each in sent} == {MessageState.ROUTED}
    assert room_codes(rig) == {"destination-paused": 5}
    decide(rig, Kind.DESTINATION, kind, Mode.RUNNING)
    rig.settle()
    assert {rig.state(each) for each in sent} == {MessageState.DELIVERED}


def test_a_pause_ends_a_lane_after_the_attempt_in_hand(make_rig: Callable[..., Rig]) -> None:
    class Pausing(ToyRemote):
        def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
            decide(rig, Kind.DESTINATION, "remote", Mode.PAUSED)
            return super().deliver(delivery, connection)

    remote = Pausing()
    rig = make_rig(destinations=[remote])
    sent = [send(rig, 1, f"f{n}") for n in range(3)]
    rig.settle()
    assert remote.calls == ["f0"]
    assert [rig.delivery(each).state for each in sent] == [
        DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.PENDING,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["record", "remote"])
def test_a_drained_destination_gets_what_was_accepted_before(
    make_rig: Callable[..., Rig], kind: str
) -> None:
    rig = make_rig(
        destinations=lambda journal: [
            ToyRecord(journal, "record") if kind == "record" else ToyRemote("remote")
        ]
    )
    before = send(rig, 1, "before")
    decide(rig, Kind.DESTINATION, kind, Mode.DRAINING)
    after = [send(rig, 1, "after"), send(rig, 2, "after too")]
    rig.settle()
    assert rig.state(before) is MessageState.DELIVERED
    assert {rig.state(each) for each in after} == {MessageState.ROUTED}
    assert room_codes(rig) == {"destination-draining": 2}
    with rig.journal.read() as connection:
        from gateway.journal import consistency

        assert list(consistency.check(connection)) == []
    decide(rig, Kind.DESTINATION, kind, Mode.RUNNING)
    rig.settle()
    assert {rig.state(each) for each in after} == {MessageState.DELIVERED}


def test_what_is_refused_by_the_patient_is_a_room_and_no_dead_letter(rig: Rig) -> None:
    rig.send({"patient": [national(3)], "feeding": "deny"})
    refused = send(rig, 3, "f")
    rig.settle()
    assert rig.state(refused) is MessageState.REFUSED
    assert room_codes(rig)["feeding-opposed"] >= 1


def test_a_destination_that_is_not_configured_any_more_is_a_room(
    make_rig: Callable[..., Rig],
) -> None:
    remote, gone = ToyRemote("stays"), ToyRemote("gone")
    rig = make_rig(destinations=[remote, gone])
    send(rig, 1, "f")
    rig.drainer.drain("in:lab")
    rig.destinations = [remote]
    rig.drainer = rig.new_drainer()
    rig.settle()
    assert room_codes(rig) == {"destination-not-configured": 1}


# --- who goes first ---------------------------------------------------------------------


def test_every_source_has_its_share_and_the_urgent_one_goes_first(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    rig = make_rig(destinations=[ToyRemote()])
    for n in range(60):
        send(rig, n, f"flood{n}", source="flood")
    rig.drainer.drain("in:flood")
    clock.forward(seconds=10)
    for n in range(60, 63):
        send(rig, n, f"small{n}", source="small")
        send(rig, n + 10, f"urgent{n}", source="urgent")
    rig.drainer.drain("in:small")
    rig.drainer.drain("in:urgent")

    def due(limit: int, **priorities: str) -> list[str]:
        shares = Shares(["remote"], priorities)
        with rig.journal.read() as connection:
            view = shares.look(connection, clock())
            found = lanes.due(connection, clock(), limit, destination="remote", rank=view.rank)
            names = {
                row.name: row.room
                for row in connection.exec_driver_sql("SELECT name, room FROM lane")
            }
        return [names[each].partition("/")[2] for each in found]

    fair = due(9)
    assert {source: fair.count(source) for source in fair} == {
        "flood": 3, "small": 3, "urgent": 3,
    }  # fmt: skip
    # Of a class that has little, the others take what is left.
    assert due(30).count("flood") == 24
    first = due(8, urgent="high", flood="low")
    assert first.count("urgent") == 3
    assert first.count("small") == 3
    # The lowest have their eighth whatever there is above them.
    many = due(16, flood="high")
    assert many.count("flood") == 14
    assert len(many) == 16


# --- kept and looked at ------------------------------------------------------------------


def test_a_standing_is_read_back_as_it_was_written(rig: Rig) -> None:
    cause = Cause(code=CauseCode.OUTCOME_UNKNOWN, detail="d", location="l", protocol_code="p")
    now = rig.clock()
    with rig.journal.write() as connection:
        assert standings.get(connection, "x") is None
        row = {**standings.lock(connection, "x", now), "breaker": "open", "failures": 4}
        row |= {"until": now, "next_slot": now, "cause": cause, "openings": 2}
        standings.store(connection, row)
    with rig.journal.read() as connection:
        assert standings.get(connection, "x") == row
        assert standings.all_of(connection) == [row]
        assert standings.names(connection) == ["x"]


def test_a_lane_that_cannot_be_worked_on_stops_no_other(make_rig: Callable[..., Rig]) -> None:
    remote = ToyRemote("remote")
    rig = make_rig(destinations=[remote])
    broken, _ = (send(rig, n, f"of {n}").message_id for n in (1, 2))
    rig.drainer.drain("in:lab")
    with rig.journal.write() as connection:
        connection.execute(
            update(tables.normalised)
            .where(tables.normalised.c.message_id == broken)
            .values(entries=b"{")
        )
    with pytest.raises(ValueError, match=r"\w"):
        rig.drainer.elsewhere.work("remote")
    assert [fact for _, fact in remote.order] == ["of 2"]

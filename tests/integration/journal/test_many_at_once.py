"""Many lanes and many patients at once, and two workers who come for the same ones."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.journal import convoy, deliveries, lanes, patients
from gateway.journal.enrolment import NewLink, enrol, owners, patients_of
from gateway.journal.faults import LeaseLost
from gateway.journal.states import DeliveryState
from gateway.model import Identifier
from tests.integration.journal.bench import Bench
from tests.integration.journal.test_races import Other

TTL = timedelta(seconds=30)
INS = [Identifier(system="urn:oid:ins", value=f"{n:015d}", type="INS") for n in range(3)]
LOCAL = Identifier(system="urn:oid:lab", value="L1", type="PI")


def lanes_of(bench: Bench, count: int) -> list[str]:
    for number in range(count):
        bench.route(bench.message(), f"p{number}")
    return [f"p{number}@record" for number in range(count)]


def take(bench: Bench, names: list[str], owner: str = "one") -> dict[str, int]:
    with bench.journal.write() as connection:
        return convoy.lease_all(connection, names, owner, TTL, bench.clock())


def test_a_lane_goes_to_one_of_two_workers(bench: Bench) -> None:
    names = lanes_of(bench, 4)
    assert sorted(take(bench, names[:3])) == names[:3]
    assert sorted(take(bench, names, "other")) == names[3:]
    bench.clock.advance(31)
    again = take(bench, names, "other")
    assert sorted(again) == names
    assert set(again.values()) == {2}


def test_nothing_is_done_for_lanes_of_which_one_is_lost(bench: Bench) -> None:
    names = lanes_of(bench, 3)
    tokens = take(bench, names)
    bench.clock.advance(31)
    take(bench, names[1:2], "other")
    for act in (
        lambda connection: convoy.fence_all(connection, tokens),
        lambda connection: convoy.release_all(connection, tokens, bench.clock()),
    ):
        with pytest.raises(LeaseLost), bench.journal.write() as connection:
            act(connection)
    with bench.journal.read() as connection:
        due = lanes.due(connection, bench.clock())
    assert set(due) - {"in:lab"} == {names[0], names[2]}


def test_heads_are_claimed_as_far_as_they_are_due(bench: Bench) -> None:
    names = lanes_of(bench, 2)
    bench.route(bench.message(), "p0")
    late = bench.clock() + timedelta(minutes=1)
    tokens = take(bench, names)
    with bench.journal.write() as connection:
        claimed = convoy.claim_all(connection, tokens, each=4, limit=9, now=bench.clock())
        assert {lane: len(items) for lane, items in claimed.items()} == {names[0]: 2, names[1]: 1}
        first = claimed[names[0]][0]
        deliveries.start_attempts(
            connection, [item.id for each in claimed.values() for item in each]
        )
        deliveries.settle(
            connection, first.id, outcome="again", state=DeliveryState.PENDING, due_at=late
        )
        deliveries.settle(
            connection, claimed[names[1]][0].id, outcome="delivered", state=DeliveryState.DELIVERED
        )
        assert convoy.release_all(connection, tokens, bench.clock()) == frozenset()
    # What is behind the one that is put off waits with it, and the other lane is empty.
    assert take(bench, names) != {}
    with bench.journal.write() as connection:
        assert convoy.claim_all(connection, tokens, each=4, limit=9, now=bench.clock()) == {}
        found = convoy.claim_all(connection, tokens, each=4, limit=9, now=late)
    assert [item.id for item in found[names[0]]][:1] == [first.id]
    assert len(found[names[0]]) == 2


def test_an_identifier_stays_with_the_first_who_is_given_it(bench: Bench) -> None:
    ids = [patients.patient_id(ins) for ins in INS]
    with bench.journal.write() as connection:
        for _ in range(2):
            enrol(connection, INS, [NewLink(ids[n], ins, 1) for n, ins in enumerate(INS)])
        enrol(connection, [], [NewLink(ids[2], LOCAL, 1), NewLink(ids[0], LOCAL, 2)])
        enrol(connection, [], [NewLink(ids[1], LOCAL, 3)])
    with bench.journal.read() as connection:
        found = owners(connection, [LOCAL, *INS])
        made = patients_of(connection, ids)
    assert found.pop((LOCAL.system, LOCAL.value)) == ids[2]
    assert list(found.values()) == ids
    assert {each.id: each.ins_value for each in made} == {
        number: ins.value for number, ins in zip(ids, INS, strict=True)
    }
    assert {each.created_at for each in made} == {bench.clock()}


def test_two_workers_who_enrol_the_same_patients(postgresql_bench: Bench) -> None:
    """In whichever order their messages name them, neither waits for the other in a circle."""
    bench = postgresql_bench
    other = Other(bench)
    ids = [patients.patient_id(ins) for ins in INS]
    links = [NewLink(ids[n], ins, 1) for n, ins in enumerate(INS)]
    with bench.journal.write() as connection:
        enrol(connection, INS, links)
        second = other.run_until_it_waits(lambda c: enrol(c, INS[::-1], links[::-1]))
    second.result(timeout=30)
    with bench.journal.read() as connection:
        assert list(owners(connection, INS).values()) == ids


def test_a_lane_that_another_is_taking_is_not_waited_for(postgresql_bench: Bench) -> None:
    bench = postgresql_bench
    names = lanes_of(bench, 3)
    other = Other(bench)
    with bench.journal.write() as connection:
        mine = convoy.lease_all(connection, names[:2], "one", TTL, bench.clock())
        theirs = other.run(
            lambda c: convoy.lease_all(c, names[::-1], "other", TTL, bench.clock())
        ).result(timeout=30)
    assert sorted(mine) == names[:2]
    assert sorted(theirs) == names[2:]


def test_nobody_takes_lanes_over_in_the_middle_of_a_fenced_transaction(
    postgresql_bench: Bench,
) -> None:
    bench = postgresql_bench
    names = lanes_of(bench, 2)
    tokens = take(bench, names)
    later = bench.clock() + 2 * TTL
    other = Other(bench)
    with bench.journal.write() as connection:
        convoy.fence_all(connection, tokens)
        # The lease has run out, but who works there has the row.
        taken = other.run(lambda c: convoy.lease_all(c, names, "other", TTL, later))
        assert taken.result(timeout=30) == {}
        assert convoy.release_all(connection, tokens, bench.clock()) == frozenset(names)

"""Deliveries, attempts, their end, and what they make of the message."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.journal import deliveries, lanes, messages, patients
from gateway.journal.deliveries import NewDelivery, Settlement
from gateway.journal.journal import LeaseLost
from gateway.journal.states import DeliveryState, IllegalTransition, MessageState
from gateway.model import Cause, CauseCode, Entry, Identifier, Mapped
from tests.integration.journal.bench import Bench

D = DeliveryState
M = MessageState
AWAY = Cause(code=CauseCode.DESTINATION_UNAVAILABLE, detail="connection refused")


def claim(bench: Bench, lane: str, token: int, limit: int = 10) -> list[int]:
    with bench.journal.write() as connection:
        found = deliveries.claim(connection, lane, token, limit, bench.clock())
    return [delivery.id for delivery in found]


def start(bench: Bench, *ids: int) -> dict[int, int]:
    with bench.journal.write() as connection:
        return deliveries.start_attempts(connection, ids)


def settle(bench: Bench, delivery_id: int, state: DeliveryState, **fields: object) -> None:
    with bench.journal.write() as connection:
        deliveries.settle_all(
            connection,
            [
                Settlement(
                    delivery_id=delivery_id,
                    state=state,
                    **{"outcome": state.value, **fields},  # type: ignore[arg-type]
                )
            ],
        )


def conclude(bench: Bench, *ids: int) -> list[MessageState]:
    with bench.journal.write() as connection:
        found = deliveries.conclude(connection, ids)
    return [found[message_id] for message_id in ids]


def row(bench: Bench, delivery_id: int) -> deliveries.DeliveryRow:
    with bench.journal.read() as connection:
        found = deliveries.get(connection, delivery_id)
    assert found is not None
    return found


def test_a_lane_gives_its_deliveries_in_order_with_entries(bench: Bench) -> None:
    sent = [bench.message() for _ in range(4)]
    # Routed in another order than they came.
    by_message = {n: bench.route(n, "p")[0] for n in (sent[2], sent[0], sent[3], sent[1])}
    bench.route(bench.message(), "q")
    token = bench.lease("p@record")
    with bench.journal.write() as connection:
        found = deliveries.claim(connection, "p@record", token, 3, bench.clock())
    assert [d.id for d in found] == [by_message[n] for n in sent[:3]]
    head = found[0]
    assert head.entries == (Entry(resource={"resourceType": "Observation", "id": f"o{sent[0]}"}),)
    assert (head.patient_id, head.destination, head.mapping) == ("p", "record", "hl7/oru")
    assert (head.attempts, head.sequence, head.message_id) == (0, sent[0], sent[0])


def test_a_claim_without_the_lease_is_refused(bench: Bench) -> None:
    bench.route(bench.message(), "p")
    token = bench.lease("p@record")
    with pytest.raises(LeaseLost):
        claim(bench, "p@record", token + 1)


def test_what_is_behind_a_delivery_that_waits_waits_too(bench: Bench) -> None:
    first, second = (bench.route(bench.message(), "p")[0] for _ in range(2))
    token = bench.lease("p@record", seconds=600)
    start(bench, first)
    later = bench.clock() + timedelta(seconds=30)
    settle(bench, first, D.PENDING, outcome="again", due_at=later, cause=AWAY)
    assert claim(bench, "p@record", token) == []
    bench.clock.advance(30)
    assert claim(bench, "p@record", token) == [first, second]


def test_a_claim_reads_a_bounded_amount(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "CLAIM_BYTES_MAX", 100)
    ids = [bench.route(bench.message(), "p")[0] for _ in range(4)]
    token = bench.lease("p@record")
    assert claim(bench, "p@record", token) == ids[:1]


def test_a_delivery_whose_entries_are_gone_is_buried(bench: Bench) -> None:
    message_id = bench.message()
    with bench.journal.write() as connection:
        deliveries.insert(
            connection,
            [
                NewDelivery(
                    message_id=message_id,
                    lane="p@record",
                    patient_id="p",
                    destination="record",
                    sequence=1,
                    idempotency_key="k",
                )
            ],
        )
    behind = bench.route(bench.message(), "p")
    token = bench.lease("p@record")
    assert claim(bench, "p@record", token) == behind
    with bench.journal.read() as connection:
        (lost,) = deliveries.of_message(connection, message_id)
    assert lost.state is D.DEAD
    assert lost.cause is not None
    assert lost.cause.code is CauseCode.ENTRIES_MISSING
    assert bench.state(message_id) is M.DEAD


def test_the_same_idempotency_key_is_one_delivery(bench: Bench) -> None:
    message_id = bench.message()
    first = bench.route(message_id, "p", ("record", "pacs"))
    new = NewDelivery(
        message_id=message_id,
        lane="p@record",
        patient_id="p",
        destination="record",
        sequence=message_id,
        idempotency_key=f"record:{message_id}",
    )
    with bench.journal.write() as connection:
        assert deliveries.insert(connection, [new, new]) == [first[0], first[0]]
        assert len(deliveries.of_message(connection, message_id)) == 2
        assert deliveries.insert(connection, []) == []


def test_a_key_that_died_goes_again_under_the_new_message(bench: Bench) -> None:
    """A repaired message whose entries did not change takes its parent's delivery over."""
    old, new = bench.message(), bench.message()
    delivery_id = bench.route(old, "p")[0]
    settle(bench, delivery_id, D.DEAD)
    again = NewDelivery(
        message_id=new,
        lane="p@record",
        patient_id="p",
        destination="record",
        sequence=old,
        idempotency_key=f"record:{old}",
    )
    with bench.journal.write() as connection:
        assert deliveries.insert(connection, [again]) == [delivery_id]
    found = row(bench, delivery_id)
    assert (found.state, found.message_id, found.attempts) == (D.PENDING, new, 0)
    assert "p@record" in bench.due()


def test_a_key_that_was_delivered_stays_delivered(bench: Bench) -> None:
    old, new = bench.message(), bench.message()
    delivery_id = bench.route(old, "p")[0]
    settle(bench, delivery_id, D.DELIVERED)
    with bench.journal.write() as connection:
        messages.move(connection, new, M.ROUTED, event="routed", stage=messages.Stage.ROUTE)
        found = deliveries.insert(
            connection,
            [
                NewDelivery(
                    message_id=new,
                    lane="p@record",
                    patient_id="p",
                    destination="record",
                    sequence=new,
                    idempotency_key=f"record:{old}",
                )
            ],
        )
    assert found == [delivery_id]
    assert (row(bench, delivery_id).state, row(bench, delivery_id).message_id) == (D.DELIVERED, old)
    assert conclude(bench, new) == [M.DELIVERED]


def test_attempts_are_written_before_and_ended_after(bench: Bench) -> None:
    message_id = bench.message()
    delivery_id = bench.route(message_id, "p")[0]
    assert start(bench, delivery_id) == {delivery_id: 0}
    with bench.journal.read() as connection:
        (attempt,) = deliveries.attempts(connection, delivery_id)
    assert (attempt.number, attempt.ended_at, attempt.outcome) == (1, None, "")
    bench.clock.advance(2)
    settle(bench, delivery_id, D.PENDING, outcome="again", cause=AWAY, evidence="503")
    start(bench, delivery_id)
    settle(bench, delivery_id, D.DELIVERED, evidence="201")
    with bench.journal.read() as connection:
        second, first = deliveries.attempts(connection, delivery_id)
        told = messages.events(connection, message_id)
    assert (first.outcome, first.cause, first.evidence) == ("again", AWAY, "503")
    assert (second.number, second.outcome, second.cause) == (2, "delivered", None)
    assert second.ended_at is not None
    found = row(bench, delivery_id)
    assert (found.state, found.attempts, found.evidence) == (D.DELIVERED, 2, "201")
    attempts = [event.detail for event in told if event.what == "attempt"]
    assert [(d["outcome"], d["number"], d.get("cause")) for d in attempts] == [
        ("again", 1, "destination-unavailable"),
        ("delivered", 2, None),
    ]


def test_a_wait_is_no_attempt(bench: Bench) -> None:
    message_id = bench.message()
    delivery_id = bench.route(message_id, "p")[0]
    later = bench.clock() + timedelta(seconds=5)
    for _ in range(3):
        start(bench, delivery_id)
        settle(
            bench, delivery_id, D.PENDING, outcome="wait", counted=False, due_at=later, cause=AWAY
        )
    found = row(bench, delivery_id)
    assert (found.attempts, found.unfinished, found.due_at, found.cause) == (0, 0, later, AWAY)
    with bench.journal.read() as connection:
        assert deliveries.attempts(connection, delivery_id) == []
        assert [e.what for e in messages.events(connection, message_id)] == ["received", "routed"]


def test_unfinished_attempts_are_counted_until_one_ends(bench: Bench) -> None:
    delivery_id = bench.route(bench.message(), "p")[0]
    assert [start(bench, delivery_id)[delivery_id] for _ in range(3)] == [0, 1, 2]
    with bench.journal.read() as connection:
        outcomes = [a.outcome for a in deliveries.attempts(connection, delivery_id)]
    assert outcomes == ["", "unfinished", "unfinished"]
    settle(bench, delivery_id, D.PENDING, outcome="again")
    assert start(bench, delivery_id) == {delivery_id: 0}
    settle(bench, delivery_id, D.DELIVERED)
    assert start(bench, delivery_id) == {}


def test_a_settled_delivery_is_settled(bench: Bench) -> None:
    delivery_id = bench.route(bench.message(), "p")[0]
    settle(bench, delivery_id, D.DELIVERED)
    for state in (D.DELIVERED, D.DEAD, D.PENDING):
        with pytest.raises(IllegalTransition):
            settle(bench, delivery_id, state)
    with pytest.raises(LookupError):
        settle(bench, 999, D.DELIVERED)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((D.DELIVERED, D.DELIVERED), M.DELIVERED),
        ((D.DELIVERED, None), M.ROUTED),
        ((D.DEAD, None), M.ROUTED),
        ((D.DELIVERED, D.DEAD), M.DEAD),
        ((D.DELIVERED, D.WITHHELD), M.DELIVERED),
        ((D.WITHHELD, D.WITHHELD), M.REFUSED),
        ((D.DISCARDED, D.DISCARDED), M.DISCARDED),
        ((D.DISCARDED, D.DELIVERED), M.DELIVERED),
    ],
)
def test_a_message_ends_as_its_deliveries_say(
    bench: Bench, ends: tuple[DeliveryState | None, ...], expected: MessageState
) -> None:
    message_id = bench.message()
    ids = bench.route(message_id, "p", ("record", "pacs"))
    for delivery_id, state in zip(ids, ends, strict=True):
        if state is not None:
            settle(bench, delivery_id, state)
    assert conclude(bench, message_id) == [expected]
    assert conclude(bench, message_id) == [expected]
    assert bench.state(message_id) is expected


def test_nothing_is_concluded_of_a_message_that_was_not_routed(bench: Bench) -> None:
    assert conclude(bench, bench.message()) == [M.RECEIVED]


def test_a_dead_delivery_can_go_again_in_its_place(bench: Bench) -> None:
    first, second = bench.message(), bench.message()
    dead = bench.route(first, "p")[0]
    behind = bench.route(second, "p")[0]
    start(bench, dead)
    settle(bench, dead, D.DEAD, outcome="refused", cause=AWAY)
    assert conclude(bench, first) == [M.DEAD]
    with bench.journal.write() as connection:
        deliveries.revive(connection, dead)
    assert bench.state(first) is M.ROUTED
    found = row(bench, dead)
    assert (found.state, found.attempts, found.unfinished) == (D.PENDING, 0, 0)
    token = bench.lease("p@record")
    assert claim(bench, "p@record", token) == [dead, behind]
    start(bench, dead)
    settle(bench, dead, D.DELIVERED)
    with bench.journal.read() as connection:
        assert [a.number for a in deliveries.attempts(connection, dead)] == [2, 1]
    with pytest.raises(IllegalTransition), bench.journal.write() as connection:
        deliveries.revive(connection, dead)
    with pytest.raises(LookupError), bench.journal.write() as connection:
        deliveries.revive(connection, 999)


def ins(value: str) -> Identifier:
    return Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value=value, type="INS")


def two_patients(bench: Bench) -> tuple[str, str]:
    with bench.journal.write() as connection:
        return (
            patients.ensure(connection, ins("1")).id,
            patients.ensure(connection, ins("2")).id,
        )


def merge(bench: Bench, stays: str, goes: str) -> int:
    adt = bench.message(source="adt")
    with bench.journal.write() as connection:
        patients.merge(connection, stays, goes, adt)
        return deliveries.move_lane(connection, goes, stays)


def test_a_merge_moves_what_waits_and_revokes_the_lease(bench: Bench) -> None:
    stays, goes = two_patients(bench)
    sent = [bench.message() for _ in range(4)]
    ids = [
        bench.route(message_id, patient)[0]
        for message_id, patient in zip(sent, (goes, stays, goes, stays), strict=True)
    ]
    done = bench.route(bench.message(), goes)[0]
    settle(bench, done, D.DELIVERED)
    token = bench.lease(f"{goes}@record")
    assert merge(bench, stays, goes) == 2
    with pytest.raises(LeaseLost):
        claim(bench, f"{goes}@record", token)
    token = bench.lease(f"{stays}@record")
    with bench.journal.write() as connection:
        found = deliveries.claim(connection, f"{stays}@record", token, 10, bench.clock())
    assert [d.id for d in found] == ids
    assert [d.merged_patients for d in found] == [(goes,), (), (goes,), ()]
    assert {d.patient_id for d in found} == {stays}
    assert row(bench, done).patient_id == goes
    assert merge(bench, stays, goes) == 0


def test_what_is_routed_to_a_merged_patient_goes_to_the_survivor(bench: Bench) -> None:
    """Routed by a worker that looked at the index before the merge was committed."""
    stays, goes = two_patients(bench)
    dead = bench.route(bench.message(), goes)[0]
    settle(bench, dead, D.DEAD)
    merge(bench, stays, goes)
    late = bench.route(bench.message(), goes)[0]
    with bench.journal.write() as connection:
        deliveries.revive(connection, dead)
    for delivery_id in (late, dead):
        found = row(bench, delivery_id)
        assert (found.lane, found.patient_id) == (f"{stays}@record", stays)
        assert found.merged_patients == (goes,)


def test_counts_are_by_destination_and_state(bench: Bench) -> None:
    first = bench.route(bench.message(), "p", ("record", "pacs"))
    bench.route(bench.message(), "q")
    settle(bench, first[0], D.DELIVERED)
    with bench.journal.read() as connection:
        assert deliveries.counts(connection) == {
            ("record", D.DELIVERED): 1,
            ("record", D.PENDING): 1,
            ("pacs", D.PENDING): 1,
        }


def test_a_fence_keeps_the_effect_and_the_mark_together(bench: Bench) -> None:
    """A worker whose lease went to another marks nothing, whatever it has done."""
    delivery_id = bench.route(bench.message(), "p")[0]
    token = bench.lease("p@record", seconds=5)
    bench.clock.advance(6)
    other = bench.lease("p@record", owner="two")
    with pytest.raises(LeaseLost), bench.journal.write() as connection:  # noqa: PT012
        deliveries.settle(connection, delivery_id, outcome="delivered", state=D.DELIVERED)
        lanes.fence(connection, "p@record", token)
    assert row(bench, delivery_id).state is D.PENDING
    assert claim(bench, "p@record", other) == [delivery_id]


def test_a_large_delivery_is_claimed_alone(bench: Bench) -> None:
    message_id = bench.message()
    entry = Entry(resource={"resourceType": "Binary", "id": "b", "data": "x" * 2_000_000})
    bench.route(message_id, "p")
    with bench.journal.write() as connection:
        messages.store_normalised(
            connection,
            bench.journal.blobs,
            message_id,
            Mapped(mapping="m", version="1", digest="", entries=(entry,)),
        )
    token = bench.lease("p@record")
    with bench.journal.write() as connection:
        (found,) = deliveries.claim(connection, "p@record", token, 10, bench.clock())
    assert found.entries == (entry,)

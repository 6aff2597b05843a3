"""The dead-letter desk: look, replay, repair, discard; twice pressed is once done."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from deadletter import replay, triage, unmapped, waiting
from deadletter.selection import Report, Verdict
from gateway.journal import deliveries, desk_actions, messages
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import DeadLetter, DeadLetterFilter, MessageFilter, Resolution
from gateway.model import Again, Cause, CauseCode, Payload, Receipt, Refused, Stage
from gateway.retry import RetryPolicy
from tests.integration.pipeline.rig import HeldClock, Rig, ToyRemote, local, national, recorded

WHO = {"patient": [national(1)]}
NEVER = Cause(code=CauseCode.DESTINATION_REFUSED, detail="422")
AWAY = Cause(code=CauseCode.DESTINATION_UNAVAILABLE)
ALL = DeadLetterFilter()


def letter(rig: Rig) -> DeadLetter:
    (found,) = triage.letters(rig.journal)
    return found


def pressed(rig: Rig, key: str = "k", **options: object) -> Report:
    wanted = options.pop("wanted", ALL)
    return replay.replay(rig.journal, wanted, actor="anne", key=key, **options)  # type: ignore[arg-type]


def dead_delivery(rig: Rig, fact: str = "a", **content: object) -> Receipt:
    rig.destinations[0].answers[fact] = [Refused(cause=NEVER)]
    receipt = rig.send({**WHO, "facts": [fact], **content})
    rig.settle()
    assert rig.state(receipt) is MessageState.DEAD
    return receipt


def dead_message(rig: Rig, fact: str = "a", **content: object) -> Receipt:
    receipt = rig.send({**WHO, "facts": [fact], "broken": True, **content})
    rig.settle()
    assert rig.state(receipt) is MessageState.DEAD
    return receipt


# --- looking ----------------------------------------------------------------------------


def test_groups_gather_the_same_trouble_of_the_same_source(rig: Rig) -> None:
    for n in range(3):
        dead_message(rig, f"m{n}")
    dead_message(rig, "other", patient=[national(2)], kind="x")
    dead_delivery(rig)
    groups = triage.groups(rig.journal)
    assert [each.letters.count for each in groups] == [4, 1]
    assert groups[0].letters.code == CauseCode.INVALID_ENTRY
    assert groups[0].note.title == "The mapping's result is not valid FHIR R4"
    assert groups[0].letters.sources == ("lab",)
    assert triage.count(rig.journal) == 5
    assert triage.age(rig.journal).unresolved == 5


def test_a_life_is_told_from_the_bytes_to_now(rig: Rig) -> None:
    receipt = dead_delivery(rig)
    told = triage.life_of_letter(rig.journal, letter(rig).id)
    assert told is not None
    assert told == triage.life(rig.journal, receipt.message_id)
    assert [event.what for event in told.events] == ["received", "routed", "attempt", "buried"]
    assert told.normalised is not None
    assert [each.outcome for each in told.deliveries[0].attempts] == ["refused"]
    assert told.note is not None
    assert told.note.title == "The destination refuses it"
    assert (
        messages.payload(rig.journal, told.message).read()
        == json.dumps({**WHO, "facts": ["a"]}).encode()
    )
    assert triage.life(rig.journal, 999) is None


# --- replay -----------------------------------------------------------------------------


def test_a_dead_delivery_is_made_again_with_its_own_key(make_rig: Callable[..., Rig]) -> None:
    remote = ToyRemote()
    rig = make_rig(destinations=[remote])
    receipt = dead_delivery(rig)
    key = rig.delivery(receipt).idempotency_key
    report = pressed(rig, reason="the destination was repaired")
    assert report.counts == {Verdict.REPLAYED: 1}
    assert rig.state(receipt) is MessageState.ROUTED
    rig.settle()
    assert rig.state(receipt) is MessageState.DELIVERED
    assert list(remote.kept) == [key]
    assert triage.letters(rig.journal) == []
    (old,) = triage.letters(rig.journal, DeadLetterFilter(resolved=True))
    assert (old.resolution, old.actor, old.reason) == (
        Resolution.REPLAYED, "anne", "the destination was repaired",
    )  # fmt: skip
    assert "replayed" in rig.events(receipt)


def test_a_dead_message_is_read_again_with_the_mapping_of_today(rig: Rig) -> None:
    receipt = dead_message(rig)
    rig.library.program.repaired = True
    report = pressed(rig)
    rig.settle()
    assert report.counts == {Verdict.REPLAYED: 1}
    assert rig.facts() == ["a"]
    assert rig.state(receipt) is MessageState.DELIVERED


def test_what_dies_again_is_a_new_dead_letter(rig: Rig) -> None:
    receipt = dead_message(rig)
    first = letter(rig).id
    pressed(rig)
    rig.settle()
    assert rig.state(receipt) is MessageState.DEAD
    assert letter(rig).id != first


def test_a_dry_run_changes_nothing(rig: Rig) -> None:
    dead_delivery(rig)
    dead_message(rig, "b")
    report = pressed(rig, dry_run=True)
    assert report.dry_run
    assert report.counts == {Verdict.REPLAYED: 2}
    assert triage.count(rig.journal) == 2
    assert pressed(rig).counts == {Verdict.REPLAYED: 2}


def test_pressed_twice_is_done_once(rig: Rig) -> None:
    receipt = dead_message(rig)
    first = pressed(rig, key="button-1")
    rig.settle()
    second = pressed(rig, key="button-1")
    assert second.again
    assert second.counts == first.counts
    assert [item.message_id for item in second.items] == [receipt.message_id]
    assert rig.events(receipt).count("replayed") == 1
    assert letter(rig).resolved_at is None  # it died again, and waits for another press
    assert not pressed(rig, key="button-2").again


def test_a_filter_takes_what_it_names(rig: Rig) -> None:
    wanted = dead_message(rig, "m")
    other = dead_delivery(rig, "d")
    by_code = DeadLetterFilter(code=CauseCode.INVALID_ENTRY)
    assert pressed(rig, wanted=by_code).counts == {Verdict.REPLAYED: 1}
    assert rig.state(wanted) is MessageState.RECEIVED
    assert rig.state(other) is MessageState.DEAD
    by_id = DeadLetterFilter(ids=(letter(rig).id,))
    assert pressed(rig, "k2", wanted=by_id).items[0].message_id == other.message_id


def test_a_replay_of_many_keeps_the_order_of_the_lanes(rig: Rig, clock: HeldClock) -> None:
    for n in range(230):  # more than one transaction's worth
        rig.submit({"patient": [national(n % 3)], "facts": [f"f{n}"], "broken": True})
    rig.send({"patient": [national(9)], "facts": ["good"]})
    rig.settle()
    assert triage.count(rig.journal) == 230
    rig.library.program.repaired = True
    report = pressed(rig)
    assert report.counts == {Verdict.REPLAYED: 230}
    rig.settle()
    assert triage.count(rig.journal) == 0
    order: dict[str, list[int]] = {}
    for patient, _, sequence in recorded(rig.journal):
        order.setdefault(patient, []).append(sequence)
    assert all(each == sorted(each) for each in order.values())
    assert len(rig.facts()) == 231


def test_a_replayed_delivery_starts_its_attempts_and_its_age_afresh(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    remote = ToyRemote()
    policy = RetryPolicy(
        base=timedelta(seconds=1), attempts_max=3, give_up_after=timedelta(hours=2)
    )
    rig = make_rig(destinations=[remote], policy=policy)
    remote.always = Again(cause=AWAY)
    receipt = rig.send({**WHO, "facts": ["a"]})
    for _ in range(4):
        rig.settle()
        clock.forward(hours=1)
    assert rig.code(receipt) is CauseCode.GAVE_UP
    clock.forward(days=30)
    pressed(rig)
    rig.settle()
    assert rig.delivery(receipt).attempts == 1
    assert rig.delivery(receipt).state is DeliveryState.PENDING
    clock.forward(minutes=1)
    rig.settle()
    assert rig.delivery(receipt).state is DeliveryState.PENDING
    remote.always = None
    clock.forward(minutes=1)
    rig.settle()
    assert rig.state(receipt) is MessageState.DELIVERED


def test_a_patient_who_opposes_meanwhile_is_respected(rig: Rig) -> None:
    receipt = dead_delivery(rig)
    rig.send({**WHO, "feeding": "deny"})
    rig.settle()
    report = pressed(rig)
    assert report.counts == {Verdict.WITHHELD: 1}
    assert rig.state(receipt) is MessageState.DEAD
    rig.send({**WHO, "feeding": "permit", "facts": ["p"]})
    rig.settle()
    assert pressed(rig, "later").counts == {Verdict.REPLAYED: 1}
    rig.settle()
    assert rig.facts() == ["p", "a"]


def test_a_replay_after_a_merge_goes_to_the_survivor(rig: Rig) -> None:
    receipt = dead_delivery(rig, patient=[national(2)])
    rig.send({"patient": [national(1)], "merges": [[national(2)]], "facts": ["merge"]})
    rig.settle()
    pressed(rig)
    rig.settle()
    patients = {patient for patient, _, _ in recorded(rig.journal)}
    assert len(patients) == 1
    assert rig.state(receipt) is MessageState.DELIVERED


def test_an_identity_conflict_goes_after_the_merge_that_settles_it(rig: Rig) -> None:
    rig.send({"patient": [national(1), local(1)]})
    conflict = rig.send({"patient": [national(2), local(1)], "facts": ["whose"]})
    rig.settle()
    assert rig.code(conflict) is CauseCode.IDENTITY_CONFLICT
    rig.send({"patient": [national(1)], "merges": [[national(2)]]})
    rig.settle()
    pressed(rig)
    rig.settle()
    assert rig.state(conflict) is MessageState.DELIVERED


# --- repair -----------------------------------------------------------------------------


def repaired(rig: Rig, content: dict[str, object], key: str = "r") -> Report:
    return replay.repair(
        rig.journal,
        letter(rig).id,
        Payload.from_bytes(json.dumps(content).encode()),
        actor="anne",
        key=key,
        reason="the key of the INS was mistyped",
    )


def test_a_corrected_copy_takes_the_place_of_the_original(rig: Rig) -> None:
    receipt = dead_message(rig)
    bytes_before = rig.message(receipt).body
    later = rig.send({**WHO, "facts": ["later"]})
    report = repaired(rig, {**WHO, "facts": ["a"]})
    (item,) = report.items
    assert item.verdict is Verdict.REPAIRED
    assert item.child is not None
    rig.settle()
    assert rig.facts() == ["a", "later"]
    original, child = rig.message(receipt), rig.message(item.child)
    assert original.state is MessageState.REPLACED
    assert original.body == bytes_before
    assert (child.parent_id, child.sequence) == (original.id, original.sequence)
    assert child.state is rig.state(later) is MessageState.DELIVERED
    told = triage.life(rig.journal, original.id)
    assert told is not None
    assert told.children == (child.id,)
    assert told.dead_letters[0].child_message_id == child.id


def test_a_repair_pressed_twice_makes_one_copy(rig: Rig) -> None:
    dead_message(rig)
    content = {**WHO, "facts": ["a"]}
    number = letter(rig).id
    first = repaired(rig, content)
    second = replay.repair(
        rig.journal, number, Payload.from_bytes(b"other"), actor="a", key="r", reason="again"
    )
    assert second.again
    assert second.items == first.items
    third = replay.repair(
        rig.journal, number, Payload.from_bytes(b"other"), actor="a", key="r2", reason="again"
    )
    assert third.counts == {Verdict.GONE: 1}
    rig.settle()
    assert rig.facts() == ["a"]


def test_a_repair_that_changes_nothing_in_the_entries_takes_the_delivery_over(
    make_rig: Callable[..., Rig],
) -> None:
    remote = ToyRemote()
    rig = make_rig(destinations=[remote])
    receipt = dead_delivery(rig)
    delivery = rig.delivery(receipt)
    child = (
        repaired(rig, {**WHO, "facts": ["a"], "remark": "no entry comes of this"}).items[0].child
    )
    assert child is not None
    rig.settle()
    assert rig.state(child) is MessageState.DELIVERED
    assert rig.state(receipt) is MessageState.REPLACED
    with rig.journal.read() as connection:
        (taken,) = deliveries.of_message(connection, child)
    assert (taken.id, taken.idempotency_key) == (delivery.id, delivery.idempotency_key)
    assert remote.calls == ["a", "a"]


def test_a_repair_with_one_destination_served_and_one_still_to_serve(
    make_rig: Callable[..., Rig], clock: HeldClock
) -> None:
    served, refusing, slow = ToyRemote("served"), ToyRemote("refusing"), ToyRemote("slow")
    rig = make_rig(destinations=[served, refusing, slow])
    refusing.answers["a"] = [Refused(cause=NEVER)]
    slow.answers["a"] = [Again(cause=AWAY, after=timedelta(hours=1))]
    receipt = rig.send({**WHO, "facts": ["a"]})
    rig.settle()
    child = repaired(rig, {**WHO, "facts": ["b"]}).items[0].child
    assert child is not None
    rig.settle()
    clock.forward(hours=2)
    rig.settle()
    assert [fact for _, fact in served.order] == ["a", "b"]
    assert [fact for _, fact in refusing.order] == ["b"]
    assert [fact for _, fact in slow.order] == ["b"]
    assert rig.state(child) is MessageState.DELIVERED
    assert rig.state(receipt) is MessageState.REPLACED
    with rig.journal.read() as connection:
        states = {each.state for each in deliveries.of_message(connection, receipt.message_id)}
    assert states == {DeliveryState.DELIVERED, DeliveryState.DISCARDED}


def test_a_repair_must_be_one(rig: Rig) -> None:
    dead_message(rig)
    same = Payload.from_bytes(json.dumps({**WHO, "facts": ["a"], "broken": True}).encode())
    with pytest.raises(ValueError, match="bytes of the original"):
        replay.repair(rig.journal, letter(rig).id, same, actor="a", key="k", reason="r")
    other = Payload.from_bytes(b"other")
    with pytest.raises(ValueError, match="says why"):
        replay.repair(rig.journal, letter(rig).id, other, actor="a", key="k", reason=" ")
    with pytest.raises(LookupError):
        replay.repair(rig.journal, 999, other, actor="a", key="k", reason="r")
    assert triage.count(rig.journal) == 1


# --- discard ----------------------------------------------------------------------------


def test_discarding_needs_a_reason_and_keeps_everything(rig: Rig) -> None:
    message, delivery = dead_message(rig, "m"), dead_delivery(rig, "d")
    with pytest.raises(ValueError, match="says why"):
        replay.discard(rig.journal, ALL, actor="anne", key="k", reason="")
    report = replay.discard(rig.journal, ALL, actor="anne", key="k", reason="sent by mistake")
    assert report.counts == {Verdict.DISCARDED: 2}
    assert rig.state(message) is rig.state(delivery) is MessageState.DISCARDED
    assert rig.delivery(delivery).state is DeliveryState.DISCARDED
    assert rig.message(message).body is not None
    assert {
        each.resolution for each in triage.letters(rig.journal, DeadLetterFilter(resolved=True))
    } == {Resolution.DISCARDED}
    again = replay.discard(rig.journal, ALL, actor="anne", key="k", reason="sent by mistake")
    assert again.again
    assert pressed(rig, "after").counts == {}


def test_a_discarded_delivery_does_not_undo_the_others(make_rig: Callable[..., Rig]) -> None:
    served, refusing = ToyRemote("served"), ToyRemote("refusing")
    rig = make_rig(destinations=[served, refusing])
    refusing.answers["a"] = [Refused(cause=NEVER)]
    receipt = rig.send({**WHO, "facts": ["a"]})
    rig.settle()
    replay.discard(rig.journal, ALL, actor="anne", key="k", reason="not for them")
    assert rig.state(receipt) is MessageState.DELIVERED


# --- unmapped ---------------------------------------------------------------------------


def test_unmapped_messages_are_read_again_when_a_mapping_takes_them(rig: Rig) -> None:
    ids = [
        rig.send({**WHO, "kind": "unknown", "facts": [f"f{n}"]}, source=source).message_id
        for n, source in enumerate(["lab", "lab", "other"])
    ]
    rig.settle()
    of_lab = MessageFilter(source="lab")
    assert unmapped.replay_unmapped(rig.journal, of_lab, actor="anne", dry_run=True) == ids[:2]
    assert unmapped.replay_unmapped(rig.journal, of_lab, actor="anne") == ids[:2]
    rig.settle()
    assert {rig.state(each) for each in ids} == {MessageState.UNMAPPED}
    rig.library.learned = True
    assert unmapped.replay_unmapped(rig.journal, actor="anne", reason="new mapping") == ids
    rig.settle()
    assert rig.facts() == ["f0", "f1", "f2"]


# --- the end of a wait ------------------------------------------------------------------


def test_a_person_ends_the_wait_of_what_will_not_come(rig: Rig) -> None:
    held = rig.send({"patient": [local(1)], "facts": ["glucose"]}).message_id
    unknown = rig.send({**WHO, "kind": "unknown", "facts": ["f"]}).message_id
    gone = rig.send({**WHO, "facts": ["went"]}).message_id
    rig.settle()
    asked = [held, unknown, gone, 999_999]
    trial = waiting.end_wait(rig.journal, asked, actor="anne", reason="no such stay", dry_run=True)
    assert trial == {held: 0, unknown: 0}
    assert rig.state(held) is MessageState.HELD
    ended = waiting.end_wait(rig.journal, asked, actor="anne", reason="no such stay")
    assert set(ended) == {held, unknown}
    assert waiting.end_wait(rig.journal, asked, actor="anne", reason="twice") == {}
    codes = {each.message_id: each.cause.code for each in triage.letters(rig.journal)}
    assert codes == {held: CauseCode.IDENTITY_AWAITED, unknown: CauseCode.UNMAPPED}
    with rig.journal.read() as connection:
        told = desk_actions.page(connection, dead_letter_id=ended[held])
        assert not messages.waiting_for(connection, held)
    assert [(each.what, each.actor, each.reason) for each in told] == [
        (desk_actions.What.BURY, "anne", "no such stay")
    ]
    # The identity comes after all: the letter stays a person's, until it is replayed.
    rig.send({"patient": [national(1), local(1)], "facts": ["admitted"]}, source="adt")
    rig.settle()
    assert rig.state(held) is MessageState.DEAD
    replay.replay(rig.journal, DeadLetterFilter(ids=(ended[held],)), actor="anne", key="again")
    rig.settle()
    assert rig.state(held) is MessageState.DELIVERED
    assert "glucose" in rig.facts()
    replay.discard(rig.journal, ALL, actor="anne", key="gone", reason="not for us")
    assert rig.state(unknown) is MessageState.DISCARDED


@pytest.mark.parametrize(
    ("ids", "reason"), [([], "x"), ([1], " "), (list(range(waiting.MESSAGES_MAX + 1)), "x")]
)
def test_an_end_of_nothing_or_without_a_reason_is_refused(
    rig: Rig, ids: list[int], reason: str
) -> None:
    with pytest.raises(ValueError, match=r"name from|a reason"):
        waiting.end_wait(rig.journal, ids, actor="anne", reason=reason)


def test_a_report_survives_its_storage() -> None:
    report = Report(operation="k", what="replay", counts={Verdict.REPLAYED: 2}, more=True)
    assert Report.from_json(json.loads(json.dumps(report.as_json()))) == report


def test_a_message_dead_at_identify_says_so(rig: Rig) -> None:
    rig.send({"patient": [["urn:oid:1.2.3", "V1", "VN"]]})
    rig.settle()
    assert letter(rig).stage is Stage.IDENTIFY

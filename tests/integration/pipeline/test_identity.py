"""Whose record: links, waiting in order, conflicts, merges."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import text

from gateway.journal import patients
from gateway.journal.patients import patient_id
from gateway.journal.states import MessageState
from gateway.model import CauseCode, Identifier
from tests.eventually import eventually
from tests.integration.pipeline.rig import LABORATORY, Rig, ToyRemote, local, national, recorded


def pid(number: int) -> str:
    system, value, _ = national(number)
    return patient_id(Identifier(system=system, value=value))


# --- waiting --------------------------------------------------------------------------


def test_a_result_waits_for_its_identity_and_goes_by_itself(rig: Rig) -> None:
    result = rig.send({"patient": [local(1)], "facts": ["glucose"]})
    rig.settle()
    assert rig.state(result) is MessageState.HELD
    assert rig.code(result) is CauseCode.IDENTITY_AWAITED
    assert recorded(rig.journal) == []
    admission = rig.send({"patient": [national(1), local(1)], "facts": ["admitted"]}, source="adt")
    rig.settle()
    assert rig.state(result) is MessageState.DELIVERED
    assert rig.state(admission) is MessageState.DELIVERED
    assert {(patient, fact) for patient, fact, _ in recorded(rig.journal)} == {
        (pid(1), "glucose"),
        (pid(1), "admitted"),
    }
    assert rig.events(result) == [
        "received", "held", "released", "routed", "attempt", "delivered",
    ]  # fmt: skip


def test_what_waited_goes_before_the_message_that_brings_the_identity(rig: Rig) -> None:
    for n in range(5):
        rig.send({"patient": [local(1)], "facts": [f"held{n}"]})
    rig.settle()
    rig.submit({"patient": [national(1), local(1)], "facts": ["admission"]})
    for n in range(5):
        rig.submit({"patient": [local(1)], "facts": [f"after{n}"]})
    rig.send({"patient": [national(2)], "facts": ["another"]})
    rig.settle()
    mine = [fact for patient, fact, _ in recorded(rig.journal) if patient == pid(1)]
    expected = [f"held{n}" for n in range(5)] + ["admission"] + [f"after{n}" for n in range(5)]
    assert mine == expected


def test_waiting_and_link_in_one_batch_keep_the_order(rig: Rig) -> None:
    for content in (
        {"patient": [local(1)], "facts": ["first"]},
        {"patient": [local(1)], "facts": ["second"]},
        {"patient": [national(1), local(1)], "facts": ["admission"]},
        {"patient": [local(1)], "facts": ["last"]},
    ):
        last = rig.submit(content)
    last.result(timeout=10)
    rig.settle()
    assert rig.facts() == ["first", "second", "admission", "last"]


def test_a_correction_claimed_before_the_release_does_not_overtake(rig: Rig) -> None:
    """The correction is in a worker's hands when another source's message releases what it
    corrects."""
    rig.send({"patient": [local(1)], "facts": ["original"]})
    rig.settle()
    inside, go_on = threading.Event(), threading.Event()

    def stop_here() -> None:
        inside.set()
        assert go_on.wait(20)

    rig.reader.bombs["pause"] = stop_here
    rig.send({"patient": [local(1)], "facts": ["correction"], "bomb": "pause"})
    worker = threading.Thread(target=rig.drainer.drain, args=("in:lab",))
    worker.start()
    assert inside.wait(20)
    rig.send({"patient": [national(1), local(1)]}, source="adt")
    while rig.new_drainer().drain("in:adt"):
        pass
    go_on.set()
    worker.join(20)
    rig.settle()
    assert [fact for fact in rig.facts() if fact != "(none)"] == ["original", "correction"]


def test_two_local_numbers_lead_to_the_same_patient(rig: Rig) -> None:
    waits = rig.send({"patient": [local(7, LABORATORY)], "facts": ["culture"]})
    both = rig.send({"patient": [local(1), local(7, LABORATORY)], "facts": ["both"]})
    rig.settle()
    assert rig.state(waits) is rig.state(both) is MessageState.HELD
    rig.send({"patient": [national(1), local(1)]}, source="adt")
    rig.settle()
    # The link of local(1) released "both", which says that local(7) is the same person.
    assert rig.state(waits) is rig.state(both) is MessageState.DELIVERED
    assert {patient for patient, _, _ in recorded(rig.journal)} == {pid(1)}


def test_nobody_waits_for_ever_when_link_and_arrival_meet(make_rig: Callable[..., Rig]) -> None:
    """Two workers, two sources, the same new identifiers at the same moment."""
    rig = make_rig()
    for n in range(60):
        rig.submit({"patient": [local(n)], "facts": [f"r{n}"]}, source="lab")
        rig.submit({"patient": [national(n), local(n)]}, source="adt")
    rig.send({"patient": [national(99)]}, source="adt")
    rig.run_pool(threads=4)
    eventually(lambda: len([f for f in rig.facts() if f != "(none)"]) == 60, timeout=30)
    with rig.journal.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM waiting")).scalar_one() == 0


# --- what is wrong or contradicts -----------------------------------------------------


def test_a_wrong_key_dies_and_the_next_message_goes(rig: Rig) -> None:
    system, value, kind = national(1)
    wrong = rig.send({"patient": [[system, value[:-2] + "00", kind]], "facts": ["x"]})
    right = rig.send({"patient": [national(1)], "facts": ["y"]})
    rig.settle()
    assert rig.state(wrong) is MessageState.DEAD
    assert rig.code(wrong) is CauseCode.IDENTITY_INVALID
    assert rig.state(right) is MessageState.DELIVERED


def test_a_local_number_is_never_given_to_a_second_patient(rig: Rig) -> None:
    rig.send({"patient": [national(1), local(1)]})
    rig.settle()
    stolen = rig.send({"patient": [national(2), local(1)], "facts": ["whose"]})
    rig.settle()
    assert rig.state(stolen) is MessageState.DEAD
    assert rig.code(stolen) is CauseCode.IDENTITY_CONFLICT
    with rig.journal.read() as connection:
        assert patients.get(connection, pid(2)) is None
    after = rig.send({"patient": [local(1)], "facts": ["mine"]})
    rig.settle()
    assert rig.message(after).patient_id == pid(1)


def test_local_numbers_of_two_patients_in_one_message_are_a_conflict(rig: Rig) -> None:
    rig.send({"patient": [national(1), local(1)]})
    rig.send({"patient": [national(2), local(2, LABORATORY)]})
    mixed = rig.send({"patient": [local(1), local(2, LABORATORY)]})
    rig.settle()
    assert rig.code(mixed) is CauseCode.IDENTITY_CONFLICT


def test_a_conflict_inside_a_batch_is_seen_before_anything_is_written(rig: Rig) -> None:
    """Both messages are new to the index and in the same transaction."""
    rig.submit({"patient": [national(1), local(1)], "facts": ["a"]})
    second = rig.send({"patient": [national(2), local(1)], "facts": ["b"]})
    rig.settle()
    assert rig.code(second) is CauseCode.IDENTITY_CONFLICT
    assert rig.facts() == ["a"]


# --- merges ----------------------------------------------------------------------------


def test_a_merge_brings_both_under_the_survivor(rig: Rig) -> None:
    rig.send({"patient": [national(1), local(1)], "facts": ["one"]})
    rig.send({"patient": [national(2), local(2)], "facts": ["two"]})
    rig.settle()
    merge = rig.send({"patient": [national(1), local(1)], "merges": [[local(2)]], "facts": ["m"]})
    after = rig.send({"patient": [local(2)], "facts": ["later"]})
    rig.settle()
    assert rig.message(after).patient_id == pid(1)
    assert rig.delivery(merge).merged_patients == (pid(2),)
    with rig.journal.read() as connection:
        merged = connection.execute(
            text("SELECT fact FROM toy_record WHERE merged = :gone"), {"gone": pid(2)}
        ).scalars()
        assert list(merged) == ["m"]
        assert patients.survivor(connection, pid(2)) == patients.get(connection, pid(1))


def test_what_is_under_way_for_the_subsumed_goes_to_the_survivor_in_order(
    make_rig: Callable[..., Rig],
) -> None:
    remote = ToyRemote()
    rig = make_rig(destinations=[remote])
    rig.send({"patient": [national(2)], "facts": ["early"]})
    rig.send({"patient": [national(1)], "facts": ["mine"]})
    rig.drainer.drain("in:lab")
    merge = rig.send({"patient": [national(1)], "merges": [[national(2)]], "facts": ["merge"]})
    rig.drainer.drain("in:lab")
    rig.settle()
    assert remote.order == [(pid(1), "early"), (pid(1), "mine"), (pid(1), "merge")]
    assert rig.state(merge) is MessageState.DELIVERED


def test_an_unknown_subsumed_number_is_just_linked(rig: Rig) -> None:
    waits = rig.send({"patient": [local(5)], "facts": ["waits"]})
    rig.settle()
    merge = rig.send({"patient": [national(1)], "merges": [[local(5)]], "facts": ["merge"]})
    rig.settle()
    assert rig.facts() == ["waits", "merge"]
    assert rig.message(waits).patient_id == pid(1)
    assert rig.delivery(merge).merged_patients == ()
    names = {entry.resource["id"] for entry in _entries(rig, merge.message_id)}
    assert pid(1) in names
    assert len([1 for e in _entries(rig, merge.message_id) if _is_patient(e)]) == 1


def _entries(rig: Rig, message_id: int) -> tuple[object, ...]:
    from gateway.journal import messages

    with rig.journal.read() as connection:
        made = messages.normalised(connection, message_id)
    assert made is not None
    return made.entries


def _is_patient(entry: object) -> bool:
    return entry.resource["resourceType"] == "Patient"  # type: ignore[attr-defined]


def test_an_unknown_subsumed_ins_is_made_and_merged(rig: Rig) -> None:
    rig.send({"patient": [national(1)], "merges": [[national(2), local(2)]]})
    after = rig.send({"patient": [local(2)], "facts": ["later"]})
    rig.settle()
    assert rig.message(after).patient_id == pid(1)


def test_a_merge_waits_for_its_survivors_identity(rig: Rig) -> None:
    merge = rig.send({"patient": [local(1)], "merges": [[local(2)]], "facts": ["merge"]})
    rig.settle()
    assert rig.state(merge) is MessageState.HELD
    rig.send({"patient": [national(1), local(1)]})
    rig.settle()
    assert rig.state(merge) is MessageState.DELIVERED


def test_a_merge_sent_twice_does_no_harm(rig: Rig) -> None:
    rig.send({"patient": [national(1), local(1)]})
    rig.send({"patient": [national(2), local(2)]})
    content = {"patient": [local(1)], "merges": [[local(2)]], "facts": ["merge"]}
    first, again = rig.send(content), rig.send(content)
    rig.settle()
    assert rig.state(first) is rig.state(again) is MessageState.DELIVERED
    assert rig.delivery(again).merged_patients == (pid(2),)


def test_a_merge_in_a_circle_dies(rig: Rig) -> None:
    rig.send({"patient": [national(1), local(1)]})
    rig.send({"patient": [national(2), local(2)]})
    rig.send({"patient": [local(1)], "merges": [[local(2)]]})
    rig.settle()
    back = rig.send({"patient": [local(2)], "merges": [[local(1)]]})
    rig.settle()
    assert rig.state(back) is MessageState.DEAD
    assert rig.code(back) is CauseCode.IDENTITY_CONFLICT


def test_a_chain_of_merges_is_followed_to_its_end(rig: Rig) -> None:
    for n in (1, 2, 3):
        rig.send({"patient": [national(n), local(n)]})
    rig.send({"patient": [local(2)], "merges": [[local(3)]]})
    rig.send({"patient": [local(1)], "merges": [[local(2)]]})
    late = rig.send({"patient": [national(3)], "facts": ["late"]})
    rig.settle()
    assert rig.message(late).patient_id == pid(1)


def test_a_delivery_that_waited_during_a_merge_names_the_survivor(
    make_rig: Callable[..., Rig],
) -> None:
    """ToyRecord asserts that every observation's subject is the delivery's patient."""
    rig = make_rig()
    rig.submit({"patient": [national(2)], "facts": ["early"]})
    rig.send({"patient": [national(1)], "merges": [[national(2)]], "facts": ["merge"]})
    rig.settle()
    assert recorded(rig.journal)[0][:2] == (pid(1), "early")
    assert [fact for _, fact, _ in recorded(rig.journal)] == ["early", "merge"]

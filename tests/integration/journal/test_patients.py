"""The patient index: identifiers, merges, permissions."""

from __future__ import annotations

import uuid

import pytest

from gateway.journal import patients
from gateway.journal.patients import Feeding, IdentityConflict, Patient, RecordStatus
from gateway.model import Identifier
from tests.integration.journal.bench import Bench


def ins(value: str) -> Identifier:
    return Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value=value, type="INS")


def local(value: str) -> Identifier:
    return Identifier(system="urn:oid:1.2.3", value=value, type="PI")


def ensure(bench: Bench, value: str) -> Patient:
    with bench.journal.write() as connection:
        return patients.ensure(connection, ins(value), message_id=1)


def link(bench: Bench, patient_id: str, *identifiers: Identifier) -> tuple[Identifier, ...]:
    with bench.journal.write() as connection:
        return patients.link(connection, patient_id, identifiers, 1)


def find(bench: Bench, *identifiers: Identifier) -> str | None:
    with bench.journal.read() as connection:
        found = patients.find(connection, identifiers)
    return found.id if found is not None else None


def merge(bench: Bench, stays: Patient, goes: Patient, message_id: int = 1) -> bool:
    with bench.journal.write() as connection:
        return patients.merge(connection, stays.id, goes.id, message_id)


def test_a_patient_is_made_once_and_always_with_the_same_id(bench: Bench) -> None:
    patient = ensure(bench, "1")
    assert (
        patient.id
        == str(uuid.uuid5(patients.NAMESPACE, "urn:oid:1.2.250.1.213.1.4.10|1"))
        == patients.patient_id(ins("1"))
    )
    assert str(patients.NAMESPACE) == "6f0b7c52-3f7e-5d0c-9a53-2f1f4be1a6c1"
    assert (patient.feeding, patient.record) == (Feeding.UNKNOWN, RecordStatus.UNKNOWN)
    assert (patient.merged_into, patient.permission_changed_by) == (None, None)
    bench.clock.advance(60)
    assert ensure(bench, "1") == patient
    assert find(bench, ins("1")) == patient.id
    assert find(bench, ins("2")) is None
    assert find(bench) is None


def test_local_identifiers_lead_to_the_patient(bench: Bench) -> None:
    patient = ensure(bench, "1")
    assert link(bench, patient.id, local("A"), local("B")) == ()
    assert link(bench, patient.id, local("A"), local("A")) == ()
    assert link(bench, patient.id) == ()
    assert find(bench, local("B")) == patient.id
    assert find(bench, local("nobody"), local("B"), ins("1")) == patient.id
    with bench.journal.read() as connection:
        found = patients.identifiers(connection, patient.id)
    assert set(found) == {ins("1"), local("A"), local("B")}
    assert len(found) == 3


def test_all_who_were_merged_give_their_identifiers(bench: Bench) -> None:
    last, middle, first = (ensure(bench, each) for each in "123")
    link(bench, first.id, local("C"))
    merge(bench, middle, first)
    merge(bench, last, middle)
    with bench.journal.read() as connection:
        whole = patients.identifiers(connection, last.id)
        own = patients.own_identifiers(connection, last.id)
    assert set(whole) == {ins("1"), ins("2"), ins("3"), local("C")}
    assert own == (ins("1"),)


def test_identifiers_of_two_patients_are_a_conflict_and_nobody_guesses(bench: Bench) -> None:
    one, other = ensure(bench, "1"), ensure(bench, "2")
    link(bench, one.id, local("A"))
    assert link(bench, other.id, local("A"), local("B")) == (local("A"),)
    assert find(bench, local("A")) == one.id
    with pytest.raises(IdentityConflict) as caught:
        find(bench, local("A"), local("B"))
    assert set(caught.value.patient_ids) == {one.id, other.id}
    with bench.journal.read() as connection:
        assert set(patients.conflicts(connection, [local("A"), local("B")])) == {one.id, other.id}
        assert patients.conflicts(connection, [local("A")]) == ()


def test_a_merge_is_followed_everywhere(bench: Bench) -> None:
    a, b, c = (ensure(bench, value) for value in "123")
    link(bench, a.id, local("A"))
    assert merge(bench, b, a)
    assert merge(bench, c, b)
    assert not merge(bench, b, a)
    assert not merge(bench, c, a)
    assert find(bench, local("A")) == c.id
    assert find(bench, ins("1"), ins("2"), ins("3")) == c.id
    assert ensure(bench, "1").id == c.id
    assert link(bench, c.id, local("A")) == ()
    with bench.journal.read() as connection:
        row = patients.get(connection, a.id)
        last = patients.survivor(connection, a.id)
        assert patients.get(connection, "nobody") is None
        assert patients.survivor(connection, "nobody") is None
    assert row is not None
    assert last is not None
    # The chain stays as it was told, for the day on which a merge is taken back.
    assert (row.merged_into, last.id) == (b.id, c.id)


def test_merges_that_cannot_be_meant_are_refused(bench: Bench) -> None:
    a, b, c = (ensure(bench, value) for value in "123")
    with pytest.raises(IdentityConflict):
        merge(bench, a, a)
    merge(bench, b, a)
    with pytest.raises(IdentityConflict):
        merge(bench, a, b)
    with pytest.raises(IdentityConflict):
        merge(bench, c, a)
    with pytest.raises(LookupError), bench.journal.write() as connection:
        patients.merge(connection, a.id, "nobody", 1)


def permit(bench: Bench, patient: Patient, message_id: int, **what: object) -> bool:
    with bench.journal.write() as connection:
        return patients.set_permission(
            connection,
            patient.id,
            message_id,
            **what,  # type: ignore[arg-type]
        )


def get(bench: Bench, patient: Patient) -> Patient:
    with bench.journal.read() as connection:
        found = patients.get(connection, patient.id)
    assert found is not None
    return found


def test_permissions_are_kept_with_who_said_so(bench: Bench) -> None:
    patient = ensure(bench, "1")
    first, second = bench.message(), bench.message()
    assert permit(bench, patient, first, feeding=Feeding.OPPOSED)
    assert not permit(bench, patient, second, feeding=Feeding.OPPOSED)
    assert permit(bench, patient, first, record=RecordStatus.CLOSED)
    assert not permit(bench, patient, first)
    found = get(bench, patient)
    assert (found.feeding, found.feeding_message_id) == (Feeding.OPPOSED, second)
    assert (found.record, found.record_message_id) == (RecordStatus.CLOSED, first)
    assert found.permission_changed_by == second
    with pytest.raises(LookupError), bench.journal.write() as connection:
        patients.set_permission(connection, "nobody", first, feeding=Feeding.OPPOSED)


def test_a_late_replay_does_not_overrule_a_newer_word(bench: Bench) -> None:
    patient = ensure(bench, "1")
    old, new = bench.message(), bench.message()
    permit(bench, patient, new, feeding=Feeding.OPPOSED)
    assert not permit(bench, patient, old, feeding=Feeding.PERMITTED)
    assert get(bench, patient).feeding is Feeding.OPPOSED
    # Of the other permission nothing newer was said.
    assert permit(bench, patient, old, record=RecordStatus.OPEN)
    assert permit(bench, patient, bench.message(), feeding=Feeding.PERMITTED)


def test_a_merge_of_two_of_whom_nothing_is_said_is_no_word_on_it(bench: Bench) -> None:
    a, b = (ensure(bench, value) for value in "12")
    opposition, merging = bench.message(), bench.message()
    merge(bench, b, a, merging)
    # It came before the merge, and is read after it: replayed, or repaired.
    assert permit(bench, b, opposition, feeding=Feeding.OPPOSED, record=RecordStatus.CLOSED)
    found = get(bench, b)
    assert (found.feeding, found.record) == (Feeding.OPPOSED, RecordStatus.CLOSED)


def test_a_merge_keeps_the_stricter_permission(bench: Bench) -> None:
    a, b, c = (ensure(bench, value) for value in "123")
    first, second, third = (bench.message() for _ in range(3))
    permit(bench, a, first, feeding=Feeding.OPPOSED, record=RecordStatus.OPEN)
    permit(bench, b, second, feeding=Feeding.PERMITTED)
    merge(bench, b, a, third)
    found = get(bench, b)
    assert (found.feeding, found.record) == (Feeding.OPPOSED, RecordStatus.OPEN)
    merge(bench, c, b, third)
    found = get(bench, c)
    assert (found.feeding, found.record) == (Feeding.OPPOSED, RecordStatus.OPEN)
    # What is said of a merged patient is said of the survivor.
    assert permit(bench, a, bench.message(), feeding=Feeding.PERMITTED)
    assert get(bench, c).feeding is Feeding.PERMITTED

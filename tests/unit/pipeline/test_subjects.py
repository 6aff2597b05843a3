"""Who a message is about: read from its entries, never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import ins
from gateway.model import Cause, CauseCode, Entry
from gateway.subjects import IDENTIFIERS_MAX, Subjects, read_subjects, rewrite

V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
VALID = "279035121518989"
OTHER = "188102B17295264"


def identifier(system: str, value: str, type_code: str = "PI") -> dict[str, Any]:
    return {
        "system": system,
        "value": value,
        "type": {"coding": [{"system": V2_0203, "code": type_code}]},
    }


def patient(name: str, *identifiers: dict[str, Any], replaced_by: str = "") -> Entry:
    resource: dict[str, Any] = {"resourceType": "Patient", "id": name}
    if identifiers:
        resource["identifier"] = list(identifiers)
    if replaced_by:
        resource["link"] = [
            {"other": {"reference": f"Patient/{replaced_by}"}, "type": "replaced-by"}
        ]
    return Entry(resource=resource)


LOCAL = identifier("urn:oid:1.2.3", "42")


def subjects(*entries: Entry) -> Subjects:
    found = read_subjects(entries)
    assert isinstance(found, Subjects), found
    return found


def cause(*entries: Entry) -> Cause:
    found = read_subjects(entries)
    assert isinstance(found, Cause)
    return found


def test_national_and_local_identifiers_are_told_apart() -> None:
    claim = subjects(patient("a", identifier(ins.NIR_TEST, VALID, "INS"), LOCAL)).subject
    assert [each.value for each in claim.national] == [VALID]
    assert [each.value for each in claim.local] == ["42"]


@pytest.mark.parametrize("kind", ["AN", "VN", "SS"])
def test_a_visit_or_a_family_number_names_nobody(kind: str) -> None:
    stay = identifier("urn:oid:1.2.3", "V9", kind)
    assert [each.value for each in subjects(patient("a", stay, LOCAL)).subject.local] == ["42"]
    assert cause(patient("a", stay)).code is CauseCode.IDENTITY_INVALID


@pytest.mark.parametrize("root", ["13", "2"])
def test_a_social_security_number_is_no_identity_although_it_looks_like_one(root: str) -> None:
    shared = identifier(f"urn:oid:1.2.250.1.213.1.4.{root}", VALID, "NH")
    assert cause(patient("a", shared)).code is CauseCode.IDENTITY_INVALID
    assert len(subjects(patient("a", shared, LOCAL)).subject.identifiers) == 1


def test_an_identifier_without_authority_names_nobody() -> None:
    assert cause(patient("a", {"value": "42"})).code is CauseCode.IDENTITY_INVALID


def test_a_wrong_key_is_invalid_and_its_digits_stay_out_of_the_cause() -> None:
    found = cause(patient("a", LOCAL, identifier(ins.NIR, "279035121518988", "INS")))
    assert found.code is CauseCode.IDENTITY_INVALID
    assert found.location == "Patient.identifier[1]"
    assert "279" not in found.detail


def test_a_test_root_can_be_turned_off() -> None:
    entry = patient("a", identifier(ins.NIR_TEST, VALID))
    found = read_subjects([entry], accepted=ins.PRODUCTION_ROOTS)
    assert isinstance(found, Cause)
    assert found.code is CauseCode.IDENTITY_INVALID
    assert isinstance(read_subjects([entry]), Subjects)


def test_two_ins_for_one_patient_contradict_each_other() -> None:
    both = patient("a", identifier(ins.NIR, VALID), identifier(ins.NIR, OTHER))
    assert cause(both).code is CauseCode.IDENTITY_CONFLICT
    twice = patient("a", identifier(ins.NIR, VALID), identifier(ins.NIR, VALID))
    assert len(subjects(twice).subject.national) == 1


def test_two_patients_without_a_merge_are_a_conflict() -> None:
    assert cause(patient("a", LOCAL), patient("b", LOCAL)).code is CauseCode.IDENTITY_CONFLICT


def test_a_merge_has_a_survivor_and_a_subsumed() -> None:
    gone = patient("b", identifier("urn:oid:1.2.3", "43"), replaced_by="a")
    found = subjects(gone, patient("a", LOCAL))
    assert found.subject.reference == "Patient/a"
    assert [claim.reference for claim in found.subsumed] == ["Patient/b"]
    assert {each.value for each in found.identifiers} == {"42", "43"}


@pytest.mark.parametrize(
    "entries",
    [
        # The same number on both sides, even under another type code.
        (
            patient("a", LOCAL),
            patient("b", identifier("urn:oid:1.2.3", "42", "MR"), replaced_by="a"),
        ),
        # A circle inside one message.
        (patient("a", LOCAL, replaced_by="b"), patient("b", LOCAL, replaced_by="a")),
        # Into somebody whom the message does not describe.
        (patient("a", LOCAL), patient("b", LOCAL, replaced_by="c")),
    ],
)
def test_impossible_merges_are_conflicts(entries: tuple[Entry, ...]) -> None:
    assert cause(*entries).code is CauseCode.IDENTITY_CONFLICT


def test_a_merge_of_nobody_is_invalid() -> None:
    found = cause(patient("a", LOCAL), patient("b", replaced_by="a"))
    assert found.code is CauseCode.IDENTITY_INVALID


def test_no_patient_at_all_is_invalid() -> None:
    assert cause(Entry(resource={"resourceType": "Observation", "id": "x"})).code is (
        CauseCode.IDENTITY_INVALID
    )


@pytest.mark.parametrize("value", ["x" * 257, "a\x00b", "a\nb", "\ud800"])
def test_what_the_index_cannot_hold_exactly_is_invalid(value: str) -> None:
    assert cause(patient("a", identifier("urn:oid:1.2.3", value))).code is (
        CauseCode.IDENTITY_INVALID
    )


def test_the_number_of_identifiers_has_a_limit() -> None:
    many = [identifier("urn:oid:1.2.3", str(n)) for n in range(IDENTIFIERS_MAX + 1)]
    assert cause(patient("a", *many)).code is CauseCode.IDENTITY_INVALID
    assert len(subjects(patient("a", *many[:-1])).subject.local) == IDENTIFIERS_MAX


# --- rewriting -----------------------------------------------------------------------

OBSERVATION = Entry(
    resource={
        "resourceType": "Observation",
        "id": "o",
        "subject": {"reference": "Patient/a"},
        "note": [{"text": "Patient/a"}, {"authorReference": {"reference": "Practitioner/a"}}],
        "contained": [
            {"resourceType": "Group", "member": [{"entity": {"reference": "Patient/a"}}]}
        ],
    },
    create_only=True,
)


def test_references_and_the_patients_own_id_change_and_nothing_else() -> None:
    before = [patient("a", LOCAL), OBSERVATION]
    original = repr(before)
    done = rewrite(before, {"Patient/a": "Patient/new"})
    assert [entry.reference for entry in done] == ["Patient/new", "Observation/o"]
    resource = done[1].resource
    assert resource["subject"] == {"reference": "Patient/new"}
    assert resource["contained"][0]["member"][0]["entity"]["reference"] == "Patient/new"
    assert resource["note"] == OBSERVATION.resource["note"]
    assert done[1].create_only
    assert repr(before) == original


def test_dropped_entries_are_left_out() -> None:
    done = rewrite([patient("a", LOCAL), patient("b")], {}, drop=frozenset({"Patient/b"}))
    assert [entry.reference for entry in done] == ["Patient/a"]


json_like = st.recursive(
    st.one_of(st.text(max_size=5), st.integers(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1, max_size=4), json_like, max_size=4))
def test_entries_without_the_reference_come_through_as_the_same_objects(
    body: dict[str, Any],
) -> None:
    entry = Entry(resource={**body, "resourceType": "Basic", "id": "1"})
    assert rewrite([entry], {"Patient/zz": "Patient/new"})[0] is entry


def test_an_ins_that_is_not_qualified_identifies_nobody() -> None:
    number = {"system": "urn:oid:1.2.250.1.213.1.4.10", "value": "279035121518989", "use": "temp"}
    own = {"system": "urn:oid:2.999.1", "value": "7"}
    both = Entry(resource={"resourceType": "Patient", "id": "p", "identifier": [number, own]})
    found = read_subjects([both])
    assert isinstance(found, Subjects)
    assert [each.value for each in found.identifiers] == ["7"]
    alone = Entry(resource={"resourceType": "Patient", "id": "p", "identifier": [number]})
    cause = read_subjects([alone])
    assert isinstance(cause, Cause)
    assert cause.code is CauseCode.IDENTITY_INVALID
    assert "not qualified" in cause.detail

"""The R4 checker: right resources pass, and each single fault is found at its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.mapping.r4.checker import Checker, references
from gateway.mapping.r4.problems import DEPTH_MAX, PROBLEMS_MAX, ProblemCode
from gateway.mapping.serialise import DecimalText, dumps, loads
from tests.unit.r4 import resources as made

Json = dict[str, Any]


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker.load()


def found(checker: Checker, resource: Any) -> set[tuple[str, str]]:
    return {(problem.path, problem.code.value) for problem in checker.check(resource)}


@pytest.mark.parametrize("resource", made.everything(), ids=lambda r: r["resourceType"])
def test_right_resources_pass(checker: Checker, resource: Json) -> None:
    assert checker.check(resource) == []
    assert checker.check(loads(dumps(resource))) == []


def put(path: str, value: Any) -> Callable[[Json], None]:
    """Set a value at a dotted path, where a number is an index."""
    *walk, last = path.split(".")

    def edit(resource: Any) -> None:
        for step in walk:
            resource = resource[int(step) if step.isdigit() else step]
        resource[int(last) if last.isdigit() else last] = value

    return edit


def drop(path: str) -> Callable[[Json], None]:
    *walk, last = path.split(".")

    def edit(resource: Any) -> None:
        for step in walk:
            resource = resource[int(step) if step.isdigit() else step]
        del resource[last]

    return edit


DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
FAULTS: list[tuple[Callable[[], Json], Callable[[Json], None], str, ProblemCode]] = [
    # structure
    (made.patient, put("nickname", "x"), "Patient.nickname", ProblemCode.UNKNOWN_ELEMENT),
    (made.patient, put("name.0.giv", "x"), "Patient.name[0].giv", ProblemCode.UNKNOWN_ELEMENT),
    (made.patient, put("a b", "x"), "Patient.?", ProblemCode.UNKNOWN_ELEMENT),
    (made.patient, put("_name", [{}]), "Patient._name", ProblemCode.UNKNOWN_ELEMENT),
    (made.patient, put("fhir_comments", []), "Patient.fhir_comments", ProblemCode.UNKNOWN_ELEMENT),
    (made.observation, put("valueMoney", {}), "Observation.valueMoney",
     ProblemCode.UNKNOWN_ELEMENT),
    (made.patient, put("name", {"family": "x"}), "Patient.name", ProblemCode.NOT_AN_ARRAY),
    (made.patient, put("gender", ["male"]), "Patient.gender", ProblemCode.NOT_SINGLE),
    (made.observation, put("code", [{"text": "x"}]), "Observation.code", ProblemCode.NOT_SINGLE),
    (made.observation, put("code", "x"), "Observation.code", ProblemCode.WRONG_TYPE),
    (made.patient, put("name", []), "Patient.name", ProblemCode.EMPTY),
    (made.patient, put("name.0", {}), "Patient.name[0]", ProblemCode.EMPTY),
    (made.patient, put("name.0", {"id": "x"}), "Patient.name[0]", ProblemCode.EMPTY),
    (made.patient, put("name.0.family", ""), "Patient.name[0].family", ProblemCode.EMPTY),
    (made.patient, put("name.0.family", " \t"), "Patient.name[0].family", ProblemCode.EMPTY),
    (made.patient, put("name.0", None), "Patient.name[0]", ProblemCode.NULL),
    (made.patient, put("gender", None), "Patient.gender", ProblemCode.NULL),
    (made.patient, put("name.0.given", ["Anne", None, None]), "Patient.name[0].given[2]",
     ProblemCode.NULL),
    (made.patient, put("address.0._line", [None]), "Patient.address[0]._line", ProblemCode.EMPTY),
    (made.patient, put("_birthDate", {"valueString": "x"}), "Patient._birthDate.valueString",
     ProblemCode.UNKNOWN_ELEMENT),
    # cardinality and choice
    (made.observation, drop("status"), "Observation.status", ProblemCode.MISSING),
    (made.observation, drop("code"), "Observation.code", ProblemCode.MISSING),
    (made.document, drop("content.0.attachment"), "DocumentReference.content[0].attachment",
     ProblemCode.MISSING),
    (made.observation, put("valueString", "x"), "Observation.value[x]", ProblemCode.CHOICE),
    (made.observation, put("_valueString", {"extension": [{"url": "urn:u", "valueCode": "c"}]}),
     "Observation.value[x]", ProblemCode.CHOICE),
    # primitives
    (made.patient, put("birthDate", "1985-02-30"), "Patient.birthDate", ProblemCode.FORMAT),
    (made.patient, put("birthDate", "1985-13"), "Patient.birthDate", ProblemCode.FORMAT),
    (made.patient, put("birthDate", "0000"), "Patient.birthDate", ProblemCode.FORMAT),
    (made.patient, put("birthDate", "19850101"), "Patient.birthDate", ProblemCode.FORMAT),
    (made.patient, put("birthDate", "1985-01-01\n"), "Patient.birthDate", ProblemCode.FORMAT),
    (made.patient, put("birthDate", "١٩٨٥"), "Patient.birthDate", ProblemCode.FORMAT),
    (made.patient, put("birthDate", 1985), "Patient.birthDate", ProblemCode.WRONG_TYPE),
    (made.patient, put("birthDate", DecimalText("1985")), "Patient.birthDate",
     ProblemCode.WRONG_TYPE),
    (made.patient, put("deceasedDateTime", "2024-02-29T23:59:59"), "Patient.deceasedDateTime",
     ProblemCode.FORMAT),
    (made.patient, put("deceasedDateTime", "2023-02-29T23:59:59Z"), "Patient.deceasedDateTime",
     ProblemCode.FORMAT),
    (made.patient, put("deceasedDateTime", "2024-02-29T23:59Z"), "Patient.deceasedDateTime",
     ProblemCode.FORMAT),
    (made.observation, put("issued", "2024-03-01"), "Observation.issued", ProblemCode.FORMAT),
    (made.patient, put("id", "a_b"), "Patient.id", ProblemCode.FORMAT),
    (made.patient, put("id", "x" * 65), "Patient.id", ProblemCode.FORMAT),
    (made.patient, put("active", "true"), "Patient.active", ProblemCode.WRONG_TYPE),
    (made.patient, put("active", 1), "Patient.active", ProblemCode.WRONG_TYPE),
    (made.patient, put("multipleBirthInteger", True), "Patient.multipleBirthInteger",
     ProblemCode.WRONG_TYPE),
    (made.patient, put("multipleBirthInteger", 2**31), "Patient.multipleBirthInteger",
     ProblemCode.FORMAT),
    (made.patient, put("telecom.0.rank", 0), "Patient.telecom[0].rank", ProblemCode.FORMAT),
    (made.study, put("numberOfSeries", -1), "ImagingStudy.numberOfSeries", ProblemCode.FORMAT),
    (made.study, put("series.0.uid", "1.2 3"), "ImagingStudy.series[0].uid", ProblemCode.FORMAT),
    (made.patient, put("identifier.0.system", "urn oid"), "Patient.identifier[0].system",
     ProblemCode.FORMAT),
    (made.document, put("content.0.attachment.hash", "abc"),
     "DocumentReference.content[0].attachment.hash", ProblemCode.FORMAT),
    (made.observation, put("valueQuantity.value", "7.1"), "Observation.valueQuantity.value",
     ProblemCode.WRONG_TYPE),
    (made.observation, put("valueQuantity.value", 7.1), "Observation.valueQuantity.value",
     ProblemCode.WRONG_TYPE),
    (made.observation, put("valueQuantity.value", True), "Observation.valueQuantity.value",
     ProblemCode.WRONG_TYPE),
    (made.patient, put("name.0.family", "a\x00b"), "Patient.name[0].family", ProblemCode.FORMAT),
    (made.patient, put("name.0.family", "a\x0bb"), "Patient.name[0].family", ProblemCode.FORMAT),
    (made.patient, put("name.0.family", "\ud800"), "Patient.name[0].family", ProblemCode.FORMAT),
    (made.patient, put("name.0.family", "x" * 1_048_577), "Patient.name[0].family",
     ProblemCode.TOO_LONG),
    # bindings and references
    (made.patient, put("gender", "F"), "Patient.gender", ProblemCode.CODE),
    (made.patient, put("gender", "Female"), "Patient.gender", ProblemCode.CODE),
    (made.condition, put("clinicalStatus.coding.1.code", "ill"), "Condition.clinicalStatus",
     ProblemCode.CODE),
    (made.condition, put("clinicalStatus.coding.1.system", "urn:x"), "Condition.clinicalStatus",
     ProblemCode.CODE),
    (made.condition, put("clinicalStatus", {"text": "active"}), "Condition.clinicalStatus",
     ProblemCode.CODE),
    (made.observation, put("subject.reference", "Encounter/1"), "Observation.subject.reference",
     ProblemCode.TARGET),
    (made.observation, put("subject.reference", "patient 1"), "Observation.subject.reference",
     ProblemCode.FORMAT),
    (made.observation, put("subject.reference", "#p"), "Observation.subject.reference",
     ProblemCode.DANGLING),
    (made.observation, put("referenceRange.0.low.comparator", "<"),
     "Observation.referenceRange[0].low.comparator", ProblemCode.PROHIBITED),
    # contained
    (made.report, drop("contained.0.id"), "DiagnosticReport.contained[0].id", ProblemCode.MISSING),
    (made.report, put("contained.0.id", "other"), "DiagnosticReport.contained",
     ProblemCode.CONTAINED),
    (made.report, put("contained.0.meta", {"versionId": "1"}), "DiagnosticReport.contained[0].meta",
     ProblemCode.CONTAINED),
    (made.report, put("contained.0.contained", [{"resourceType": "Patient", "id": "x"}]),
     "DiagnosticReport.contained[0].contained", ProblemCode.CONTAINED),
    (made.report, put("contained.0.resourceType", "Lab"), "DiagnosticReport.contained[0]",
     ProblemCode.UNKNOWN_RESOURCE),
    # narrative
    (made.patient, put("text.div", "<p>x</p>"), "Patient.text.div", ProblemCode.NARRATIVE),
    (made.patient, put("text.div", DIV.format("<b>x")), "Patient.text.div", ProblemCode.NARRATIVE),
    (made.patient, put("text.div", DIV.format(" ")), "Patient.text.div", ProblemCode.NARRATIVE),
    (made.patient, put("text.div", DIV.format("<script>x</script>")), "Patient.text.div",
     ProblemCode.NARRATIVE),
    (made.patient, put("text.div", DIV.format('<p onclick="x">y</p>')), "Patient.text.div",
     ProblemCode.NARRATIVE),
    (made.patient, put("text.div", DIV.format('<a href="java&#10;script:x">y</a>')),
     "Patient.text.div", ProblemCode.NARRATIVE),
    (made.patient, put("text.div", DIV.format('<p xmlns="">y</p>')), "Patient.text.div",
     ProblemCode.NARRATIVE),
    (made.patient, put("text.div", '<!DOCTYPE div [<!ENTITY a "b">]>' + DIV.format("&a;")),
     "Patient.text.div", ProblemCode.NARRATIVE),
    # invariants
    (made.patient, drop("telecom.0.system"), "Patient.telecom[0]", ProblemCode.INVARIANT),
    (made.patient, put("contact.0", {"relationship": [{"text": "x"}]}), "Patient.contact[0]",
     ProblemCode.INVARIANT),
    (made.observation, put("dataAbsentReason", {"text": "x"}), "Observation",
     ProblemCode.INVARIANT),
    (made.observation, put("referenceRange.0", {"age": {"low": {"value": 1}}}),
     "Observation.referenceRange[0]", ProblemCode.INVARIANT),
    (made.observation, put("referenceRange.0.age", {"low": {"value": 9}, "high": {"value": 1}}),
     "Observation.referenceRange[0].age", ProblemCode.INVARIANT),
    (made.observation, drop("valueQuantity.system"), "Observation.valueQuantity",
     ProblemCode.INVARIANT),
    (made.observation, put("component", [{"code": {"coding": [{"system": made.LOINC,
                                                               "code": "718-7"}]}}]),
     "Observation", ProblemCode.INVARIANT),
    (made.report, put("effectivePeriod", {"start": "2024-03-02", "end": "2024-03-01"}),
     "DiagnosticReport.effectivePeriod", ProblemCode.INVARIANT),
    (made.report, put("effectivePeriod", {"start": "2024-03-01T10:00:00+01:00",
                                          "end": "2024-03-01T08:59:00Z"}),
     "DiagnosticReport.effectivePeriod", ProblemCode.INVARIANT),
    # FHIRPath has no answer to «2024-03-01 <= 2024-03-01T08:59:00Z», so per-1 does not hold.
    (made.report, put("effectivePeriod", {"start": "2024-03-01", "end": "2024-03-01T08:59:00Z"}),
     "DiagnosticReport.effectivePeriod", ProblemCode.INVARIANT),
    (made.observation, put("subject.type", "Encounter"), "Observation.subject.type",
     ProblemCode.TARGET),
    (made.observation, put("subject.type", "Group"), "Observation.subject.type",
     ProblemCode.TARGET),
    (made.observation, put("subject.reference", "Unheard/1"), "Observation.subject.reference",
     ProblemCode.FORMAT),
    (made.observation, put("code.coding.0.system", "loinc"), "Observation.code.coding[0].system",
     ProblemCode.FORMAT),
    (made.patient, put("identifier.0.system", "CHU"), "Patient.identifier[0].system",
     ProblemCode.FORMAT),
    (made.patient, put("identifier.0.system", "urn:oid:CHU"), "Patient.identifier[0].system",
     ProblemCode.FORMAT),
    (made.patient, put("identifier.0.system", "urn:uuid:1"), "Patient.identifier[0].system",
     ProblemCode.FORMAT),
    (made.patient, put("extension", [{"url": "birthPlace", "valueString": "x"}]),
     "Patient.extension[0].url", ProblemCode.FORMAT),
    (made.document, put("content.0.attachment.contentType", "PDF"),
     "DocumentReference.content[0].attachment.contentType", ProblemCode.FORMAT),
    (made.observation, put("code.coding.0.code", "a\x00b"), "Observation.code.coding[0].code",
     ProblemCode.FORMAT),
    (made.observation, put("valueQuantity.value", 10**18), "Observation.valueQuantity.value",
     ProblemCode.FORMAT),
    (made.consent, drop("policyRule"), "Consent", ProblemCode.INVARIANT),
    (made.condition, put("abatementDateTime", "2024"), "Condition", ProblemCode.INVARIANT),
    (made.condition, put("onsetAge.value", 0), "Condition.onsetAge", ProblemCode.INVARIANT),
    (made.patient, put("_birthDate", {"extension": [{"url": "urn:x"}]}),
     "Patient._birthDate.extension[0]", ProblemCode.INVARIANT),
    (made.document, put("content.0.attachment", {"data": "AAAA"}),
     "DocumentReference.content[0].attachment", ProblemCode.INVARIANT),
]  # fmt: skip


@pytest.mark.parametrize("position", range(len(FAULTS)))
def test_one_fault_is_found_alone_at_its_place(checker: Checker, position: int) -> None:
    make, edit, path, code = FAULTS[position]
    resource = make()
    assert checker.check(resource) == []
    edit(resource)
    assert (path, code.value) in found(checker, resource)
    # A fault makes no noise elsewhere; a dropped link also orphans what it named.
    others = {place for place, _ in found(checker, resource)} - {path}
    assert others <= {"DiagnosticReport.contained", "DiagnosticReport.performer[0].reference"}


def test_every_property_of_a_right_resource_is_looked_at(checker: Checker) -> None:
    """Mutation: each leaf and each object, replaced by something of no type, is found."""

    def places(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            inner = [p for key, item in value.items() for p in places(item, f"{path}.{key}")]
            return [path, *inner]
        if isinstance(value, list):
            inner = [p for at, item in enumerate(value) for p in places(item, f"{path}.{at}")]
            return [path, *inner]
        return [path] if value is not None else []

    for resource in made.everything():
        for place in places(resource, "")[1:]:
            mutant = copy.deepcopy(resource)
            put(place[1:], object())(mutant)
            problems = checker.check(mutant)
            assert problems, f"{resource['resourceType']}{place} was not looked at"


def test_messages_hold_no_value_of_the_patient(checker: Checker) -> None:
    secret = "ZZSECRETZZ"
    for make, _, _, _ in FAULTS:
        text = json.dumps(make()).replace("Anne", secret).replace("final", secret)
        text = text.replace("2024-03-01", secret).replace("718-7", f"{secret} 1  2")
        for problem in checker.check(loads(text)):
            assert secret not in str(problem)


@pytest.mark.parametrize(
    "nonsense",
    [None, [], "Patient", 1, {}, {"resourceType": "patient"}, {"resourceType": ["Patient"]},
     {"resourceType": "DomainResource"}, {"resourceType": "Quantity"}],
)  # fmt: skip
def test_what_is_no_resource_is_a_problem(checker: Checker, nonsense: Any) -> None:
    assert len(checker.check(nonsense)) == 1


def nested_extensions(depth: int) -> Json:
    deep: Json = {"url": "urn:x", "valueCode": "c"}
    for _ in range(depth):
        deep = {"url": "urn:x", "extension": [deep]}
    return made.patient() | {"extension": [deep]}


def test_problems_have_a_limit(checker: Checker) -> None:
    many = made.patient() | {"name": [{}] * 1000}
    assert len(checker.check(many)) == PROBLEMS_MAX
    unknown = made.patient() | {f"unheard{number}": 1 for number in range(1000)}
    assert len(checker.check(unknown)) == PROBLEMS_MAX
    assert len(checker.check_entries([many, many])) == PROBLEMS_MAX


def test_depth_has_a_limit(checker: Checker) -> None:
    assert checker.check(nested_extensions(DEPTH_MAX - 3)) == []
    for depth in (DEPTH_MAX, 20_000):
        problems = checker.check(nested_extensions(depth))
        assert [problem.code for problem in problems] == [ProblemCode.TOO_DEEP]


def test_a_fault_at_the_bottom_is_found_without_going_there_twice_a_level(
    checker: Checker,
) -> None:
    deep = nested_extensions(DEPTH_MAX - 3)
    inner = deep
    while "extension" in inner:
        inner = inner["extension"][0]
    inner["valueCode"] = " "
    (problem,) = checker.check(deep)
    assert problem.code is ProblemCode.EMPTY
    assert problem.path.endswith(".extension[0].valueCode")


def test_numbers_beyond_all_measure_are_no_exception(checker: Checker) -> None:
    huge = DecimalText("1e" + "9" * 60)
    ends = {"low": {"value": huge}, "high": {"value": DecimalText("1")}}
    assert (
        checker.check(made.observation() | {"referenceRange": [{"text": "x", "age": ends}]}) == []
    )
    checker.check(made.condition() | {"onsetAge": {"value": huge, "code": "a"}})


def test_local_references_are_settled_beyond_the_limit_of_problems(checker: Checker) -> None:
    contained = [{"resourceType": "Practitioner", "id": "p", "active": True}]
    performers = [{"reference": "#p"}] * (PROBLEMS_MAX * 2)
    observation = made.observation() | {"contained": contained, "performer": performers}
    assert checker.check(observation) == []
    observation["performer"] = [*performers, {"reference": "#q"}]
    assert [problem.path for problem in checker.check(observation)] == [
        f"Observation.performer[{len(performers)}].reference"
    ]


def test_a_primitive_may_be_its_extension_alone(checker: Checker) -> None:
    observation = made.observation()
    del observation["status"]
    observation["_status"] = {"extension": [{"url": "urn:absent", "valueCode": "unknown"}]}
    assert checker.check(observation) == []


def test_long_base64_is_checked_in_linear_time(checker: Checker) -> None:
    attachment = {"contentType": "application/pdf", "data": ("QUJD" * 19 + "\r\n") * 20_000 + "!"}
    document = made.document()
    document["content"][0]["attachment"] = attachment
    place = "DocumentReference.content[0].attachment.data"
    assert found(checker, document) == {(place, "format")}
    attachment["data"] = attachment["data"][:-1]
    assert checker.check(document) == []


# --- sets of entries -----------------------------------------------------------------


def test_references_inside_a_set(checker: Checker) -> None:
    assert checker.check_entries(made.everything()) == []
    without_patient = made.everything()[1:]
    places = {p.path for p in checker.check_entries(without_patient)}
    assert all(p.code is ProblemCode.DANGLING for p in checker.check_entries(without_patient))
    assert places == {
        "[0].Observation.subject.reference",
        "[1].DiagnosticReport.subject.reference",
        "[2].DocumentReference.subject.reference",
        "[3].ImagingStudy.subject.reference",
        "[4].Consent.patient.reference",
        "[5].Condition.subject.reference",
    }
    known = {"Patient/7b1c7c5e-3b47-5a55-9f0e-000000000001"}
    assert checker.check_entries(without_patient, known) == []


def test_what_another_message_brought_may_be_outside(checker: Checker) -> None:
    """The made patient links to another, the made document replaces an older one."""
    entries = [made.patient(), made.observation(), made.document()]
    entries[1]["basedOn"] = [{"reference": "ServiceRequest/order"}]
    assert checker.check_entries(entries) == []
    entries[1]["specimen"] = {"reference": "Specimen/tube"}
    assert len(checker.check_entries(entries)) == 1


def test_a_version_in_a_reference_is_of_the_same_resource(checker: Checker) -> None:
    observation = made.observation()
    observation["subject"]["reference"] += "/_history/2"
    assert checker.check_entries([made.patient(), observation]) == []


def test_entries_need_distinct_ids(checker: Checker) -> None:
    twice = [made.consent(), made.consent()]
    known = {"Patient/7b1c7c5e-3b47-5a55-9f0e-000000000001"}
    problems = checker.check_entries(twice, known)
    assert [(p.path, p.code) for p in problems] == [("[1]", ProblemCode.DUPLICATE)]
    anonymous = made.consent()
    del anonymous["id"]
    assert [p.code for p in checker.check_entries([anonymous], known)] == [ProblemCode.MISSING]


def test_references_are_listed_with_their_paths() -> None:
    assert ("." + "subject.reference", made.observation()["subject"]["reference"]) in list(
        references(made.observation())
    )


def test_what_entries_share_is_looked_at_once_and_never_for_right_when_it_is_wrong(
    checker: Checker,
) -> None:
    def observation(number: int, code: Json) -> Json:
        return {
            "resourceType": "Observation",
            "id": f"o{number}",
            "status": "final",
            "code": code,
            "valueString": "x",
        }

    right: Json = {"coding": [{"system": "http://loinc.org", "code": "2345-7"}]}
    wrong: Json = {"coding": [{"system": "http://loinc.org", "kode": "2345-7"}]}
    for turn in range(4):
        entries = [observation(turn * 10 + number, right) for number in range(3)]
        assert checker.check_entries(entries, mapped=True) == []
        bad = [*entries, observation(99, wrong)]
        told = checker.check_entries(bad, mapped=True)
        assert told == checker.check_entries(bad)
        assert [problem.path for problem in told] == ["[3].Observation.code.coding[0].kode"]
    # Right as a code, but not where a Quantity stands.
    misplaced = {**observation(1, right), "valueQuantity": right}
    del misplaced["valueString"]
    assert checker.check_entries([misplaced], mapped=True) == checker.check_entries([misplaced])
    assert checker.check_entries([misplaced], mapped=True)


def test_a_shared_value_that_refers_to_another_entry_is_looked_at_each_time(
    checker: Checker,
) -> None:
    performer = [{"actor": {"reference": "Practitioner/p"}}]
    procedure: Json = {
        "resourceType": "Procedure",
        "id": "a",
        "status": "completed",
        "subject": {"reference": "Patient/s"},
        "performer": performer,
    }
    others: list[Json] = [
        {"resourceType": "Practitioner", "id": "p", "active": True},
        {"resourceType": "Patient", "id": "s", "active": True},
    ]
    for _ in range(3):
        assert checker.check_entries([procedure, *others], mapped=True) == []
    told = checker.check_entries([procedure, others[1]], mapped=True)
    assert [(problem.path, problem.code) for problem in told] == [
        ("[0].Procedure.performer[0].actor.reference", ProblemCode.DANGLING)
    ]


@pytest.mark.parametrize("resource", made.everything(), ids=lambda r: r["resourceType"])
def test_checked_again_as_a_mapping_made_it_the_answer_is_the_same(
    checker: Checker, resource: Json
) -> None:
    known = [f"{each['resourceType']}/{each['id']}" for each in made.everything()]
    plain = checker.check_entries([resource], known)
    for _ in range(3):
        assert checker.check_entries([resource], known, mapped=True) == plain

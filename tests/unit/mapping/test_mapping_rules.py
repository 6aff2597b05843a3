"""What the rules of a mapping make, through a small source language."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from gateway.mapping import MappingContext, MappingRejected
from gateway.mapping.serialise import DecimalText
from tests.unit.mapping.pretend import codes, load, resources, run


@pytest.fixture(params=[False, True], ids=["plain", "looking"])
def contents(request: pytest.FixtureRequest) -> bool:
    """Whether the source language offers the contents of paths: results must be the same."""
    return bool(request.param)


def patient(rule: str, head: str = "") -> str:
    return (
        f"{head}entries:\n  - resource: Patient\n    id: {{key: [KEY], authority: [OWNER]}}\n"
        f"    set:\n      implicitRules: {{from: KEY, invalid: flag}}\n      {rule}\n"
    )


def observation(rule: str, head: str = "") -> str:
    return (
        f"{head}entries:\n  - resource: Observation\n    id: {{key: [KEY], authority: [OWNER]}}\n"
        "    set:\n      status: {const: final, reason: x}\n"
        "      implicitRules: {from: KEY, invalid: flag}\n"
        f"      code: {{const: {{text: x}}, reason: x}}\n      {rule}\n"
    )


def one(folder: Path, body: str, message: dict[str, Any], contents: bool) -> dict[str, Any]:
    """The one resource without type, id and what the frames above always give."""
    mapped = run(load(folder, body, contents=contents), {"KEY": "1", **message})
    assert len(mapped.entries) == 1, mapped
    hidden = {"resourceType", "implicitRules", "status", "code"}
    return {k: v for k, v in resources(mapped)[0].items() if k not in hidden}


@pytest.mark.parametrize(
    ("rule", "message", "expected"),
    [
        ("birthDate: {from: A, invalid: flag}", {"A": "19790328"}, {"birthDate": "1979-03-28"}),
        ("gender: {from: A, invalid: flag}", {"A": "male"}, {"gender": "male"}),
        ("name: {set: {family: A, given: [B, C]}}", {"A": "x", "B": ["1", "2"], "C": "3"},
         {"name": [{"family": "x", "given": ["1", "2", "3"]}]}),
        ("name: [{set: {family: A}}, {set: {text: B}}]", {"A": "x", "B": "y"},
         {"name": [{"family": "x"}, {"text": "y"}]}),
        ("name: {each: B, set: {family: $.1, given: [$.2]}}", {"B": ["a^b", "c"]},
         {"name": [{"family": "a", "given": ["b"]}, {"family": "c"}]}),
        ("name: {from: B, set: {family: $.1}}", {"B": ["a^b", "c"]},
         {"name": [{"family": "a"}, {"family": "c"}]}),
        ("name: {each: {group: G}, set: {family: C, text: A}}", {"A": "t", "G": [{"C": "1"}, {"C": "2"}]},
         {"name": [{"family": "1", "text": "t"}, {"family": "2", "text": "t"}]}),
        ("name: {each: {group: G, where: C != 1}, set: {family: C}}", {"G": [{"C": "1"}, {"C": "2"}]},
         {"name": [{"family": "2"}]}),
        ("name: {each: [{group: G}, C], set: {family: $}}", {"G": [{"C": ["1", "2"]}, {"C": "3"}]},
         {"name": [{"family": "1"}, {"family": "2"}, {"family": "3"}]}),
        ("name: {each: B, when: $ != c, set: {family: $}}", {"B": ["a", "c"]}, {"name": [{"family": "a"}]}),
        ("name: {each: B, when: A = yes, set: {family: $}}", {"B": ["a", "c"], "A": "no"}, {}),
        ("name: {set: {text: {first: [A, B, C]}}}", {"A": "", "C": "z"}, {"name": [{"text": "z"}]}),
        ("name: {set: {text: {all: [A, B], join: '-'}}}", {"A": "1", "B": ["2", "3"]}, {"name": [{"text": "1-2-3"}]}),
        ("name: {set: {text: {from: B, join: '+'}}}", {"B": ["2", "", "3"]}, {"name": [{"text": "2+3"}]}),
        ('name: {set: {text: {from: B, join: "\\n"}}}', {"B": ["2", "", "3"]}, {"name": [{"text": "2\n\n3"}]}),
        ("name: {set: {family: A, use: {const: usual}}}", {}, {}),
        ("name: {set: {text: {switch: A, cases: {'x y': B, else: {skip: none}}}}}", {"A": "y", "B": "v"},
         {"name": [{"text": "v"}]}),
        ("name: {set: {text: {switch: A, cases: {x: B, else: C}}}}", {"B": "v", "C": "w"}, {"name": [{"text": "w"}]}),
        ("deceased: {first: [{from: A, as: dateTime}, {from: B, as: boolean}], invalid: flag}", {"B": "N"},
         {"deceasedBoolean": False}),
        ("deceased: {first: [{from: A, as: dateTime}, {from: B, as: boolean}], invalid: flag}", {"A": "2024", "B": "Y"},
         {"deceasedDateTime": "2024"}),
        ("deceasedBoolean: {from: B, invalid: flag}", {"B": "Y"}, {"deceasedBoolean": True}),
        ("maritalStatus: {from: A, table: colours, unknown: flag}", {"A": "G"},
         {"maritalStatus": {"coding": [{"system": "http://example.org/colours", "code": "green", "display": "Green"}], "text": "G"}}),
    ],
)  # fmt: skip
def test_a_rule_makes(
    tmp_path: Path, contents: bool, rule: str, message: dict[str, Any], expected: Any
) -> None:
    head = "defaults: {invalid: flag}\n"
    assert one(tmp_path, patient(rule, head), message, contents) == expected


def test_the_four_states_stay_apart(tmp_path: Path, contents: bool) -> None:
    program = load(tmp_path, patient("name: {set: {text: A}}"), contents=contents)
    assert "name" not in run(program, {"KEY": "1"}).entries[0].resource
    assert codes(run(program, {"KEY": "1"})) == []
    assert codes(run(program, {"KEY": "1", "A": ""})) == []
    null = run(program, {"KEY": "1", "A": '""'})
    assert codes(null) == ["deleted"]
    assert (null.flags[0].target, null.flags[0].source) == ("Patient.name.text", "A(1)")
    assert null.flags[0].rule == "test.yaml:9:26"
    assert "name" not in null.entries[0].resource


@pytest.mark.parametrize(
    ("answer", "expected", "flags"),
    [
        ("flag", {}, ["invalid-value"]),
        ("skip", {}, []),
        ("{map: '1900', reason: a test}", {"valueDateTime": "1900"}, ["invalid-value"]),
        ("{text: A}", {"valueString": "soon"}, ["invalid-value"]),
    ],
)
def test_an_invalid_value(
    tmp_path: Path, contents: bool, answer: str, expected: Any, flags: list[str]
) -> None:
    answer = answer.replace("reason", "as: dateTime, reason")
    body = observation(f"value: {{from: A, as: dateTime, invalid: {answer}}}")
    program = load(tmp_path, body, contents=contents)
    mapped = run(program, {"KEY": "1", "A": "soon"})
    found = mapped.entries[0].resource
    assert {k: v for k, v in found.items() if k.startswith("value")} == expected
    assert codes(mapped) == flags
    assert all("soon" not in f"{flag.detail}{flag.target}" for flag in mapped.flags)


def test_reject_and_drop(tmp_path: Path, contents: bool) -> None:
    body = patient("name: {each: B, set: {text: A, period: {set: {start: {from: $, invalid: drop}, end: C}}}}",
                   "defaults: {invalid: flag}\n")  # fmt: skip
    mapped = run(
        load(tmp_path, body, contents=contents), {"KEY": "1", "A": "n", "B": ["x", "2024"]}
    )
    assert resources(mapped)[0]["name"] == [
        {"text": "n"},
        {"text": "n", "period": {"start": "2024"}},
    ]
    assert codes(mapped) == ["invalid-value"]
    body = patient("birthDate: {from: A, invalid: reject}")
    program = load(tmp_path, body, contents=contents)
    with pytest.raises(MappingRejected) as refusal:
        run(program, {"KEY": "1", "A": "Dupont"})
    assert "Dupont" not in str(refusal.value)
    assert refusal.value.cause.location == "test.yaml:9:18 Patient.birthDate A(1)"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("{map: {text: none}, reason: a test}", {"text": "none"}),
        ("{absent: unknown}", {"extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}),
        ("{text: B}", {"text": "b"}),
        ("drop", None),
    ],
)  # fmt: skip
def test_a_missing_required_element(
    tmp_path: Path, contents: bool, answer: str, expected: Any
) -> None:
    body = (
        "types: {CodeableConcept: {set: {text: $}}}\nentries:\n  - resource: Observation\n"
        "    id: {key: [KEY], authority: [OWNER]}\n    set:\n"
        f"      status: {{const: final, reason: x}}\n      code: {{from: A, missing: {answer}}}\n"
        "      method: B\n"
    )
    mapped = run(load(tmp_path, body, contents=contents), {"KEY": "1", "B": "b"})
    assert [found["code"] for found in resources(mapped)] == ([expected] if expected else [])
    assert codes(mapped) == ["missing-value"]


@pytest.mark.parametrize(
    ("answer", "expected", "flags"),
    [
        ("flag", None, ["unknown-code"]),
        ("skip", None, []),
        ("keep-and-flag", {"coding": [{"code": "B"}], "text": "B"}, ["unknown-code"]),
        ("{map: {text: other}, reason: x}", {"text": "other"}, ["unknown-code"]),
        ("{absent: unsupported}", {"extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unsupported"}]},
         ["unknown-code"]),
    ],
)  # fmt: skip
def test_an_unknown_code(
    tmp_path: Path, contents: bool, answer: str, expected: Any, flags: list[str]
) -> None:
    body = patient(f"maritalStatus: {{from: A, table: colours, unknown: {answer}}}")
    mapped = run(load(tmp_path, body, contents=contents), {"KEY": "1", "A": "B"})
    assert resources(mapped)[0].get("maritalStatus") == expected
    assert codes(mapped) == flags


def test_rows_of_a_rule_and_translation(tmp_path: Path, contents: bool) -> None:
    body = patient(
        "maritalStatus: {from: A, table: {name: colours, rows: {'++': red}}, unknown: flag}"
    )
    program = load(tmp_path, body, contents=contents)
    found = resources(run(program, {"KEY": "1", "A": "++"}))[0]["maritalStatus"]
    assert found["coding"] == [{"system": "http://example.org/colours", "code": "red"}]
    head = "types: {CodeableConcept: {set: {coding: [{set: {code: $.1, display: $.2}}]}}}\n"
    body = patient(
        "maritalStatus: {from: A, translate: {table: colours, unknown: keep-and-flag}}", head
    )
    program = load(tmp_path, body, contents=contents)
    found = resources(run(program, {"KEY": "1", "A": "G^vert"}))[0]["maritalStatus"]
    assert [coding["code"] for coding in found["coding"]] == ["green", "G"]
    kept = run(program, {"KEY": "1", "A": "Z^?"})
    assert resources(kept)[0]["maritalStatus"] == {"coding": [{"code": "Z", "display": "?"}]}
    assert codes(kept) == ["unknown-code"]


def test_more_values_than_an_element_takes_are_flagged(tmp_path: Path, contents: bool) -> None:
    program = load(tmp_path, patient("name: {set: {text: B}}"), contents=contents)
    mapped = run(program, {"KEY": "1", "B": ["first", "second"]})
    assert resources(mapped)[0]["name"] == [{"text": "first"}]
    assert [(flag.code, flag.source) for flag in mapped.flags] == [("repetition-left-out", "B(2)")]


def test_times_take_the_zone_of_the_source_and_decimals_keep_their_text(
    tmp_path: Path, contents: bool
) -> None:
    body = observation("effectiveDateTime: A\n      valueQuantity: {from: B, as: Quantity, unit: C}",
                       "defaults: {invalid: flag}\n")  # fmt: skip
    program = load(tmp_path, body, contents=contents)
    message = {"KEY": "1", "A": "20240306101500", "B": "1.10", "C": "g"}
    for zone, offset in (("Europe/Paris", "+01:00"), ("Indian/Reunion", "+04:00")):
        mapped = run(program, message, context=MappingContext(zone=zone, source="s"))
        found = mapped.entries[0].resource
        assert found["effectiveDateTime"] == f"2024-03-06T10:15:00{offset}"
        assert found["valueQuantity"] == {"value": "1.10", "unit": "g"}
        assert isinstance(found["valueQuantity"]["value"], DecimalText)
    without = run(program, message, context=MappingContext(source="s"))
    assert without.entries[0].resource["effectiveDateTime"] == "2024-03-06"
    assert codes(without) == ["no-zone"]


def test_a_period_that_ends_before_it_starts_loses_its_end(tmp_path: Path, contents: bool) -> None:
    body = patient(
        "name: {set: {text: C, period: {set: {start: A, end: B}}}}", "defaults: {invalid: flag}\n"
    )
    program = load(tmp_path, body, contents=contents)
    mapped = run(program, {"KEY": "1", "A": "2024", "B": "2023", "C": "x"})
    assert resources(mapped)[0]["name"] == [{"text": "x", "period": {"start": "2024"}}]
    assert codes(mapped) == ["period-reversed"]


def test_constants_are_rebuilt_for_every_resource(tmp_path: Path, contents: bool) -> None:
    body = patient(
        "maritalStatus: {const: {coding: [{code: M}]}, reason: x}\n      name: {set: {text: A}}"
    )
    program = load(tmp_path, body, contents=contents)
    first = run(program, {"KEY": "1", "A": "x"}).entries[0].resource
    first["maritalStatus"]["coding"][0]["code"] = "changed"
    second = run(program, {"KEY": "1", "A": "x"}).entries[0].resource
    assert second["maritalStatus"]["coding"][0]["code"] == "M"


def test_a_primitive_has_a_sibling_for_its_extensions(tmp_path: Path, contents: bool) -> None:
    rule = (
        "birthDate: A\n      _birthDate: {set: {extension: [{set: {url: {const: 'http://x/y'},"
        " valueDateTime: B}}]}}"
    )
    body = patient(rule, "defaults: {invalid: flag}\n")
    assert one(tmp_path, body, {"A": "2024", "B": "202403"}, contents) == {
        "birthDate": "2024",
        "_birthDate": {"extension": [{"url": "http://x/y", "valueDateTime": "2024-03"}]},
    }


def test_what_a_source_says_goes_through_a_pipe() -> None:
    """To the mapping processes: of compiled classes not every one can."""
    said = MappingContext(zone="Europe/Paris", authorities={"LAB": "2.999"}, source="lab")
    assert pickle.loads(pickle.dumps(said)) == said

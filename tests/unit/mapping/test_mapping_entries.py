"""Entries: identifiers, references, nested resources, repetition."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid5

import pytest

from gateway.mapping import MappingContext, MappingRejected
from gateway.mapping.running import NAMESPACE, derived_id
from tests.unit.mapping.pretend import codes, load, run


@pytest.fixture(params=[False, True], ids=["plain", "looking"])
def contents(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def entry(identity: str, more: str = "") -> str:
    return (
        f"entries:\n  - resource: Patient\n    id: {identity}\n{more}"
        "    set: {name: {set: {text: NAME}}}\n"
    )


def ids(folder: Path, identity: str, *messages: dict[str, str], contents: bool) -> list[str]:
    program = load(folder, entry(identity), contents=contents)
    return [
        run(program, {"NAME": "n", **message}).entries[0].resource["id"] for message in messages
    ]


def test_an_id_is_a_uuid_of_version_five() -> None:
    assert derived_id("Patient", "", "x") == str(uuid5(NAMESPACE, "Patient\x1f\x1fx"))
    assert UUID(derived_id("a", "b")).version == 5


def test_the_same_key_gives_the_same_id_whatever_else_is_said(
    tmp_path: Path, contents: bool
) -> None:
    first, second, other = ids(
        tmp_path, "{key: [KEY, A], authority: [OWNER]}",
        {"KEY": "1", "A": "x", "OWNER": "LAB", "B": "before"},
        {"KEY": "1", "A": "x", "OWNER": "LAB", "B": "after"},
        {"KEY": "1", "A": "y", "OWNER": "LAB"}, contents=contents,
    )  # fmt: skip
    assert first == second != other


def test_two_laboratories_may_both_have_a_123(tmp_path: Path, contents: bool) -> None:
    identity = "{key: [KEY], authority: [OWNER]}"
    first, second = ids(
        tmp_path, identity, {"KEY": "123", "OWNER": "LAB1"}, {"KEY": "123", "OWNER": "LAB2"},
        contents=contents,
    )  # fmt: skip
    assert first != second
    program = load(tmp_path, entry(identity), contents=contents)
    message = {"KEY": "123", "OWNER": "LAB", "NAME": "n"}
    by_source = {
        run(program, message, context=MappingContext(source=source)).entries[0].resource["id"]
        for source in ("labo-nord", "labo-sud")
    }
    assert len(by_source) == 2


def test_an_authority_with_an_oid_is_the_same_from_every_source(
    tmp_path: Path, contents: bool
) -> None:
    program = load(tmp_path, entry("{key: [KEY], authority: [OWNER]}"), contents=contents)
    named = {"KEY": "123", "OWNER": "LAB", "NAME": "n"}
    with_oid = {**named, "OWNER": "1.2.250.1.999"}
    found = {
        run(program, message, context=context).entries[0].resource["id"]
        for message, context in (
            (with_oid, MappingContext(source="a")),
            (with_oid, MappingContext(source="b")),
            (named, MappingContext(source="c", authorities={"LAB": "1.2.250.1.999"})),
        )
    }
    assert len(found) == 1


def test_the_first_authority_that_has_a_value_counts(tmp_path: Path, contents: bool) -> None:
    first, second = ids(
        tmp_path, "{key: [KEY], authority: [{from: A, as: UniversalUri}, OWNER]}",
        {"KEY": "1", "A": "local", "OWNER": "LAB"}, {"KEY": "1", "OWNER": "LAB"}, contents=contents,
    )  # fmt: skip
    assert first == second


def test_without_a_key_the_message_is_refused_or_the_id_is_weak(
    tmp_path: Path, contents: bool
) -> None:
    program = load(tmp_path, entry("{key: [KEY], authority: [OWNER]}"), contents=contents)
    with pytest.raises(MappingRejected):
        run(program, {"NAME": "n"})
    identity = "{key: [KEY], authority: [OWNER], otherwise: [B]}"
    program = load(tmp_path, entry(identity), contents=contents)
    mapped = run(program, {"NAME": "n", "B": "control"})
    assert codes(mapped) == ["weak-identity"]
    with pytest.raises(MappingRejected):
        run(program, {"NAME": "n"})


def test_the_first_way_that_has_a_key_is_taken(tmp_path: Path, contents: bool) -> None:
    identity = "[{key: [A], authority: worldwide}, {key: [KEY], authority: [OWNER]}]"
    by_a, by_key = ids(
        tmp_path, identity, {"A": "1.2.3", "KEY": "9"}, {"KEY": "9"}, contents=contents
    )
    assert by_a == derived_id("Patient", "", "1.2.3")
    assert by_key == derived_id("Patient", "source:test", "9")


REPEATED = """\
entries:
  - resource: Patient
    each: {group: G}
    id: {key: [KEY], authority: worldwide, repeated: REPEATED}
    set: {name: {set: {text: NAME}}}
"""


def test_a_second_entry_of_a_key_is_a_fact_of_its_own(tmp_path: Path, contents: bool) -> None:
    program = load(tmp_path, REPEATED.replace("REPEATED", "number"), contents=contents)
    group = [{"KEY": "1", "NAME": "a"}, {"KEY": "1", "NAME": "b"}, {"KEY": "1", "NAME": "b"}]
    mapped = run(program, {"G": group})
    assert [found.resource["name"][0]["text"] for found in mapped.entries] == ["a", "b"]
    assert len({found.resource["id"] for found in mapped.entries}) == 2
    assert codes(mapped) == ["repeated-key", "repeated-entry"]
    alone = run(program, {"G": group[:1]})
    assert alone.entries[0].resource["id"] == mapped.entries[0].resource["id"]


def test_a_second_entry_of_a_key_is_the_same_thing(tmp_path: Path, contents: bool) -> None:
    program = load(tmp_path, REPEATED.replace("REPEATED", "same"), contents=contents)
    group = [{"KEY": "1", "NAME": "a"}, {"KEY": "1", "NAME": "a"}, {"KEY": "1", "NAME": "b"}]
    mapped = run(program, {"G": group})
    assert [found.resource["name"][0]["text"] for found in mapped.entries] == ["a"]
    assert codes(mapped) == ["conflicting-repeat"]


NESTED = """\
entries:
  - resource: DiagnosticReport
    each: {group: G}
    id: {key: [KEY], authority: worldwide}
    set:
      status: {const: final, reason: x}
      code: {const: {text: x}, reason: x}
      subject: {ref: Patient}
      result:
        each: {group: H}
        resource: Observation
        id: {key: [KEY, C], authority: worldwide}
        set:
          status: {const: final, reason: x}
          code: {set: {text: C}, missing: drop}
          subject: {ref: Patient}
          specimen: {ref: Specimen}
      specimen:
        resource: Specimen
        when: "D exists"
        id: {key: [D], authority: worldwide}
        set: {type: {set: {text: D}}}
    also:
      - resource: Media
        when: "E exists"
        id: {key: [E], authority: worldwide}
        set:
          status: {const: completed, reason: x}
          basedOn: []
          content: {set: {title: E}, missing: drop}
          subject: {ref: [Specimen, Patient]}
  - resource: Patient
    create_only: true
    id: {key: [A], authority: worldwide}
    set: {name: {set: {text: A}}}
""".replace("          basedOn: []\n", "")


def test_references_go_to_the_nearest_entry_of_the_name(tmp_path: Path, contents: bool) -> None:
    program = load(tmp_path, NESTED, contents=contents)
    message = {
        "A": "pat",
        "G": [
            {"KEY": "r1", "D": "blood", "E": "m", "H": [{"C": "x"}, {"C": "y"}]},
            {"KEY": "r2", "H": [{"C": "x"}, {"C": ""}]},
        ],
    }
    entries = run(program, message).entries
    by_type: dict[str, list[dict]] = {}
    for found in entries:
        by_type.setdefault(found.resource["resourceType"], []).append(found.resource)
    assert [
        len(by_type[kind])
        for kind in ("Patient", "DiagnosticReport", "Observation", "Specimen", "Media")
    ] == [1, 2, 3, 1, 1]
    patient = f"Patient/{by_type['Patient'][0]['id']}"
    specimen = f"Specimen/{by_type['Specimen'][0]['id']}"
    first, second, third = by_type["Observation"]
    assert first["specimen"] == second["specimen"] == {"reference": specimen}
    assert "specimen" not in third
    assert all(found["subject"]["reference"] == patient for found in by_type["Observation"])
    reports = by_type["DiagnosticReport"]
    assert [len(report["result"]) for report in reports] == [2, 1]
    assert reports[0]["specimen"] == [{"reference": specimen}]
    assert by_type["Media"][0]["subject"] == {"reference": specimen}
    assert [found.create_only for found in entries].count(True) == 1
    assert entries[0].reference == patient, "what is referred to comes first"


def test_the_index_of_a_program(tmp_path: Path) -> None:
    program = load(tmp_path, entry("{key: [KEY], authority: worldwide}"))
    assert (program.name, program.version) == ("test", "1.0.0")
    assert program.file == str(tmp_path / "test.yaml")
    mapped = run(program, {"KEY": "1", "NAME": "n"})
    assert (mapped.mapping, mapped.version, mapped.digest) == ("test", "1.0.0", program.digest)


def test_an_entry_of_another_message_is_named_by_its_keys(tmp_path: Path) -> None:
    body = (
        "entries:\n  - resource: Patient\n    id: {key: [KEY], authority: [OWNER]}\n"
        "    set:\n      name: {set: {text: NAME}}\n"
        "      link:\n"
        "        - set:\n"
        '            type: {const: seealso, reason: "a test"}\n'
        "            other: {set: {reference: {refer: Patient, id: {key: [A], authority: [OWNER]}}},"
        " missing: drop}\n"
    )
    program = load(tmp_path, body)
    message = {"KEY": "1", "OWNER": "LAB", "NAME": "n"}
    [named] = run(program, {**message, "A": "2"}).entries
    [other] = run(program, {**message, "KEY": "2"}).entries
    assert named.resource["link"][0]["other"] == {"reference": other.reference}
    assert "link" not in other.resource, "without a key nothing is named"

"""Bytes to entries: every way it can end, and documents inside messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.mapping.serialise import DecimalText as FromMapping
from gateway.model import CauseCode, Format, Payload, Stage
from gateway.normalise import EMBEDDED_DEPTH_MAX, Normaliser, Original, Reading, Unusable
from gateway.serialise import DecimalText
from gateway.subjects import Subjects
from tests.integration.pipeline.rig import (
    LABORATORY,
    ToyLibrary,
    ToyReader,
    local,
    national,
)


def normaliser() -> Normaliser:
    readers = {each: ToyReader(each) for each in (Format.HL7V2, Format.CDA)}
    return Normaliser(readers=readers, library=ToyLibrary())  # type: ignore[arg-type]


def original(content: Any, form: Format = Format.HL7V2) -> Original:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Original(source="lab", format=form, payloads=[Payload.from_bytes(data)])


def read(content: Any) -> Reading:
    found = normaliser().normalise(original(content))
    assert isinstance(found, Reading), found
    return found


def unusable(content: Any, form: Format = Format.HL7V2) -> Unusable:
    found = normaliser().normalise(original(content, form))
    assert isinstance(found, Unusable)
    return found


WHO = {"patient": [local(1)]}


def test_there_is_one_kind_of_decimal() -> None:
    assert FromMapping is DecimalText


def test_the_same_bytes_give_the_same_entries() -> None:
    content = {**WHO, "facts": ["a", "b"], "feeding": "permit"}
    assert read(content) == read(content)
    assert [entry.resource["resourceType"] for entry in read(content).mapped.entries] == [
        "Patient", "Observation", "Observation", "Consent",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "code", "location"),
    [
        (b"no json", CauseCode.UNREADABLE, "MSH-1"),
        ({**WHO, "kind": "unknown"}, CauseCode.UNMAPPED, ""),
        ({**WHO, "rejected": True}, CauseCode.MAPPING_FAILED, "toy:1:1"),
        (
            {**WHO, "facts": ["a"], "broken": True},
            CauseCode.INVALID_ENTRY,
            "[1].Observation.status",
        ),
    ],
)
def test_each_failure_has_its_cause(content: Any, code: CauseCode, location: str) -> None:
    found = unusable(content)
    assert (found.cause.code, found.cause.location) == (code, location)
    assert found.stage is Stage.NORMALISE


def test_a_format_without_a_reader_is_unmapped() -> None:
    assert unusable(WHO, Format.DICOM).cause.code is CauseCode.UNMAPPED


def test_a_fault_of_the_program_is_internal_and_quotes_nothing() -> None:
    found = unusable({"patient": [["urn:oid:1.2", "SECRET"]]})
    assert found.cause.code is CauseCode.INTERNAL
    assert found.cause.detail == "ValueError"
    assert "SECRET" not in found.cause.location
    assert ":" in found.cause.location


# --- documents inside ------------------------------------------------------------------


def test_a_document_inside_is_read_by_its_own_format_and_is_the_same_patients() -> None:
    inside = {"patient": [national(1), local(1)], "facts": ["inner"]}
    found = read({**WHO, "facts": ["outer"], "inside": [inside]})
    entries = found.mapped.entries
    assert [e.resource["resourceType"] for e in entries] == [
        "Patient", "Observation", "Observation",
    ]  # fmt: skip
    assert len({e.resource["subject"]["reference"] for e in entries[1:]}) == 1
    assert entries[1].resource["subject"]["reference"] == entries[0].reference
    # The message names a local number, the document adds the INS: both are his.
    assert isinstance(found.subjects, Subjects)
    assert [i.value for i in found.subjects.subject.national] == [national(1)[1]]
    assert [i.value for i in found.subjects.subject.local] == ["L1"]
    assert found.mapped.mapping == "toy+toy"
    assert not found.mapped.embedded


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ([national(1)], [national(2)]),
        ([local(1)], [local(2)]),
        ([local(1), local(9, LABORATORY)], [national(1), local(2)]),
    ],
)
def test_a_document_about_somebody_else_is_a_conflict(outer: Any, inner: Any) -> None:
    found = unusable({"patient": outer, "inside": [{"patient": inner}]})
    assert found.cause.code is CauseCode.IDENTITY_CONFLICT
    assert found.cause.location == "OBX(1)-5"
    assert found.stage is Stage.IDENTIFY


def test_an_equal_ins_settles_other_differences() -> None:
    found = read(
        {"patient": [national(1), local(1)], "inside": [{"patient": [national(1), local(2)]}]}
    )
    assert isinstance(found.subjects, Subjects)
    assert {each.value for each in found.subjects.subject.local} == {"L1", "L2"}


def test_a_failure_inside_says_where() -> None:
    found = unusable({**WHO, "inside": [{**WHO, "rejected": True}]})
    assert found.cause.code is CauseCode.MAPPING_FAILED
    assert found.cause.location == "OBX(1)-5 toy:1:1"


def test_nesting_has_a_limit() -> None:
    content: dict[str, Any] = dict(WHO)
    for _ in range(EMBEDDED_DEPTH_MAX):
        content = {**WHO, "inside": [content]}
    assert read(content).mapped.mapping.count("+") == EMBEDDED_DEPTH_MAX
    found = unusable({**WHO, "inside": [content]})
    assert found.cause.code is CauseCode.HOSTILE_CONTENT

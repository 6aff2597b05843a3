"""Where a value comes from, and why another is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.formats import encoders
from gateway.mapping import observing
from gateway.mapping.document import Table, Text, read_list
from gateway.mapping.findings import Findings
from gateway.model import Cause, Format, Payload
from gateway.workbench.absence import why_absent
from gateway.workbench.elements import NoTarget, entry_and_path
from gateway.workbench.examining import examine
from gateway.workbench.explaining import explain_target
from gateway.workbench.files import NoMessage, messages_of_files
from gateway.workbench.provenance import Explained, Origin, Provenance
from tests.unit.workbench.bench import CONTEXT, ORU, bench, examined

CORPORA = Path(__file__).parents[3].parent / "shared" / "corpora"


def the(target: str, message: str = ORU) -> Explained:
    [found] = explain_target(examined(message), target)
    return found


def test_a_value_says_rule_source_steps_and_row() -> None:
    gender = the("Patient.gender")
    assert (gender.value, gender.origin) == ("female", Origin.TABLE)
    assert gender.row is not None
    assert (gender.row.table, gender.row.code, gender.row.to) == ("hl7/0001", "F", "female")
    assert gender.row.place.startswith("terminology/hl7/0001.yaml:")
    assert [(each.path, each.text) for each in gender.sources] == [("PID-8.1", "F")]
    assert gender.rule.startswith("hl7/patient.yaml:")


def test_a_quantity_says_where_number_and_unit_come_from() -> None:
    value = the("Observation[0].valueQuantity.value")
    assert [each.path for each in value.sources] == ["OBX(1)-5"]
    assert "Quantity" in value.steps
    unit = the("Observation[0].valueQuantity.code")
    assert unit.value == "mmol/L"


def test_a_policy_a_constant_a_reference_and_an_identifier_say_what_they_are() -> None:
    text = the("Observation[1].valueString")
    assert (text.origin, text.value) == (Origin.POLICY, "trop")
    assert the("Observation[0].resourceType").origin is Origin.RESOURCE
    identifier = the("Patient.id")
    assert identifier.origin is Origin.IDENTIFIER
    assert "PID-3(1).1" in {each.path for each in identifier.sources}
    subject = the("Observation[0].subject.reference")
    assert (subject.origin, subject.steps) == (Origin.REFERENCE, ("reference to Patient",))
    constants = [e for e in explain_target(examined(ORU)) if e.origin is Origin.CONSTANT]
    assert constants
    assert all(each.reason for each in constants)


def test_a_part_of_an_entry_explains_all_its_values() -> None:
    found = explain_target(examined(ORU), "Patient.name[0]")
    assert {each.value for each in found} >= {"TESTARD", "Zoé", "Marie"}
    assert explain_target(examined(ORU), "Patient.photo") == []


def given_messages() -> list[tuple[Format, bytes]]:
    """The text messages of every shipped test."""
    found = []
    for path in bench().library.twins:
        for node in read_list(path, path.name, Findings()):
            given = node.get("given") if isinstance(node, Table) else None
            if not isinstance(given, Text):
                continue
            for form in Format:
                if form.value.removesuffix("v2") in path.parts:
                    text = given.text.replace("\n", "\r") if form is Format.HL7V2 else given.text
                    encode = encoders().get(form)
                    data = [p.read() for p in encode(text)] if encode else [text.encode()]
                    found.append((form, data[0]))
    return found


def test_every_value_of_every_shipped_test_is_explained() -> None:
    counted = 0
    for form, data in given_messages():
        try:
            found = examine(bench(), form, [Payload.from_bytes(data)], CONTEXT)
        except ValueError:
            continue
        if isinstance(found, Cause):
            continue
        for resource, steps, value, explained in Provenance(found).everything():
            assert explained is not None, (form, resource["resourceType"], steps, value)
            assert explained.rule
            assert explained.sources or explained.origin not in (Origin.SOURCE,), explained.target
            assert explained.reason or explained.origin is not Origin.CONSTANT, explained.target
            counted += 1
    assert counted > 1000


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not beside the project")
def test_every_value_of_documents_inside_messages_is_explained() -> None:
    folder = CORPORA / "hl7v2" / "ansforge__hl7V2-exemples"
    counted = 0
    for message in messages_of_files([folder]):
        if isinstance(message, NoMessage):
            continue
        found = examine(bench(), message.format, message.payloads, CONTEXT)
        if isinstance(found, Cause) or len(found.parts) < 2:
            continue
        for resource, steps, value, explained in Provenance(found).everything():
            assert explained is not None, (message.name, resource["resourceType"], steps, value)
        counted += 1
        if counted == 6:
            break
    assert counted


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("Patient.deceasedBoolean", "PID-30"),
        ("Patient.photo", "no rule gives photo"),
        ("Encounter", ""),
        ("NutritionOrder", "came to no entry that makes a NutritionOrder"),
        ("Observation[1].referenceRange", "OBX-7 is empty"),
        ("Observation[1].valueQuantity", "policy"),
        ("Patient.address", "PID-11"),
    ],
)
def test_why_a_value_is_absent(target: str, reason: str) -> None:
    found = why_absent(examined(ORU), target)
    assert not found.there
    assert found.tried
    said = "\n".join(each for tried in found.tried for each in tried.reasons)
    assert reason in said, said


def test_what_is_there_is_not_absent() -> None:
    assert why_absent(examined(ORU), "Patient.gender").there
    assert why_absent(examined(ORU), "Patient").there


def test_a_missing_segment_is_told() -> None:
    message = "\r".join(line for line in ORU.split("\r") if not line.startswith("OBX|2"))
    found = why_absent(examined(message), "Observation[0].note")
    said = " ".join(each for tried in found.tried for each in tried.reasons)
    assert "NTE" in said, said


@pytest.mark.parametrize(
    "target", ["", "observation.value", "Patient..x", "Patient.a b", "Patient[x]"]
)
def test_what_is_no_target_is_said(target: str) -> None:
    with pytest.raises(NoTarget):
        entry_and_path(target)


def test_a_message_with_too_much_to_watch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "EVENTS_MAX", 10)
    found = examine(bench(), Format.HL7V2, [Payload.from_bytes(ORU.encode())], CONTEXT)
    assert isinstance(found, Cause)
    assert "too large to be watched" in found.detail
    plain = examine(bench(), Format.HL7V2, [Payload.from_bytes(ORU.encode())], CONTEXT, trace=False)
    assert not isinstance(plain, Cause)

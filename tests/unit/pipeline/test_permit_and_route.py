"""Statements of a permission; routes and their keys."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.journal.values import Feeding, RecordStatus
from gateway.model import Cause, CauseCode, Entry
from gateway.permit import Statement, denial, read_statement
from gateway.route import (
    DestinationRule,
    Routed,
    delivery_lane,
    inbound_lane,
    lane_destination,
    lane_source,
    route,
)
from gateway.serialise import DecimalText
from gateway.written import name, write


def consent(code: str, verdict: str, system: str = "urn:ecluse:permission") -> Entry:
    return Entry(
        resource={
            "resourceType": "Consent",
            "id": f"{code}-{verdict}",
            "category": [{"coding": [{"system": system, "code": code}]}],
            "provision": {"type": verdict},
        }
    )


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], Statement()),
        ([consent("feeding", "deny")], Statement(feeding=Feeding.OPPOSED)),
        ([consent("feeding", "permit")], Statement(feeding=Feeding.PERMITTED)),
        ([consent("record", "deny")], Statement(record=RecordStatus.CLOSED)),
        (
            [consent("record", "permit"), consent("feeding", "deny")],
            Statement(record=RecordStatus.OPEN, feeding=Feeding.OPPOSED),
        ),
        # A message that says both: the patient's denial counts.
        (
            [consent("feeding", "permit"), consent("feeding", "deny")],
            Statement(feeding=Feeding.OPPOSED),
        ),
        ([consent("feeding", "deny", system="urn:other")], Statement()),
        ([consent("research", "deny")], Statement()),
        ([consent("feeding", "")], Statement()),
    ],
)
def test_what_a_message_says(entries: list[Entry], expected: Statement) -> None:
    assert read_statement(entries) == expected
    assert bool(expected) is (expected != Statement())


@pytest.mark.parametrize(
    ("feeding", "record", "expected"),
    [
        (Feeding.UNKNOWN, RecordStatus.UNKNOWN, None),
        (Feeding.PERMITTED, RecordStatus.OPEN, None),
        (Feeding.OPPOSED, RecordStatus.OPEN, CauseCode.FEEDING_OPPOSED),
        (Feeding.PERMITTED, RecordStatus.CLOSED, CauseCode.RECORD_CLOSED),
        (Feeding.OPPOSED, RecordStatus.CLOSED, CauseCode.RECORD_CLOSED),
    ],
)
def test_only_a_stated_denial_denies(
    feeding: Feeding, record: RecordStatus, expected: CauseCode | None
) -> None:
    found = denial(feeding, record)
    assert (found.code if found else None) is expected


# --- routes --------------------------------------------------------------------------


def observation(value: Any = "1", **more: Any) -> Entry:
    return Entry(resource={"resourceType": "Observation", "id": "o", "value": value, **more})


def digest_of(entries: list[Entry]) -> str:
    return name(write(entries), {}).digest


def routed(entries: list[Entry], **changes: Any) -> tuple[Routed, ...]:
    given = {
        "patient_id": "p",
        "source": "lab",
        "sequence": 7,
        "rules": [DestinationRule(destination="record"), DestinationRule(destination="fhir")],
        **changes,
    }
    found = route(digest_of(entries), **given)
    assert not isinstance(found, Cause)
    return found


def test_every_destination_has_its_lane_and_its_key() -> None:
    record, fhir = routed([observation()])
    assert (record.lane, fhir.lane) == ("p@record", "p@fhir")
    assert record.idempotency_key != fhir.idempotency_key
    assert len(record.idempotency_key) == 64


def test_the_key_is_the_same_for_the_same_facts_and_only_for_them() -> None:
    key = routed([observation()])[0].idempotency_key
    assert routed([observation()])[0].idempotency_key == key
    assert (
        routed([Entry(resource={"value": "1", "id": "o", "resourceType": "Observation"})])[
            0
        ].idempotency_key
        == key
    )
    assert routed([observation("2")])[0].idempotency_key != key
    assert routed([observation()], sequence=8)[0].idempotency_key != key


def test_a_digest_tells_decimals_and_marks_apart() -> None:
    digests = {
        digest_of([observation(DecimalText("1.1"))]),
        digest_of([observation(DecimalText("1.10"))]),
        digest_of([observation("1.1")]),
        digest_of([Entry(resource=observation("1.1").resource, create_only=True)]),
        digest_of([observation("1.1"), observation("1.1")]),
    }
    assert len(digests) == 5


def test_a_rule_takes_the_sources_that_it_names() -> None:
    rules = [
        DestinationRule(destination="record"),
        DestinationRule(destination="pacs", sources=frozenset({"ct"})),
    ]
    assert [each.destination for each in routed([observation()], rules=rules)] == ["record"]
    both = routed([observation()], rules=rules, source="ct")
    assert [each.destination for each in both] == ["record", "pacs"]


def test_nowhere_to_go_is_a_cause() -> None:
    found = route(digest_of([observation()]), patient_id="p", source="lab", sequence=1, rules=[])
    assert isinstance(found, Cause)
    assert found.code is CauseCode.NO_DESTINATION


def test_lane_names_can_be_read_back() -> None:
    assert lane_source(inbound_lane("lab@home")) == "lab@home"
    assert lane_source(delivery_lane("p", "record")) is None
    assert lane_destination(delivery_lane("p", "record")) == "record"
    for wrong in ("in:lab@home", "nowhere"):
        with pytest.raises(ValueError, match="not a delivery lane"):
            lane_destination(wrong)

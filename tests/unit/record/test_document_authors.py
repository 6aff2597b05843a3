"""Who may replace and delete a document: the author's organisation, as the CI-SIS has it (901)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.mapping import serialise
from gateway.model import CauseCode, Delivery, Entry, Refused
from record.destination import RecordDestination
from record.faults import AuthorRefused
from record.feeding import Put
from record.store import Record
from tests.unit.record.making import MemoryBlobs, Ticking, document, patient, put

HOSPITAL, LABORATORY, DOCTOR = "1690000001", "1690000002", "801234567866"


def organization(number: str) -> dict[str, Any]:
    return {
        "type": "Organization",
        "identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": number},
    }


def sent_by(number: str, person: str = "", role: str = "SB") -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"url": "role", "valueCode": role}]
    if person:
        who = {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": person}
        parts.append({"url": "person", "valueReference": {"identifier": who}})
    if number:
        parts.append({"url": "organization", "valueReference": organization(number)})
    return {"url": "urn:ecluse:participation", "extension": parts}


def first(**more: Any) -> Entry:
    return document("one", "p", author=[organization(HOSPITAL)], **more)


def deletion(*senders: dict[str, Any]) -> Entry:
    return document(
        "one", "p", status="entered-in-error", author=[organization(HOSPITAL)],
        extension=list(senders),
    )  # fmt: skip


def replacement(*senders: dict[str, Any], by: str = HOSPITAL) -> Entry:
    return document(
        "two", "p", author=[organization(by)], extension=list(senders),
        relatesTo=[{"code": "replaces", "target": {"reference": "DocumentReference/one"}}],
    )  # fmt: skip


def status(record: Record, connection: Connection) -> str:
    found = record.read(connection, "DocumentReference", "one")
    assert found is not None
    return str(found.resource["status"])


@pytest.mark.parametrize(
    ("original", "request_", "after"),
    [
        (first(), deletion(sent_by(HOSPITAL)), "entered-in-error"),
        (first(), deletion(), "entered-in-error"),  # in nobody's name
        (first(), deletion(sent_by("", "")), "entered-in-error"),  # a sender without a number
        (first(), deletion(sent_by(LABORATORY, role="RCT")), "entered-in-error"),
        (first(), replacement(sent_by(HOSPITAL)), "superseded"),
        # The first one's sender counts as well as its author.
        (first(extension=[sent_by(LABORATORY, DOCTOR)]), deletion(sent_by("", DOCTOR)),
         "entered-in-error"),
        (first(extension=[sent_by(LABORATORY)]), replacement(sent_by(LABORATORY)), "superseded"),
        (first(custodian=organization(LABORATORY)), deletion(sent_by(LABORATORY)),
         "entered-in-error"),
        # An original that names nobody.
        (document("one", "p"), replacement(sent_by(LABORATORY)), "superseded"),
    ],
)  # fmt: skip
def test_who_may(
    record: Record, connection: Connection, original: Entry, request_: Entry, after: str
) -> None:
    put(record, connection, "p", patient("p"), original, at=1, message=1)
    put(record, connection, "p", request_, at=2, message=2)
    assert status(record, connection) == after


@pytest.mark.parametrize(
    "wrong",
    [
        deletion(sent_by(LABORATORY)),
        deletion(sent_by(LABORATORY, DOCTOR)),
        # What the new document says of its author does not make its sender one.
        replacement(sent_by(LABORATORY)),
        replacement(sent_by(LABORATORY), by=LABORATORY),
    ],
)
def test_who_may_not(record: Record, connection: Connection, wrong: Entry) -> None:
    put(record, connection, "p", patient("p"), first(), at=1, message=1)
    asked = Delivery(
        id=2, message_id=2, lane="p@record", patient_id="p", destination="record", sequence=2,
        idempotency_key="k", attempts=0, entries=(wrong,), mapping="m", source="s",
    )  # fmt: skip
    outcome = RecordDestination(record).deliver(asked, connection)
    assert isinstance(outcome, Refused)
    assert outcome.cause.code is CauseCode.DESTINATION_REFUSED
    assert (outcome.cause.protocol_code, outcome.cause.location) == ("901", "PRT-8")
    assert LABORATORY not in repr(outcome)
    assert status(record, connection) == "current"
    assert record.read(connection, "DocumentReference", "two") is None


def test_a_batch_that_brings_both(record: Record, connection: Connection) -> None:
    def puts(number: str) -> list[Put]:
        return [
            Put(patient_id="p", message_id=at, sequence=at, source="s", mapping="m", entries=given)
            for at, given in ((1, (patient("p"), first())), (2, (deletion(sent_by(number)),)))
        ]

    with pytest.raises(AuthorRefused):
        record.put_all(connection, puts(LABORATORY))
    record.put_all(connection, puts(HOSPITAL))
    assert status(record, connection) == "entered-in-error"


def test_the_site_may_have_it_otherwise(connection: Connection, blobs: MemoryBlobs) -> None:
    anybody = Record(blobs, Ticking(), serialise, same_author=False)
    put(anybody, connection, "p", patient("p"), first(), at=1, message=1)
    put(anybody, connection, "p", deletion(sent_by(LABORATORY)), at=2, message=2)
    assert status(anybody, connection) == "entered-in-error"

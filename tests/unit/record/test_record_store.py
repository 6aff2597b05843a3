"""The record: versions, order, idempotence, documents, merges; on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from gateway.mapping.serialise import dumps
from gateway.model import Entry
from record.faults import BytesMissing, EntryRefused
from record.feeding import PutResult
from record.store import Record
from record.tables import record_entry_version
from record.withdrawing import mark
from tests.unit.record.making import (
    MemoryBlobs,
    clinical,
    document,
    observation,
    organization,
    patient,
    provisional,
    put,
    replacing,
)


def value(record: Record, connection: Connection, identifier: str = "hb") -> str:
    found = record.read(connection, "Observation", identifier)
    assert found is not None
    return str(found.resource["valueQuantity"]["value"])


def versions(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(record_entry_version)).scalar_one()


# --- versions --------------------------------------------------------------------------


def test_an_entry_is_read_as_it_was_put(record: Record, connection: Connection) -> None:
    entry = observation("hb", "p", "7.10")
    before = dumps(entry.resource)
    result = put(record, connection, "p", entry, at=5, message=77)
    assert clinical(result.created) == ["Observation/hb"]
    assert dumps(entry.resource) == before  # what was given is not touched
    found = record.read(connection, "Observation", "hb")
    assert found is not None
    meta = found.resource.pop("meta")
    assert meta == {
        "versionId": "1",
        "lastUpdated": "2024-03-01T08:00:01.000Z",
        "source": "urn:ecluse:source:lab#77",
    }
    assert dumps(found.resource) == before
    assert b'"value":7.10' in dumps(found.resource)
    assert (found.patient_id, found.version, found.versions) == ("p", 1, 1)
    assert (found.message_id, found.sequence, found.mapping) == (77, 5, "hl7.oru@1")
    assert record.read(connection, "Observation", "other") is None


def test_a_correction_is_a_version_and_the_old_one_stays(
    record: Record, connection: Connection
) -> None:
    put(record, connection, "p", observation("hb", "p", "7.10"), at=1)
    result = put(record, connection, "p", observation("hb", "p", "7.1"), at=2)
    assert clinical(result.updated) == ["Observation/hb"]
    assert value(record, connection) == "7.1"
    old = record.version(connection, "Observation", "hb", 1)
    assert old is not None
    assert old.resource["valueQuantity"]["value"] == "7.10"
    assert not old.current
    assert [one.version for one in record.history(connection, "Observation", "hb")] == [2, 1]
    assert record.version(connection, "Observation", "hb", 3) is None


def test_a_replay_makes_nothing(record: Record, connection: Connection) -> None:
    entries = [patient("p"), observation("hb", "p"), organization()]
    put(record, connection, "p", *entries, at=1)
    before = versions(connection)
    result = put(record, connection, "p", *entries, at=1)
    assert not result.changed
    assert versions(connection) == before
    assert len(result.unchanged) == 4


def test_the_order_of_keys_is_no_change(record: Record, connection: Connection) -> None:
    entry = observation("hb", "p")
    put(record, connection, "p", entry, at=1)
    turned = Entry(resource=dict(reversed(entry.resource.items())))
    turned.resource["meta"] = {"versionId": "9", "lastUpdated": "2020-01-01T00:00:00Z"}
    assert clinical(put(record, connection, "p", turned, at=2).updated) == []


def test_an_earlier_message_that_comes_late_stays_behind(
    record: Record, connection: Connection
) -> None:
    put(record, connection, "p", observation("hb", "p", "2.0"), at=20)
    result = put(record, connection, "p", observation("hb", "p", "1.0"), at=10)
    assert clinical(result.late) == ["Observation/hb"]
    assert value(record, connection) == "2.0"
    history = record.history(connection, "Observation", "hb")
    assert [(one.version, one.current) for one in history] == [(1, True), (2, False)]
    again = put(record, connection, "p", observation("hb", "p", "1.0"), at=10)
    assert not again.changed


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_a_history_page_by_page_is_whole_whatever_is_current(
    record: Record, connection: Connection, count: int
) -> None:
    for at in (1, 2, 20, 3, 4, 5):
        put(record, connection, "p", observation("hb", "p", f"{at}.0"), at=at)
    pages, token, made = [], "", 0
    while True:
        page = record.history_page(connection, "Observation", "hb", count=count, page=token)
        assert page.total == 6 + made
        pages.append([one.version for one in page.entries])
        if not (token := page.next):
            break
        made += 1
        put(record, connection, "p", observation("hb", "p", f"2{made}.0"), at=20 + made)
    assert [number for page in pages for number in page] == [3, 6, 5, 4, 2, 1]
    assert all(len(page) == count for page in pages[:-1])


def test_a_value_that_comes_back_is_current_again(record: Record, connection: Connection) -> None:
    for at, text in ((1, "1.0"), (2, "2.0"), (3, "1.0")):
        put(record, connection, "p", observation("hb", "p", text), at=at)
    assert value(record, connection) == "1.0"
    # Said again at 3, so that what was said at 2 stays behind even when it comes again.
    put(record, connection, "p", observation("hb", "p", "2.0"), at=2)
    assert value(record, connection) == "1.0"


def test_the_same_content_confirmed_holds_from_then_on(
    record: Record, connection: Connection
) -> None:
    put(record, connection, "p", observation("hb", "p", "1.0"), at=1)
    put(record, connection, "p", observation("hb", "p", "1.0"), at=9)
    put(record, connection, "p", observation("hb", "p", "5.0"), at=5)
    assert value(record, connection) == "1.0"


def test_a_message_mapped_anew_replaces_what_it_said(
    record: Record, connection: Connection
) -> None:
    put(record, connection, "p", observation("hb", "p", "1.0"), at=1, mapping="m@1")
    result = put(record, connection, "p", observation("hb", "p", "1.00"), at=1, mapping="m@2")
    assert clinical(result.updated) == ["Observation/hb"]
    put(record, connection, "p", observation("hb", "p", "1.0"), at=1, mapping="m@1")
    assert value(record, connection) == "1.00"


# --- create only -----------------------------------------------------------------------


def test_create_only_yields_to_authority_in_any_order(
    record: Record, connection: Connection
) -> None:
    put(record, connection, "a", provisional(patient("a", "Labo")), at=9)
    put(record, connection, "a", patient("a", "Adt"), at=2)
    put(record, connection, "b", patient("b", "Adt"), at=2)
    put(record, connection, "b", provisional(patient("b", "Labo")), at=9)
    for one in ("a", "b"):
        found = record.read(connection, "Patient", one)
        assert found is not None
        assert found.resource["name"][0]["family"] == "Adt"
    assert len(record.history(connection, "Patient", "b")) == 1


def test_of_two_create_only_the_earliest_message_stands(
    record: Record, connection: Connection
) -> None:
    put(record, connection, "p", provisional(patient("p", "Second")), at=2)
    put(record, connection, "p", provisional(patient("p", "Third")), at=3)
    put(record, connection, "p", provisional(patient("p", "First")), at=1)
    found = record.read(connection, "Patient", "p")
    assert found is not None
    assert found.resource["name"][0]["family"] == "First"
    assert found.versions == 2


def test_a_create_only_entry_mapped_anew_is_corrected(
    record: Record, connection: Connection
) -> None:
    for name in ("Wrong", "Right", "Wrong"):
        put(record, connection, "p", provisional(patient("p", name)), at=1)
    found = record.read(connection, "Patient", "p")
    assert found is not None
    assert found.resource["name"][0]["family"] == "Right"


# --- documents -----------------------------------------------------------------------------


def status(record: Record, connection: Connection, identifier: str) -> str:
    found = record.read(connection, "DocumentReference", identifier)
    assert found is not None
    return str(found.resource["status"])


def test_a_replaced_document_is_superseded(record: Record, connection: Connection) -> None:
    put(record, connection, "p", document("old", "p"), at=1)
    result = put(record, connection, "p", replacing("new", "p", "old"), at=2)
    assert result.derived == ("DocumentReference/old",)
    assert status(record, connection, "old") == "superseded"
    assert status(record, connection, "new") == "current"
    history = record.history(connection, "DocumentReference", "old")
    assert [(one.version, one.derived) for one in history] == [(2, True), (1, False)]
    assert (history[0].message_id, history[0].sequence) == (2, 1)
    assert not put(record, connection, "p", document("old", "p"), at=1).changed
    found = record.search(connection, "DocumentReference", [("status", "superseded")])
    assert [one.id for one in found.entries] == ["old"]


def test_the_replacement_may_come_first(record: Record, connection: Connection) -> None:
    put(record, connection, "p", replacing("new", "p", "old"), at=2)
    put(record, connection, "p", document("old", "p"), at=1)
    assert status(record, connection, "old") == "superseded"
    # A later word on the old one does not bring it back, but an error does show.
    put(record, connection, "p", document("old", "p", description="x"), at=3)
    assert status(record, connection, "old") == "superseded"
    put(record, connection, "p", document("old", "p"), at=4)
    error = document("old", "p", description="y")
    error.resource["status"] = "entered-in-error"
    put(record, connection, "p", error, at=5)
    assert status(record, connection, "old") == "entered-in-error"


def test_deleting_a_replacement_leaves_the_document_replaced(
    record: Record, connection: Connection
) -> None:
    """As the national record does: deleting sets the status of one document alone."""
    put(record, connection, "p", document("old", "p"), at=1)
    put(record, connection, "p", replacing("new", "p", "old"), at=2)
    wrong = replacing("new", "p", "old")
    wrong.resource["status"] = "entered-in-error"
    put(record, connection, "p", wrong, at=3)
    assert status(record, connection, "old") == "superseded"


def test_a_replacement_that_was_never_meant_makes_the_document_current(
    record: Record, connection: Connection
) -> None:
    put(record, connection, "p", document("old", "p"), at=1)
    put(record, connection, "p", replacing("new", "p", "old"), at=2)
    withdrawn = mark(replacing("new", "p", "old").resource)
    put(record, connection, "p", Entry(resource=withdrawn), at=3)
    assert status(record, connection, "old") == "current"
    assert record.history(connection, "DocumentReference", "old")[0].version == 3


def test_a_documents_bytes_are_found_by_their_digest(
    record: Record, connection: Connection, blobs: MemoryBlobs
) -> None:
    digest = blobs.put(b"%PDF-1.7")
    put(record, connection, "p", document("d", "p", digest), at=1)
    found = record.document(connection, digest)
    assert found is not None
    assert found.payload.read() == b"%PDF-1.7"
    assert (found.media_type, found.title, found.patient_ids) == (
        "application/pdf",
        "Compte rendu",
        ("p",),
    )
    stray = blobs.put(b"bytes that no entry names")
    assert record.document(connection, stray) is None
    assert record.document(connection, "not a digest") is None
    del blobs.held[digest]
    with pytest.raises(BytesMissing):
        record.document(connection, digest)


def test_bytes_must_be_there_before_the_entry(record: Record, connection: Connection) -> None:
    with pytest.raises(BytesMissing):
        put(record, connection, "p", observation("hb", "p"), document("d", "p", "a" * 64), at=1)
    assert versions(connection) == 0


# --- provenance ------------------------------------------------------------------------------


def test_one_provenance_per_message(record: Record, connection: Connection) -> None:
    put(record, connection, "p", patient("p"), observation("hb", "p"), at=1, message=11)
    put(record, connection, "p", patient("p"), observation("hb", "p"), at=2, message=12)
    found = record.search(connection, "Provenance", [("patient", "p")]).entries
    assert len(found) == 2
    first = next(one for one in found if one.message_id == 11).resource
    assert [item["reference"] for item in first["target"]] == ["Patient/p", "Observation/hb"]
    assert first["agent"][0]["who"]["identifier"]["value"] == "hl7.oru@1"
    assert first["entity"][0]["what"]["identifier"]["value"] == "11"
    put(record, connection, "p", patient("p"), observation("hb", "p"), at=1, message=11)
    put(record, connection, "p", patient("p"), at=1, message=11, mapping="hl7.oru@2")
    again = record.read(connection, "Provenance", first["id"])
    assert again is not None
    assert again.version == 2
    assert again.resource["agent"][0]["who"]["identifier"]["value"] == "hl7.oru@2"


def test_what_a_message_made_can_be_listed(record: Record, connection: Connection) -> None:
    put(record, connection, "p", patient("p"), observation("hb", "p", "1"), at=1, message=11)
    put(record, connection, "p", observation("hb", "p", "2"), at=2, message=12)
    made = [(one.type, one.version) for one in record.of_message(connection, 12)]
    assert sorted(made) == [("Observation", 2), ("Provenance", 1)]


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "resource",
    [
        {},
        {"resourceType": "Patient"},
        {"resourceType": "patient", "id": "x"},
        {"resourceType": "Patient", "id": "a/b"},
        {"resourceType": "Patient", "id": "x", "birthDate": object()},
        {"resourceType": "Patient", "id": "x", "text": "a" * 17_000_000},
    ],
)
def test_what_is_no_entry_is_refused(
    record: Record, connection: Connection, resource: dict[str, Any]
) -> None:
    with pytest.raises(EntryRefused):
        put(record, connection, "p", observation("hb", "p"), Entry(resource=resource), at=1)
    assert versions(connection) == 0


def test_the_same_entry_twice_in_a_message_is_refused(
    record: Record, connection: Connection
) -> None:
    with pytest.raises(EntryRefused):
        put(record, connection, "p", observation("hb", "p"), observation("hb", "p", "2"), at=1)


def test_odd_characters_are_kept(record: Record, connection: Connection) -> None:
    odd = "a\x00b\u2028 \U0001f9ea % _ ' \\ \u00e9"
    entry = patient("p", odd, identifier=[{"system": odd, "value": odd * 100}])
    put(record, connection, "p", entry, at=1)
    found = record.read(connection, "Patient", "p")
    assert found is not None
    assert found.resource["name"][0]["family"] == odd
    assert found.resource["identifier"][0]["value"] == odd * 100


def test_nothing_put_is_nothing(record: Record, connection: Connection) -> None:
    assert put(record, connection, "p", at=1) == PutResult()

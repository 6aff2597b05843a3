"""Versions of a document's set: ids, numbers, and an older one that comes late."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.model import Entry
from record import document_versions
from record.faults import VersionRefused
from record.store import Record
from tests.unit.record.making import MemoryBlobs, document, observation, patient, put


def edition(blobs: MemoryBlobs, one: str, number: int, *, of: str = "set", body: bytes = b""
            ) -> Entry:  # fmt: skip
    """A document of a set, with bytes of its own."""
    more: dict[str, Any] = {
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{of}"}],
        "extension": [{"url": "urn:ecluse:cda:versionNumber", "valueInteger": number}],
    }
    return document(one, "p", blobs.put(body or one.encode()), **more)


def status(record: Record, connection: Connection, one: str) -> str:
    found = record.read(connection, "DocumentReference", one)
    assert found is not None
    return str(found.resource["status"])


def value(record: Record, connection: Connection) -> str:
    found = record.read(connection, "Observation", "o")
    assert found is not None
    return str(found.resource["valueQuantity"]["value"])


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_the_highest_version_stands_whatever_comes_first(
    record: Record, connection: Connection, blobs: MemoryBlobs, order: tuple[int, ...]
) -> None:
    for at, number in enumerate(order, 1):
        given = [edition(blobs, f"d{number}", number), observation("o", "p", value=f"{number}.0")]
        put(record, connection, "p", patient("p"), *given, at=at, message=at)
    assert [status(record, connection, f"d{n}") for n in (1, 2, 3)] == [
        "superseded", "superseded", "current",
    ]  # fmt: skip
    assert value(record, connection) == "3.0"


def test_an_older_version_in_the_same_batch_displaces_nothing(
    record: Record, connection: Connection, blobs: MemoryBlobs
) -> None:
    from record.feeding import Put

    puts = [
        Put(patient_id="p", message_id=at, sequence=at, source="s", mapping="m",
            entries=(patient("p"), edition(blobs, f"d{n}", n), observation("o", "p", value=f"{n}.5")))
        for at, n in ((1, 2), (2, 1))
    ]  # fmt: skip
    record.put_all(connection, puts)
    assert value(record, connection) == "2.5"
    assert status(record, connection, "d1") == "superseded"


def test_a_version_number_is_taken_once_in_its_set(
    record: Record, connection: Connection, blobs: MemoryBlobs
) -> None:
    put(record, connection, "p", edition(blobs, "d1", 1), at=1, message=1)
    put(record, connection, "p", edition(blobs, "e1", 1, of="another"), at=2, message=2)
    with pytest.raises(VersionRefused, match="version 1 of this document's set"):
        put(record, connection, "p", edition(blobs, "x1", 1), at=3, message=3)


def test_an_id_is_taken_once_and_the_same_bytes_may_come_again(
    record: Record, connection: Connection, blobs: MemoryBlobs
) -> None:
    put(record, connection, "p", edition(blobs, "d1", 1), at=1, message=1)
    put(record, connection, "p", edition(blobs, "d1", 1), at=2, message=2)
    with pytest.raises(VersionRefused, match="another document with the same id"):
        put(record, connection, "p", edition(blobs, "d1", 2, body=b"other"), at=3, message=3)
    assert status(record, connection, "d1") == "current"


def test_the_number_of_a_deleted_version_is_free_and_the_lower_one_stays_replaced(
    record: Record, connection: Connection, blobs: MemoryBlobs
) -> None:
    put(record, connection, "p", edition(blobs, "d1", 1), at=1, message=1)
    put(record, connection, "p", edition(blobs, "d2", 2), at=2, message=2)
    gone = edition(blobs, "d2", 2)
    gone.resource["status"] = "entered-in-error"
    put(record, connection, "p", gone, at=3, message=3)
    assert status(record, connection, "d1") == "superseded"
    put(record, connection, "p", edition(blobs, "e2", 2), at=4, message=4)
    assert status(record, connection, "e2") == "current"


def test_documents_without_a_version_are_left_alone(
    record: Record, connection: Connection, blobs: MemoryBlobs
) -> None:
    put(record, connection, "p", document("a", "p", blobs.put(b"1")), at=1)
    put(record, connection, "p", document("a", "p", blobs.put(b"2")), at=2)
    assert status(record, connection, "a") == "current"


def test_other_patients_documents_under_the_same_identifier_hide_nothing(
    record: Record,
    connection: Connection,
    blobs: MemoryBlobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Software exists that gives every document the same set.
    monkeypatch.setattr(document_versions, "_EDITIONS_MAX", 2)
    for at, name in enumerate("abc", 1):
        other = edition(blobs, f"of-{name}", 1)
        other.resource["subject"] = {"reference": f"Patient/{name}"}
        put(record, connection, name, patient(name), other, at=at, message=at)
    put(record, connection, "p", patient("p"), edition(blobs, "d1", 1), at=4, message=4)
    put(record, connection, "p", patient("p"), edition(blobs, "d2", 2), at=5, message=5)
    assert status(record, connection, "d1") == "superseded"
    with pytest.raises(VersionRefused):
        put(record, connection, "p", edition(blobs, "other", 2), at=6, message=6)

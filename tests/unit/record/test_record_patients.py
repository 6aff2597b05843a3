"""Whose record an entry is in: shared entries, corrections, merges; on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from record.faults import MergeRefused
from record.store import Record
from tests.unit.record.making import (
    MemoryBlobs,
    clinical,
    document,
    observation,
    organization,
    patient,
    put,
)


def members(record: Record, connection: Connection, owner: str) -> set[str]:
    page = record.everything(connection, owner)
    return set(clinical([entry.reference for entry in page.entries]))


def test_what_is_shared_is_in_every_record(record: Record, connection: Connection) -> None:
    put(record, connection, "a", patient("a"), organization(), at=1)
    put(record, connection, "b", patient("b"), organization(), at=2)
    assert members(record, connection, "a") == {"Patient/a", "Organization/lab"}
    assert members(record, connection, "b") == {"Patient/b", "Organization/lab"}
    shared = record.read(connection, "Organization", "lab")
    assert shared is not None
    assert shared.patient_id == ""


def test_a_result_corrected_to_another_patient_leaves_the_first(
    record: Record, connection: Connection, blobs: MemoryBlobs
) -> None:
    digest = blobs.put(b"%PDF")
    put(record, connection, "a", observation("hb", "a"), document("d", "a", digest), at=1)
    put(record, connection, "b", observation("hb", "b"), document("d", "b", digest), at=2)
    assert members(record, connection, "a") == set()
    assert members(record, connection, "b") == {"Observation/hb", "DocumentReference/d"}
    bytes_ = record.document(connection, digest)
    assert bytes_ is not None
    assert bytes_.patient_ids == ("b",)
    # The first patient's message again: earlier, so that nothing moves back.
    put(record, connection, "a", observation("hb", "a"), at=1)
    assert members(record, connection, "a") == set()


def link(record: Record, connection: Connection, one: str) -> list[Any]:
    found = record.read(connection, "Patient", one)
    assert found is not None
    links: list[Any] = found.resource.get("link", [])
    return sorted((item["type"], item["other"]["reference"]) for item in links)


def test_a_merge_gives_everything_to_the_survivor(record: Record, connection: Connection) -> None:
    put(record, connection, "a", patient("a"), organization(), observation("oa", "a"), at=1)
    put(record, connection, "b", patient("b"), organization(), observation("ob", "b"), at=2)
    assert record.merge(connection, "a", "b", message_id=3, source="adt", mapping="m@1")
    both = {
        "Patient/a",
        "Patient/b",
        "Organization/lab",
        "Observation/oa",
        "Observation/ob",
    }
    assert members(record, connection, "a") == both
    assert members(record, connection, "b") == both
    assert record.survivor(connection, "b") == "a"
    assert link(record, connection, "a") == [("replaces", "Patient/b")]
    assert link(record, connection, "b") == [("replaced-by", "Patient/a")]
    moved = record.read(connection, "Observation", "ob")
    assert moved is not None
    assert (moved.patient_id, moved.version) == ("a", 1)
    # What comes later for the subsumed one, and again for both.
    put(record, connection, "b", observation("late", "b"), at=4)
    put(record, connection, "a", patient("a", "Neuf"), at=5)
    again = [patient("b"), organization(), observation("ob", "b")]
    assert not put(record, connection, "b", *again, at=2).changed
    assert not record.merge(connection, "a", "b", message_id=3)
    assert members(record, connection, "a") == both | {"Observation/late"}
    assert link(record, connection, "a") == [("replaces", "Patient/b")]
    assert link(record, connection, "b") == [("replaced-by", "Patient/a")]


def test_merges_in_a_row_lead_to_the_last_survivor(record: Record, connection: Connection) -> None:
    for at, one in enumerate("abc", 1):
        put(record, connection, one, patient(one), at=at)
    record.merge(connection, "b", "a")
    record.merge(connection, "c", "b")
    assert {record.survivor(connection, one) for one in "abc"} == {"c"}
    assert members(record, connection, "a") == {"Patient/a", "Patient/b", "Patient/c"}
    assert link(record, connection, "c") == [("replaces", "Patient/a"), ("replaces", "Patient/b")]
    assert link(record, connection, "a") == [("replaced-by", "Patient/c")]
    assert not record.merge(connection, "b", "a")  # the first one again


def test_a_merge_the_other_way_round_takes_its_place(
    record: Record, connection: Connection
) -> None:
    put(record, connection, "a", patient("a"), at=1)
    put(record, connection, "b", patient("b"), at=2)
    record.merge(connection, "a", "b")
    assert record.merge(connection, "b", "a")
    assert record.survivor(connection, "a") == "b"
    assert record.survivor(connection, "b") == "b"
    assert members(record, connection, "b") == {"Patient/a", "Patient/b"}
    assert link(record, connection, "a") == [("replaced-by", "Patient/b")]
    assert link(record, connection, "b") == [("replaces", "Patient/a")]


def test_a_merge_never_takes_a_third_record_along(record: Record, connection: Connection) -> None:
    for at, one in enumerate("abc", 1):
        put(record, connection, one, patient(one), at=at)
    record.merge(connection, "c", "b")
    with pytest.raises(MergeRefused):
        record.merge(connection, "a", "b")
    with pytest.raises(MergeRefused):
        record.merge(connection, "a", "a")
    assert members(record, connection, "a") == {"Patient/a"}
    # The survivor may still be one that was merged itself.
    put(record, connection, "d", patient("d"), at=4)
    assert record.merge(connection, "b", "d")
    assert record.survivor(connection, "d") == "c"

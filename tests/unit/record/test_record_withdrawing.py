"""Messages read anew: what they say now, what they say no longer, and what others said since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from gateway.model import Entry
from record.feeding import Put, PutResult
from record.store import Record
from tests.unit.record import making
from tests.unit.record.making import observation, organization, patient


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    yield from making.made_engine(request.param, request, tmp_path_factory)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def record() -> Record:
    return making.record()


def put(number: int, *entries: Entry, revision: int = 0) -> Put:
    return Put(
        patient_id="a", entries=entries, message_id=number, sequence=number, source="lab",
        mapping="hl7.oru", revision=revision,
    )  # fmt: skip


def current(record: Record, connection: Connection, name: str) -> dict[str, Any]:
    found = record.read(connection, *name.split("/"))
    assert found is not None
    return dict(found.resource)


def feed(record: Record, connection: Connection, *puts: Put) -> list[PutResult]:
    return [record.put_all(connection, [each])[0] for each in puts]


def test_a_reading_anew_changes_what_changed_and_nothing_else(
    record: Record, connection: Connection
) -> None:
    same, other = observation("same", "a"), observation("other", "a", "1.0")
    feed(record, connection, put(5, patient("a"), same, other))
    (result,) = feed(
        record, connection, put(5, patient("a"), same, observation("other", "a", "2.0"), revision=1)
    )
    assert result.updated == ("Observation/other",)
    assert set(result.unchanged) >= {"Observation/same", "Patient/a"}
    assert len(record.history(connection, "Observation", "same")) == 1
    # And back again, as when a mapping is rolled back: the first content was said before.
    (result,) = feed(record, connection, put(5, patient("a"), same, other, revision=2))
    assert result.updated == ("Observation/other",)
    assert str(current(record, connection, "Observation/other")["valueQuantity"]["value"]) == "1.0"
    # A delivery of the reading before, made late, changes nothing.
    late = put(5, patient("a"), same, observation("other", "a", "2.0"), revision=1)
    assert not feed(record, connection, late)[0].changed


def test_what_is_said_no_longer_is_marked_and_kept(record: Record, connection: Connection) -> None:
    feed(record, connection, put(5, patient("a"), observation("x", "a"), organization()))
    (result,) = feed(record, connection, put(5, revision=1))
    assert result.withdrawn == ("Observation/x",), "not the patient, not what many share"
    found = current(record, connection, "Observation/x")
    assert found["status"] == "entered-in-error"
    assert found["meta"]["tag"][0]["code"] == "withdrawn"
    history = record.history(connection, "Observation", "x")
    assert [each.resource["status"] for each in history] == ["entered-in-error", "final"]
    # Said once more, it stands again.
    feed(record, connection, put(5, patient("a"), observation("x", "a"), revision=2))
    assert current(record, connection, "Observation/x")["status"] == "final"


def test_an_older_message_never_overrules_a_newer_one(
    record: Record, connection: Connection
) -> None:
    feed(
        record, connection,
        put(5, observation("x", "a", "1.0")), put(9, observation("x", "a", "9.0", status="amended")),
    )  # fmt: skip
    (changed,) = feed(record, connection, put(5, observation("x", "a", "3.0"), revision=1))
    assert changed.updated == ()
    assert current(record, connection, "Observation/x")["status"] == "amended"
    (gone,) = feed(record, connection, put(5, revision=2))
    assert gone.withdrawn == ()
    assert current(record, connection, "Observation/x")["status"] == "amended"


@pytest.mark.parametrize("together", [False, True])
def test_what_two_messages_said_goes_when_neither_says_it(
    record: Record, connection: Connection, *, together: bool
) -> None:
    both = observation("x", "a")
    feed(record, connection, put(5, both), put(9, both))
    feed(record, connection, put(9, revision=1))
    assert current(record, connection, "Observation/x")["status"] == "final", "the first says it"
    feed(record, connection, put(9, both, revision=2))
    again = [put(5, revision=3), put(9, revision=3)]
    if together:
        record.put_all(connection, again)
    else:
        feed(record, connection, *again)
    assert current(record, connection, "Observation/x")["status"] == "entered-in-error"


@pytest.mark.parametrize(
    ("kind", "system"),
    [("Condition", "condition-ver-status"), ("AllergyIntolerance", "allergyintolerance-verification")],
)  # fmt: skip
def test_a_condition_is_in_error_by_its_verification(
    record: Record, connection: Connection, kind: str, system: str
) -> None:
    resource = {
        "resourceType": kind, "id": "c", "subject": {"reference": "Patient/a"},
        "patient": {"reference": "Patient/a"}, "clinicalStatus": {"coding": [{"code": "active"}]},
    }  # fmt: skip
    feed(record, connection, put(5, Entry(resource=resource)), put(5, revision=1))
    found = current(record, connection, f"{kind}/c")
    assert "clinicalStatus" not in found
    assert found["verificationStatus"]["coding"][0]["system"].endswith(system)

"""The record as a destination: outcomes are values, and a failed attempt leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, func, select

from gateway.destinations import Destination
from gateway.model import Again, CauseCode, Delivered, Delivery, Entry, Refused
from record.destination import RecordDestination
from record.store import Record
from record.tables import record_entry_version, record_member, record_patient
from tests.unit.record import making
from tests.unit.record.making import document, observation, patient


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


def delivery(*entries: Entry, owner: str = "a", merged: tuple[str, ...] = ()) -> Delivery:
    return Delivery(
        id=1,
        message_id=7,
        lane=f"{owner}@record",
        patient_id=owner,
        destination="record",
        sequence=7,
        idempotency_key="k",
        attempts=0,
        entries=entries,
        mapping="hl7.adt@1.0.0",
        merged_patients=merged,
        source="adt",
    )


def rows(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(record_entry_version)).scalar_one()


def test_it_is_a_transactional_destination(record: Record) -> None:
    destination: Destination = RecordDestination(record)
    assert (destination.name, destination.transactional) == ("record", True)


def test_a_delivery_and_its_repetition(record: Record, connection: Connection) -> None:
    destination = RecordDestination(record)
    sent = delivery(patient("a"), observation("o", "a"))
    assert destination.deliver(sent, connection) == Delivered(evidence="3 created")
    assert destination.deliver(sent, connection) == Delivered(evidence="3 unchanged")
    found = record.read(connection, "Observation", "o")
    assert found is not None
    assert (found.source, found.mapping, found.message_id) == ("adt", "hl7.adt@1.0.0", 7)


def test_a_merge_comes_with_its_message(record: Record, connection: Connection) -> None:
    destination = RecordDestination(record)
    destination.deliver(delivery(patient("b"), observation("o", "b"), owner="b"), connection)
    link = [{"other": {"reference": "Patient/a"}, "type": "replaced-by"}]
    merge = delivery(patient("a"), patient("b", link=link), merged=("b", "a"))
    outcome = destination.deliver(merge, connection)
    assert isinstance(outcome, Delivered)
    subsumed = record.read(connection, "Patient", "b")
    survivor = record.read(connection, "Patient", "a")
    assert subsumed is not None
    assert survivor is not None
    assert subsumed.resource["link"] == link  # said by the message, not said twice
    assert [item["type"] for item in survivor.resource["link"]] == ["replaces"]
    observations = record.search(connection, "Observation", [("patient", "a")])
    assert [entry.id for entry in observations.entries] == ["o"]


def test_no_entry_is_refused_for_good(record: Record, connection: Connection) -> None:
    wrong = Entry(resource={"resourceType": "Patient"})
    outcome = RecordDestination(record).deliver(delivery(patient("a"), wrong), connection)
    assert isinstance(outcome, Refused)
    assert outcome.cause.code is CauseCode.INVALID_ENTRY
    assert rows(connection) == 0


def test_a_merge_with_a_third_is_refused_and_undone(record: Record, connection: Connection) -> None:
    record.merge(connection, "c", "b")
    destination = RecordDestination(record)
    outcome = destination.deliver(delivery(patient("a"), merged=("d", "b")), connection)
    assert isinstance(outcome, Refused)
    assert outcome.cause.code is CauseCode.IDENTITY_CONFLICT
    known = connection.execute(select(record_patient.c.patient_id)).scalars()
    assert sorted(known) == ["b", "c"]  # d was merged before b was refused


def test_missing_bytes_are_tried_again(record: Record, connection: Connection) -> None:
    sent = delivery(patient("a"), document("d", "a", "f" * 64))
    outcome = RecordDestination(record).deliver(sent, connection)
    assert isinstance(outcome, Again)
    assert rows(connection) == 0


def test_a_database_fault_is_a_value_and_undone(record: Record, connection: Connection) -> None:
    destination = RecordDestination(record)
    record_member.drop(connection)  # after which the last of the statements fails
    secret = observation("o", "a", note=[{"text": "SECRET"}])
    outcome = destination.deliver(delivery(secret), connection)
    assert isinstance(outcome, Again)
    assert outcome.cause.code is CauseCode.DESTINATION_UNAVAILABLE
    assert "SECRET" not in repr(outcome)
    assert rows(connection) == 0  # the connection is still of use


def test_without_a_connection_it_does_nothing(record: Record) -> None:
    with pytest.raises(TypeError):
        RecordDestination(record).deliver(delivery(patient("a")), None)

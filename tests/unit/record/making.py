"""Entries, a blob store in memory and a clock for the record's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine

from gateway.journal.dialects import postgresql_engine, sqlite_writer
from gateway.mapping import serialise
from gateway.mapping.serialise import DecimalText
from gateway.model import Entry, Payload
from record.feeding import PutResult
from record.store import Record
from record.tables import metadata

INS = "urn:oid:1.2.250.1.213.1.4.10"
LOINC = "http://loinc.org"


class MemoryBlobs:
    """A blob store that forgets; implements gateway.ports.BlobStore."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.held[digest] = data
        return digest

    def payload(self, sha256: str) -> Payload:
        return Payload.from_bytes(self.held[sha256])

    def stored(self) -> Iterable[str]:
        return self.held


class Ticking:
    """A clock that goes on by one second at each look."""

    def __init__(self) -> None:
        self.at = datetime(2024, 3, 1, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


def record(blobs: MemoryBlobs | None = None) -> Record:
    return Record(blobs or MemoryBlobs(), Ticking(), serialise)


def engine_at(url: str) -> Engine:
    """An engine as the journal makes it."""
    if url.startswith("sqlite:///"):
        return sqlite_writer(Path(url.removeprefix("sqlite:///")))
    return postgresql_engine(create_engine(url).url)


def made_engine(
    kind: str, request: pytest.FixtureRequest, factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine with the record's tables, of ``sqlite`` or ``postgresql``."""
    if kind == "sqlite":
        url = f"sqlite:///{factory.mktemp('record') / 'record.sqlite'}"
    else:
        url = request.getfixturevalue("postgres").fresh_database()
    engine = engine_at(url)
    with engine.begin() as connection:
        metadata.create_all(connection)
    yield engine
    engine.dispose()


def patient(one: str, family: str = "Dupont", **more: Any) -> Entry:
    resource = {
        "resourceType": "Patient",
        "id": one,
        "identifier": [{"system": INS, "value": f"INS-{one}"}],
        "name": [{"family": family, "given": ["Zoé", "Anne"]}],
        "gender": "female",
        "birthDate": "1985-01-17",
        **more,
    }
    return Entry(resource=resource)


def observation(one: str, owner: str, value: str = "7.10", **more: Any) -> Entry:
    resource = {
        "resourceType": "Observation",
        "id": one,
        "status": "final",
        "category": [{"coding": [{"system": "urn:category", "code": "laboratory"}]}],
        "code": {"coding": [{"system": LOINC, "code": "718-7"}, {"code": "HB"}]},
        "subject": {"reference": f"Patient/{owner}"},
        "effectiveDateTime": "2024-03-01T08:30:00+01:00",
        "valueQuantity": {"value": DecimalText(value), "unit": "g/dL"},
        **more,
    }
    return Entry(resource=resource)


def organization(one: str = "lab", name: str = "Laboratoire") -> Entry:
    return Entry(resource={"resourceType": "Organization", "id": one, "name": name})


def document(one: str, owner: str, sha256: str = "", **more: Any) -> Entry:
    attachment = {"contentType": "application/pdf", "title": "Compte rendu"}
    if sha256:
        attachment["url"] = f"Binary/{sha256}"
    resource = {
        "resourceType": "DocumentReference",
        "id": one,
        "status": "current",
        "subject": {"reference": f"Patient/{owner}"},
        "date": "2024-03-01T10:00:00Z",
        "content": [{"attachment": attachment}],
        **more,
    }
    return Entry(resource=resource)


def replacing(one: str, owner: str, *others: str, **more: Any) -> Entry:
    relations = [
        {"code": "replaces", "target": {"reference": f"DocumentReference/{other}"}}
        for other in others
    ]
    return document(one, owner, relatesTo=relations, **more)


def provisional(entry: Entry) -> Entry:
    return Entry(resource=entry.resource, create_only=True)


def put(
    record: Record,
    connection: Connection,
    owner: str,
    *entries: Entry,
    at: int,
    mapping: str = "hl7.oru@1",
    message: int = 0,
) -> PutResult:
    return record.put(
        connection,
        owner,
        entries,
        message_id=message or at,
        sequence=at,
        source="lab",
        mapping=mapping,
    )


def clinical(references: Sequence[str]) -> list[str]:
    return [reference for reference in references if not reference.startswith("Provenance/")]

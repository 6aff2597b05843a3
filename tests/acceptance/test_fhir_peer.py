"""Our deliveries against a FHIR R4 server that others wrote: HAPI FHIR's JPA server (`make fhir-peer`,
which needs a JDK and Maven, and half a minute for the server to start; `make test` does without)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from adapters.fhir.bundles import receipt_id
from adapters.fhir.destination import FhirDestination
from adapters.fhir.settings import FhirServerSettings
from gateway.model import Again, CauseCode, Delivered, Delivery, Entry, Payload, Refused
from gateway.serialise import DecimalText
from tests.acceptance.gateway_process import HTTP, GatewayProcess
from tests.chaos.relay import Line, Relay
from tests.chaos.senders import Sender
from tests.eventually import eventually

WANTED = "ECLUSE_FHIR_PEER"

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get(WANTED), reason=f"no FHIR server of others in {WANTED}: `make fhir-peer`"
    ),
]


class Documents:
    """The documents that entries point to."""

    def __init__(self) -> None:
        self.known: dict[str, Payload] = {}

    def add(self, data: bytes) -> str:
        payload = Payload.from_bytes(data)
        self.known[payload.sha256] = payload
        return payload.sha256

    def payload(self, sha256: str) -> Payload:
        return self.known[sha256]


@dataclass
class Peer:
    """The server, by way of a relay whose line can be cut."""

    relay: Relay
    documents: Documents = field(default_factory=Documents)
    made: list[FhirDestination] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.relay.port}/fhir"

    def destination(self, **settings: Any) -> FhirDestination:
        given = {"type": "fhir", "url": self.url, "timeout_seconds": 60.0, **settings}
        read = FhirServerSettings.model_validate(given)
        made = FhirDestination("region", read, self.documents)  # type: ignore[arg-type]
        self.made.append(made)
        return made

    def get(self, path: str, **parameters: str) -> Any:
        """What the server says, past the relay."""
        answer = HTTP.get(
            f"http://127.0.0.1:{self.relay.target}/fhir/{path}", params=parameters, timeout=60
        )
        answer.raise_for_status()
        return answer.json()

    def version(self, reference: str) -> int:
        return int(self.get(reference)["meta"]["versionId"])

    def history(self, reference: str) -> list[Any]:
        """The versions of a resource, the oldest first."""
        found = []
        path = f"{reference}/_history"
        bundle = self.get(path, _count="500")
        while True:
            found += [each["resource"] for each in bundle["entry"]]
            following = [
                each["url"] for each in bundle.get("link", ()) if each["relation"] == "next"
            ]
            if not following:
                return sorted(found, key=lambda each: int(each["meta"]["versionId"]))
            answer = HTTP.get(following[0], timeout=60)
            answer.raise_for_status()
            bundle = answer.json()


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    relay = Relay(int(os.environ[WANTED]))
    made = Peer(relay)
    yield made
    for each in made.made:
        each.close()
    relay.close()


@dataclass
class Person:
    """A patient whom the server does not know yet, and one result."""

    id: str

    @property
    def traits(self) -> dict[str, Any]:
        return {"resourceType": "Patient", "id": self.id, "active": True}

    @property
    def reference(self) -> str:
        return f"Patient/{self.id}"

    def observation(self, value: str, **more: Any) -> dict[str, Any]:
        return {
            "resourceType": "Observation", "id": f"o-{self.id}", "status": "final",
            "code": {"text": "Na"}, "subject": {"reference": self.reference},
            "valueQuantity": {"value": DecimalText(value)}, **more,
        }  # fmt: skip

    def delivery(self, *resources: dict[str, Any], number: int = 1, **fields: Any) -> Delivery:
        given = resources or (self.traits, self.observation("1.10"))
        entries = tuple(
            Entry(resource=each, create_only=each["resourceType"] == "Patient") for each in given
        )
        return Delivery(
            **{
                "id": number, "message_id": number, "lane": f"{self.id}@region",
                "patient_id": self.id, "destination": "region", "sequence": number,
                "idempotency_key": f"{self.id}-{number}", "attempts": 0, "entries": entries,
                "mapping": "m", "begun": 0, **fields,
            }
        )  # fmt: skip

    def receipt(self, number: int = 1) -> str:
        return f"Provenance/{receipt_id(f'{self.id}-{number}')}"


@pytest.fixture
def person() -> Person:
    return Person(str(uuid4()))


@pytest.mark.parametrize("interaction", ["transaction", "update"])
def test_a_delivery_and_its_correction_are_versions(
    peer: Peer, person: Person, interaction: str
) -> None:
    there = peer.destination(interaction=interaction)
    assert there.deliver(person.delivery(), None) == Delivered(evidence="3 created")
    corrected = person.delivery(person.traits, person.observation("1.20"), number=2)
    assert isinstance(there.deliver(corrected, None), Delivered)
    values = [each["valueQuantity"]["value"] for each in peer.history(f"Observation/o-{person.id}")]
    assert values == [1.1, 1.2]
    assert peer.version(person.reference) == 1
    targets = peer.get(person.receipt())["target"]
    # A server may name the version that was there.
    assert [each["reference"].partition("/_history")[0] for each in targets] == [
        person.reference, f"Observation/o-{person.id}",
    ]  # fmt: skip


def test_decimals_keep_their_digits(peer: Peer, person: Person) -> None:
    peer.destination().deliver(person.delivery(), None)
    answer = HTTP.get(
        f"http://127.0.0.1:{peer.relay.target}/fhir/Observation/o-{person.id}", timeout=60
    )
    assert '"value":1.10' in answer.text.replace(" ", "")


def test_said_again_nothing_changes(peer: Peer, person: Person) -> None:
    there = peer.destination()
    there.deliver(person.delivery(), None)
    assert isinstance(there.deliver(person.delivery(begun=1), None), Delivered)
    assert peer.version(person.receipt()) == 1
    # Nor where nobody knows that it was begun before, and nobody asks.
    assert isinstance(there.deliver(person.delivery(), None), Delivered)
    assert len(peer.history(f"Observation/o-{person.id}")) == 1
    assert peer.version(person.reference) == 1


@pytest.mark.parametrize("interaction", ["transaction", "update"])
def test_a_time_out_after_it_was_applied_is_settled_by_asking(
    peer: Peer, person: Person, interaction: str
) -> None:
    patient = person.reference
    there = peer.destination(
        timeout_seconds=5.0, interaction=interaction, connect_timeout_seconds=2
    )
    # Only what is there already can be asked for before; nothing may hear an answer but us.
    first = person.delivery(person.traits, number=9)
    assert isinstance(there.deliver(first, None), Delivered)
    correction = person.delivery(person.observation("1.10"))
    peer.relay.line = Line.MUTE
    try:
        found = there.deliver(correction, None)
    finally:
        peer.relay.line = Line.OPEN
        peer.relay.cut()
    assert isinstance(found, Again)
    assert found.cause.code is CauseCode.OUTCOME_UNKNOWN
    eventually(lambda: _found(peer, f"Observation/o-{person.id}"), timeout=60, every=0.2)
    asking = peer.destination(interaction=interaction)
    settled = asking.deliver(replace(correction, begun=1), None)
    assert isinstance(settled, Delivered)
    if interaction == "transaction":
        assert settled.evidence == "an earlier attempt had arrived: the server has it"
    # One version, although the second attempt of single updates sends it again.
    assert len(peer.history(f"Observation/o-{person.id}")) == 1
    assert peer.version(patient) == 1
    assert peer.version(person.receipt()) == 1


def _found(peer: Peer, reference: str) -> bool:
    answer = HTTP.get(f"http://127.0.0.1:{peer.relay.target}/fhir/{reference}", timeout=60)
    return answer.status_code == 200


def test_a_server_that_cannot_be_reached_was_not_asked_for_anything(
    peer: Peer, person: Person
) -> None:
    peer.relay.line = Line.REFUSED
    try:
        found = peer.destination().deliver(person.delivery(), None)
    finally:
        peer.relay.line = Line.OPEN
    assert isinstance(found, Again)
    assert not _found(peer, f"Observation/o-{person.id}")
    assert isinstance(peer.destination().deliver(person.delivery(begun=1), None), Delivered)


def test_what_the_server_refuses_says_why_and_changes_nothing(peer: Peer, person: Person) -> None:
    stranger = {"reference": f"Patient/{uuid4()}"}
    item = person.delivery(person.traits, person.observation("1", subject=stranger))
    found = peer.destination().deliver(item, None)
    assert isinstance(found, Refused)
    assert found.cause.code is CauseCode.DESTINATION_REFUSED
    # All or nothing.
    assert not _found(peer, person.reference)


def test_a_merged_patient_is_marked_and_keeps_what_the_server_knows(
    peer: Peer, person: Person
) -> None:
    there, old = peer.destination(), Person(str(uuid4()))
    named = {**old.traits, "name": [{"family": "TESTPATIENT"}]}
    assert isinstance(there.deliver(old.delivery(named), None), Delivered)
    item = person.delivery(merged_patients=(old.id, str(uuid4())), number=2)
    assert isinstance(there.deliver(item, None), Delivered)
    found = peer.get(old.reference)
    assert found["active"] is False
    assert found["name"] == [{"family": "TESTPATIENT"}]
    assert found["link"] == [{"other": {"reference": person.reference}, "type": "replaced-by"}]


def test_documents_arrive_as_the_bytes_that_they_are(peer: Peer, person: Person) -> None:
    data = b"%PDF-1.4\n" + bytes(range(256)) * 20
    digest = peer.documents.add(data)
    document = {
        "resourceType": "DocumentReference", "id": f"d-{person.id}", "status": "current",
        "subject": {"reference": person.reference},
        "content": [{"attachment": {"contentType": "application/pdf", "url": f"Binary/{digest}"}}],
    }  # fmt: skip
    assert isinstance(
        peer.destination().deliver(person.delivery(person.traits, document), None), Delivered
    )
    answer = HTTP.get(
        f"http://127.0.0.1:{peer.relay.target}/fhir/Binary/{digest}",
        headers={"Accept": "application/pdf"}, timeout=60,
    )  # fmt: skip
    assert answer.content == data


def test_a_gateway_delivers_every_message_once_and_in_order_through_kills_and_cuts(
    peer: Peer, tmp_path: Path
) -> None:
    gateway = GatewayProcess(tmp_path / "gateway")
    gateway.extra = {
        "worker": {"lease_seconds": 10},
        "sources": [
            {"name": "lab", "type": "mllp", "listen": f"127.0.0.1:{gateway.mllp_port}"}
        ],
        "destinations": [
            {"name": "record"},
            {
                "name": "region", "type": "fhir", "url": peer.url, "timeout_seconds": 8,
                "breaker": {"failures": 3, "open_seconds": 1, "open_max_seconds": 4},
                "retry": {"base_seconds": 0.2, "cap_seconds": 2, "attempts_max": 1000},
            },
        ],
    }  # fmt: skip
    gateway.start(timeout=120)
    sender = Sender(int(uuid4()) % 40, gateway.mllp_port, threading.Event(), limit=30)
    sender.start()
    before = provenances(peer)
    for line in (Line.MUTE, Line.OPEN):
        # In the middle of its work, whatever that is at the moment.
        eventually(lambda: provenances(peer) > before, timeout=120, every=0.1)
        peer.relay.line = line
        peer.relay.cut()
        gateway.kill()
        gateway.start(timeout=120)
    sender.join(timeout=120)
    assert sender.total == 30
    eventually(gateway.settled, timeout=240, every=0.2)
    assert gateway.stop() == 0
    for patient, acknowledged in sender.acknowledged.items():
        entries = peer.get("Patient", identifier=patient)["entry"]
        subject = f"Patient/{entries[0]['resource']['id']}"
        assert len(entries) == 1
        (observation,) = peer.get("Observation", subject=subject)["entry"]
        versions = peer.history(f"Observation/{observation['resource']['id']}")
        assert [each["valueQuantity"]["value"] for each in versions] == list(
            range(1, acknowledged + 1)
        )
    receipts = peer.get("Provenance", _count="500", _sort="-_lastUpdated")["entry"][:30]
    assert {each["resource"]["meta"]["versionId"] for each in receipts} == {"1"}
    assert provenances(peer) - before == 30


def provenances(peer: Peer) -> int:
    """How many deliveries the server has receipts of."""
    return int(peer.get("Provenance", _summary="count", _total="accurate")["total"])

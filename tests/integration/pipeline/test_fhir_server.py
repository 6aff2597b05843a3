"""A FHIR server elsewhere as a destination, over real HTTP, with every fault that we can think of:
each delivery is there once, in its patient's order, whatever happens in between."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.fhir.bundles import receipt_id
from adapters.fhir.destination import FhirDestination
from adapters.fhir.settings import FhirServerSettings
from adapters.tls import ClientTlsSettings
from gateway.breaker import BreakerPolicy, DestinationPolicy
from gateway.journal import deliveries
from gateway.journal.states import DeliveryState, MessageState
from gateway.model import (
    Again,
    CauseCode,
    Delivered,
    Delivery,
    Entry,
    Outcome,
    Refused,
    Wait,
)
from gateway.serialise import DecimalText
from tests import fhir_server
from tests.certificates import Authority
from tests.fhir_server import FhirServer, outcome, says
from tests.integration.pipeline.rig import HeldClock, Rig, national

PATIENT = "5f3d9b1e-5f3d-4b1e-8f3d-9b1e5f3d9b1e"
OBSERVATION = {
    "resourceType": "Observation",
    "id": "a1",
    "status": "final",
    "code": {"text": "Na"},
    "subject": {"reference": f"Patient/{PATIENT}"},
    "valueQuantity": {"value": DecimalText("1.10")},
}
TRAITS = {"resourceType": "Patient", "id": PATIENT, "active": True}


@pytest.fixture
def server() -> Iterator[FhirServer]:
    running = FhirServer()
    yield running
    running.close()
    for each in MADE:
        each.close()
    MADE.clear()


MADE: list[FhirDestination] = []


class NoBlobs:
    def payload(self, sha256: str) -> Any:
        raise KeyError(sha256)


def destination(server: FhirServer, **settings: Any) -> FhirDestination:
    given = {"type": "fhir", "url": server.url, "timeout_seconds": 30.0, **settings}
    made = FhirDestination("region", FhirServerSettings.model_validate(given), NoBlobs())  # type: ignore[arg-type]
    MADE.append(made)
    return made


def delivery(*resources: dict[str, Any], begun: int = 0, **fields: Any) -> Delivery:
    given = resources or (TRAITS, OBSERVATION)
    entries = tuple(
        Entry(resource=each, create_only=each["resourceType"] == "Patient") for each in given
    )
    return Delivery(
        **{
            "id": 1, "message_id": 7, "lane": f"{PATIENT}@region", "patient_id": PATIENT,
            "destination": "region", "sequence": 7, "idempotency_key": "key-1", "attempts": 0,
            "entries": entries, "mapping": "m", "begun": begun, **fields,
        }
    )  # fmt: skip


def cause_of(found: Outcome) -> CauseCode:
    assert not isinstance(found, Delivered)
    return found.cause.code


# --- one attempt ------------------------------------------------------------------------


@pytest.mark.parametrize("interaction", ["transaction", "update"])
def test_a_delivery_is_put_under_its_own_ids_with_its_receipt(
    server: FhirServer, interaction: str
) -> None:
    there = destination(server, interaction=interaction)
    assert there.deliver(delivery(), None) == Delivered(evidence="3 created")
    receipt = f"Provenance/{receipt_id('key-1')}"
    assert set(server.resources) == {f"Patient/{PATIENT}", "Observation/a1", receipt}
    assert server.puts[-1] == receipt
    targets = server.resources[receipt][1]["target"]
    assert [each["reference"] for each in targets] == [f"Patient/{PATIENT}", "Observation/a1"]
    assert server.headers[-1]["Idempotency-Key"].startswith('"key-1')
    # Said again, everything stays as it was.
    assert isinstance(there.deliver(delivery(begun=1), None), Delivered)
    assert {version for version, _ in server.resources.values()} == {1}


def test_decimals_keep_their_digits(server: FhirServer) -> None:
    destination(server).deliver(delivery(), None)
    assert b'"value":1.10}' in server.bundles[0].replace(b" ", b"")


def test_the_same_delivery_is_the_same_bytes_at_each_attempt(server: FhirServer) -> None:
    there = destination(server)
    server.faults = [says(500), says(500)]
    bodies = []
    server.always = None
    original = fhir_server.Handler.body

    def noting(handler: fhir_server.Handler) -> bytes:
        data = original(handler)
        if handler.command == "POST":
            bodies.append(data)
        return data

    fhir_server.Handler.body = noting  # type: ignore[method-assign]
    try:
        for begun in range(3):
            found = there.deliver(delivery(begun=begun), None)
    finally:
        fhir_server.Handler.body = original  # type: ignore[method-assign]
    assert isinstance(found, Delivered)
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


def test_what_the_message_is_no_authority_for_is_left_as_the_server_has_it(
    server: FhirServer,
) -> None:
    known = {**TRAITS, "name": [{"family": "KNOWN"}]}
    server.resources[f"Patient/{PATIENT}"] = (1, known)
    assert isinstance(destination(server).deliver(delivery(), None), Delivered)
    assert server.resources[f"Patient/{PATIENT}"] == (1, known)


def test_a_merged_patient_is_marked_and_keeps_what_the_server_knows(server: FhirServer) -> None:
    server.resources["Patient/old"] = (4, {"resourceType": "Patient", "id": "old", "name": [{}]})
    item = delivery(merged_patients=("old", "never-there"))
    assert isinstance(destination(server).deliver(item, None), Delivered)
    version, old = server.resources["Patient/old"]
    assert version == 5
    assert old["active"] is False
    assert old["name"] == [{}]
    assert old["link"] == [{"other": {"reference": f"Patient/{PATIENT}"}, "type": "replaced-by"}]
    assert json.loads(server.bundles[0])["entry"][-2]["request"]["ifMatch"] == 'W/"4"'
    assert "Patient/never-there" not in server.resources


def test_documents_go_as_the_bytes_that_they_are_before_what_points_to_them(
    server: FhirServer, tmp_path: Path
) -> None:
    from gateway.journal.blobs import Blobs

    blobs = Blobs(tmp_path / "blobs")
    data = b"%PDF-1.7 \x00\xff" * 20_000
    digest = blobs.put(data)
    there = destination(server)
    there._blobs = blobs
    document = {
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "content": [{"attachment": {"contentType": "application/pdf", "url": f"Binary/{digest}"}}],
    }  # fmt: skip
    assert isinstance(there.deliver(delivery(document), None), Delivered)
    assert server.binaries == {f"Binary/{digest}": data}
    assert [path for method, path in server.requests if method != "GET"] == [
        f"Binary/{digest}", "",
    ]  # fmt: skip
    sent = server.headers[server.requests.index(("PUT", f"Binary/{digest}"))]
    assert sent["Content-Type"] == "application/pdf"
    assert sent["X-Security-Context"] == f"Patient/{PATIENT}"


CASES: dict[str, tuple[fhir_server.Fault, type[Outcome], CauseCode]] = {  # type: ignore[valid-type]
    "500": (says(500, outcome("exception")), Again, CauseCode.OUTCOME_UNKNOWN),
    "502": (says(502, b"<html>"), Again, CauseCode.OUTCOME_UNKNOWN),
    "503": (says(503), Again, CauseCode.DESTINATION_UNAVAILABLE),
    "503 with a time": (says(503, Retry_After="7"), Wait, CauseCode.DESTINATION_UNAVAILABLE),
    "429": (says(429), Wait, CauseCode.DESTINATION_UNAVAILABLE),
    "401": (says(401), Wait, CauseCode.DESTINATION_UNAVAILABLE),
    "302": (says(302, Location="/login"), Wait, CauseCode.DESTINATION_UNAVAILABLE),
    "404 of no FHIR server": (says(404, b"Not Found"), Wait, CauseCode.DESTINATION_UNAVAILABLE),
    "409": (says(409, outcome("conflict")), Again, CauseCode.DESTINATION_REFUSED),
    "422": (
        says(422, outcome("invalid", "Bundle.entry[0].resource.status")),
        Refused,
        CauseCode.DESTINATION_REFUSED,
    ),
    "413": (says(413), Refused, CauseCode.DESTINATION_REFUSED),
    "200 of a proxy": (says(200, b"<html>log in</html>"), Again, CauseCode.OUTCOME_UNKNOWN),
    "200 of another kind": (
        says(200, {"resourceType": "Patient"}), Again, CauseCode.OUTCOME_UNKNOWN,
    ),
    "too few answers": (
        says(200, {"resourceType": "Bundle", "type": "transaction-response", "entry": []}),
        Again,
        CauseCode.OUTCOME_UNKNOWN,
    ),
    "silence": (fhir_server.silent_after_applying, Again, CauseCode.OUTCOME_UNKNOWN),
    "a hang": (fhir_server.hangs, Again, CauseCode.OUTCOME_UNKNOWN),
    "a reset": (fhir_server.resets, Again, CauseCode.OUTCOME_UNKNOWN),
    "garbage": (fhir_server.garbage, Again, CauseCode.OUTCOME_UNKNOWN),
    "a header without end": (fhir_server.drips, Again, CauseCode.OUTCOME_UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_fault_has_its_outcome_and_the_next_attempt_settles_it(
    server: FhirServer, name: str
) -> None:
    fault, kind, code = CASES[name]
    server.faults = [fault]
    # The questions before it must be answered within the same time.
    silent = name in {"silence", "a hang", "a header without end"}
    found = destination(server, timeout_seconds=1.5 if silent else 30).deliver(delivery(), None)
    there = destination(server)
    assert isinstance(found, kind), found
    assert cause_of(found) is code
    assert not isinstance(found, Delivered)
    # What the server says in free text may be a patient's.
    assert "DUPONT" not in found.cause.detail
    assert isinstance(there.deliver(delivery(begun=1), None), Delivered)
    assert server.order() == ["Observation/a1"]
    assert {version for version, _ in server.resources.values()} == {1}


def test_a_refusal_says_where(server: FhirServer) -> None:
    server.faults = [says(422, outcome("invalid", "Bundle.entry[0].resource.status"))]
    found = destination(server).deliver(delivery(), None)
    assert isinstance(found, Refused)
    assert found.cause.location == "Bundle.entry[0].resource.status"
    assert found.cause.protocol_code == "422"
    assert "error: invalid" in found.cause.detail


def test_retry_after_is_followed_in_both_forms(server: FhirServer) -> None:
    there = destination(server)
    server.faults = [says(429, Retry_After="90")]
    found = there.deliver(delivery(), None)
    assert isinstance(found, Wait)
    assert found.after == timedelta(seconds=90)
    server.faults = [says(503, Retry_After="Sun, 06 Nov 1994 08:49:37 GMT")]
    found = there.deliver(delivery(), None)
    assert isinstance(found, Wait)
    assert found.after == timedelta(seconds=1)


def test_a_server_that_is_not_there_has_nothing(server: FhirServer) -> None:
    there = destination(server)
    server.close()
    found = there.deliver(delivery(), None)
    assert isinstance(found, Again)
    assert found.cause.code is CauseCode.DESTINATION_UNAVAILABLE


def test_credentials_come_from_files_and_are_read_again(server: FhirServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    there = destination(server, token_file=token)
    found = there.deliver(delivery(), None)
    assert isinstance(found, Wait)
    assert str(token) in found.cause.detail
    for secret in ("one", "two"):
        token.write_text(f"{secret}\n")
        there.deliver(delivery(), None)
        assert server.headers[-1]["Authorization"] == f"Bearer {secret}"
        assert secret not in repr(there.deliver(delivery(), None))
    basic = destination(server, username="ecluse", password_file=token)
    assert isinstance(basic.deliver(delivery(), None), Delivered)
    assert server.headers[-1]["Authorization"] == "Basic ZWNsdXNlOnR3bw=="


def test_tls_proves_the_server_and_us(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    own = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    client = authority.issue("gateway")
    server = FhirServer(context)
    try:
        tls = ClientTlsSettings(
            ca=authority.certificate, certificate=client.certificate, key=client.key
        )
        assert isinstance(destination(server, tls=tls).deliver(delivery(), None), Delivered)
        for wrong in (
            ClientTlsSettings(ca=stranger.certificate),
            ClientTlsSettings(ca=authority.certificate, server_name="elsewhere.example"),
        ):
            found = destination(server, tls=wrong).deliver(delivery(), None)
            assert isinstance(found, Again)
            assert found.cause.code is CauseCode.DESTINATION_UNAVAILABLE
    finally:
        server.close()


# --- through the pipeline ---------------------------------------------------------------


def fhir_rig(make_rig: Callable[..., Rig], server: FhirServer, **treatment: Any) -> Rig:
    rig = make_rig(destinations=[destination(server)])
    policy = DestinationPolicy(**{"breaker": BreakerPolicy(failures=0), **treatment})
    rig.drainer = rig.new_drainer(treatment={"region": policy})
    return rig


def until_delivered(rig: Rig, clock: HeldClock, rounds: int = 20) -> None:
    for _ in range(rounds):
        rig.settle()
        clock.forward(minutes=16)
    rig.settle()


def test_faults_of_all_kinds_lose_double_and_disorder_nothing(
    make_rig: Callable[..., Rig], server: FhirServer, clock: HeldClock
) -> None:
    rig = fhir_rig(make_rig, server)
    server.faults = [
        fhir_server.resets_after_applying, says(503), fhir_server.resets, says(500),
        fhir_server.garbage, says(409, outcome("conflict")), says(429), says(200, b"{}"),
    ]  # fmt: skip
    sent = [rig.send({"patient": [national(n % 3)], "facts": [f"f{n}"]}) for n in range(12)]
    until_delivered(rig, clock)
    assert {rig.state(each) for each in sent} == {MessageState.DELIVERED}
    assert len(server.named("Observation")) == 12
    assert {server.resources[each][0] for each in server.named("Observation")} == {1}
    names = {
        reference: resource["code"]["text"]
        for reference, (_, resource) in server.resources.items()
        if reference.startswith("Observation/")
    }
    for patient in range(3):
        mine = [n for n in (int(names[each][1:]) for each in server.order()) if n % 3 == patient]
        assert list(dict.fromkeys(mine)) == sorted(set(mine))


def test_an_older_message_that_comes_late_turns_nothing_back(
    make_rig: Callable[..., Rig], server: FhirServer, clock: HeldClock
) -> None:
    from deadletter import replay, triage
    from gateway.journal.values import DeadLetterFilter

    rig = fhir_rig(make_rig, server)
    server.faults = [says(422, outcome("invalid"))]
    early = rig.send({"patient": [national(1)], "facts": ["same", "only-early"]})
    late = rig.send({"patient": [national(1)], "facts": ["same"]})
    rig.settle()
    assert rig.state(early) is MessageState.DEAD
    assert rig.state(late) is MessageState.DELIVERED
    assert len(triage.letters(rig.journal)) == 1
    before = len(server.order())
    replay.replay(rig.journal, DeadLetterFilter(), actor="tester", key="k1", reason="")
    rig.settle()
    assert rig.state(early) is MessageState.DELIVERED
    assert len(server.order()) == before + 1
    assert len(server.named("Observation")) == 2


def test_passing_lets_those_behind_go_and_blocking_does_not(
    make_rig: Callable[..., Rig], server: FhirServer, clock: HeldClock
) -> None:
    for passes in (False, True):
        rig = fhir_rig(make_rig, server, passes=passes)
        facts = [f"{passes}-first", f"{passes}-second"]
        server.faults = [says(409, outcome("conflict"))]
        first = rig.send({"patient": [national(5)], "facts": facts[:1]})
        second = rig.send({"patient": [national(5)], "facts": facts[1:]})
        rig.settle()
        assert rig.state(first) is MessageState.ROUTED
        assert rig.state(second) is (MessageState.DELIVERED if passes else MessageState.ROUTED)
        clock.forward(minutes=1)
        rig.settle()
        assert rig.state(first) is rig.state(second) is MessageState.DELIVERED
        rig.close()
        if not passes:
            with rig.journal.read() as connection:
                assert deliveries.counts(connection)[("region", DeliveryState.DELIVERED)] == 2
            break

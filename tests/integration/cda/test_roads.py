"""One document by every road: the same bytes, the same identifiers, the same entries."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.cda.transmitted import CdaHeaders
from gateway.journal import messages
from gateway.journal.states import MessageState
from gateway.journal.values import MessageFilter
from tests.eventually import eventually
from tests.integration.faces.house import House, running_house
from tests.integration.french.sending import accept, content
from tests.integration.mail.mails import mail, mssante, written
from tests.integration.xdm.archives import archive
from tests.unit.hl7.transmissions import DOCTOR, INS, PATIENT, SENDER, encoded, message

DOCUMENTS = (
    "BIO-CR-BIO_2024.01_TSH_1.xml",  # structured, with results
    "IMG_CR_IMG_2024.01.xml",  # with a study, an accession number and an order
    "DOC_NON_STRUCTURE_CDA-R2-N1.xml",  # a PDF behind a header
)
MORE = """
  - {{name: several, type: cda-http}}
  - {{name: drop, type: cda-folder, path: '{folder}/drop', poll_seconds: 0.02, settle_seconds: 0}}
  - {{name: archives, type: xdm-http}}
  - {{name: packed, type: xdm-folder, path: '{folder}/packed', poll_seconds: 0.02, settle_seconds: 0}}
  - {{name: post, type: smtp, listen: '127.0.0.1:0', recipients: ['@cabinet.mssante.fr'], others: leave}}
  - {{name: letters, type: smtp, listen: '127.0.0.1:0', recipients: ['@cabinet.mssante.fr']}}
"""
ENVELOPE = {
    "Encounter": "PV1: the stay that the message names; the document names its own",
    "Patient": "PID: the identity as the sender's system has it goes before that in the document",
    "DocumentReference.extension": "PRT: who sends it, to whom it goes and where an answer goes",
    "DocumentReference.meta": "OBX of MetaDMPMSS: where the document is to go and who may see it",
}
"""What a message that carries a document adds to its entries, and why that is right."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("roads")
    with running_house(folder, more=MORE.format(folder=folder)) as made:
        yield made


def post(house: House, path: str, body: bytes, kind: str) -> None:
    with house.client() as client:
        answer = client.post(f"/intake/{path}", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 201, answer.text


def in_a_form(house: House, data: bytes) -> None:
    with house.client() as client:
        answer = client.post("/intake/cda/several", files={"d": ("d.xml", data, "text/xml")})
        assert answer.status_code == 201, answer.text


def drop(house: House, name: str, file: str, data: bytes) -> None:
    incoming = Path(house.source(name))
    (incoming / f"{file}.part").write_bytes(data)
    (incoming / f"{file}.part").rename(incoming / file)
    eventually((incoming.parent / "accepted" / file).exists, timeout=30)


def mailed(house: House, name: str, data: bytes) -> None:
    host, _, port = house.source(name).rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        assert client.sendmail("a@labo.mssante.fr", "b@cabinet.mssante.fr", data) == {}


def entries(house: House, source: str, control_id: str) -> dict[str, dict[str, Any]]:
    """What a message became, by reference."""
    with house.gateway.journal.read() as connection:
        wanted = MessageFilter(source=source, control_id=control_id)
        [one] = messages.page(connection, wanted, limit=2)
    assert one.state is MessageState.DELIVERED
    with house.client() as client:
        life = client.get(f"/api/v1/messages/{one.id}?resources=true").json()
    return {each["reference"]: each["resource"] for each in life["normalised"]["entries"]}


def bytes_of(house: House, found: dict[str, dict[str, Any]], identifier: str) -> bytes:
    """What the record has as the document itself."""
    wanted = f"urn:oid:{identifier.replace('^', '.')}"
    [one] = [
        each for each in found.values()
        if each["resourceType"] == "DocumentReference"
        and each["masterIdentifier"]["value"] in (wanted, identifier.rpartition("^")[2])
    ]  # fmt: skip
    return content(house, one["content"][0]["attachment"]["url"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_road_gives_the_same_entries(house: House, shared: Path, name: str) -> None:
    data = (shared / "corpora" / "cda" / name).read_bytes()
    header = CdaHeaders().header(data)
    assert header is not None
    assert INS in {each.value for each in header.patient}
    packed = archive(data)
    roads: dict[str, Callable[[], None]] = {
        "practice": lambda: post(house, "cda/practice", data, "application/xml"),
        "several": lambda: in_a_form(house, data),
        "drop": lambda: drop(house, "drop", name, data),
        "archives": lambda: post(house, "xdm/archives", packed, "application/zip"),
        "packed": lambda: drop(house, "packed", f"{name}.zip", packed),
        "post": lambda: mailed(house, "post", written(mssante(packed))),
        "letters": lambda: mailed(house, "letters", written(mail((name, "text/xml", data)))),
    }
    for send in roads.values():
        send()
    for kind in ("ORU", "MDM"):
        sent = message(
            kind=kind, documents=(encoded(data),), control_id=f"{kind}-{name[:9]}",
            number=header.identifier.replace("^", "."), participations=(SENDER, DOCTOR, PATIENT),
        )  # fmt: skip
        accept(house, sent)
    first: dict[str, dict[str, Any]] = {}
    for road in roads:
        found = entries(house, road, header.identifier)
        assert bytes_of(house, found, header.identifier) == data, road
        first = first or found
        assert found == first, road
    for kind in ("ORU", "MDM"):
        found = entries(house, "lab", f"{kind}-{name[:9]}")
        assert bytes_of(house, found, header.identifier) == data, kind
        assert differing(first, found) == set(ENVELOPE), kind


def differing(alone: dict[str, dict[str, Any]], carried: dict[str, dict[str, Any]]) -> set[str]:
    """Where the entries of a carried document are not those of the same document alone."""
    assert alone.keys() <= carried.keys(), "an entry of the document is missing"
    found = {carried[each]["resourceType"] for each in carried.keys() - alone.keys()}
    for reference, resource in alone.items():
        other = carried[reference]
        if resource == other:
            continue
        kind = resource["resourceType"]
        if kind == "Patient":
            found.add(kind)
            continue
        for element in resource.keys() | other.keys():
            mine, theirs = resource.get(element), other.get(element)
            if mine != theirs:
                found.add(f"{kind}.{element}")
                # Added to, never changed.
                assert mine is None or all(each in theirs for each in mine)
    return found

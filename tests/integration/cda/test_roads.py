"""All documents by every road: the same bytes, the same identifiers, the same entries."""

from __future__ import annotations

import hashlib
import json
import smtplib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.cda.transmitted import CdaHeaders
from gateway.documents import DocumentHeader
from gateway.journal import entries, messages
from gateway.journal.states import MessageState
from gateway.journal.values import MessageFilter
from tests.eventually import eventually
from tests.integration.doors.roads import XDS, documents, until_open
from tests.integration.faces.house import House, running_house
from tests.integration.french.sending import answers, content, told
from tests.integration.mail.mails import mail, mssante, written
from tests.integration.xdm.archives import archive
from tests.integration.xds.submissions import REPOSITORY, fetch, provide
from tests.unit.hl7.transmissions import DOCTOR, INS, PATIENT, SENDER, encoded, message

# All documents by all roads, in one fixture: 300 messages.
pytestmark = pytest.mark.timeout(900)

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
    "DocumentReference.relatesTo": "TXA-13: what is replaced as one OID, where the document itself "
    "names it with an extension",
    "DocumentReference.meta": "OBX of MetaDMPMSS: where the document is to go and who may see it",
}
"""What a message that carries a document adds to its entries, and why that is right."""
LOCAL_ROLES = {"CNAM-HR_2021.01.xml", "VAC_2023.01.xml"}
"""Documents with somebody whom only a number of the sender's own names: that person's role is
another one by each source, and everything else is the same."""


@dataclass
class Document:
    """One example, and what its messages became: entries by reference, by road."""

    number: int
    name: str
    data: bytes
    header: DocumentHeader
    made: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @property
    def control_id(self) -> str:
        return self.header.identifier


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("roads")
    with running_house(folder, more=MORE.format(folder=folder) + XDS) as made:
        until_open(made)
        yield made


def posted(house: House, path: str, bodies: Sequence[bytes], kind: str) -> None:
    with house.client() as client:
        for body in bodies:
            answer = client.post(f"/intake/{path}", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 201, answer.text


def in_a_form(house: House, given: Sequence[Document]) -> None:
    files = [("d", (each.name, each.data, "text/xml")) for each in given]
    with house.client() as client:
        answer = client.post("/intake/cda/several", files=files, timeout=httpx2.Timeout(120))
        assert answer.status_code == 201, answer.text


def dropped(house: House, name: str, files: Mapping[str, bytes]) -> None:
    incoming = Path(house.source(name))
    for file, data in files.items():
        (incoming / f"{file}.part").write_bytes(data)
        (incoming / f"{file}.part").rename(incoming / file)
    accepted = incoming.parent / "accepted"
    eventually(lambda: {each.name for each in accepted.iterdir()} >= files.keys(), timeout=120)


def mailed(house: House, name: str, mails: Sequence[bytes]) -> None:
    host, _, port = house.source(name).rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=60) as client:
        for each in mails:
            assert client.sendmail("a@labo.mssante.fr", "b@cabinet.mssante.fr", each) == {}


def submitted(house: House, given: Sequence[Document]) -> None:
    for each in given:
        answer = provide(f"{house.url}/intake/xds", [each.data])
        assert (answer.outcome, answer.codes) == ("Success", []), each.name


def carried(kind: str, one: Document) -> bytes:
    """The document in a message of the profile: a first version, or one that replaces."""
    ins = next(each for each in one.header.patient if each.type == "INS")
    parent = next((other for code, other in one.header.related if code == "RPLC"), "")
    return message(
        kind=kind, documents=(encoded(one.data),), control_id=f"{kind}-{one.number}",
        number=one.control_id.replace("^", "."), parent=parent.replace("^", "."),
        status="C" if parent else "F",
        participations=(SENDER, DOCTOR, PATIENT.replace(INS, ins.value)),
        identifiers=f"{ins.value}^^^ASIP-SANTE-INS-NIR&{ins.system.removeprefix('urn:oid:')}"
        "&ISO^INS",
    )  # fmt: skip


def read(house: House, source: str, control_id: str) -> dict[str, dict[str, Any]]:
    """What the one message with this id became, by reference; empty where it became nothing."""
    with house.gateway.journal.read() as connection:
        wanted = MessageFilter(source=source, control_id=control_id)
        found = messages.page(connection, wanted, limit=2)
        assert len(found) == 1, (source, control_id)
        one = found[0]
        if one.state is not MessageState.DELIVERED:
            return {}
        kept = entries.normalised(connection, one.id)
    assert kept is not None
    plain = json.loads(json.dumps([each.resource for each in kept.entries], default=str))
    return {f"{each['resourceType']}/{each['id']}": each for each in plain}


@pytest.fixture(scope="module")
def given(house: House, shared: Path) -> list[Document]:
    """All documents, sent by all roads."""
    found = []
    for number, path in enumerate(documents(shared), 1):
        data = path.read_bytes()
        header = CdaHeaders().header(data)
        assert header is not None
        found.append(Document(number, path.name, data, header))
    bodies = [each.data for each in found]
    archives = {f"{each.name}.zip": archive(each.data) for each in found}
    some = found[::6]  # of what is another shape of the same road
    letters = [written(mail((each.name, "text/xml", each.data))) for each in some]
    roads: dict[str, Callable[[], None]] = {
        "practice": lambda: posted(house, "cda/practice", bodies, "application/xml"),
        "several": lambda: in_a_form(house, some),
        "drop": lambda: dropped(house, "drop", {each.name: each.data for each in found}),
        "archives": lambda: posted(
            house, "xdm/archives", list(archives.values()), "application/zip"
        ),
        "packed": lambda: dropped(house, "packed", archives),
        "post": lambda: mailed(
            house, "post", [written(mssante(each)) for each in archives.values()]
        ),
        "letters": lambda: mailed(house, "letters", letters),
        "documents": lambda: submitted(house, found),
    }
    for send in roads.values():
        send()
    for kind in ("ORU", "MDM"):
        for answer in answers(house, *(carried(kind, each) for each in found)):
            assert told(answer) == ("AA", "", ""), answer
    eventually(house.settled, timeout=300)
    for each in found:
        for road in roads:
            if road in ("several", "letters") and each not in some:
                continue
            each.made[road] = read(house, road, each.control_id)
        for kind in ("ORU", "MDM"):
            each.made[kind] = read(house, "lab", f"{kind}-{each.number}")
    return found


def digest_in(made: Mapping[str, Mapping[str, Any]], one: Document) -> str:
    """The SHA-256 of what the entries have as the document itself."""
    wanted = f"urn:oid:{one.control_id.replace('^', '.')}".lower()
    plain = one.control_id.lower()
    [found] = [
        each for each in made.values()
        if each["resourceType"] == "DocumentReference"
        and (each["masterIdentifier"]["value"].lower() in (wanted, plain.rpartition("^")[2])
             or each["masterIdentifier"]["value"].lower().endswith(plain))
    ]  # fmt: skip
    return str(found["content"][0]["attachment"]["url"]).removeprefix("Binary/")


@pytest.fixture(scope="module")
def whole(given: list[Document]) -> list[Document]:
    """Those that become entries: what one road does not take, none does."""
    for each in given:
        taken = {road for road in each.made.keys() - {"ORU", "MDM"} if each.made[road]}
        assert taken in (set(), each.made.keys() - {"ORU", "MDM"}), each.name
        assert not taken or (each.made["ORU"] and each.made["MDM"]), each.name
    found = [each for each in given if each.made["practice"]]
    assert len(found) >= 30
    return found


def test_every_road_keeps_every_document_byte_for_byte(house: House, whole: list[Document]) -> None:
    for each in whole:
        digest = hashlib.sha256(each.data).hexdigest()
        assert {digest_in(made, each) for made in each.made.values()} == {digest}, each.name
        assert content(house, f"Binary/{digest}") == each.data
    answer = fetch(f"{house.url}/intake/xds", *((REPOSITORY, each.control_id) for each in whole))
    assert (answer.outcome, answer.codes) == ("Success", [])
    assert list(answer.parts.values()) == [each.data for each in whole]


def test_every_road_gives_the_same_entries(whole: list[Document]) -> None:
    for each in whole:
        first = each.made["practice"]
        for road in each.made.keys() - {"ORU", "MDM"}:
            found = each.made[road]
            if each.name in LOCAL_ROLES:
                found = with_roles_of(first, found)
            assert found == first, (each.name, road)


def test_a_message_adds_to_the_entries_and_changes_none(whole: list[Document]) -> None:
    seen = set()
    for each in whole:
        for kind in ("ORU", "MDM"):
            found = each.made[kind]
            if each.name in LOCAL_ROLES:
                found = with_roles_of(each.made["practice"], found)
            more = differing(each.made["practice"], found)
            assert more <= set(ENVELOPE), (each.name, kind)
            seen |= more
    assert seen == set(ENVELOPE)


def with_roles_of(
    first: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The entries with the one role that is the source's own under its id in ``first``."""
    mine = [each for each in first.keys() - found.keys() if each.startswith("PractitionerRole/")]
    if not mine:
        return found
    assert len(mine) == 1
    [its] = [
        each
        for each in found.keys() - first.keys()
        if {**found[each], "id": ""} == {**first[mine[0]], "id": ""}
    ]
    text = json.dumps(found).replace(its.partition("/")[2], mine[0].partition("/")[2])
    renamed: dict[str, dict[str, Any]] = json.loads(text)
    return renamed


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

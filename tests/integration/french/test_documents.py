"""CDA in HL7 v2 (CI-SIS) through a real socket into the record: first, replaced, deleted."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gateway.demo.documents import cda_laboratory_report, pdf_letter
from gateway.demo.people import HOSPITAL, TEST_ROOT, Patient
from gateway.ins import key
from gateway.journal.states import MessageState
from tests.integration.faces.house import House
from tests.integration.french.sending import accept, answers, content, found, of_patient, told
from tests.unit.hl7.transmissions import DOCTOR, PATIENT, SENDER, encoded, message

FIRST, SECOND = "2.999.77.1", "2.999.77.2"


def someone(number: int) -> Patient:
    body = f"2790351{number:06d}"
    return Patient(
        ins=body + key(body), ipp=f"IPP{number}", family="ESSAI", given="MARIE",
        all_given="MARIE", sex="F", birth_date="19790328", birthplace="63220",
        street="1 rue", postal_code="75000", city="PARIS",
    )  # fmt: skip


def report(who: Patient, identifier: str, *, replaces: str = "") -> bytes:
    """The demonstration's laboratory report under another id."""
    text = cda_laboratory_report(who).decode()
    text = text.replace('<id root="2.999.250.2.55.20261120.1"/>', f'<id root="{identifier}"/>')
    if replaces:
        end = text.index("<documentationOf")
        text = (
            f'{text[:end]}<relatedDocument typeCode="RPLC"><parentDocument>'
            f'<id root="{replaces}"/></parentDocument></relatedDocument>{text[end:]}'
        )
        assert '<versionNumber value="1"/>' in text
        text = text.replace('<versionNumber value="1"/>', '<versionNumber value="2"/>')
    body = text.encode()
    return body if len(body) % 3 else body + b"\n"  # so that its Base64 has a padding


def identifiers(who: Patient) -> str:
    return f"{who.ins}^^^ASIP-SANTE-INS-NIR&{TEST_ROOT}&ISO^INS~{who.ipp}^^^CHU&{HOSPITAL}&ISO^PI"


def request(who: Patient, **changes: Any) -> bytes:
    mailbox = PATIENT.replace("279035121518989", who.ins)
    return message(
        **{"identifiers": identifiers(who), "participations": (SENDER, DOCTOR, mailbox), **changes}
    )


def document(house: House, who: Patient, identifier: str) -> dict[str, Any]:
    [wanted] = [
        each
        for each in of_patient(house, "DocumentReference", who.ins, TEST_ROOT)
        if each["masterIdentifier"]["value"] == f"urn:oid:{identifier}"
    ]
    return wanted


def digests(resource: dict[str, Any]) -> list[str]:
    return [each["attachment"]["url"].removeprefix("Binary/") for each in resource["content"]]


@pytest.mark.parametrize("kind", ["ORU", "MDM"])
def test_a_document_is_fed_replaced_and_deleted(house: House, kind: str) -> None:
    who = someone(1 if kind == "ORU" else 2)
    one, two = f"{FIRST}.{who.ipp[3:]}", f"{SECOND}.{who.ipp[3:]}"
    body, corrected = report(who, one), report(who, two, replaces=one)
    unpadded = encoded(body).rstrip("=")
    visibility = {"INVISIBLE_PATIENT": "Y", "DESTMSSANTEPAT": "N"}
    accept(
        house,
        request(who, kind=kind, documents=(unpadded,), number=one, control_id=f"{kind}1",
                metadata=visibility),
    )  # fmt: skip
    first = document(house, who, one)
    assert first["status"] == "current"
    assert digests(first)[0] == hashlib.sha256(body).hexdigest()
    assert content(house, first["content"][0]["attachment"]["url"]) == body
    labels = {each["coding"][0]["code"] for each in first["securityLabel"]}
    assert labels == {"N", "INVISIBLE_PATIENT"}
    tags = {each["code"] for each in first["meta"]["tag"]}
    assert {"DESTDMP-Y", "DESTMSSANTEPS-Y", "DESTMSSANTEPAT-N"} <= tags
    roles = [e["extension"][0]["valueCode"] for e in first["extension"] if "extension" in e]
    assert roles == ["SB", "RCT", "RCT"]
    assert of_patient(house, "Observation", who.ins, TEST_ROOT)
    flags = house.number(f"{kind}1")
    with house.client() as client:
        life = client.get(f"/api/v1/messages/{flags}").text
    assert "base64-padding" in life

    accept(
        house,
        request(who, kind=kind, status="C", documents=(encoded(corrected),), number=two,
                parent=one, control_id=f"{kind}2"),
    )  # fmt: skip
    assert document(house, who, one)["status"] == "superseded"
    second = document(house, who, two)
    assert second["status"] == "current"
    assert content(house, second["content"][0]["attachment"]["url"]) == corrected

    accept(
        house,
        request(who, kind=kind, status="D", documents=(encoded(corrected),), number=two,
                control_id=f"{kind}3"),
    )  # fmt: skip
    gone = document(house, who, two)
    assert gone["status"] == "entered-in-error"
    states = {each["status"] for each in of_patient(house, "Observation", who.ins, TEST_ROOT)}
    assert states == {"entered-in-error"}
    # Nothing is deleted: the bytes and every version are there still.
    assert content(house, gone["content"][0]["attachment"]["url"]) == corrected
    with house.client() as client:
        history = client.get(f"/fhir/DocumentReference/{gone['id']}/_history").json()
    assert [each["resource"]["status"] for each in history["entry"]] == [
        "entered-in-error",
        "current",
    ]


def test_a_pdf_beside_the_cda_is_a_document_of_its_own(house: House) -> None:
    who = someone(3)
    body = report(who, f"{FIRST}.3")
    letter = pdf_letter("Compte rendu", ("Un texte.",))
    accept(
        house,
        request(who, kind="ORU", documents=(encoded(body), encoded(letter)), control_id="PAIR"),
    )
    kept = of_patient(house, "DocumentReference", who.ins, TEST_ROOT)
    assert len(kept) == 2
    urls = [part["attachment"]["url"] for each in kept for part in each["content"]]
    assert {content(house, url) for url in urls} >= {body, letter}


def test_a_refusal_reaches_the_sender_and_the_record_holds_nothing(house: House) -> None:
    who, other = someone(4), someone(5)
    body = report(other, f"{FIRST}.4")
    [answer] = answers(
        house, request(who, documents=(encoded(body),), number=f"{FIRST}.4", control_id="WRONG")
    )
    assert told(answer) == ("AE", "207", "904")
    house.wait()
    assert house.state(house.number("WRONG")) is MessageState.REFUSED
    for each in (who, other):
        assert found(house, "Patient", identifier=f"urn:oid:{TEST_ROOT}|{each.ins}") == []
    [again] = answers(
        house, request(who, documents=(encoded(body),), number=f"{FIRST}.4", control_id="WRONG")
    )
    assert told(again) == ("AE", "207", "904")

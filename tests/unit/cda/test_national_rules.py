"""What the official rules miss: each rule of our own catches its fault and names the place."""

from __future__ import annotations

import base64

import pytest

from adapters.cda.document import read_document
from adapters.cda.validation.findings import Finding, Level
from adapters.cda.validation.national import check
from gateway.model import Payload
from tests.unit.cda.samples import PATIENT, document

COMPLETE = PATIENT.replace(
    "<birthTime", "<birthplace><place><addr><county>51215</county></addr></place></birthplace>"
    "<birthTime",
)  # fmt: skip
PDF = base64.b64encode(b"%PDF-1.4\n" + b"x" * 9000 + b"\n%%EOF\n").decode()


def body(content: str, media: str = "application/pdf") -> str:
    return (
        f'<component><nonXMLBody><text mediaType="{media}" representation="B64">{content}</text>'
        "</nonXMLBody></component>"
    )


def findings(text: str | bytes) -> list[Finding]:
    data = text.encode() if isinstance(text, str) else text
    return check(read_document(Payload.from_bytes(data)))


def good(**parts: object) -> str:
    return document(patient=COMPLETE, **parts)  # type: ignore[arg-type]


def test_a_right_document_has_no_finding() -> None:
    assert findings(good(body=body(PDF))) == []


CASES: dict[str, tuple[str, str, Level, str]] = {
    "wrong key": (
        good().replace("279035121518989", "279035121518988"), "INS-CLE", Level.ERROR,
        "/ClinicalDocument/recordTarget/patientRole/id[1]/@extension",
    ),
    "short": (
        good().replace("279035121518989", "2790351215189"), "INS-CLE", Level.ERROR,
        "/ClinicalDocument/recordTarget/patientRole/id[1]/@extension",
    ),
    "social security number": (
        good().replace("1.2.250.1.213.1.4.10", "1.2.250.1.213.1.4.13"), "INS-RACINE", Level.ERROR,
        "/ClinicalDocument/recordTarget/patientRole/id[1]/@root",
    ),
    "no national identifier": (
        good().replace("1.2.250.1.213.1.4.10", "1.2.250.1.999.4"), "INS-ABSENTE", Level.WARNING,
        "/ClinicalDocument/recordTarget/patientRole",
    ),
    "traits incomplete": (
        document(), "INS-TRAITS", Level.ERROR, "/ClinicalDocument/recordTarget/patientRole",
    ),
    "id with extension": (
        good(extension="X1"), "ID-EXTENSION", Level.ERROR, "/ClinicalDocument/id/@extension",
    ),
    "id is a uuid": (
        good(root="6f1f3f0a-6c58-4c39-9d0f-0f5a1e6f2b10"), "ID-OID", Level.ERROR,
        "/ClinicalDocument/id/@root",
    ),
    "leading zero": (
        good(root="1.2.250.01.9"), "OID", Level.ERROR, "/ClinicalDocument/id/@root",
    ),
    "too long": (
        good(root="1.2." + "1234567890." * 6 + "1"), "OID", Level.ERROR,
        "/ClinicalDocument/id/@root",
    ),
    "no zone": (
        good().replace("20240102030405+0100", "20240102030405"), "HEURE-FUSEAU", Level.ERROR,
        "/ClinicalDocument/effectiveTime/@value",
    ),
    "no parent": (
        good(version=2), "PARENT-ABSENT", Level.WARNING, "/ClinicalDocument/versionNumber/@value",
    ),
    "parent without id": (
        good(version=2, body='<relatedDocument typeCode="RPLC"><parentDocument/></relatedDocument>'),
        "PARENT-ID", Level.ERROR, "/ClinicalDocument/relatedDocument",
    ),
    "parent is itself": (
        good(version=2, body='<relatedDocument typeCode="RPLC"><parentDocument>'
             '<id root="1.2.250.1.999.1"/></parentDocument></relatedDocument>'),
        "PARENT-MEME", Level.ERROR, "/ClinicalDocument/relatedDocument/parentDocument/id/@root",
    ),
    "no pdf": (
        good(body=body(base64.b64encode(b"<html>" * 9).decode())), "PDF", Level.ERROR,
        "/ClinicalDocument/component/nonXMLBody/text/@mediaType",
    ),
    "pdf cut": (
        good(body=body(PDF[:4000])), "PDF-TRONQUE", Level.ERROR,
        "/ClinicalDocument/component/nonXMLBody/text",
    ),
    "no base64": (
        good(body=body("%PDF-1.4 ***")), "BASE64", Level.ERROR,
        "/ClinicalDocument/component/nonXMLBody/text",
    ),
    "empty": (
        good(body=body(" ")), "CONTENU-VIDE", Level.ERROR,
        "/ClinicalDocument/component/nonXMLBody/text",
    ),
    "a program": (
        good(body=body(base64.b64encode(b"MZ" * 99).decode(), "application/x-msdownload")),
        "CORPS-TYPE", Level.ERROR, "/ClinicalDocument/component/nonXMLBody/text/@mediaType",
    ),
    "stylesheet": (
        good(declaration='<?xml version="1.0"?><?xml-stylesheet href="a.xsl" type="text/xsl"?>'),
        "FEUILLE-DE-STYLE", Level.WARNING, "/ClinicalDocument",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_fault_is_found_with_its_place(case: str) -> None:
    text, rule, level, xpath = CASES[case]
    found = findings(text)
    assert [(each.rule, each.level, each.xpath) for each in found] == [(rule, level, xpath)]
    assert found[0].line > 0
    assert found[0].text.endswith(".")


def test_no_value_of_the_patient_is_repeated() -> None:
    text = document(extension="SECRET-7").replace("279035121518989", "279035121518980")
    said = " ".join(each.text for each in findings(text))
    assert "279035" not in said
    assert "SECRET" not in said
    assert "ESSAI" not in said


def test_another_encoding_is_an_error() -> None:
    text = good(declaration='<?xml version="1.0" encoding="ISO-8859-1"?>')
    assert [each.rule for each in findings(text.encode("latin-1"))] == ["ENCODAGE"]


def test_a_pdf_with_breaks_anywhere_is_a_pdf() -> None:
    for width in (3, 61, 76, 4097):
        lines = "\n".join(PDF[at : at + width] for at in range(0, len(PDF), width))
        assert findings(good(body=body(lines))) == []

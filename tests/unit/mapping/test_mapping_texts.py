"""Plain texts, codes, systems; bytes and what they are."""

from __future__ import annotations

import base64

import pytest

from gateway.mapping.vocabulary import documents, texts
from gateway.mapping.vocabulary.invalid import Invalid


def test_strings_lose_only_what_no_fhir_string_holds() -> None:
    assert texts.cleaned("a\tb\r\nc") == ("a\tb\r\nc", "")
    assert texts.cleaned("a\x00b\x1fc") == ("abc", "control-character")
    assert texts.cleaned("  ") == (None, "")
    with pytest.raises(Invalid):
        texts.cleaned("x" * (texts.STRING_MAX + 1))


def test_codes_are_trimmed_and_single_spaced() -> None:
    assert texts.code("  a   b ") == "a b"
    assert texts.code("a\x0bb") == "ab"
    assert texts.code(" ") is None


@pytest.mark.parametrize("text", ["Y", "y", "true", "1", "O", "oui"])
def test_true(text: str) -> None:
    assert texts.boolean(text) is True


@pytest.mark.parametrize("text", ["N", "false", "0", "non"])
def test_false(text: str) -> None:
    assert texts.boolean(text) is False


@pytest.mark.parametrize("text", ["", "maybe", '""', "2"])
def test_neither(text: str) -> None:
    with pytest.raises(Invalid):
        texts.boolean(text)


def test_integers_have_bounds() -> None:
    assert texts.integer("3.0") == 3
    assert texts.integer("-7") == -7
    for wrong in ("3.5", "2147483648", "1e3", "", "x"):
        with pytest.raises(Invalid):
            texts.integer(wrong)
    with pytest.raises(Invalid):
        texts.integer("0", 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.250.1.213.1.4.10", "urn:oid:1.2.250.1.213.1.4.10"),
        ("urn:oid:1.2.3", "urn:oid:1.2.3"),
        ("http://example.org/x", "http://example.org/x"),
        ("6F1D3A52-8C5E-5B0E-9D0C-2F6F0F3B7A11", "urn:uuid:6f1d3a52-8c5e-5b0e-9d0c-2f6f0f3b7a11"),
        ("CHU-X", "urn:oid:1.2.250.1.999.1"),
        ("AUTRE", "urn:ecluse:authority:AUTRE"),
        ("a b/é", "urn:ecluse:authority:a%20b%2F%C3%A9"),
        ("1.2", "urn:ecluse:authority:1.2"),
        ("000897406", "urn:ecluse:authority:000897406"),
        (" ", None),
    ],
)
def test_identifier_system(text: str, expected: str | None) -> None:
    assert texts.identifier_system(text, {"CHU-X": "1.2.250.1.999.1"}) == expected


def test_local_code_systems_differ_by_source() -> None:
    assert texts.code_system("L", "labo 1") == "urn:ecluse:code-system:labo%201:L"
    assert texts.code_system("99LAB", "b") == "urn:ecluse:code-system:b:99LAB"
    assert texts.code_system("NABM", "b") == "urn:ecluse:code-system:NABM"
    assert texts.code_system("HL70078", "b") == "http://terminology.hl7.org/CodeSystem/v2-0078"
    assert texts.code_system("2.16.840.1.113883.6.1", "b") == "http://loinc.org"
    assert texts.code_system("1.2.250.1.215.300.1", "b") == "urn:oid:1.2.250.1.215.300.1"


@pytest.mark.parametrize(
    ("data", "media_type", "cda"),
    [
        (b"%PDF-1.4\n", "application/pdf", False),
        (b"\n\n%PDF-1.7", "application/pdf", False),
        (b"{\\rtf1 x}", "application/rtf", False),
        (b"\xff\xd8\xff\xe0", "image/jpeg", False),
        (b"\x89PNG\r\n\x1a\nx", "image/png", False),
        (b"II*\x00", "image/tiff", False),
        (b"PK\x03\x04", "application/zip", False),
        (b"\x00" * 128 + b"DICM", "application/dicom", False),
        (b"<html><body/></html>", "text/html", False),
        (b"<!DOCTYPE html><html/>", "text/html", False),
        (b"<?xml version='1.0'?><a/>", "text/xml", False),
        (b"<?xml version='1.0'?>\n<!-- x --><ClinicalDocument/>", "text/xml", True),
        (b"\xef\xbb\xbf<cda:ClinicalDocument xmlns:cda='urn:hl7-org:v3'/>", "text/xml", True),
        (
            "<?xml version='1.0' encoding='UTF-16'?><ClinicalDocument/>".encode("utf-16"),
            "text/xml",
            True,
        ),
        (b"<xsl:stylesheet><c:ClinicalDocument/></xsl:stylesheet>", "text/xml", True),
        (b"<xsl:stylesheet/>", "text/xml", False),
        ("Compte rendu é".encode(), "text/plain", False),
        ("Compte rendu é".encode("latin-1"), "text/plain", False),
        (b"\x00\x01\x02", "application/octet-stream", False),
    ],
)
def test_sniff(data: bytes, media_type: str, cda: bool) -> None:
    assert documents.sniff(data) == (media_type, cda)


def test_base64_without_padding_is_read_and_noted() -> None:
    data = b"abcde"
    packed = base64.b64encode(data)
    assert documents.decode(packed, "Base64") == (data, "")
    assert documents.decode(packed.rstrip(b"="), "B64") == (data, "base64-padding")
    assert documents.decode(packed[:4] + b"\r\n" + packed[4:], "base64") == (data, "")
    assert documents.decode(b"616263", "Hex") == (b"abc", "")
    assert documents.decode(b"abc", "A") == (b"abc", "")


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"abc!", "Base64"),
        (b"abcde", "Base64"),
        (b"a=bc", "Base64"),
        (b"", "Base64"),
        (b"6", "Hex"),
        (b"x", "zip"),
    ],
)
def test_what_cannot_be_decoded(data: bytes, encoding: str) -> None:
    with pytest.raises(Invalid):
        documents.decode(data, encoding)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["AP", "PDF"], "application/pdf"),
        (["application/pdf"], "application/pdf"),
        (["TEXT", "XML"], "text/xml"),
        (["text", ""], "text/plain"),
        (["", ""], ""),
        (["image", "jpeg"], "image/jpeg"),
    ],
)
def test_declared_type(parts: list[str], expected: str) -> None:
    assert documents.declared_type(parts) == expected


def test_the_id_of_a_cda_is_found_at_its_start() -> None:
    document = (
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><realmCode code="FR"/>'
        b'<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
        b"<templateId root='1.2'/><id extension='A1' root=\"1.2.250.1\"/><setId root='9'/>"
    )
    assert documents.cda_document_id(document) == "1.2.250.1^A1"
    assert documents.cda_document_id(document.replace(b" extension='A1'", b"")) == "1.2.250.1"
    assert documents.cda_document_id(b"%PDF-1.4") is None
    assert documents.cda_document_id(b"<ClinicalDocument/>") is None

"""Hardened reading: what is taken, what is refused, and that nothing outside is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from adapters.cda.document import Limits, read_document
from adapters.cda.header import read_header
from adapters.cda.prolog import NotReadable
from gateway.model import CauseCode, Identifier, Payload
from tests.canary import SECRET, Canary, canaries
from tests.hostile import DOCUMENTS
from tests.unit.cda.samples import HEAD, TAIL, TYPE_ID, document, encoded

START = HEAD + TYPE_ID + '<id root="1.2.3"/>'


def read(data: bytes, **options: object) -> str:
    """The document's title, or raises."""
    found = read_document(Payload.from_bytes(data), **options)  # type: ignore[arg-type]
    return found.root.findtext("{*}title") or ""


def refusal(data: bytes, **options: object) -> NotReadable:
    with pytest.raises(NotReadable) as caught:
        read(data, **options)
    return caught.value


# --- what is taken ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declaration", "codec"),
    [
        ('<?xml version="1.0" encoding="UTF-8"?>', "utf-8"),
        ("", "utf-8"),
        ('<?xml version="1.0" encoding="UTF-8"?>', "utf-8-sig"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>', "iso-8859-1"),
        ("<?xml version='1.0' encoding='iso-8859-15' standalone='yes'?>", "iso-8859-15"),
        ('<?xml version="1.0" encoding="windows-1252"?>', "cp1252"),
        ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16"),
        ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16-be"),
        ('<?xml version="1.0" encoding="UTF-16LE"?>', "utf-16-le"),
    ],
)
def test_encodings_are_read_as_declared(declaration: str, codec: str) -> None:
    text = f"{declaration}{START}<title>Épreuve à l'œil nu{TAIL[:0]}</title>{TAIL}"
    if codec == "iso-8859-1":
        text = text.replace("œ", "oe")
        assert read(text.encode(codec)) == "Épreuve à l'oeil nu"
    else:
        assert read(text.encode(codec)) == "Épreuve à l'œil nu"


def test_a_comment_does_not_cut_a_name() -> None:
    found = read_document(Payload.from_bytes(encoded()))
    family = found.root.find(".//{*}family")
    assert family is not None
    assert family.text == "ESSAI-DEUX"


@pytest.mark.parametrize("wrapped", ["text", "cdata"])
def test_a_pdf_of_30_mb_inside_passes(wrapped: str) -> None:
    base64 = "QUJD" * (10 << 20)  # 40 MiB of Base64 hold 30 MiB
    inner = f"<![CDATA[{base64}]]>" if wrapped == "cdata" else base64
    found = read_document(Payload.from_bytes(f"{START}<title>{inner}</title>{TAIL}".encode()))
    assert found.root.findtext("{*}title") == base64


def test_stylesheet_instructions_are_ignored_and_kept_out_of_the_tree() -> None:
    data = encoded().replace(b"?><Clin", b'?><?xml-stylesheet type="text/xsl" href="x"?><Clin')
    found = read_document(Payload.from_bytes(data))
    assert found.root.getprevious() is None
    assert found.payload.read() == data


def test_the_self_presenting_and_the_signed_form_are_found() -> None:
    inner = document(declaration="")
    sheet = (
        '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
        f'<d:Contenu xmlns:d="urn:asip-sante:ci-sis">{inner}</d:Contenu>'
        '<xsl:template match="/"><ClinicalDocument xmlns="urn:hl7-org:v3"/></xsl:template>'
        "</xsl:stylesheet>"
    )
    signed = (
        '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo/>'
        f"<ds:Object>{inner}</ds:Object></ds:Signature>"
    )
    assert read_document(Payload.from_bytes(sheet.encode())).form == "self-presenting"
    assert read_document(Payload.from_bytes(signed.encode())).form == "signed"
    twice = signed.replace("</ds:Object>", f"</ds:Object><ds:Object>{inner}</ds:Object>")
    assert refusal(twice.encode()).code is CauseCode.NOT_THE_FORMAT


# --- what is refused ----------------------------------------------------------------

REFUSED = {name: case for name, case in DOCUMENTS.items() if case.cause}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_cause_and_place(name: str) -> None:
    case = REFUSED[name]
    refused = refusal(case.data())
    assert refused.code == case.cause
    assert refused.location.startswith(case.location)
    assert bool(refused.location) == bool(case.location)


def test_nothing_at_all_has_no_place() -> None:
    refused = refusal(b"")
    assert (refused.code, refused.location) == (CauseCode.NOT_THE_FORMAT, "")


@pytest.mark.parametrize(
    ("limits", "body"),
    [
        (Limits(elements_max=1000), "<a/>" * 999),
        (Limits(attributes_max=100), '<a b=""/>' * 99),
        (Limits(element_attributes_max=2), '<a b="" c="" d=""/>'),
        (Limits(depth_max=5), "<a>" * 5 + "</a>" * 5),
    ],
)
def test_every_limit_holds(limits: Limits, body: str) -> None:
    assert refusal((START + body + TAIL).encode(), limits=limits).code is CauseCode.HOSTILE_CONTENT
    assert read((START + body + TAIL).encode()) == ""


def test_a_refusal_repeats_nothing_of_the_document() -> None:
    for data in (
        (START + "<name DUPONT></name>" + TAIL).encode(),
        (START + "<name>DUPONT</nom>" + TAIL).encode(),
        (START + "<name>DUPONT é</name>" + TAIL).encode("latin-1"),
        (START + "<name>&DUPONT;</name>" + TAIL).encode(),
    ):
        refused = refusal(data)
        assert "DUPONT" not in f"{refused}{refused.location}{refused.__cause__}"


def test_bytes_beyond_the_limit_are_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    with path.open("wb") as stream:
        stream.truncate(2048)
    payload = Payload("0" * 64, 2048, path=path)
    path.unlink()
    with pytest.raises(NotReadable) as caught:
        read_document(payload, limits=Limits(bytes_max=2047))
    assert caught.value.code is CauseCode.FRAME_OVERSIZED


# --- the transport's charset --------------------------------------------------------


def test_the_transports_charset_decides_where_the_document_says_nothing() -> None:
    data = (START + "<title>été</title>" + TAIL).encode("iso-8859-1")
    assert read(data, encoding="iso-8859-1") == "été"


def test_a_contradiction_about_the_encoding_is_refused_and_not_guessed() -> None:
    text = '<?xml version="1.0" encoding="UTF-8"?>' + START + "<title>{}</title>" + TAIL
    assert refusal(text.format("é").encode(), encoding="iso-8859-1").code is CauseCode.CHARACTER_SET
    assert read(text.format("e").encode(), encoding="iso-8859-1") == "e"
    assert read(text.format("é").encode(), encoding="UTF-8") == "é"


# --- canaries -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    with canaries(tmp_path_factory.mktemp("canary")) as found:
        yield found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_external_file_is_read_and_no_socket_opened(name: str, canary: Canary) -> None:
    data = canary.placed(DOCUMENTS[name].data())
    if DOCUMENTS[name].cause:
        refused = refusal(data)
        assert SECRET not in f"{refused}{refused.location}"
    else:
        found = read_document(Payload.from_bytes(data))
        assert SECRET.encode() not in etree.tostring(found.root)
    assert canary.heard == []
    assert not canary.opened()


# --- header -------------------------------------------------------------------------


def test_the_header_says_id_type_patient_and_version() -> None:
    header = read_header(read_document(Payload.from_bytes(encoded(extension="A1", version=3))))
    assert header.control_id == "1.2.250.1.999.1^A1"
    assert header.kind == "11502-2"
    assert header.subject == (
        Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value="279035121518989", type="INS"),
        Identifier(system="urn:oid:1.2.3.4.5", value="IPP-1"),
    )
    assert dict(header.attributes) == {
        "set_id": "1.2.250.1.999",
        "version_number": "3",
        "form": "plain",
    }


def test_identifiers_without_extension_or_with_a_uuid_root() -> None:
    patient = (
        '<recordTarget><patientRole><id root="9F1C6B52-8C5E-4B0E-9D0C-2F6F0F3B7A11"/>'
        '<id nullFlavor="UNK"/><id root="1.2.3" extension=" 7 "/></patientRole></recordTarget>'
    )
    header = read_header(read_document(Payload.from_bytes(encoded(patient=patient))))
    assert header.subject == (
        Identifier(
            system="urn:ietf:rfc:3986", value="urn:uuid:9f1c6b52-8c5e-4b0e-9d0c-2f6f0f3b7a11"
        ),
        Identifier(system="urn:oid:1.2.3", value="7"),
    )


def test_an_endless_identifier_is_refused() -> None:
    with pytest.raises(NotReadable) as caught:
        read_header(read_document(Payload.from_bytes(encoded(root="1." * 200 + "1"))))
    assert caught.value.location == "/ClinicalDocument/id"


def test_every_document_of_the_corpus_is_read(shared: Path) -> None:
    paths = sorted((shared / "corpora" / "cda").glob("*.xml"))
    assert len(paths) == 36
    ids = set()
    for path in paths:
        header = read_header(read_document(Payload.from_file(path)))
        assert header.kind, path.name
        assert header.subject, path.name
        assert header.attributes["set_id"], path.name
        ids.add(header.control_id)
    assert len(ids) == 36

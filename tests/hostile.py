"""Everything hostile or wrong that may come to the doors of documents: one table, read by the tests.

The numbers are those of the project's catalogue of bad input: 49 to 59 documents, 60 and 61 archives,
62, 63 and 67 the ways in themselves, 65 FHIR where a document is expected, 66 chains of replacement.
``cause`` is what the refusal is filed under; empty where the right thing is to take the document,
keep its bytes, and act on nothing in it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from tests.integration.xdm.archives import (
    FOLDER,
    PATIENT,
    archive,
    entry,
    files_of,
    metadata,
    packed,
)
from tests.unit.cda.samples import BODY, TYPE_ID, document, encoded
from tests.unit.hl7.transmissions import cda

LINK, FILE = "http://127.0.0.1:PORT/", "file:///CANARY"
"""Replaced by a listener and a file of the test's, neither of which may be touched."""


@dataclass(frozen=True)
class HostileDocument:
    """A document, and what becomes of it. ``location`` is how the place of the fault begins."""

    number: int
    data: Callable[[], bytes]
    cause: str = ""
    status: int = 400
    location: str = ""
    packed: str = ""
    """The cause by the roads of archives, where that is refused before the document is read."""


def doctype(inside: str, use: str = "") -> Callable[[], bytes]:
    return lambda: encoded(declaration=f"<!DOCTYPE x {inside}>").replace(
        b"CR d", use.encode() + b"d"
    )


def body(text: str) -> Callable[[], bytes]:
    return lambda: encoded(body=text)


def attached(media_type: str, content: bytes) -> Callable[[], bytes]:
    coded = base64.b64encode(content).decode()
    return body(
        f'<component><nonXMLBody><text mediaType="{media_type}" representation="B64">{coded}</text>'
        "</nonXMLBody></component>"
    )


def declared(encoding: str, codec: str = "utf-8") -> Callable[[], bytes]:
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>'
    return lambda: document(declaration=declaration).replace("ESSAI", "ÉTÉ").encode(codec)


def laughs() -> str:
    made = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">'
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    return f"[{made}]"


def eleven_megabytes() -> bytes:
    """That much Base64, which cannot be packed much tighter."""
    return attached("application/pdf", random.Random(54).randbytes((11 << 20) * 3 // 4))()


def in_a_stylesheet() -> bytes:
    """The self-presenting form of the CI-SIS, with a style sheet that reads and writes."""
    return (
        '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform" '
        f'xmlns:exsl="http://exslt.org/common"><xsl:import href="{LINK}import.xsl"/>'
        f'<xsl:template match="/"><xsl:copy-of select="document(\'{FILE}\')"/>'
        f'<exsl:document href="{FILE}"/></xsl:template>'
        f'<cisis:Contenu xmlns:cisis="urn:asip-sante:ci-sis">{document(declaration="")}'
        "</cisis:Contenu></xsl:stylesheet>"
    ).encode()


def replacing(*parents: str) -> Callable[[], bytes]:
    links = "".join(
        f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{each}"/></parentDocument>'
        "</relatedDocument>" for each in parents
    )  # fmt: skip
    return body(links)


def bundle(entries: int, depth: int) -> dict[str, object]:
    nested: dict[str, object] = {"url": "urn:x", "valueDecimal": "1e400"}
    for _ in range(depth):
        nested = {"extension": [nested]}
    circular = {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "List", "id": "1", **nested,
                "entry": [{"item": {"reference": "List/1"}}]}}  # fmt: skip
    return {"resourceType": "Bundle", "type": "document", "entry": [circular] * entries}


def many_attributes() -> bytes:
    found = " ".join(f'a{n}=""' for n in range(200_000))
    return body(f"<a {found}/>")()


DOCUMENTS: dict[str, HostileDocument] = {
    "a file as an entity": HostileDocument(
        49, doctype(f'[<!ENTITY e SYSTEM "{FILE}">]', "&e;"), "hostile-content", location="line"),
    "an address as an entity": HostileDocument(
        49, doctype(f'[<!ENTITY e SYSTEM "{LINK}">]', "&e;"), "hostile-content", location="line"),
    "a parameter entity": HostileDocument(
        49, doctype(f'[<!ENTITY % e SYSTEM "{LINK}"> %e;]'), "hostile-content", location="line"),
    "an inclusion": HostileDocument(
        49, body(f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{FILE}" parse="text"/>'
                 f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{LINK}"/>')),
    "a schema from elsewhere": HostileDocument(
        49, lambda: encoded().replace(b'xmlns="urn:hl7-org:v3"', b'xmlns="urn:hl7-org:v3" xmlns:x='
            b'"http://www.w3.org/2001/XMLSchema-instance" x:schemaLocation="urn:hl7-org:v3 %b"' % LINK.encode())),
    "a billion laughs": HostileDocument(50, doctype(laughs(), "&i;"), "hostile-content", location="line"),
    "quadratic laughs": HostileDocument(
        50, lambda: encoded(declaration=f'<!DOCTYPE x [<!ENTITY a "{"x" * 50_000}">]>').replace(
            b"CR d", b"&a;" * 20_000), "hostile-content", location="line"),
    "an entity nobody declared": HostileDocument(
        50, lambda: encoded().replace(b"CR d", b"&h;"), "hostile-content", location="line"),
    "an external DTD by HTTP": HostileDocument(
        51, doctype(f'SYSTEM "{LINK}x.dtd"'), "hostile-content", location="line"),
    "an external DTD in a file": HostileDocument(
        51, doctype(f'PUBLIC "-//X//EN" "{FILE}"'), "hostile-content", location="line"),
    "an internal subset": HostileDocument(
        52, doctype("[<!ELEMENT x ANY>]"), "hostile-content", location="line"),
    "a bare document type": HostileDocument(52, doctype(""), "hostile-content", location="line"),
    "behind comments": HostileDocument(
        52, lambda: b'<?xml version="1.0"?>\n<!-- <a> -->\n<?p x?>\n<!DOCTYPE ClinicalDocument>' + encoded(declaration=""),
        "hostile-content", location="line 4"),
    "3,000 levels": HostileDocument(
        53, body("<component>" * 3000 + "</component>" * 3000), "hostile-content", location="line"),
    "250 levels": HostileDocument(
        53, body("<component>" * 250 + "</component>" * 250), "hostile-content", location="line"),
    "11 MB of Base64": HostileDocument(54, eleven_megabytes),
    "200,000 attributes": HostileDocument(
        55, many_attributes, "hostile-content", location="byte"),
    "300 attributes": HostileDocument(
        55, body("<a " + " ".join(f'a{n}=">"' for n in range(300)) + "/>"), "hostile-content", location="line"),
    "cut": HostileDocument(56, lambda: encoded()[:-3], "unreadable", location="line"),
    "more behind it": HostileDocument(56, lambda: encoded() + b"<x/>", "unreadable", location="line"),
    "an attribute without a value": HostileDocument(
        56, lambda: encoded().replace(b"<title>", b"<title x>"), "unreadable", location="line"),
    "an endless comment": HostileDocument(
        56, lambda: b"<!--" + b"x" * (2 << 20) + b"-->", "not-the-format", location="prolog",
        packed="hostile-content"),
    "a comment without an end": HostileDocument(56, lambda: b"<!-- never", "unreadable", location="prolog"),
    "UTF-7": HostileDocument(56, declared("UTF-7"), "character-set", location="line 1"),
    "an encoding that nobody knows": HostileDocument(
        56, declared("no-such"), "character-set", location="line 1"),
    "UTF-16 that is none": HostileDocument(56, declared("UTF-16"), "character-set", location="line 1"),
    "UTF-16 that is one": HostileDocument(56, declared("UTF-16", "utf-16")),
    "half a UTF-16": HostileDocument(56, lambda: b"\xff\xfe<\x00a", "character-set", location="byte"),
    "UTF-32": HostileDocument(56, declared("UTF-32", "utf-32"), "character-set", location="line 1"),
    "Latin-1 as UTF-8": HostileDocument(
        56, declared("UTF-8", "latin-1"), "character-set", location="line"),
    "a NUL": HostileDocument(56, lambda: encoded().replace(b"ESSAI", b"ES\0AI"), "character-set", location="line"),
    "another root": HostileDocument(57, lambda: b"<html><body/></html>", "not-the-format", 422, "/*"),
    "another namespace": HostileDocument(
        57, lambda: b'<ClinicalDocument xmlns="urn:x"/>', "not-the-format", 422, "/*"),
    "no namespace": HostileDocument(
        57, lambda: encoded().replace(b' xmlns="urn:hl7-org:v3"', b""), "not-the-format", 422, "/*"),
    "release 1": HostileDocument(
        57, lambda: encoded(type_id=TYPE_ID.replace("000040", "000030")), "unsupported-version", 422,
        "/ClinicalDocument/typeId"),
    "no type": HostileDocument(
        57, lambda: encoded(type_id=""), "not-the-format", 422, "/ClinicalDocument/typeId"),
    "no id": HostileDocument(
        57, lambda: encoded(root=""), "required-field-missing", 422, "/ClinicalDocument/id"),
    "no XML": HostileDocument(57, lambda: b"MSH|^~\\&|LAB", "not-the-format", location="line 1"),
    "a style sheet's address": HostileDocument(
        58, lambda: encoded(body=BODY, declaration='<?xml version="1.0"?>'
            f'<?xml-stylesheet type="text/xsl" href="{LINK}x.xsl"?>')),
    "within a style sheet": HostileDocument(58, in_a_stylesheet),
    "a page that runs": HostileDocument(
        59, attached("text/html", f"<script>fetch('{LINK}')</script><img src='{LINK}'>".encode())),
    "a program": HostileDocument(59, attached("application/x-msdownload", b"MZ" + bytes(900))),
    "a page that claims to be a PDF": HostileDocument(
        59, attached("application/pdf", b"<html><script>1</script></html>")),
    "a picture that runs": HostileDocument(
        59, attached("image/svg+xml", f'<svg onload="fetch(\'{LINK}\')"/>'.encode())),
    "a media type that breaks out": HostileDocument(
        59, attached("text/html&#13;&#10;Set-Cookie: x=1", b"x")),
    "a bundle": HostileDocument(
        65, lambda: json.dumps(bundle(20_000, 3)).encode(), "not-the-format", location="line 1",
        packed="hostile-content"),
    "a deep bundle": HostileDocument(
        65, lambda: b'{"a":' * 10_000 + b"1e400" + b"}" * 10_000, "not-the-format", location="line 1"),
    "a key that is there twice": HostileDocument(
        65, lambda: b'{"resourceType":"Bundle","resourceType":"Binary","data":1e400}', "not-the-format",
        location="line 1"),
    "a bundle in XML": HostileDocument(
        65, lambda: b'<Bundle xmlns="http://hl7.org/fhir">' + b"<entry/>" * 20_000 + b"</Bundle>",
        "not-the-format", 422, "/*"),
    "replaces what is not there": HostileDocument(66, replacing("1.2.3.4.5.6.7.8")),
    "replaces itself": HostileDocument(66, replacing("1.2.250.1.999.1")),
    "replaces 200 others": HostileDocument(66, replacing(*(f"1.2.3.{n}" for n in range(200)))),
}  # fmt: skip


# --- archives -----------------------------------------------------------------------

ONE = cda()
TWO = cda(document="2.999.6.2")


def described(*entries: str, **more: bytes) -> bytes:
    """An archive of ONE with these entries."""
    return packed(files_of([ONE]) | {f"{FOLDER}METADATA.XML": metadata(*entries)} | more)


def changed(pack: Callable[[zipfile.ZipFile], None]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        pack(made)
        for name, data in files_of([ONE]).items():
            made.writestr(name, data)
    return stream.getvalue()


def special(name: str, mode: int) -> bytes:
    def pack(made: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        made.writestr(info, b"/etc/passwd")

    return changed(pack)


def named(name: str) -> bytes:
    return changed(lambda made: made.writestr(name, b"x"))


def with_flag(flag: int) -> bytes:
    """Every file says that it is encrypted (bit 0)."""
    data = bytearray(archive(ONE))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        begin = data.find(signature)
        while begin >= 0:
            data[begin + at] |= flag
            begin = data.find(signature, begin + 4)
    return bytes(data)


def bad_crc() -> bytes:
    data = packed(files_of([ONE]), method=zipfile.ZIP_STORED)
    return data.replace(b"ESSAI", b"ESSAJ")


def overlapping() -> bytes:
    """The directory's second file begins where its first one does."""
    data = bytearray(archive(ONE))
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


def renamed() -> bytes:
    """The file itself has another name than in the directory."""
    data = archive(ONE)
    return data.replace(b"README.TXT", b"README.EXE", 1)


def lying_size() -> bytes:
    """The directory says less than there is."""
    data = bytearray(archive(ONE))
    at = data.find(b"PK\x01\x02", data.find(b"PK\x01\x02") + 4)
    name = data.find(b"DOC0001.XML", at)
    at = data.rfind(b"PK\x01\x02", 0, name)
    size = struct.unpack_from("<L", data, at + 24)[0]
    struct.pack_into("<L", data, at + 24, size - 10)
    return bytes(data)


OTHER = PATIENT.replace("279035121518989", "188102B17295264")
META = f"{FOLDER}METADATA.XML"
FORBIDDEN = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
ARCHIVES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    # what is no archive, or one made to do harm
    "no zip": (lambda: b"%PDF-1.4 " + b"x" * 99, "not-the-format", ""),
    "an empty zip": (lambda: packed({}), "not-the-format", ""),
    "cut": (lambda: archive(ONE)[:-40], "not-the-format", ""),
    "something behind it": (lambda: archive(ONE) + b"more", "hostile-content", ""),
    "something before it": (lambda: b"MZ more" + archive(ONE), "hostile-content", ""),
    "encrypted": (lambda: with_flag(1), "hostile-content", ""),
    "a symbolic link": (lambda: special("IHE_XDM/LINK", 0o120777), "hostile-content", ""),
    "a device": (lambda: special("IHE_XDM/DEV", 0o020666), "hostile-content", ""),
    "a name that leaves": (lambda: named("../../etc/cron"), "hostile-content", ""),
    "an absolute name": (lambda: named("/etc/cron"), "hostile-content", ""),
    "a name of another system": (lambda: named("C:x"), "hostile-content", ""),
    "backslashes": (lambda: named("a\\..\\b"), "hostile-content", ""),
    "one name in two cases": (lambda: named("readme.txt"), "hostile-content", ""),
    "too many files": (lambda: packed({f"{n}": b"" for n in range(1200)}), "hostile-content", ""),
    "a bomb": (lambda: changed(lambda z: z.writestr("B", b"\0" * (2 << 20))), "hostile-content", ""),
    "a file too large": (lambda: changed(lambda z: z.writestr("B", b"\0" * (4 << 20))), "hostile-content", ""),
    "another method": (lambda: packed(files_of([ONE]), method=zipfile.ZIP_BZIP2), "hostile-content", ""),
    "overlapping files": (overlapping, "hostile-content", ""),
    "another name inside": (renamed, "hostile-content", ""),
    "a damaged file": (bad_crc, "unreadable", ""),
    "a size that is not so": (lying_size, "unreadable", ""),
    "a zip in the zip": (lambda: packed({"IHE_XDM.ZIP": archive(ONE)}), "not-the-format", ""),
    # metadata
    "no metadata": (lambda: packed({"IHE_XDM/SUBSET01/DOC.XML": ONE}), "not-the-format", ""),
    "metadata that are no XML": (
        lambda: packed(files_of([ONE]) | {META: b"<a>"}), "required-field-missing", "XDSRepositoryMetadataError"),
    "an entity": (
        lambda: packed(files_of([ONE]) | {META: metadata(entry("DOC0001.XML", ONE)).replace(b"?>", b"?>" + FORBIDDEN, 1)}),
        "hostile-content", ""),
    "UTF-16": (
        lambda: packed(files_of([ONE]) | {META: metadata().decode().replace("UTF-8", "UTF-16").encode("utf-16")}),
        "hostile-content", ""),
    "deep": (
        lambda: packed(files_of([ONE]) | {META: b"<a>" * 90 + b"</a>" * 90}), "hostile-content", ""),
    "no entry": (described, "required-field-missing", "XDSRepositoryMetadataError"),
    "no hash": (lambda: described(entry("DOC0001.XML", ONE, hash=None)), "required-field-missing", "XDSRepositoryMetadataError"),
    "a hash that is none": (lambda: described(entry("DOC0001.XML", ONE, hash="AA==")), "required-field-missing", "XDSRepositoryMetadataError"),
    "another hash": (lambda: described(entry("DOC0001.XML", ONE, hash="0" * 40)), "content-mismatch", "XDSRepositoryMetadataError"),
    "another size": (lambda: described(entry("DOC0001.XML", ONE, size="1")), "content-mismatch", "XDSRepositoryMetadataError"),
    "no patient": (lambda: described(entry("DOC0001.XML", ONE, patient="1^^^&&ISO")), "required-field-missing", "XDSRepositoryMetadataError"),
    "another patient in the entry": (lambda: described(entry("DOC0001.XML", ONE, patient=OTHER)), "content-mismatch", "XDSPatientIdDoesNotMatch"),
    "another patient in the document": (
        lambda: packed(files_of([ONE]) | {META: metadata(entry("DOC0001.XML", ONE, patient=OTHER), patient=OTHER)}),
        "content-mismatch", "XDSPatientIdDoesNotMatch"),
    "another id in the document": (lambda: described(entry("DOC0001.XML", ONE, unique_id="2.999.1.1")), "content-mismatch", "XDSRepositoryMetadataError"),
    "one id twice": (
        lambda: described(entry("DOC0001.XML", ONE), entry("DOC0002.XML", ONE)), "content-mismatch", "XDSRepositoryDuplicateUniqueIdInMessage"),
    "a document that is not there": (
        lambda: described(entry("DOC0001.XML", ONE), entry("DOC0002.XML", TWO)), "required-field-missing", "XDSMissingDocument"),
    "a document of which nothing is said": (
        lambda: described(entry("DOC0001.XML", ONE), **{f"{FOLDER}MORE.PDF": b"%PDF"}), "required-field-missing", "XDSMissingDocumentMetadata"),
    "a URI that leaves": (lambda: described(entry("../../README.TXT", b"XDM")), "hostile-content", ""),
    "a broken CDA": (
        lambda: packed(files_of([ONE]) | {f"{FOLDER}DOC0001.XML": ONE[:-9], META: metadata(entry("DOC0001.XML", ONE, size=str(len(ONE) - 9), hash=hashlib.sha1(ONE[:-9]).hexdigest()))}),
        "unreadable", "InvalidDocumentContent"),
    "no CDA at all": (
        lambda: packed({f"{FOLDER}A.PDF": b"%PDF-", META: metadata(entry("A.PDF", b"%PDF-", media_type="application/pdf"))}),
        "not-the-format", ""),
}  # fmt: skip


"""Cases 60 and 61: the archive, the cause, and the error code of XDS (ITI TF-3 table 4.2.4.1-2)."""


# --- mails ----------------------------------------------------------------------------


def multipart(boundary: bytes, *parts: bytes) -> bytes:
    """A multipart of these parts, each with its own header."""
    inside = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return b'Content-Type: multipart/mixed; boundary="%b"\r\n\r\n%b--%b--\r\n' % (
        boundary, inside, boundary,
    )  # fmt: skip


def nested(depth: int) -> bytes:
    found = b"Content-Type: text/plain\r\n\r\nx"
    for level in range(depth):
        found = multipart(b"b%d" % level, found)
    return found


def mails_in_mails(depth: int) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"\r\nx"


_ZIP = b"Content-Type: application/zip\r\n"
MAILS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no header and no text": (lambda: b"\r\n", "not-the-format"),
    "parts 400 deep": (lambda: nested(400), "hostile-content"),
    "mails 5,000 deep": (lambda: mails_in_mails(5000), "hostile-content"),
    "100,000 parts": (
        lambda: multipart(b"x", *[b"\r\ny"] * 100_000), "hostile-content"),
    "a header of 5 MB": (lambda: b"X: " + b"y" * (5 << 20) + b"\r\n\r\n", "hostile-content"),
    "100,000 header fields": (lambda: b"X: y\r\n" * 100_000 + b"\r\n", "hostile-content"),
    "a boundary that nothing has": (
        lambda: b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"\r\n--y" * 900_000, "unreadable"),
    "a multipart without a boundary": (
        lambda: b"Content-Type: multipart/mixed\r\n\r\n--\r\n", "unreadable"),
    "a boundary of another alphabet": (
        "Content-Type: multipart/mixed; boundary=é\r\n\r\n--é--\r\n".encode, "unreadable"),
    "an unknown transfer encoding": (
        lambda: _ZIP + b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n", "unreadable"),
    "a file name that leaves": (
        lambda: b"Content-Type: text/xml; name*=utf-8''..%2F..%2Fetc%2Fcron%00\r\n\r\n<a", "unreadable"),
    "a file name without an end": (
        lambda: _ZIP + b'Content-Disposition: attachment; filename="' + b"(" * 60_000 + b"\r\n\r\nPK", "not-the-format"),
    "a partial message": (
        lambda: b"Content-Type: message/partial; id=x; number=1; total=9\r\n\r\nx", "unsupported-type"),
    "a body elsewhere": (
        lambda: b'Content-Type: message/external-body; access-type=URL; URL="' + LINK.encode() + b'"\r\n\r\n'
        + _ZIP + b"\r\n", "unsupported-type"),
    "encrypted": (
        lambda: b"Content-Type: application/pkcs7-mime; name=smime.p7m\r\n\r\nx", "unsupported-type"),
}  # fmt: skip
"""Cases 60 and 62 as mail has them: structure without an end, and what points elsewhere."""

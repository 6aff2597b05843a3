"""What ITI-41 refuses, in which words, and what is kept of it; the next one is served."""

from __future__ import annotations

import base64
import gzip
import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway.model import Cause, CauseCode
from tests.integration.xds.endpoint import PATIENT, Served, endpoint, left_in_spool
from tests.integration.xds.submissions import (
    APPENDS,
    MTOM,
    PLAIN,
    QUERY,
    REPOSITORY,
    RETRIEVE,
    SOAP_1_1,
    Part,
    association,
    documents_request,
    entry,
    envelope,
    fetch,
    included,
    packed,
    post,
    provide,
    submission_set,
    submit,
)
from tests.unit.hl7.transmissions import cda

ONE, TWO = cda(), cda(document="2.999.6.2")


@pytest.fixture(scope="module")
def xds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with endpoint(tmp_path_factory.mktemp("spool")) as running:
        yield running


# --- what is taken -------------------------------------------------------------------


def test_documents_in_parts_and_in_base64_are_the_same_documents(xds: Served) -> None:
    answer, by_parts = xds.kept(lambda: provide(xds.url, [ONE, TWO]))
    assert (answer.status, answer.outcome, answer.relates_to) == (200, "Success", "urn:uuid:1")
    assert answer.headers["content-type"].startswith("multipart/related")
    whole = base64.encodebytes(ONE).decode()
    root, _ = documents_request([ONE])
    body = root.replace(included("Document1").encode(),
                        f'<ihe:Document id="Document1">{whole}</ihe:Document>'.encode())  # fmt: skip
    answer, inline = xds.kept(lambda: post(xds.url, body, PLAIN))
    assert (answer.outcome, answer.headers["content-type"].partition(";")[0]) == (
        "Success", "application/soap+xml",
    )  # fmt: skip
    answer, in_package = xds.kept(lambda: post(xds.url, packed(body)))
    assert answer.outcome == "Success"
    assert [each.payload.read() for each in by_parts] == [ONE, TWO]
    for other in (*inline, *in_package):
        for name in ("payload", "control_id", "kind", "subject", "encoding", "control_id_unique"):
            mine, its = getattr(by_parts[0], name), getattr(other, name)
            if name == "payload":
                mine, its = mine.sha256, its.sha256
            assert mine == its, name
    assert left_in_spool(xds) == []


def test_a_large_document_goes_by_the_disk(xds: Served) -> None:
    large = ONE.replace(
        b"</ClinicalDocument>", b"<!--" + b"x" * 600_000 + b"--></ClinicalDocument>"
    )
    answer, [received] = xds.kept(lambda: provide(xds.url, [large]))
    assert answer.outcome == "Success"
    assert received.payload.path is not None
    assert received.payload.sha256 == hashlib.sha256(large).hexdigest()
    assert left_in_spool(xds) == []


def test_what_is_no_cda_is_kept_and_said_not_to_be_registered(xds: Served) -> None:
    signature = b"<Signature xmlns='http://www.w3.org/2000/09/xmldsig#'/>"
    files = {"Document1": (ONE, "text/xml"), "Sign": (signature, "text/xml"),
             "Pdf": (b"%PDF-1.7 x", "application/pdf")}  # fmt: skip
    body = submit(
        *(
            entry(name, data, patient=PATIENT, media_type=kind,
                  unique_id="2.999.5.2" if data is ONE else f"2.999.9.{len(data)}")
            for name, (data, kind) in files.items()
        ),
        submission_set(PATIENT),
        *(association("Set", name) for name in files),
        association("Sign", "Set", "urn:ihe:iti:2007:AssociationType:signs"),
        documents=[included(name) for name in files],
    )  # fmt: skip
    parts = [Part(name, data) for name, (data, _) in files.items()]
    answer, kept = xds.kept(lambda: post(xds.url, packed(envelope(body), parts)))
    assert (answer.outcome, answer.codes) == ("Success", ["XDSExtraMetadataNotSaved"] * 2)
    assert [each.payload.read() for each in kept] == [data for data, _ in files.values()]
    refused = [each.refusal.code if each.refusal else None for each in kept]
    assert refused == [None, CauseCode.UNSUPPORTED_TYPE, CauseCode.UNSUPPORTED_TYPE]


def test_nothing_is_promised_that_is_not_kept(xds: Served) -> None:
    xds.intake.unavailable = True
    try:
        answer = provide(xds.url, [ONE])
    finally:
        xds.intake.unavailable = False
    assert (answer.outcome, answer.codes) == ("Failure", ["XDSRepositoryOutOfResources"])
    xds.intake.refuse = lambda _: Cause(code=CauseCode.CONTROL_ID_REUSED, detail="another")
    try:
        answer = provide(xds.url, [ONE])
    finally:
        xds.intake.refuse = lambda _: None
    assert (answer.outcome, answer.codes) == ("Failure", ["XDSNonIdenticalHash"])
    xds.registry.away = True
    try:
        answer, kept = xds.kept(lambda: provide(xds.url, [ONE]))
    finally:
        xds.registry.away = False
    assert (answer.codes, kept) == (["XDSRegistryNotAvailable"], [])
    assert left_in_spool(xds) == []


# --- metadata ------------------------------------------------------------------------


def changed(*entries: str, documents: Sequence[bytes] = (ONE,), more: Sequence[str] = (),
            patient: str = PATIENT, source: str = "2.999.5", members: Sequence[str] = ("Document1",),
            set_id: str = "") -> bytes:  # fmt: skip
    names = [f"Document{number}" for number in range(1, len(documents) + 1)]
    body = submit(
        *(entries or [entry("Document1", ONE)]),
        submission_set(patient, source=source, unique_id=set_id),
        *(association("Set", each) for each in members),
        *more,
        documents=[included(name) for name in names],
    )
    parts = [Part(name, data) for name, data in zip(names, documents, strict=True)]
    return packed(envelope(body), parts)


OTHER = "188102B17295264^^^&1.2.250.1.213.1.4.10&ISO"
METADATA: dict[str, tuple[Callable[[], bytes], str]] = {
    "another hash": (lambda: changed(entry("Document1", ONE, hash="0" * 40)), "XDSRepositoryMetadataError"),
    "another size": (lambda: changed(entry("Document1", ONE, size="1")), "XDSRepositoryMetadataError"),
    "no hash of SHA-1": (lambda: changed(entry("Document1", ONE, hash="AA==")), "XDSRepositoryMetadataError"),
    "no creationTime": (lambda: changed(entry("Document1", ONE, creationTime=None)), "XDSRepositoryMetadataError"),
    "a creationTime that is none": (lambda: changed(entry("Document1", ONE, creationTime="2024-01-01")), "XDSRepositoryMetadataError"),
    "no language": (lambda: changed(entry("Document1", ONE, languageCode=None)), "XDSRepositoryMetadataError"),
    "no typeCode": (lambda: changed(entry("Document1", ONE, without=["typeCode"])), "XDSRepositoryMetadataError"),
    "a code without scheme": (lambda: changed(entry("Document1", ONE, codes={"typeCode": ("x", "")})), "XDSRepositoryMetadataError"),
    "no uniqueId": (lambda: changed(entry("Document1", ONE, unique_id="")), "XDSRepositoryMetadataError"),
    "a uniqueId that is none": (lambda: changed(entry("Document1", ONE, unique_id="report-1")), "XDSRepositoryMetadataError"),
    "a uniqueId of another document": (lambda: changed(entry("Document1", ONE, unique_id="2.999.404")), "XDSRepositoryMetadataError"),
    "another repository": (lambda: changed(entry("Document1", ONE, repositoryUniqueId="2.999.2")), "XDSRepositoryMetadataError"),
    "an on-demand document": (lambda: changed(entry("Document1", ONE, kind="34268e47-fdf5-41a6-ba33-82133c465248")), "XDSRepositoryMetadataError"),
    "no sourceId": (lambda: changed(source=""), "XDSRepositoryMetadataError"),
    "no submission set": (lambda: packed(envelope(submit(entry("Document1", ONE), documents=[included("Document1")])), [Part("Document1", ONE)]), "XDSRepositoryMetadataError"),
    "no member of the set": (lambda: changed(members=()), "XDSRepositoryMetadataError"),
    "no document at all": (lambda: packed(envelope(submit(submission_set(PATIENT), documents=[]))), "XDSRepositoryMetadataError"),
    "a patientId that is none": (lambda: changed(patient="1^^^&&ISO"), "XDSRepositoryMetadataError"),
    "two patients": (lambda: changed(patient=OTHER), "XDSPatientIdDoesNotMatch"),
    "a patient whom nobody knows": (
        lambda: changed(entry("Document1", ONE, patient="404^^^&2.999.1&ISO"), patient="404^^^&2.999.1&ISO"), "XDSUnknownPatientId"),
    "another patient than in the document": (
        lambda: changed(entry("Document1", cda(ins="188102B17295264"), patient=PATIENT), documents=[cda(ins="188102B17295264")]), "XDSPatientIdDoesNotMatch"),
    "a document without an entry": (lambda: changed(documents=(ONE, TWO)), "XDSMissingDocumentMetadata"),
    "an entry without a document": (
        lambda: changed(entry("Document1", ONE), entry("Document2", TWO), members=("Document1", "Document2")), "XDSMissingDocument"),
    "an empty document": (lambda: changed(entry("Document1", b"", patient=PATIENT, unique_id="2.999.4"), documents=(b"",)), "XDSMissingDocument"),
    "one uniqueId twice": (
        lambda: changed(entry("Document1", ONE), entry("Document2", ONE), documents=(ONE, ONE), members=("Document1", "Document2")),
        "XDSRepositoryDuplicateUniqueIdInMessage"),
    "the set's uniqueId is a document's": (lambda: changed(set_id="2.999.5.2"), "XDSRepositoryDuplicateUniqueIdInMessage"),
    "a relation within the submission": (
        lambda: changed(entry("Document1", ONE), entry("Document2", TWO), documents=(ONE, TWO), members=("Document1", "Document2"),
                        more=[association("Document1", "Document2", APPENDS)]), "XDSRepositoryMetadataError"),
    "a relation to what nobody knows": (lambda: changed(more=[association("Document1", "urn:uuid:x", APPENDS)]), "XDSRepositoryMetadataError"),
    "no CDA at all": (lambda: changed(entry("Document1", b"%PDF-", patient=PATIENT, unique_id="2.999.4"), documents=(b"%PDF-",)), "XDSRepositoryError"),
    "a broken CDA": (lambda: changed(entry("Document1", ONE[:-9], patient=PATIENT, unique_id="2.999.5.2"), documents=(ONE[:-9],)), "InvalidDocumentContent"),
    "an entity in the document": (
        lambda: changed(entry("Document1", HOSTILE, patient=PATIENT, unique_id="2.999.5.2"), documents=(HOSTILE,)), "InvalidDocumentContent"),
}  # fmt: skip
HOSTILE = ONE.replace(b"?>", b'?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', 1)


@pytest.mark.parametrize("case", METADATA)
def test_a_submission_is_refused_whole_and_kept_as_evidence(xds: Served, case: str) -> None:
    make, code = METADATA[case]
    answer, kept = xds.kept(lambda: post(xds.url, make()))
    assert (answer.status, answer.outcome, answer.codes) == (200, "Failure", [code])
    assert kept, "the envelope at least"
    assert all(each.refusal is not None for each in kept)
    assert kept[0].attributes["part"] == "envelope"
    assert "ESSAI" not in str([each.refusal for each in kept])
    assert PATIENT.partition("^")[0] not in str([each.refusal for each in kept])
    assert provide(xds.url, [ONE]).outcome == "Success"
    assert left_in_spool(xds) == []


def test_another_document_under_a_known_id(xds: Served) -> None:
    xds.registry.digests["2.999.6.2"] = frozenset({"0" * 64})
    assert provide(xds.url, [TWO]).codes == ["XDSNonIdenticalHash"]
    xds.registry.digests["2.999.6.2"] = frozenset({hashlib.sha256(TWO).hexdigest()})
    assert provide(xds.url, [TWO]).outcome == "Success"


def test_the_codes_and_authorities_of_an_affinity_domain(tmp_path: Path) -> None:
    codes = {
        "typeCode": ("11502-2^^2.16.840.1.113883.6.1",),
        "contentTypeCode": ("04^^1.2.250.1.213.2.2",),
    }
    roots = ("1.2.250.1.213.1.4.10",)
    with endpoint(tmp_path, codes=codes, patient_authorities=roots, queries=False) as xds:
        assert provide(xds.url, [ONE]).outcome == "Success"
        other = entry("Document1", ONE, codes={"typeCode": ("11502-2", "local")})
        assert post(xds.url, changed(other)).codes == ["XDSRepositoryMetadataError"]
        foreign = "1^^^&2.999.1&ISO"
        stranger = changed(entry("Document1", ONE, patient=foreign), patient=foreign)
        assert post(xds.url, stranger).codes == ["XDSUnknownPatientId"]
        assert fetch(xds.url, (REPOSITORY, "2.999.1")).fault == ("Sender", "ActionNotSupported")


# --- SOAP and MTOM ---------------------------------------------------------------------


def one(root: Callable[[bytes], bytes] = lambda root: root, *, kind: str = MTOM,
        parts: Callable[[list[Part]], list[Part]] = lambda parts: parts,
        body: Callable[[bytes], bytes] = lambda body: body) -> tuple[bytes, str]:  # fmt: skip
    """A good request, of which something is changed."""
    good, documents = documents_request([ONE])
    return body(packed(root(good), parts(documents))), kind


def said(headers: str = "", **options: object) -> tuple[bytes, str]:
    return envelope("<x/>", headers=headers, **options), PLAIN  # type: ignore[arg-type]


def href(to: str) -> Callable[[bytes], bytes]:
    return lambda root: root.replace(b"cid:Document1@test", to.encode())


ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
SECURITY = (
    '<w:Security xmlns:w="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-'
    'secext-1.0.xsd" s:mustUnderstand="1"/>'
)
FAULTS: dict[str, tuple[Callable[[], tuple[bytes, str]], int, tuple[str, str]]] = {
    # XML
    "no XML": (lambda: (b"MSH|^~\\&|", PLAIN), 400, ("Sender", "")),
    "nothing": (lambda: (b"", PLAIN), 400, ("Sender", "")),
    "not well-formed": (lambda: one(lambda root: root[:-5]), 400, ("Sender", "")),
    "an entity bomb": (lambda: one(lambda root: root.replace(b"?>", b"?>" + ENTITIES, 1)), 400, ("Sender", "")),
    "an entity bomb behind UTF-16": (lambda: (envelope("<x/>").decode().replace("UTF-8", "UTF-16").encode("utf-16"), PLAIN), 400, ("Sender", "")),
    "deep": (lambda: (envelope("<a>" * 90 + "</a>" * 90), PLAIN), 400, ("Sender", "")),
    "many attributes": (lambda: (envelope("<b " + " ".join(f'a{n}=""' for n in range(99)) + "/>"), PLAIN), 400, ("Sender", "")),
    # SOAP
    "no envelope": (lambda: (b"<x/>", PLAIN), 400, ("Sender", "")),
    "another version of SOAP": (lambda: said(soap="http://www.w3.org/2001/12/soap-envelope"), 500, ("VersionMismatch", "")),
    "two bodies": (lambda: (envelope("<x/>").replace(b"</s:Body>", b"</s:Body><s:Body/>"), PLAIN), 400, ("Sender", "")),
    "an empty body": (lambda: (envelope(""), PLAIN), 400, ("Sender", "")),
    "a header that must be understood": (lambda: said(SECURITY), 500, ("MustUnderstand", "")),
    # WS-Addressing
    "no action": (lambda: said(action=""), 400, ("Sender", "MessageAddressingHeaderRequired")),
    "an action that nobody has": (lambda: said(action="urn:x"), 400, ("Sender", "ActionNotSupported")),
    "an action of another body": (lambda: said(action=QUERY), 400, ("Sender", "ActionNotSupported")),
    "another action in the transport": (lambda: (envelope("<x/>"), f'{PLAIN}; action="{RETRIEVE}"'), 400, ("Sender", "ActionMismatch")),
    "two message ids": (lambda: said("<a:MessageID>urn:uuid:2</a:MessageID>"), 400, ("Sender", "InvalidAddressingHeader")),
    "an answer to elsewhere": (
        lambda: said("<a:ReplyTo><a:Address>http://127.0.0.1:1/</a:Address></a:ReplyTo>"), 400, ("Sender", "OnlyAnonymousAddressSupported")),
    # MTOM
    "another media type": (lambda: one(kind="application/json"), 415, ("Sender", "")),
    "another type in the package": (lambda: one(kind=MTOM.replace("application/xop+xml", "text/html")), 415, ("Sender", "")),
    "no boundary": (lambda: one(kind=MTOM.replace("boundary", "border")), 400, ("Sender", "")),
    "another boundary": (lambda: one(kind=MTOM.replace("MIME_b", "MIME_c")), 400, ("Sender", "")),
    "a boundary that is none": (lambda: one(kind=MTOM.replace("MIME_b", "x" * 90)), 400, ("Sender", "")),
    "a start that is nowhere": (lambda: one(kind=MTOM.replace("root@test", "other@test")), 400, ("Sender", "")),
    "no end": (lambda: one(body=lambda body: body[:-12]), 400, ("Sender", "")),
    "an include of nothing": (lambda: one(href("cid:nobody@test")), 400, ("Sender", "")),
    "an include of a file": (lambda: one(href("file:///etc/passwd")), 400, ("Sender", "")),
    "an include from a server": (lambda: one(href("http://127.0.0.1:1/x")), 400, ("Sender", "")),
    "an include of the envelope": (lambda: one(href("cid:root@test")), 400, ("Sender", "")),
    "an include beside text": (lambda: one(lambda root: root.replace(b"<xop:Include", b"AAAA<xop:Include")), 400, ("Sender", "")),
    "two includes of one part": (
        lambda: one(lambda root: root.replace(b"</ihe:ProvideAndRegister", included("Two", "cid:Document1@test").encode() + b"</ihe:ProvideAndRegister")),
        400, ("Sender", "")),
    "two parts of one name": (lambda: one(parts=lambda parts: parts * 2), 400, ("Sender", "")),
    "a part without a name": (lambda: one(parts=lambda parts: [*parts, Part("x", b"x", headers={"Content-ID": ""})]), 400, ("Sender", "")),
    "a part in a part": (lambda: one(parts=lambda parts: [Part("x", b"", headers={"Content-Type": "multipart/mixed; boundary=y"})]), 400, ("Sender", "")),
    "a packed part": (lambda: one(parts=lambda parts: [Part("Document1", gzip.compress(b"\0" * 1_000_000), headers={"Content-Encoding": "gzip"})]), 400, ("Sender", "")),
    "a part in base64": (lambda: one(parts=lambda parts: [Part("Document1", b"QQ==", headers={"Content-Transfer-Encoding": "base64"})]), 400, ("Sender", "")),
    "headers without end": (lambda: one(parts=lambda parts: [Part("x", b"", headers={"X": "y" * 20_000})]), 400, ("Sender", "")),
    "too many parts": (lambda: one(parts=lambda parts: [Part(f"p{n}", b"x") for n in range(60)]), 400, ("Sender", "")),
    "a part too large": (lambda: one(parts=lambda parts: [Part("Document1", b"x" * (1 << 21))]), 413, ("Sender", "")),
    "an envelope too large": (lambda: one(lambda root: root.replace(b"<s:Body>", b"<s:Body>" + b" " * (300 << 10))), 413, ("Sender", "")),
    "a request too large": (lambda: one(parts=lambda parts: [Part(f"p{n}", b"x" * 900_000) for n in range(4)]), 413, ("Sender", "")),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_no_valid_soap_gets_a_fault_and_the_next_one_passes(xds: Served, case: str) -> None:
    make, status, fault = FAULTS[case]
    body, kind = make()
    answer, kept = xds.kept(lambda: post(xds.url, body, kind))
    assert (answer.status, answer.outcome, answer.fault) == (status, "Fault", fault)
    assert all(each.refusal is not None for each in kept)
    # What came is kept as evidence. Of what announces itself as too large nothing is read.
    assert bool(kept) == (bool(body) and case != "a request too large")
    assert sum(each.payload.size for each in kept) <= len(body)
    assert provide(xds.url, [ONE]).outcome == "Success"
    assert left_in_spool(xds) == []


def test_soap_1_1_is_answered_in_soap_1_1(xds: Served) -> None:
    answer = post(xds.url, envelope("<x/>", soap=SOAP_1_1), "text/xml; charset=utf-8")
    assert answer.status == 500
    assert answer.root.tag == f"{{{SOAP_1_1}}}Envelope"
    assert answer.root.findtext(".//faultcode") == "e:VersionMismatch"


def test_a_compressed_body_is_not_unpacked(xds: Served) -> None:
    body, kind = one()
    answer = post(xds.url, gzip.compress(body), kind, **{"Content-Encoding": "gzip"})
    assert (answer.status, answer.outcome) == (415, "Fault")


def test_a_header_that_somebody_else_has_checked_is_passed_over(tmp_path: Path) -> None:
    namespace = SECURITY.partition('w="')[2].partition('"')[0]
    with endpoint(tmp_path, headers_passed_over=(namespace,)) as xds:
        body, kind = one(
            lambda root: root.replace(b"</s:Header>", SECURITY.encode() + b"</s:Header>")
        )
        assert post(xds.url, body, kind).outcome == "Success"


def test_a_request_without_a_message_id_is_answered(xds: Served) -> None:
    body, kind = one(lambda root: root.replace(b"<a:MessageID>urn:uuid:1</a:MessageID>", b""))
    answer = post(xds.url, body, kind)
    assert (answer.outcome, answer.relates_to) == ("Success", None)


def test_a_sender_that_stops_in_the_middle(xds: Served) -> None:
    body, kind = one()
    host, _, port = xds.url.removeprefix("http://").partition("/")[0].partition(":")
    head = (
        f"POST /intake/xds HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    before = len(xds.intake.kept)
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(head + body[:-200])
        answer = line.recv(1 << 16)  # after idle_timeout_seconds
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
    causes = {each.refusal.code for each in xds.intake.kept[before:] if each.refusal}
    assert causes == {CauseCode.FRAME_TRUNCATED}


def test_one_connection_serves_many_requests(xds: Served) -> None:
    body, kind = one()
    bad, _ = one(href("cid:nobody@test"))
    host, _, port = xds.url.removeprefix("http://").partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        for each, wanted in ((body, b"200"), (bad, b"400"), (body, b"200")):
            line.sendall(
                f"POST /intake/xds HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(each)}\r\n\r\n".encode() + each
            )  # fmt: skip
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += line.recv(1 << 16)
            head, _, rest = answer.partition(b"\r\n\r\n")
            assert head.split()[1] == wanted
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            while len(rest) < length:
                rest += line.recv(1 << 16)

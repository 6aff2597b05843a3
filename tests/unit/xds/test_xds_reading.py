"""Multipart, envelopes, queries and entries by themselves: no socket, no thread."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adapters.ebrim.faults import Refused
from adapters.ebrim.xml import XmlLimits, parsed
from adapters.xds.answers import Problem, registry_response
from adapters.xds.catalogue import Catalogue, Memory
from adapters.xds.conditions import like
from adapters.xds.entries import registered, utc_digits
from adapters.xds.faults import SoapFault
from adapters.xds.identifiers import control_ids_of, identifiers_of, same_document, unique_id_of
from adapters.xds.mtom import MultipartReader, PartHeaders, part_named
from adapters.xds.queries import QueryRefused, decoded, read_query
from adapters.xds.registry import Registry
from adapters.xds.writing import Describing
from gateway.documents import DocumentVersion, RegistryUnavailable, SharedDocument, TooManyDocuments
from gateway.model import Identifier, Payload, RegistryKind, RegistryObject
from tests.integration.xds.submissions import RS, Part, packed


class Sink(bytearray):
    def write(self, block: bytes) -> None:
        self += block


def read(
    body: bytes, cuts: Sequence[int] = (), boundary: str = "MIME_b"
) -> list[tuple[str, bytes]]:
    found: list[tuple[PartHeaders, Sink]] = []

    def opened(headers: PartHeaders) -> Sink:
        found.append((headers, Sink()))
        return found[-1][1]

    reader = MultipartReader(boundary, opened, parts_max=50)
    edges = [0, *sorted(cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        reader.feed(body[start:end])
    reader.finish()
    return [(headers.content_id, bytes(sink)) for headers, sink in found]


PIECES = st.sampled_from(
    [b"\r\n", b"--", b"-", b"\r", b"\n", b"MIME_b", b"--MIME_", b"x", b"\0\xff"]
)
CONTENT = st.lists(PIECES, max_size=12).map(b"".join).filter(lambda data: b"--MIME_b" not in data)


@settings(max_examples=150, deadline=None)
@given(st.lists(CONTENT, max_size=4), st.randoms(use_true_random=False))
def test_parts_are_the_same_however_the_body_is_cut(
    contents: list[bytes], rand: random.Random
) -> None:
    parts = [Part(f"p{number}", data) for number, data in enumerate(contents)]
    body = packed(b"<root/>", parts)
    wanted = [("root@test", b"<root/>"), *((each.content_id, each.data) for each in parts)]
    assert read(body) == wanted
    assert read(body, range(1, len(body))) == wanted
    assert read(body, [rand.randrange(len(body)) for _ in range(9)]) == wanted


def test_what_stands_before_and_behind_the_parts_is_nothing() -> None:
    body = b"a preamble\r\n" + packed(b"x") + b"an epilogue\r\n--MIME_b\r\n"
    assert read(body, range(1, len(body))) == [("root@test", b"x")]
    assert read(body.replace(b"--MIME_b\r\n", b"--MIME_b \t\r\n", 1)) == [("root@test", b"x")]
    assert read(b"--MIME_b\r\n\r\nno headers\r\n--MIME_b--") == [("", b"no headers")]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x" * 100_000, b"--MIME_b\r\n\r\nx", b"--MIME_bc\r\n\r\nx\r\n--MIME_b--",
        b"--MIME_b" + b" " * 999, b"--MIME_b\r\nX: " + b"y" * 10_000,
        b"--MIME_b\r\nContent-ID: <a>\r\nContent-ID: <b>\r\n\r\nx\r\n--MIME_b--",
    ],
)  # fmt: skip
def test_what_is_no_multipart_is_refused(body: bytes) -> None:
    with pytest.raises(SoapFault):
        read(body)


def test_only_parts_are_pointed_to() -> None:
    assert part_named("cid:a%40b") == "a@b"
    assert part_named("CID:a@b") == "a@b"
    for address in ("file:///etc/passwd", "http://x/", "a@b", "", "cid:", "//x"):
        with pytest.raises(SoapFault):
            part_named(address)


def test_xml_has_limits() -> None:
    limits = XmlLimits(bytes_max=10_000, depth_max=5, elements_max=100, element_attributes_max=3)
    assert parsed(b"<a><!-- <!DOCTYPE a> --><![CDATA[x]]></a>", "it", "", limits).tag == "a"
    for data in (
        b"<a>" * 6 + b"</a>" * 6, b"<b>" + b"<a/>" * 100 + b"</b>", b"<a b='' c='' d='' e=''/>",
        b"<a>" + b" " * 10_000 + b"</a>", b"<!DOCTYPE a><a/>", b"<?xml version='1.0' encoding='UTF-7'?><a/>",
        "<?xml version='1.0' encoding='UTF-16'?><a/>".encode("utf-16"), b"<a", b"",
    ):  # fmt: skip
        with pytest.raises(Refused):
            parsed(data, "it", "", limits)


# --- queries -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("'a'", ["a"]), ("('a','b')", ["a", "b"]), ("( 'a' , 'b' )", ["a", "b"]),
        ("'it''s'", ["it's"]), ("('a,b','(c)')", ["a,b", "(c)"]), ("2024", ["2024"]),
        ("(1,2)", ["1", "2"]), ("''", [""]), ("()", []),
    ],
)  # fmt: skip
def test_values_of_queries(text: str, values: list[str]) -> None:
    assert decoded(text, "$x") == values


@pytest.mark.parametrize(
    "text", ["'a", "a", "'a' or 1=1", "'1''%20--", "('a'", "('a' 'b')", "'a','b'", "('a',,'b')"]
)
def test_values_that_are_none(text: str) -> None:
    with pytest.raises(QueryRefused) as refused:
        decoded(text, "$x")
    assert refused.value.problem.code == "XDSRegistryError"


def test_the_sample_of_another_project_that_tries_to_break_out(shared: Any) -> None:
    """Its patient's identifier is no text that ends: a query that was pasted into SQL would."""
    sample = shared / "corpora" / "xds" / "generic" / "iti18request.xml"
    with pytest.raises(QueryRefused) as refused:
        read_query(etree.fromstring(sample.read_bytes()))
    assert refused.value.problem.code == "XDSRegistryError"


@settings(max_examples=200, deadline=None)
@given(st.text("ab%_", max_size=8), st.text("ab", max_size=8))
def test_like_is_that_of_sql(pattern: str, text: str) -> None:
    import sqlite3

    with sqlite3.connect(":memory:") as connection:
        connection.execute("pragma case_sensitive_like = on")
        [wanted] = connection.execute("select ? like ?", (text, pattern)).fetchone()
    connection.close()
    assert like(pattern, text) == bool(wanted)


def test_a_pattern_cannot_take_for_ever() -> None:
    assert not like("%a" * 2_000 + "b", "a" * 2_000)


class Fixed:
    """A registry that gives what it is told to."""

    def __init__(self, *documents: SharedDocument, fault: Exception | None = None) -> None:
        self.documents, self.fault = documents, fault

    def _given(self) -> Sequence[SharedDocument]:
        if self.fault is not None:
            raise self.fault
        return self.documents

    def of_patient(self, patient: Identifier, *, limit: int) -> Sequence[DocumentVersion]:
        return [DocumentVersion(each.resource["id"], 1) for each in self._given()]

    def by_identifier(self, identifiers: Sequence[Identifier]) -> Sequence[SharedDocument]:
        return self._given()

    def by_id(self, ids: Sequence[str]) -> Sequence[SharedDocument]:
        return self._given()

    def content(self, sha256: str) -> Payload | None:
        return None

    def submission(self, unique_id: str) -> str | None:
        return None

    def note_submission(
        self, unique_id: str, *, source: str, digest: str, objects: Sequence[RegistryObject]
    ) -> str:
        return digest

    def objects(self, ids: Sequence[str]) -> Sequence[RegistryObject]:
        return ()

    def objects_named(
        self, kind: RegistryKind, unique_ids: Sequence[str]
    ) -> Sequence[RegistryObject]:
        return ()

    def object_ids(self, kind: RegistryKind, unique_ids: Sequence[str]) -> Mapping[str, str]:
        return {}

    def objects_of(
        self, kind: RegistryKind, patient: Identifier, *, limit: int
    ) -> Sequence[RegistryObject]:
        return ()

    def associations(self, ids: Sequence[str], *, limit: int) -> Sequence[RegistryObject]:
        return ()

    def replaced(self, ids: Sequence[str], types: Sequence[str]) -> Sequence[tuple[str, str]]:
        return ()

    def knows(self, patient: Identifier) -> bool:
        return True

    def known(self, source: str, control_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return {}


DESCRIBING = Describing(repository="2.999.1", home="2.999.2", authorities=("2.999.3",), schemes={})


def document(number: int, patient: str = "1", **changes: Any) -> SharedDocument:
    resource = {
        "resourceType": "DocumentReference",
        "id": f"00000000-0000-5000-8000-{number:012d}",
        "meta": {"versionId": "1"},
        "status": "current",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:2.999.{number}"},
        "content": [{"attachment": {"contentType": "text/xml", "url": f"Binary/{number:064d}"}}],
        **changes,
    }
    identifiers = [
        {"system": "urn:oid:2.999.9", "value": "other"},
        {"system": "urn:oid:2.999.3", "value": patient},
    ]
    return SharedDocument(resource=resource, patient={"id": patient, "identifier": identifiers})


def asked(registry: Fixed, query: str, returns: str = "LeafClass", /, **slots: str) -> Any:
    body = "".join(
        f'<r:Slot name="${name}"><r:ValueList><r:Value>{value}</r:Value></r:ValueList></r:Slot>'
        for name, value in slots.items()
    )
    request = etree.fromstring(
        '<q:AdhocQueryRequest xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0" '
        'xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">'
        f'<q:ResponseOption returnType="{returns}"/><r:AdhocQuery id="urn:uuid:{query}">{body}'
        "</r:AdhocQuery></q:AdhocQueryRequest>"
    )
    catalogue = Catalogue(registry, DESCRIBING, Memory())
    return Registry(registry, catalogue, DESCRIBING, results_max=10).answer(request)


def code(answer: Any) -> str | None:
    error = answer.find(f".//{RS}RegistryError")
    return error.get("errorCode") if error is not None else None


GET = "5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
FIND = "14d4debf-8f97-4251-9a74-a90016b0af0d"
PATIENT, STATUS = "XDSDocumentEntryPatientId", "XDSDocumentEntryStatus"


@pytest.mark.parametrize(
    ("query", "slots", "wanted"),
    [
        ("00000000-0000-4000-8000-000000000000", {}, "XDSUnknownStoredQuery"),
        (FIND, {STATUS: "('x')"}, "XDSStoredQueryMissingParam"),
        (FIND, {PATIENT: "'1^^^&amp;2.999.3&amp;ISO'"}, "XDSStoredQueryMissingParam"),
        (FIND, {PATIENT: "('1^^^&amp;2.999.3&amp;ISO','2')", STATUS: "('x')"}, "XDSStoredQueryParamNumber"),
        (FIND, {PATIENT: "'1'", STATUS: "('x')"}, "XDSRegistryError"),
        (FIND, {PATIENT: "'1^^^&amp;2.999.3&amp;ISO'", STATUS: "('x')",
                "XDSDocumentEntryCreationTimeFrom": "'yesterday'"}, "XDSRegistryError"),
        (GET, {}, "XDSStoredQueryMissingParam"),
        (GET, {"XDSDocumentEntryEntryUUID": "'a'", "XDSDocumentEntryUniqueId": "'b'"}, "XDSStoredQueryParamNumber"),
        ("a7ae438b-4bc2-4642-93e9-be891f7bb155", {}, "XDSStoredQueryMissingParam"),
        ("d90e5407-b356-4d91-a89f-873917b4b0e6", {"XDSDocumentEntryUniqueId": "'b'"}, "XDSStoredQueryMissingParam"),
        ("10b545ea-725c-446d-9b95-8aeb444eddf3", {"patientId": "'1^^^&amp;2.999.3&amp;ISO'"}, "XDSStoredQueryMissingParam"),
        ("12941a89-e02e-4be5-967c-ce4bfc8fe492", {PATIENT: "'1^^^&amp;2.999.3&amp;ISO'", STATUS: "('x')"}, "XDSStoredQueryMissingParam"),
        ("f26abbcb-ac74-4422-8a30-edb644bbc1a9", {"XDSSubmissionSetPatientId": "'1^^^&amp;2.999.3&amp;ISO'"}, "XDSStoredQueryMissingParam"),
        ("958f3006-baad-4929-a4de-ff1114824431", {"XDSFolderStatus": "('x')"}, "XDSStoredQueryMissingParam"),
        ("5737b14c-8a1a-4539-b659-e03a34a5e1e4", {}, "XDSStoredQueryMissingParam"),
        ("51224314-5390-4169-9b91-b1980040715a", {}, "XDSStoredQueryMissingParam"),
        ("e8e3cb2c-e39c-46b9-99e4-c12f57260b83", {"XDSSubmissionSetEntryUUID": "'a'", "XDSSubmissionSetUniqueId": "'b'"}, "XDSStoredQueryParamNumber"),
        ("b909a503-523d-4517-8acf-8e5834dfc4c7", {}, "XDSStoredQueryMissingParam"),
        ("10cae35a-c7f9-4cf5-b61e-fc3278ffb578", {}, "XDSStoredQueryMissingParam"),
    ],
)  # fmt: skip
def test_queries_that_cannot_be_answered(query: str, slots: dict[str, str], wanted: str) -> None:
    assert code(asked(Fixed(document(1)), query, **slots)) == wanted


def test_other_refusals_of_queries() -> None:
    one = {"XDSDocumentEntryUniqueId": "'2.999.1'"}
    two = Fixed(document(1), document(2, patient="2"))
    assert code(asked(two, GET, **one)) == "XDSResultNotSinglePatient"
    assert code(asked(two, GET, "ObjectRef", **one)) is None
    assert code(asked(two, GET, "LeafClassWithRepositoryItem", **one)) == "XDSRegistryError"
    assert code(asked(Fixed(fault=TooManyDocuments()), GET, **one)) == "XDSTooManyResults"
    assert code(asked(Fixed(fault=RegistryUnavailable()), GET, **one)) == "XDSRegistryBusy"


# --- entries -------------------------------------------------------------------------


def test_what_xds_has_no_word_for_is_not_registered() -> None:
    assert registered(document(1), {}) is not None
    for changes in (
        {"status": "entered-in-error"}, {"masterIdentifier": {}}, {"content": []}, {"id": "x"},
        {"content": [{"attachment": {"url": "http://elsewhere/x"}}]},
    ):  # fmt: skip
        assert registered(document(1, **changes), {}) is None


def test_the_affinity_domains_own_patient_id_is_preferred() -> None:
    whole = document(1, patient="77")
    made = registered(whole, {})
    assert made is not None
    assert DESCRIBING.patient_id(whole.patient) == "77^^^&2.999.3&ISO"
    leaf = DESCRIBING.entry(made, whole, None)
    assert leaf.get("home") == "urn:oid:2.999.2"


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("2024", "2024"), ("2024-02", "202402"), ("2024-02-03", "20240203"),
        ("2024-02-03T04:05:06+02:00", "20240203020506"), ("2024-01-01T00:30:00.5+01:00", "20231231233000"),
        ("T", ""),
    ],
)  # fmt: skip
def test_times_are_utc(text: str, digits: str) -> None:
    assert utc_digits(text) == digits


def test_identifiers_go_both_ways() -> None:
    for text in ("1.2.3", "1.2.3^X-1", "90e1c8ec-f951-4b26-a305-a34848818dd6"):
        first = identifiers_of(text)[0]
        master = {"masterIdentifier": {"system": first.system, "value": first.value}}
        assert unique_id_of(master) == text
    assert Identifier(system="urn:oid:1.2", value="3") in identifiers_of("1.2.3")
    assert control_ids_of("1.2.3") == ("1.2.3", "1.2^3")
    assert same_document("1.2.3", "1.2^3")


def test_an_answer_never_carries_what_xml_cannot() -> None:
    made = registry_response([Problem("XDSRepositoryError", "a\x00b\x1b\n" + "x" * 5_000)])
    error = made.find(f".//{RS}RegistryError")
    assert error.get("codeContext").startswith("a b  x")
    assert len(error.get("codeContext")) == 1_000

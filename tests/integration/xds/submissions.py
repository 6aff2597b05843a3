"""Requests of XDS.b made for tests, good and bad, and answers read without the code under test."""

from __future__ import annotations

import email
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.policy import HTTP as HTTP_POLICY
from xml.sax.saxutils import escape, quoteattr

import httpx2
from lxml import etree

from adapters.cda.transmitted import CdaHeaders
from tests.http_client import HTTP

RIM = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"
LCM = "{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}"
RS = "{urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0}"
XDS = "{urn:ihe:iti:xds-b:2007}"
SOAP = "{http://www.w3.org/2003/05/soap-envelope}"
SOAP_1_1 = "http://schemas.xmlsoap.org/soap/envelope/"
WSA = "{http://www.w3.org/2005/08/addressing}"
REPOSITORY = "2.999.1.43"
PROVIDE = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
QUERY = "urn:ihe:iti:2007:RegistryStoredQuery"
RETRIEVE = "urn:ihe:iti:2007:RetrieveDocumentSet"
APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
REPLACES = "urn:ihe:iti:2007:AssociationType:RPLC"
APPENDS = "urn:ihe:iti:2007:AssociationType:APND"
CODES = {
    "classCode": ("41a5887f-8865-4c09-adf7-e362475b143a", "11", "1.2.250.1.213.1.1.4.1"),
    "confidentialityCode": ("f4f85eac-e6cb-4883-b524-f2705394840f", "N", "2.16.840.1.113883.5.25"),
    "formatCode": ("a09d5840-386c-46f2-b5ad-9c3699a4309d", "urn:ihe:x", "1.3.6.1.4.1.19376.1.2.3"),
    "healthcareFacilityTypeCode": (
        "f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
        "SA01",
        "1.2.250.1.71.4.2.4",
    ),
    "practiceSettingCode": (
        "cccf5598-8b07-4b77-a05e-ae952c785ead",
        "ETABLISSEMENT",
        "1.2.250.1.213.1.1.4.9",
    ),
    "typeCode": ("f0306f51-975f-434e-a61c-c59651d33983", "11502-2", "2.16.840.1.113883.6.1"),
}
_numbers = itertools.count(1)


def slot(name: str, *values: str) -> str:
    found = "".join(f"<rim:Value>{escape(each)}</rim:Value>" for each in values)
    return f"<rim:Slot name={quoteattr(name)}><rim:ValueList>{found}</rim:ValueList></rim:Slot>"


def external(scheme: str, value: str) -> str:
    return (
        f'<rim:ExternalIdentifier id="e{next(_numbers)}" registryObject="x" '
        f'identificationScheme="urn:uuid:{scheme}" value={quoteattr(value)}>'
        "<rim:Name/></rim:ExternalIdentifier>"
    )


def coded(scheme: str, code: str, system: str, of: str = "x") -> str:
    return (
        f'<rim:Classification id="c{next(_numbers)}" classificationScheme="urn:uuid:{scheme}" '
        f'classifiedObject="{of}" nodeRepresentation={quoteattr(code)}>'
        f"{slot('codingScheme', system)}</rim:Classification>"
    )


def patient_of(data: bytes) -> str:
    """The INS of a document, or its first identifier, as a patientId."""
    header = CdaHeaders().header(data)
    assert header is not None
    found = [each for each in header.patient if each.system.startswith("urn:oid:")]
    first = next((each for each in found if each.type == "INS"), found[0])
    return f"{first.value}^^^&{first.system.removeprefix('urn:oid:')}&ISO"


def entry(name: str, data: bytes, *, patient: str = "", unique_id: str | None = None,
          media_type: str = "text/xml", kind: str = "7edca82f-054d-47f2-a032-9b2a5b5186c1",
          without: Sequence[str] = (), codes: Mapping[str, tuple[str, str]] | None = None,
          **slots: str | None) -> str:  # fmt: skip
    """A document entry that fits the document, but for what is changed; None leaves out."""
    header = None if patient and unique_id else CdaHeaders().header(data)
    if unique_id is None:
        unique_id = header.identifier if header is not None else f"2.999.88.{next(_numbers)}"
    said: dict[str, str | None] = {
        "creationTime": "20240101120000",
        "languageCode": "fr-FR",
        "sourcePatientId": patient or patient_of(data),
        "hash": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        "size": str(len(data)),
        **slots,
    }
    changed = codes or {}
    return (
        f'<rim:ExtrinsicObject id="{name}" mimeType="{media_type}" objectType="urn:uuid:{kind}">'
        + "".join(slot(each, value) for each, value in said.items() if value is not None)
        + "".join(
            coded(scheme, *changed.get(each, (code, system)), of=name)
            for each, (scheme, code, system) in CODES.items()
            if each not in without
        )
        + external("58a6f841-87b3-4a3e-92fd-a8ffeff98427", patient or patient_of(data))
        + (external("2e82c1f6-a085-4c72-9da3-8640a32e42ab", unique_id) if unique_id else "")
        + "</rim:ExtrinsicObject>"
    )


def submission_set(patient: str, *, unique_id: str = "", source: str = "2.999.5") -> str:
    unique_id = unique_id or f"2.999.77.{next(_numbers)}"
    return (
        '<rim:RegistryPackage id="Set">'
        + slot("submissionTime", "20240102120000")
        + coded("aa543740-bdda-424e-8c96-df4873be8500", "04", "1.2.250.1.213.2.2", of="Set")
        + external("96fdda7c-d067-4183-912e-bf5ee74998a8", unique_id)
        + external("554ac39e-e3fe-47fe-b233-965d2a147832", source)
        + external("6b5aea1a-874d-4603-a4bc-96a0a7b38446", patient)
        + "</rim:RegistryPackage>"
        '<rim:Classification id="node" classifiedObject="Set" '
        'classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>'
    )


def association(source: str, target: str,
                kind: str = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember") -> str:  # fmt: skip
    return (
        f'<rim:Association id="a{next(_numbers)}" associationType="{kind}" '
        f'sourceObject="{source}" targetObject="{target}"/>'
    )


@dataclass
class Part:
    """One document's bytes in a request."""

    name: str
    data: bytes
    content_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.content_id = self.content_id or f"{self.name}@test"


def submit(*objects: str, documents: Sequence[str]) -> str:
    """The element in the body of ITI-41."""
    return (
        '<ihe:ProvideAndRegisterDocumentSetRequest xmlns:ihe="urn:ihe:iti:xds-b:2007">'
        '<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0" '
        'xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"><rim:RegistryObjectList>'
        + "".join(objects)
        + "</rim:RegistryObjectList></lcm:SubmitObjectsRequest>"
        + "".join(documents)
        + "</ihe:ProvideAndRegisterDocumentSetRequest>"
    )


def included(name: str, href: str = "") -> str:
    """A Document that points to a part."""
    return (
        f'<ihe:Document id="{name}"><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" '
        f'href="{href or f"cid:{name}@test"}"/></ihe:Document>'
    )


def envelope(body: str, *, action: str = PROVIDE, message_id: str | None = "urn:uuid:1",
             headers: str = "", soap: str = SOAP[1:-1]) -> bytes:  # fmt: skip
    said = f"<a:Action>{action}</a:Action>" if action else ""
    said += f"<a:MessageID>{message_id}</a:MessageID>" if message_id is not None else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{soap}" '
        f'xmlns:a="{WSA[1:-1]}"><s:Header>{said}{headers}</s:Header><s:Body>{body}</s:Body>'
        "</s:Envelope>"
    ).encode()


def documents_request(documents: Sequence[bytes], *relations: str, set_id: str = "",
                      entries: Sequence[str] | None = None) -> tuple[bytes, list[Part]]:  # fmt: skip
    """A good ITI-41 for these documents, named Document1 and so on."""
    names = [f"Document{number}" for number in range(1, len(documents) + 1)]
    if entries is None:
        entries = [entry(name, data) for name, data in zip(names, documents, strict=True)]
    body = submit(
        *entries,
        submission_set(patient_of(documents[0]), unique_id=set_id),
        *(association("Set", name) for name in names),
        *relations,
        documents=[included(name) for name in names],
    )
    return envelope(body), [Part(name, data) for name, data in zip(names, documents, strict=True)]


def packed(root: bytes, parts: Sequence[Part] = (), *, boundary: str = "MIME_b") -> bytes:
    """A package of XOP."""
    made = [
        f"--{boundary}\r\nContent-Type: application/xop+xml; charset=UTF-8; "
        'type="application/soap+xml"\r\nContent-Transfer-Encoding: binary\r\n'
        "Content-ID: <root@test>\r\n\r\n".encode()
        + root
    ]
    for part in parts:
        headers = {
            "Content-Type": "text/xml", "Content-Transfer-Encoding": "binary",
            "Content-ID": f"<{part.content_id}>", **part.headers,
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        made.append(f"--{boundary}\r\n{head}\r\n".encode() + part.data)
    return b"\r\n".join(made) + f"\r\n--{boundary}--\r\n".encode()


MTOM = (
    'multipart/related; type="application/xop+xml"; boundary="MIME_b"; start="<root@test>"; '
    'start-info="application/soap+xml"'
)
PLAIN = "application/soap+xml; charset=UTF-8"


@dataclass
class Answer:
    """What came back: the envelope, and the parts by Content-ID."""

    status: int
    root: etree._Element
    parts: Mapping[str, bytes]
    headers: httpx2.Headers

    @property
    def body(self) -> etree._Element:
        return self.root.find(f"{SOAP}Body")[0]

    @property
    def relates_to(self) -> str | None:
        return self.root.findtext(f"{SOAP}Header/{WSA}RelatesTo")

    @property
    def outcome(self) -> str:
        """Success, Failure, PartialSuccess, or Fault."""
        if self.body.tag == f"{SOAP}Fault":
            return "Fault"
        element = self.body if self.body.get("status") else self.body.find(f"{RS}RegistryResponse")
        return element.get("status").rpartition(":")[2]

    @property
    def codes(self) -> list[str]:
        return [each.get("errorCode") for each in self.root.iter(f"{RS}RegistryError")]

    @property
    def fault(self) -> tuple[str, str]:
        """Code and subcode without their prefixes."""
        values = [each.text.rpartition(":")[2] for each in self.root.iter(f"{SOAP}Value")]
        return values[0], values[1] if len(values) > 1 else ""

    @property
    def ids(self) -> list[str]:
        """Of the objects that a query found."""
        return [each.get("id") for each in self.body.find(f"{RIM}RegistryObjectList")]


def read_answer(response: httpx2.Response) -> Answer:
    kind = response.headers["content-type"]
    if not kind.startswith("multipart/"):
        return Answer(
            response.status_code, etree.fromstring(response.content), {}, response.headers
        )
    # Python's own reader of mail, which knows nothing of ours.
    whole = email.message_from_bytes(
        f"Content-Type: {kind}\r\n\r\n".encode() + response.content, policy=HTTP_POLICY
    )
    root, *others = whole.iter_parts()  # type: ignore[attr-defined]
    parts = {each["Content-ID"].strip("<>"): each.get_payload(decode=True) for each in others}
    return Answer(
        response.status_code, etree.fromstring(root.get_payload(decode=True)), parts,
        response.headers,
    )  # fmt: skip


def post(url: str, body: bytes, kind: str = MTOM, **headers: str) -> Answer:
    response = HTTP.post(url, content=body, headers={"Content-Type": kind, **headers}, timeout=60)
    return read_answer(response)


def provide(url: str, documents: Sequence[bytes], *relations: str, set_id: str = "") -> Answer:
    """ITI-41 by MTOM."""
    root, parts = documents_request(documents, *relations, set_id=set_id)
    return post(url, packed(root, parts))


def ask(url: str, query: str, parameters: Mapping[str, str | Sequence[str]],
        returns: str = "LeafClass") -> Answer:  # fmt: skip
    """ITI-18. A parameter given as a list stands in as many slots."""
    slots = "".join(
        slot(name, each)
        for name, values in parameters.items()
        for each in ([values] if isinstance(values, str) else values)
    )
    body = (
        '<query:AdhocQueryRequest xmlns:query="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0" '
        'xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">'
        f'<query:ResponseOption returnComposedObjects="true" returnType="{returns}"/>'
        f'<rim:AdhocQuery id="urn:uuid:{query}">{slots}</rim:AdhocQuery></query:AdhocQueryRequest>'
    )
    return post(url, envelope(body, action=QUERY), PLAIN)


def fetch(url: str, *documents: tuple[str, str]) -> Answer:
    """ITI-43. Each is a repository and a uniqueId."""
    asked = "".join(
        f"<ihe:DocumentRequest><ihe:RepositoryUniqueId>{escape(repository)}"
        f"</ihe:RepositoryUniqueId><ihe:DocumentUniqueId>{escape(unique_id)}"
        "</ihe:DocumentUniqueId></ihe:DocumentRequest>"
        for repository, unique_id in documents
    )
    body = (
        f'<ihe:RetrieveDocumentSetRequest xmlns:ihe="{XDS[1:-1]}">{asked}'
        "</ihe:RetrieveDocumentSetRequest>"
    )
    return post(url, packed(envelope(body, action=RETRIEVE)))

"""A document of the record as the metadata of XDS: DocumentReference to document entry.

The correspondence is that of IHE MHD (DocumentReference and DocumentEntry), the representation
that of ITI TF-3 section 4.2. What the record does not say is left out: nothing is invented.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from adapters.ebrim.names import (
    APPENDS,
    APPROVED,
    DEPRECATED,
    DOCUMENT_AUTHOR,
    DOCUMENT_CODES,
    DOCUMENT_ID,
    DOCUMENT_PATIENT,
    REPLACES,
    RIM,
    SIGNS,
    STABLE_DOCUMENT,
    TRANSFORMS,
)
from adapters.ebrim.submission import Code
from adapters.xds.identifiers import digest_of, entry_uuid_of, unique_id_of
from adapters.xds.people import author_texts, person_text
from gateway.ports import SharedDocument

_RIM = f"{{{RIM}}}"
_IDENTIFIABLE = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:"
_RELATIONS = {
    "replaces": REPLACES,
    "appends": APPENDS,
    "transforms": TRANSFORMS,
    "signs": SIGNS,
}
_SEX = {"male": "M", "female": "F", "other": "O", "unknown": "U"}
REFERENCES_MAX = 100


@dataclass(frozen=True, slots=True)
class Coded:
    """A code with its scheme and its name."""

    code: Code
    display: str


@dataclass(frozen=True, slots=True)
class Registered:
    """One document as XDS knows it. ``times`` are UTC, ``YYYYMMDDhhmmss`` or shorter;
    ``people`` is what a search for authors looks at; ``sha256`` names its bytes."""

    document: SharedDocument
    uuid: str
    unique_id: str
    status: str
    media_type: str
    sha256: str
    times: Mapping[str, str]
    codes: Mapping[str, tuple[Coded, ...]]
    references: tuple[str, ...]
    relations: tuple[tuple[str, str], ...]
    patient_id: str

    @property
    def resource(self) -> Mapping[str, Any]:
        """The DocumentReference."""
        return self.document.resource


class Describing:
    """Makes document entries as one repository says them. ``schemes`` gives the OID of a code
    system by its URI; ``authorities`` are the OIDs whose identifiers are preferred as patientId."""

    def __init__(
        self,
        *,
        repository: str,
        home: str,
        authorities: Sequence[str],
        schemes: Mapping[str, str],
    ) -> None:
        self.repository = repository
        self.home = home
        self._authorities = tuple(authorities)
        self._schemes = schemes

    def registered(self, document: SharedDocument) -> Registered | None:
        """None for what XDS has no word for: a document in error, or without id or bytes."""
        resource = document.resource
        entry, unique_id = entry_uuid_of(resource), unique_id_of(resource)
        contents = resource.get("content") or ()
        attachment = contents[0].get("attachment", {}) if contents else {}
        sha256 = digest_of(resource)
        if not entry or not unique_id or not sha256:
            return None
        status = {"current": APPROVED, "superseded": DEPRECATED}.get(str(resource.get("status")))
        if status is None:
            return None
        return Registered(
            document=document,
            uuid=entry,
            unique_id=unique_id,
            status=status,
            media_type=str(attachment.get("contentType", "application/octet-stream")),
            sha256=sha256,
            times=dict(_times(resource, attachment)),
            codes={name: tuple(self._coded(resource, name)) for name in DOCUMENT_CODES},
            references=tuple(_references(resource)),
            relations=tuple(_relations(resource)),
            patient_id=self.patient_id(document.patient),
        )

    def patient_id(self, patient: Mapping[str, Any]) -> str:
        """The identifier that this affinity domain has for a patient, as a CX."""
        found = {
            str(each.get("system", "")).removeprefix("urn:oid:"): str(each.get("value", ""))
            for each in reversed(patient.get("identifier") or [])
            if str(each.get("system", "")).startswith("urn:oid:")
        }
        for root in (*self._authorities, *reversed(found)):
            if found.get(root):
                return f"{found[root]}^^^&{root}&ISO"
        return ""

    def _coded(self, resource: Mapping[str, Any], name: str) -> Iterator[Coded]:
        for coding in _codings(resource, name):
            code, system = str(coding.get("code", "")), str(coding.get("system", ""))
            if code:
                scheme = self._schemes.get(system, system.removeprefix("urn:oid:"))
                yield Coded(Code(code, scheme), str(coding.get("display") or code))

    # --- ebRIM ---------------------------------------------------------------------

    def leaf(self, one: Registered) -> etree._Element:
        """The whole entry (``rim:ExtrinsicObject``)."""
        attachment = one.resource["content"][0]["attachment"]
        element = etree.Element(f"{_RIM}ExtrinsicObject", nsmap={"rim": RIM})
        for name, value in (
            ("id", one.uuid), ("lid", one.uuid), ("objectType", STABLE_DOCUMENT),
            ("mimeType", one.media_type), ("status", one.status), ("home", self._home_urn()),
        ):  # fmt: skip
            if value:
                element.set(name, value)
        for name, text in one.times.items():
            _slot(element, name, [text])
        _slot(element, "languageCode", [str(attachment.get("language", ""))])
        _slot(element, "repositoryUniqueId", [self.repository])
        _slot(element, "hash", [_hex(str(attachment.get("hash", "")))])
        _slot(element, "size", [str(attachment.get("size", ""))])
        _slot(element, "sourcePatientId", [one.patient_id])
        _slot(element, "sourcePatientInfo", list(_patient_info(one.document.patient)))
        _slot(element, "legalAuthenticator", [self._authenticator(one)])
        _slot(element, REFERENCE_SLOT, one.references)
        _named(element, "Name", str(one.resource.get("description", "")))
        _named(element, "Description", "")
        for number, (people, houses) in enumerate(self._authors(one), 1):
            author = self._classification(element, one, DOCUMENT_AUTHOR, "", f"author{number}")
            _slot(author, "authorPerson", people)
            _slot(author, "authorInstitution", houses)
        for name, scheme in DOCUMENT_CODES.items():
            for number, coded in enumerate(one.codes[name], 1):
                code = self._classification(
                    element, one, scheme, coded.code.code, f"{name}{number}"
                )
                _slot(code, "codingScheme", [coded.code.scheme])
                _named(code, "Name", coded.display)
        self._external(element, one, DOCUMENT_PATIENT, one.patient_id, "patientId")
        self._external(element, one, DOCUMENT_ID, one.unique_id, "uniqueId")
        return element

    def reference(self, identifier: str) -> etree._Element:
        """``rim:ObjectRef``."""
        element = etree.Element(f"{_RIM}ObjectRef", nsmap={"rim": RIM})
        element.set("id", identifier)
        if self.home:
            element.set("home", self._home_urn())
        return element

    def association(self, relation: Relation) -> etree._Element:
        """``rim:Association`` between two documents."""
        element = etree.Element(f"{_RIM}Association", nsmap={"rim": RIM})
        for name, value in (
            ("id", relation.uuid), ("lid", relation.uuid),
            ("objectType", f"{_IDENTIFIABLE}Association"), ("status", APPROVED),
            ("associationType", relation.type), ("sourceObject", relation.source),
            ("targetObject", relation.target), ("home", self._home_urn()),
        ):  # fmt: skip
            if value:
                element.set(name, value)
        return element

    def _home_urn(self) -> str:
        return f"urn:oid:{self.home}" if self.home else ""

    def _classification(
        self, element: etree._Element, one: Registered, scheme: str, code: str, name: str
    ) -> etree._Element:
        found = etree.SubElement(element, f"{_RIM}Classification")
        found.set("id", _made(one.uuid, name))
        found.set("classificationScheme", scheme)
        found.set("classifiedObject", one.uuid)
        found.set("nodeRepresentation", code)
        found.set("objectType", f"{_IDENTIFIABLE}Classification")
        return found

    def _external(
        self, element: etree._Element, one: Registered, scheme: str, value: str, name: str
    ) -> None:
        found = etree.SubElement(element, f"{_RIM}ExternalIdentifier")
        found.set("id", _made(one.uuid, name))
        found.set("registryObject", one.uuid)
        found.set("identificationScheme", scheme)
        found.set("value", value)
        found.set("objectType", f"{_IDENTIFIABLE}ExternalIdentifier")
        _named(found, "Name", f"XDSDocumentEntry.{name}")

    def _authors(self, one: Registered) -> Iterator[tuple[list[str], list[str]]]:
        """Persons and institutions of each author. An institution that stands alone beside
        several people is an author of its own: whose it is is not said."""
        people, houses = author_texts(one.document)
        if len(people) == 1 or not houses:
            yield from (([person], houses) for person in people)
            return
        yield from (([person], []) for person in people)
        yield from (([], [house]) for house in houses)

    def _authenticator(self, one: Registered) -> str:
        reference = one.resource.get("authenticator")
        return person_text(reference, one.document.named) if reference else ""


REFERENCE_SLOT = "urn:ihe:iti:xds:2013:referenceIdList"


@dataclass(frozen=True, slots=True)
class Relation:
    """An association between two documents of the record, by their entryUUIDs."""

    type: str
    source: str
    target: str

    @property
    def uuid(self) -> str:
        """Its own, the same each time."""
        return _made(self.source, f"{self.type} {self.target}")


def utc_digits(text: str) -> str:
    """A FHIR date, dateTime or instant as DTM in UTC (ITI TF-3 table 4.2.3.1.7-2)."""
    if "T" not in text:
        return text.replace("-", "")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return (at.astimezone(UTC) if at.tzinfo else at).strftime("%Y%m%d%H%M%S")


def _times(resource: Mapping[str, Any], attachment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    period = (resource.get("context") or {}).get("period") or {}
    for name, value in (
        ("creationTime", attachment.get("creation") or resource.get("date")),
        ("serviceStartTime", period.get("start")),
        ("serviceStopTime", period.get("end")),
    ):
        digits = utc_digits(str(value)) if value else ""
        if digits:
            yield name, digits


def _codings(resource: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    context = resource.get("context") or {}
    contents: Sequence[Mapping[str, Any]] = resource.get("content") or ({},)
    if name == "formatCode":
        yield contents[0].get("format") or {}
        return
    several = name in ("confidentialityCode", "eventCodeList")
    concepts: Sequence[Mapping[str, Any]] = {
        "classCode": (resource.get("category") or ())[:1],
        "typeCode": [resource.get("type") or {}],
        "healthcareFacilityTypeCode": [context.get("facilityType") or {}],
        "practiceSettingCode": [context.get("practiceSetting") or {}],
        "confidentialityCode": resource.get("securityLabel") or (),
        "eventCodeList": context.get("event") or (),
    }[name]
    for concept in concepts:
        codings = concept.get("coding") or ()
        yield from codings if several else codings[:1]


def _references(resource: Mapping[str, Any]) -> Iterator[str]:
    """Orders, accessions, encounters as CXi (ITI TF-3 table 4.2.3.1.7-2)."""
    context = resource.get("context") or {}
    related = [*(context.get("related") or ()), *(context.get("encounter") or ())]
    kinds = {
        "": "urn:ihe:iti:xds:2013:accession",
        "ServiceRequest": "urn:ihe:iti:xds:2013:order",
        "Encounter": "urn:ihe:iti:xds:2015:encounterId",
    }
    for each in related[:REFERENCES_MAX]:
        identifier = each.get("identifier") or {}
        system, value = str(identifier.get("system", "")), str(identifier.get("value", ""))
        kind = kinds.get(str(each.get("type", "")))
        if system.startswith("urn:oid:") and value and kind:
            yield f"{value}^^^&{system.removeprefix('urn:oid:')}&ISO^{kind}"


def _relations(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for each in resource.get("relatesTo") or ():
        kind = _RELATIONS.get(str(each.get("code", "")))
        target = str((each.get("target") or {}).get("reference", "")).split("/")
        if kind and len(target) >= 2 and target[0] == "DocumentReference":
            yield kind, f"urn:uuid:{target[1]}"


def _patient_info(patient: Mapping[str, Any]) -> Iterator[str]:
    """ITI TF-3 section 4.2.3.2.23."""
    names = patient.get("name") or ()
    if names:
        given = names[0].get("given") or ()
        yield f"PID-5|{names[0].get('family', '')}^{given[0] if given else ''}"
    if patient.get("birthDate"):
        yield f"PID-7|{utc_digits(str(patient['birthDate']))}"
    if patient.get("gender") in _SEX:
        yield f"PID-8|{_SEX[patient['gender']]}"


def _hex(base64_text: str) -> str:
    try:
        return base64.b64decode(base64_text, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""


def _made(base: str, name: str) -> str:
    return f"urn:uuid:{uuid.uuid5(uuid.UUID(base.removeprefix('urn:uuid:')), name)}"


def _slot(element: etree._Element, name: str, values: Sequence[str]) -> None:
    kept = [each for each in values if each]
    if not kept:
        return
    slot = etree.SubElement(element, f"{_RIM}Slot")
    slot.set("name", name)
    listed = etree.SubElement(slot, f"{_RIM}ValueList")
    for each in kept:
        etree.SubElement(listed, f"{_RIM}Value").text = each


def _named(element: etree._Element, name: str, text: str) -> None:
    holder = etree.SubElement(element, f"{_RIM}{name}")
    if text:
        etree.SubElement(holder, f"{_RIM}LocalizedString").set("value", text)

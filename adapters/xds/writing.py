"""Documents, and what submissions registered, as ebRIM (ITI TF-3 section 4.2)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lxml import etree

from adapters.ebrim.names import (
    APPROVED,
    DOCUMENT_AUTHOR,
    DOCUMENT_CODES,
    DOCUMENT_ID,
    DOCUMENT_PATIENT,
    REGISTRY_OBJECT,
    RIM,
    STABLE_DOCUMENT,
)
from adapters.ebrim.objects import REFERENCE_SLOT, add_name, add_slot, made_id
from adapters.xds.entries import Registered, Relation, utc_digits
from adapters.xds.people import author_texts, person_text
from gateway.documents import SharedDocument
from gateway.model import RegistryObject

_RIM = f"{{{RIM}}}"
_SEX = {"male": "M", "female": "F", "other": "O", "unknown": "U"}


class Describing:
    """Writes objects as one repository says them. ``schemes`` gives the OID of a code system by
    its URI; ``authorities`` are the OIDs whose identifiers are preferred as patientId."""

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
        self.schemes = schemes
        self._authorities = tuple(authorities)

    def patient_id(self, patient: Mapping[str, Any]) -> str:
        """The identifier that this affinity domain has for a patient, as a CX."""
        found = _identifiers(patient)
        for root in (*self._authorities, *reversed(found)):
            if found.get(root):
                return f"{found[root]}^^^&{root}&ISO"
        return ""

    def submitted(
        self, one: RegistryObject, *, status: str = APPROVED, slots: Mapping[str, str] | None = None
    ) -> etree._Element:
        """An object as it was registered, with its status of now. ``slots`` are set by us."""
        element = etree.fromstring(one.content)
        element.set("status", status)
        if self.home:
            element.set("home", self._home_urn())
        for number, (name, value) in enumerate((slots or {}).items()):
            add_slot(element, name, [value])
            element.insert(number, element[-1])  # slots stand first
        return element

    def entry(
        self, one: Registered, document: SharedDocument, kept: RegistryObject | None
    ) -> etree._Element:
        """The whole document entry. A patientId that is not the patient's any more, because two
        patients were found to be one, is the one of now."""
        if kept is None:
            return self._leaf(one, document)
        element = self.submitted(kept, status=one.status)
        value, _, rest = kept.patient.partition("^")
        root = rest.partition("&")[2].partition("&")[0]
        known = _identifiers(document.patient)
        if known and known.get(root) != value:
            for each in element.iterfind(f"{_RIM}ExternalIdentifier"):
                if each.get("identificationScheme") == DOCUMENT_PATIENT:
                    each.set("value", self.patient_id(document.patient))
        return element

    # --- what the record says ------------------------------------------------------

    def _leaf(self, one: Registered, document: SharedDocument) -> etree._Element:
        attachment = document.resource["content"][0]["attachment"]
        patient_id = self.patient_id(document.patient)
        element = etree.Element(f"{_RIM}ExtrinsicObject", nsmap={"rim": RIM})
        for name, value in (
            ("id", one.uuid), ("lid", one.uuid), ("objectType", STABLE_DOCUMENT),
            ("mimeType", one.facts.media_type), ("status", one.status), ("home", self._home_urn()),
        ):  # fmt: skip
            if value:
                element.set(name, value)
        for name, text in one.facts.times.items():
            add_slot(element, name, [text])
        add_slot(element, "languageCode", [str(attachment.get("language", ""))])
        add_slot(element, "repositoryUniqueId", [self.repository])
        add_slot(element, "hash", [_hex(str(attachment.get("hash", "")))])
        add_slot(element, "size", [str(attachment.get("size", ""))])
        add_slot(element, "sourcePatientId", [patient_id])
        add_slot(element, "sourcePatientInfo", list(_patient_info(document.patient)))
        add_slot(element, "legalAuthenticator", [_authenticator(document)])
        add_slot(element, REFERENCE_SLOT, one.facts.references)
        add_name(element, "Name", str(document.resource.get("description", "")))
        add_name(element, "Description", "")
        for number, (people, houses) in enumerate(_authors(document), 1):
            author = self._classification(element, one, DOCUMENT_AUTHOR, "", f"author{number}")
            add_slot(author, "authorPerson", people)
            add_slot(author, "authorInstitution", houses)
        for name, scheme in DOCUMENT_CODES.items():
            for number, coded in enumerate(one.facts.codes[name], 1):
                code = self._classification(
                    element, one, scheme, coded.code.code, f"{name}{number}"
                )
                add_slot(code, "codingScheme", [coded.code.scheme])
                add_name(code, "Name", coded.display)
        self._external(element, one, DOCUMENT_PATIENT, patient_id, "patientId")
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
        """``rim:Association``: as it was submitted, or as a document says it itself."""
        if relation.object is not None:
            return self.submitted(relation.object)
        element = etree.Element(f"{_RIM}Association", nsmap={"rim": RIM})
        for name, value in (
            ("id", relation.uuid), ("lid", relation.uuid),
            ("objectType", f"{REGISTRY_OBJECT}Association"), ("status", APPROVED),
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
        found.set("id", made_id(one.uuid, name))
        found.set("classificationScheme", scheme)
        found.set("classifiedObject", one.uuid)
        found.set("nodeRepresentation", code)
        found.set("objectType", f"{REGISTRY_OBJECT}Classification")
        return found

    def _external(
        self, element: etree._Element, one: Registered, scheme: str, value: str, name: str
    ) -> None:
        found = etree.SubElement(element, f"{_RIM}ExternalIdentifier")
        found.set("id", made_id(one.uuid, name))
        found.set("registryObject", one.uuid)
        found.set("identificationScheme", scheme)
        found.set("value", value)
        found.set("objectType", f"{REGISTRY_OBJECT}ExternalIdentifier")
        add_name(found, "Name", f"XDSDocumentEntry.{name}")


def _identifiers(patient: Mapping[str, Any]) -> dict[str, str]:
    """The values by the OID of their authority, the first of each."""
    return {
        str(each.get("system", "")).removeprefix("urn:oid:"): str(each.get("value", ""))
        for each in reversed(patient.get("identifier") or [])
        if str(each.get("system", "")).startswith("urn:oid:")
    }


def _authors(document: SharedDocument) -> Iterator[tuple[list[str], list[str]]]:
    """Persons and institutions of each author. An institution that stands alone beside
    several people is an author of its own: whose it is is not said."""
    people, houses = author_texts(document)
    if len(people) == 1 or not houses:
        yield from (([person], houses) for person in people)
        return
    yield from (([person], []) for person in people)
    yield from (([], [house]) for house in houses)


def _authenticator(document: SharedDocument) -> str:
    reference = document.resource.get("authenticator")
    return person_text(reference, document.named) if reference else ""


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

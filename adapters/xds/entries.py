"""A document as XDS knows it: made of the record's DocumentReference, or of what was registered.

The correspondence of DocumentReference and document entry is that of IHE MHD. What the record does
not say is left out: nothing is invented. What a source submitted (ITI-41) goes before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from adapters.ebrim.names import (
    APPENDS,
    APPROVED,
    DEPRECATED,
    DOCUMENT_CODES,
    REPLACES,
    SIGNS,
    TRANSFORMS,
)
from adapters.ebrim.objects import made_id
from adapters.ebrim.submission import Code
from adapters.xds.identifiers import digest_of, entry_uuid_of, unique_id_of
from gateway.documents import SharedDocument
from gateway.model import RegistryObject

_RELATIONS = {
    "replaces": REPLACES,
    "appends": APPENDS,
    "transforms": TRANSFORMS,
    "signs": SIGNS,
}
REFERENCES_MAX = 100


@dataclass(frozen=True, slots=True)
class Coded:
    """A code with its scheme and its name."""

    code: Code
    display: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What searches look at. ``times`` are UTC, ``YYYYMMDDhhmmss`` or shorter; ``people`` is None
    where only the whole document says who wrote it."""

    media_type: str
    times: Mapping[str, str]
    codes: Mapping[str, tuple[Coded, ...]]
    references: tuple[str, ...]
    people: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """One document as XDS knows it.

    ``id`` is that of its DocumentReference, ``uuid`` its entryUUID: another one where its source
    submitted one. ``sha256`` names its bytes; ``relations`` are what its DocumentReference says,
    with ids of DocumentReferences. ``submitted`` says that there is an object that its source
    registered.
    """

    id: str
    uuid: str
    unique_id: str
    status: str
    sha256: str
    facts: Facts
    relations: tuple[tuple[str, str], ...]
    submitted: bool = False

    def as_submitted(self, uuid: str, facts: Facts) -> Registered:
        """With what its source registered in the place of what the record says."""
        return replace(self, uuid=uuid, facts=facts, submitted=True)


@dataclass(frozen=True, slots=True)
class Relation:
    """An association between two objects, by their entryUUIDs. ``object`` is what a submission
    registered, None for what a document says itself."""

    type: str
    source: str
    target: str
    object: RegistryObject | None = None

    @property
    def uuid(self) -> str:
        """Its own, the same each time."""
        if self.object is not None:
            return self.object.id
        return made_id(self.source, f"{self.type} {self.target}")

    @property
    def said(self) -> tuple[str, str, str]:
        """What it says, whoever says it."""
        return (self.type, self.source, self.target)


def registered(document: SharedDocument, schemes: Mapping[str, str]) -> Registered | None:
    """None for what XDS has no word for: a document in error, or without id or bytes.

    ``schemes`` gives the OID of a code system by its URI.
    """
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
        id=str(resource["id"]),
        uuid=entry,
        unique_id=unique_id,
        status=status,
        sha256=sha256,
        facts=Facts(
            media_type=str(attachment.get("contentType", "application/octet-stream")),
            times=dict(_times(resource, attachment)),
            codes={
                name: tuple(_coded(resource, name, schemes)) for name in DOCUMENT_CODES
            },
            references=tuple(_references(resource)),
        ),
        relations=tuple(_relations(resource)),
    )  # fmt: skip


def submitted_facts(one: RegistryObject) -> Facts:
    """What the source of a document said of it (:func:`adapters.ebrim.objects.document_facts`)."""
    said = json.loads(one.facts)
    return Facts(
        media_type=said["media_type"],
        times=said["times"],
        codes={
            name: tuple(
                Coded(Code(code, scheme), shown)
                for code, scheme, shown in said["codes"].get(name, ())
            )
            for name in DOCUMENT_CODES
        },
        references=tuple(said["references"]),
        people=tuple(said["people"]),
    )


def _coded(resource: Mapping[str, Any], name: str, schemes: Mapping[str, str]) -> Iterator[Coded]:
    for coding in _codings(resource, name):
        code, system = str(coding.get("code", "")), str(coding.get("system", ""))
        if code:
            scheme = schemes.get(system, system.removeprefix("urn:oid:"))
            yield Coded(Code(code, scheme), str(coding.get("display") or code))


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

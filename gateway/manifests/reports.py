"""Which entries of a record are reports of a study, and what they say of its requests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from adapters.dicom.manifest import KEY_OBJECTS, Issued, Issuer
from gateway.manifests.elements import items, mapping, text

_DICOM = "urn:dicom:uid"
_URI = "urn:ietf:rfc:3986"
_AUTHORITY = "urn:ecluse:authority:"
_OID = "urn:oid:"
_VOID = frozenset({"entered-in-error", "cancelled", "superseded"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEntry:
    """What one entry says of its exam.

    ``identifier`` is ``root`` or ``root^extension`` of a CDA document, else empty. ``studies`` are
    the Study Instance UIDs that it names. ``orders`` are pairs of accession and placer number;
    either may be empty.
    """

    identifier: str
    at: datetime | None
    studies: frozenset[str]
    orders: tuple[tuple[Issued, Issued], ...]

    def accessions(self) -> list[Issued]:
        """The accession numbers that it names."""
        return [accession for accession, _ in self.orders if accession.value]

    def is_of(self, study: str, numbers: Iterable[Issued]) -> bool:
        """Whether it reports on a study: it names it, or names none and one of its accession
        numbers, issued by the same authority as far as both say."""
        if self.studies:
            return study in self.studies
        own = self.accessions()
        return any(
            a.value == b.value and not a.issuer.contradicts(b.issuer) for a in own for b in numbers
        )


def report_of(resource: Mapping[str, Any]) -> ReportEntry | None:
    """A DocumentReference or DiagnosticReport as a report; None when it is void, an object of
    the study itself, or a manifest."""
    if text(resource, "status") in _VOID:
        return None
    if resource.get("resourceType") == "DocumentReference":
        return _document(resource)
    return _diagnostic(resource)


def issued(identifier: Mapping[str, Any]) -> Issued:
    """A FHIR Identifier as DICOM has it: the issuer by OID or by name."""
    system, value = text(identifier, "system"), text(identifier, "value")
    if system.startswith(_OID):
        return Issued(value, Issuer("", system.removeprefix(_OID)))
    if system.startswith(_AUTHORITY):
        return Issued(value, Issuer(system.removeprefix(_AUTHORITY)))
    return Issued(value)


def _document(resource: Mapping[str, Any]) -> ReportEntry | None:
    master = mapping(resource, "masterIdentifier")
    formats = [text(mapping(each, "format"), "code") for each in items(resource, "content")]
    if text(master, "system") == _DICOM or KEY_OBJECTS in formats:
        return None
    studies, placers, accessions = set[str](), list[Issued](), list[Issued]()
    for each in items(mapping(resource, "context"), "related"):
        identifier = mapping(each, "identifier")
        kind = text(each, "type")
        if kind == "ImagingStudy":
            studies.add(text(identifier, "value").removeprefix(_OID))
        elif kind == "ServiceRequest":
            placers.append(issued(identifier))
        elif not kind and text(identifier, "value"):
            accessions.append(issued(identifier))
    return ReportEntry(
        identifier=_hl7_identifier(master),
        at=_instant(text(resource, "date")),
        studies=frozenset(studies - {""}),
        orders=_paired(accessions, placers),
    )


def _diagnostic(resource: Mapping[str, Any]) -> ReportEntry:
    studies = {
        text(mapping(each, "identifier"), "value").removeprefix(_OID)
        for each in items(resource, "imagingStudy")
    }
    numbers = [issued(each) for each in items(resource, "identifier")]
    numbers += [issued(mapping(each, "identifier")) for each in items(resource, "basedOn")]
    return ReportEntry(
        identifier="",
        at=_instant(text(resource, "issued")),
        studies=frozenset(studies - {""}),
        # Which of them is the accession number only the images can say.
        orders=tuple((each, Issued("")) for each in dict.fromkeys(numbers) if each.value),
    )


def _paired(accessions: Sequence[Issued], placers: Sequence[Issued]) -> Any:
    """Orders stand in a document one after the other, each with its accession number."""
    if len(accessions) == len(placers):
        return tuple(zip(accessions, placers, strict=True))
    return tuple((each, Issued("")) for each in accessions)


def _hl7_identifier(master: Mapping[str, Any]) -> str:
    system, value = text(master, "system"), text(master, "value")
    if system == _URI and value.startswith(_OID):
        return value.removeprefix(_OID)
    if system.startswith(_OID) and value:
        return f"{system.removeprefix(_OID)}^{value}"
    return ""


def _instant(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

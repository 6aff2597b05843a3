"""What a message reports on: the imaging studies and the numbers that a validated report names.

Pure, and made with the reading of a message, so that a mapping process says it too. Whoever knows
of studies (:mod:`gateway.study_reports`) takes it as evidence that one of them is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gateway.model import Entry
from gateway.value_class import value_class

VALIDATED = frozenset({"final", "amended", "corrected", "appended"})
"""DiagnosticReport.status (OBR-25, by table 0123) and DocumentReference.docStatus (TXA-17, OBX-11,
a CDA that is signed) of what somebody stands for."""
NUMBERS_MAX = 200
"""Numbers, and studies, of one message; what comes behind them is left out."""

PLACER_FIELD = "urn:ecluse:hl7v2:placer-field"
_STUDY_SYSTEM = "urn:dicom:uid"
_OID = "urn:oid:"


@value_class(frozen=True, slots=True)
class Reported:
    """``studies`` are Study Instance UIDs; ``numbers`` the identifiers (FHIR system and value) of
    the report and of its orders, one of which may be an accession number."""

    studies: tuple[str, ...]
    numbers: tuple[tuple[str, str], ...]


HearReports = Callable[[Sequence[tuple[int, Reported]]], None]
"""Hears of the validated reports that messages (by their number) bring, before these go on;
perhaps more than once. Any thread. Raises JournalUnavailable."""


def unheard(_reports: Sequence[tuple[int, Reported]]) -> None:
    """Where nobody wants to hear of reports."""


def read_reported(entries: Sequence[Entry]) -> Reported | None:
    """What a message's validated reports are of; None when it brings none."""
    studies: dict[str, None] = {}
    numbers: dict[tuple[str, str], None] = {}
    validated = False
    for entry in entries:
        resource = entry.resource
        kind = resource["resourceType"]
        if kind == "DiagnosticReport" and resource.get("status") in VALIDATED:
            validated = True
            studies |= dict.fromkeys(_uids(resource.get("imagingStudy")))
            numbers |= dict.fromkeys(_numbers(resource.get("identifier")))
            numbers |= dict.fromkeys(_numbers(_identifiers(resource.get("basedOn"))))
        elif kind == "DocumentReference" and _is_valid(resource):
            validated = True
            related = _objects((resource.get("context") or {}).get("related"))
            named = [each for each in related if each.get("type") == "ImagingStudy"]
            studies |= dict.fromkeys(_uids(named))
            others = [each for each in related if each.get("type") != "ImagingStudy"]
            numbers |= dict.fromkeys(_numbers(_identifiers(others)))
    if not validated:
        return None
    for entry in entries:
        # The orders that the message is about: a document refers to them.
        if entry.resource["resourceType"] == "ServiceRequest":
            numbers |= dict.fromkeys(_numbers(entry.resource.get("identifier")))
            # OBR-18: the accession number, as IHE's scheduled workflow has it (RAD-4), unissued.
            fields = _objects(entry.resource.get("extension"))
            said = [each.get("valueString") for each in fields if each.get("url") == PLACER_FIELD]
            numbers |= {("", each): None for each in said if isinstance(each, str) and each}
    return Reported(tuple(studies)[:NUMBERS_MAX], tuple(numbers)[:NUMBERS_MAX])


def _is_valid(resource: Mapping[str, Any]) -> bool:
    return resource.get("status") == "current" and resource.get("docStatus") in VALIDATED


def _objects(found: object) -> list[Mapping[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _identifiers(references: object) -> list[Mapping[str, Any]]:
    found = (each.get("identifier") for each in _objects(references))
    return [each for each in found if isinstance(each, dict)]


def _uids(references: object) -> Iterator[str]:
    for each in _identifiers(references):
        value = each.get("value")
        if isinstance(value, str) and each.get("system") in (_STUDY_SYSTEM, None):
            yield value.removeprefix(_OID)


def _numbers(identifiers: object) -> Iterator[tuple[str, str]]:
    for each in _objects(identifiers):
        value = each.get("value")
        if isinstance(value, str) and value:
            yield str(each.get("system") or ""), value

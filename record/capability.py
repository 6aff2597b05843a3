"""The CapabilityStatement: exactly what the read API does, made from what it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from record.parameters import PARAMETERS, parameters_of

PUBLISHED = "2025-01-01"
FORMATS = ("application/fhir+json", "json")


def capability_statement(version: str, stored_types: Iterable[str]) -> dict[str, Any]:
    """R4 CapabilityStatement of kind *instance*.

    ``stored_types`` are the types that the record holds beside those with parameters of
    their own.
    """
    names = sorted({*PARAMETERS, *stored_types} - {"Binary"})
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": PUBLISHED,
        "kind": "instance",
        "software": {"name": "Écluse", "version": version},
        "implementation": {"description": "The shared record, for reading"},
        "fhirVersion": "4.0.1",
        "format": [name for name in FORMATS if "/" in name],
        "rest": [
            {
                "mode": "server",
                "documentation": "Fed by the gateway alone. An unknown search parameter is"
                " refused, unless «Prefer: handling=lenient» is sent.",
                "resource": [*(_resource(name) for name in names), _binary()],
            }
        ],
    }


def _resource(name: str) -> dict[str, Any]:
    parameters = parameters_of(name)
    found: dict[str, str] = {"_id": "token", "_lastUpdated": "date"}
    found.update(dict.fromkeys(parameters.patient, "reference"))
    if parameters.identifiers:
        found["identifier"] = "token"
    found.update(dict.fromkeys(parameters.tokens, "token"))
    found.update(dict.fromkeys(parameters.names, "string"))
    if parameters.date is not None:
        found[parameters.date[0]] = "date"
    described: dict[str, Any] = {
        "type": name,
        "interaction": [
            {"code": code} for code in ("read", "vread", "history-instance", "search-type")
        ],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": False,
        "searchParam": [{"name": key, "type": kind} for key, kind in found.items()],
    }
    if name == "Patient":
        definition = "http://hl7.org/fhir/OperationDefinition/Patient-everything"
        described["operation"] = [{"name": "everything", "definition": definition}]
    return described


def _binary() -> dict[str, Any]:
    return {
        "type": "Binary",
        "documentation": "The bytes of a document, by their SHA-256, always as they are.",
        "interaction": [{"code": "read"}],
        "versioning": "no-version",
    }

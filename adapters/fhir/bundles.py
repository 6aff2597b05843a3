"""What is put on a FHIR R4 server for one delivery. Pure.

Every resource goes under the id that it has here ("update as create", R4 http.html#upsert), so
that the same delivery put twice is the same resources put twice. The same delivery gives the
same bytes at each attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from gateway.model import Delivery

_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_SOFTWARE = "Écluse"


@dataclass(frozen=True, slots=True)
class Put:
    """One resource to be put; ``if_match`` is the version that it must have there (an ETag)."""

    resource: Mapping[str, Any]
    if_match: str = ""

    @property
    def reference(self) -> str:
        """``Type/id``."""
        return f"{self.resource['resourceType']}/{self.resource['id']}"


def receipt_id(idempotency_key: str) -> str:
    """The id of the Provenance of a delivery."""
    return str(uuid5(NAMESPACE_URL, f"urn:ecluse:delivery:{idempotency_key}"))


def receipt(delivery: Delivery, puts: Sequence[Put]) -> Put:
    """The Provenance of a delivery: what was put, from which message, by whom (R4 Provenance)."""
    at = delivery.received_at or datetime.fromtimestamp(0, UTC)
    return Put(
        {
            "resourceType": "Provenance",
            "id": receipt_id(delivery.idempotency_key),
            "target": [{"reference": each.reference} for each in puts],
            "recorded": at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "agent": [
                {
                    "type": {"coding": [{"system": _PARTICIPANT, "code": "assembler"}]},
                    "who": {"display": _SOFTWARE},
                }
            ],
            "entity": [
                {
                    "role": "source",
                    "what": {
                        "identifier": {
                            "system": "urn:ecluse:delivery",
                            "value": delivery.idempotency_key,
                        }
                    },
                }
            ],
        }
    )


def merged(patient: Mapping[str, Any], survivor: str) -> dict[str, Any]:
    """A Patient as the server has it, marked as replaced by another (R4 Patient.link)."""
    link = {"other": {"reference": f"Patient/{survivor}"}, "type": "replaced-by"}
    others = [each for each in patient.get("link", ()) if each.get("type") != "replaced-by"]
    kept = {name: value for name, value in patient.items() if name != "meta"}
    return {**kept, "active": False, "link": [*others, link]}


def transaction(base: str, puts: Iterable[Put]) -> dict[str, Any]:
    """A transaction Bundle of updates (R4 http.html#transaction)."""
    entries = []
    for each in puts:
        request = {"method": "PUT", "url": each.reference}
        if each.if_match:
            request["ifMatch"] = each.if_match
        entries.append(
            {
                "fullUrl": f"{base}/{each.reference}",
                "resource": each.resource,
                "request": request,
            }
        )
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def documents(delivery: Delivery) -> dict[str, str]:
    """The documents that the entries point to by ``Binary/<sha256>``: digest to media type."""
    found: dict[str, str] = {}
    for entry in delivery.entries:
        for content in entry.resource.get("content", ()):
            attachment = content.get("attachment", {}) if isinstance(content, dict) else {}
            url = str(attachment.get("url", ""))
            if url.startswith("Binary/"):
                media_type = str(attachment.get("contentType") or "application/octet-stream")
                found.setdefault(url.removeprefix("Binary/"), media_type)
    return found

"""One identifier as XDS, CDA and FHIR write it.

ITI TF-3 section 4.2.3.2.26: a uniqueId is an OID, or for a CDA with an extension
``root^extension``. The record keeps a document's id as FHIR R4 writes an Identifier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.ebrim.submission import PatientId
from gateway.model import Identifier

URI_SYSTEM = "urn:ietf:rfc:3986"
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def identifiers_of(unique_id: str) -> tuple[Identifier, ...]:
    """The identifiers of a document that may stand behind a uniqueId, the likeliest first."""
    root, caret, extension = unique_id.strip().partition("^")
    if caret and extension:
        return (Identifier(system=f"urn:oid:{root}", value=extension),)
    plain = root.removeprefix("urn:oid:").removeprefix("urn:uuid:")
    if _UUID.match(plain.lower()):
        return (Identifier(system=URI_SYSTEM, value=f"urn:uuid:{plain.lower()}"),)
    found = [Identifier(system=URI_SYSTEM, value=f"urn:oid:{plain}")]
    above, dot, last = plain.rpartition(".")
    if dot:
        # A CDA's root and extension, sent as one OID: the CI-SIS forbids the extension.
        found.append(Identifier(system=f"urn:oid:{above}", value=last))
    return tuple(found)


def unique_id_key(unique_id: str) -> str:
    """The same for all ways to write one uniqueId: ``root^extension``, or both as one OID."""
    plain = unique_id.strip().removeprefix("urn:oid:").removeprefix("urn:uuid:").replace("^", ".")
    return plain.lower() if _UUID.match(plain.lower()) else plain


def unique_id_of(resource: Mapping[str, Any]) -> str:
    """The uniqueId of a DocumentReference; empty when it has no worldwide identifier."""
    master = resource.get("masterIdentifier") or {}
    system, value = str(master.get("system", "")), str(master.get("value", ""))
    if system == URI_SYSTEM:
        return value.removeprefix("urn:oid:").removeprefix("urn:uuid:")
    if system.startswith("urn:oid:") and value:
        return f"{system.removeprefix('urn:oid:')}^{value}"
    return ""


def digest_of(resource: Mapping[str, Any]) -> str:
    """The SHA-256 of a DocumentReference's own bytes; empty when the record does not have them."""
    contents: Sequence[Mapping[str, Any]] = resource.get("content") or ({},)
    kind, _, digest = str(contents[0].get("attachment", {}).get("url", "")).partition("/")
    return digest if kind == "Binary" else ""


def entry_uuid_of(resource: Mapping[str, Any]) -> str:
    """The entryUUID of a DocumentReference, whose id is a UUID; empty when it is none."""
    identifier = str(resource.get("id", ""))
    return f"urn:uuid:{identifier}" if _UUID.match(identifier) else ""


def resource_id_of(entry_uuid: str) -> str:
    """The id of the DocumentReference with this entryUUID; empty for what is no UUID."""
    plain = entry_uuid.strip().lower().removeprefix("urn:uuid:")
    return plain if _UUID.match(plain) else ""


def uuid_urn(text: str) -> str:
    """A UUID in the form of an entryUUID; empty for a name within a submission."""
    plain = text.strip().lower()
    return plain if plain.startswith("urn:uuid:") and _UUID.match(plain[9:]) else ""


def is_oid(text: str) -> bool:
    """Whether a text is an OID."""
    return _OID.match(text) is not None


def patient_of(patient: PatientId) -> Identifier:
    """A patientId as the index of patients has it."""
    return Identifier(system=f"urn:oid:{patient.root}", value=patient.value)


def same_document(unique_id: str, control_id: str) -> bool:
    """Whether a uniqueId names the CDA with this id (``root`` or ``root^extension``)."""
    return unique_id.replace("^", ".").lower() == control_id.replace("^", ".").lower()


def control_ids_of(unique_id: str) -> tuple[str, ...]:
    """The ids under which the CDA of a uniqueId may have been received."""
    plain = unique_id.strip()
    above, dot, last = plain.rpartition(".")
    return (plain, f"{above}^{last}") if dot and "^" not in plain else (plain,)

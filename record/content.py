"""Entries made ready to be stored: exact text, hash, and the Provenance of a message."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.model import Entry
from record.faults import EntryRefused
from record.instants import instant_text

if TYPE_CHECKING:
    from record.indexing import Indexed

RESOURCE_BYTES_MAX = 16 * 1024 * 1024
ENTRIES_MAX = 10_000
"""Entries that one message may put."""

MESSAGE_SYSTEM = "urn:ecluse:message"
MAPPING_SYSTEM = "urn:ecluse:mapping"
_NAMESPACE = uuid.UUID("6f1f3f0a-6c58-5c39-9d0f-0f5a1e6f2b10")
_TYPE = re.compile(r"[A-Z][A-Za-z]{0,63}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_ASSEMBLER = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
            "code": "assembler",
        }
    ]
}


class ResourceText(Protocol):
    """How resources become JSON and are read again, with decimals that keep their text.

    ``gateway.mapping.serialise`` is one; it is handed in because the record does not
    know the mapping engine.
    """

    def dumps(self, resource: Any, *, indent: bool = False, sort_keys: bool = False) -> bytes:
        """UTF-8 JSON; with ``sort_keys`` in the canonical form that is hashed."""
        ...

    def loads(self, data: bytes | str) -> Any:
        """The inverse of ``dumps``."""
        ...


@dataclass(slots=True)
class Prepared:
    """One entry ready to be judged: its text as given and the hash of what it says.

    ``indexed`` is what searches must know of it, where that was worked out before."""

    reference: str
    type: str
    resource: dict[str, Any]
    text: str
    hash: str
    provisional: bool
    indexed: Indexed | None = None


def prepare(entries: Iterable[Entry], json: ResourceText) -> dict[str, Prepared]:
    """The entries by reference, in their order. Raises EntryRefused."""
    prepared: dict[str, Prepared] = {}
    for entry in entries:
        one = prepare_resource(entry.resource, json, provisional=entry.create_only)
        if one.reference in prepared:
            raise EntryRefused(f"two entries of one message are the same {one.type}")
        prepared[one.reference] = one
        if len(prepared) > ENTRIES_MAX:
            raise EntryRefused(f"more than {ENTRIES_MAX} entries in one message")
    return prepared


def prepare_resource(
    resource: dict[str, Any], json: ResourceText, *, provisional: bool = False
) -> Prepared:
    """One resource made ready. Raises EntryRefused."""
    type_name, identifier = resource.get("resourceType"), resource.get("id")
    if not isinstance(type_name, str) or _TYPE.fullmatch(type_name) is None:
        raise EntryRefused("an entry without a resourceType")
    if not isinstance(identifier, str) or _ID.fullmatch(identifier) is None:
        raise EntryRefused(f"a {type_name} without a right id")
    try:
        data = json.dumps(resource)
        digest = content_hash(resource, json)
    except (TypeError, ValueError) as error:
        raise EntryRefused(f"a {type_name} that cannot be written as JSON") from error
    if len(data) > RESOURCE_BYTES_MAX:
        raise EntryRefused(f"a {type_name} of more than {RESOURCE_BYTES_MAX} bytes")
    return Prepared(
        f"{type_name}/{identifier}",
        type_name,
        resource,
        data.decode("utf-8"),
        digest,
        provisional,
    )


def content_hash(resource: dict[str, Any], json: ResourceText) -> str:
    """SHA-256 of what a resource says: without what the record itself sets.

    That is ``meta.versionId``, ``meta.lastUpdated`` and ``meta.source``, and in a
    Provenance ``recorded``; with keys in order, so that their order does not count.
    """
    said = resource
    meta = resource.get("meta")
    if isinstance(meta, dict):
        kept = {
            name: value
            for name, value in meta.items()
            if name not in ("versionId", "lastUpdated", "source")
        }
        said = {name: value for name, value in resource.items() if name != "meta"}
        if kept:
            said["meta"] = kept
    if said["resourceType"] == "Provenance":
        said = {name: value for name, value in said.items() if name != "recorded"}
    return hashlib.sha256(json.dumps(said, sort_keys=True)).hexdigest()


def provenance_id(message_id: int) -> str:
    """The id of a message's Provenance."""
    return str(uuid.uuid5(_NAMESPACE, f"message/{message_id}"))


def provenance(
    references: Sequence[str], *, message_id: int, source: str, mapping: str, at: int
) -> dict[str, Any]:
    """The Provenance of a message: what it made, from where, and by which mapping.

    Its id depends on the message alone, so that a message has one, of which a mapping
    anew makes a new version.
    """
    message: dict[str, Any] = {"identifier": {"system": MESSAGE_SYSTEM, "value": str(message_id)}}
    if source:
        message["display"] = source
    return {
        "resourceType": "Provenance",
        "id": provenance_id(message_id),
        "target": [{"reference": reference} for reference in references],
        "recorded": instant_text(at),
        "agent": [
            {
                "type": _ASSEMBLER,
                "who": {"identifier": {"system": MAPPING_SYSTEM, "value": mapping}},
            }
        ],
        "entity": [{"role": "source", "what": message}],
    }

"""Who may replace or delete a document: its author, or one of the author's organisation.

CI-SIS, volet «Transmission d'un document CDA-R2 en HL7v2» 2.1.3, table
applicationErrorCondition, 901: whoever asks for it must be the author of the original or belong
to the organisation of its author; otherwise the request is rejected. Who asks is the sender that
the mappings of the profile write down (``urn:ecluse:participation`` of the role SB: person,
device and organisation of PRT). A document without one asks in nobody's name, and is not judged;
nor is an original that names nobody by a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from record.content import Prepared, ResourceText
from record.faults import AuthorRefused
from record.rows import batches
from record.tables import record_entry, record_entry_version

PARTICIPATION = "urn:ecluse:participation"
SENDER = "SB"
_KEYS_MAX = 500

Number = tuple[str, str]
"""System and value of an identifier of a person, a device or an organisation."""


class DocumentAuthors:
    """Judges the documents of several messages, in their order. For one transaction, in which
    their patients are locked."""

    def __init__(self, connection: Connection, json: ResourceText) -> None:
        self._connection = connection
        self._json = json
        self._known: dict[str, tuple[int, frozenset[Number]]] = {}

    def admit(self, puts: Sequence[tuple[int, Mapping[str, Prepared]]]) -> None:
        """``puts``: sequence and entries. Raises AuthorRefused for a request by somebody else."""
        asked = [
            (sequence, one.resource)
            for sequence, prepared in puts
            for one in prepared.values()
            if one.type == "DocumentReference"
        ]
        wanted = {each for _, resource in asked if _asking(resource) for each in _meant(resource)}
        if not wanted:
            return
        self._read(wanted)
        for sequence, resource in asked:
            asking = _asking(resource)
            for reference in _meant(resource) if asking else ():
                since, authors = self._known.get(reference, (sequence, frozenset()))
                if since < sequence and authors and authors.isdisjoint(asking):
                    raise AuthorRefused(
                        "the sender is neither an author of the document that is in the record "
                        "nor of an author's organisation"
                    )
            # A batch may bring the original and the request for its deletion.
            own = f"DocumentReference/{resource['id']}"
            if own in wanted and resource.get("status") != "entered-in-error":
                self._known.setdefault(own, (sequence, frozenset(_authors(resource))))

    def _read(self, references: Iterable[str]) -> None:
        """Who stands for each document as the message that made it last said; a deletion is no
        such message."""
        entry, version = record_entry, record_entry_version
        for batch in batches(sorted(references), _KEYS_MAX):
            rows = self._connection.execute(
                select(entry.c.reference, entry.c.sequence, version.c.resource)
                .join(version, version.c.entry_key == entry.c.key)
                .where(entry.c.reference.in_(batch), version.c.version == entry.c.base)
            )
            for reference, sequence, text in rows:
                resource = self._json.loads(text)
                self._known[reference] = (int(sequence), frozenset(_authors(resource)))


def _meant(resource: Mapping[str, Any]) -> Iterator[str]:
    """The documents that a document takes out of force: itself when it is deleted, and those
    that it replaces."""
    if resource.get("status") == "entered-in-error":
        yield f"DocumentReference/{resource['id']}"
        return
    for related in resource.get("relatesTo") or ():
        reference = related.get("target", {}).get("reference", "")
        if related.get("code") == "replaces" and reference:
            yield str(reference)


def _asking(resource: Mapping[str, Any]) -> frozenset[Number]:
    """Who sends the document, by the numbers of the person, the device and the organisation."""
    return frozenset(number for each in _senders(resource) for number in _numbers(each))


def _authors(resource: Mapping[str, Any]) -> Iterator[Number]:
    """Who wrote the document, where, who keeps it, and who sent it."""
    for reference in (*(resource.get("author") or ()), resource.get("custodian") or {}):
        yield from _number(reference.get("identifier"))
    for each in _senders(resource):
        yield from _numbers(each)


def _senders(resource: Mapping[str, Any]) -> Iterator[Sequence[Mapping[str, Any]]]:
    for extension in resource.get("extension") or ():
        parts = extension.get("extension") or ()
        if extension.get("url") == PARTICIPATION and any(
            part.get("url") == "role" and part.get("valueCode") == SENDER for part in parts
        ):
            yield parts


def _numbers(parts: Sequence[Mapping[str, Any]]) -> Iterator[Number]:
    for part in parts:
        yield from _number(part.get("valueReference", {}).get("identifier"))
        yield from _number(part.get("valueIdentifier"))


def _number(identifier: Mapping[str, Any] | None) -> Iterator[Number]:
    if identifier and identifier.get("value"):
        yield str(identifier.get("system", "")), str(identifier["value"])

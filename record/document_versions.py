"""Versions of one document: the set it belongs to, its number there, which one counts.

CI-SIS, volet Structuration minimale, the algorithm for consumers: a document whose id is
known is not taken again; neither is one whose set has that version number already; any
other is kept, and never takes the place of a higher version, whatever the order in which
they come. Versions are recognised by the extension ``urn:ecluse:cda:versionNumber`` that
the mappings of CDA give a DocumentReference; its first identifier is then the set's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from record.content import Prepared, ResourceText
from record.faults import VersionRefused
from record.indexing import cut
from record.rows import batches, insert_new
from record.tables import (
    IDENTIFIER_MAX,
    record_entry,
    record_entry_version,
    record_identifier,
    record_replacement,
)
from record.withdrawing import is_withdrawn

VERSION = "urn:ecluse:cda:versionNumber"
KEPT_OF_A_LATE_VERSION = frozenset(
    {
        *("DocumentReference", "Patient", "Organization", "Practitioner", "PractitionerRole"),
        *("Location", "RelatedPerson", "Provenance"),
    }
)
"""What goes in of a version that is not the highest: the document, and who is named in it. What
it states of the patient has been stated anew by the higher one."""
_KEYS_MAX = 500
_EDITIONS_MAX = 1_000
"""Documents of one patient under one identifier that are looked at, the newest first."""

Set = tuple[str, str, str]
"""A patient, and system and value of the set's identifier: software that gives every document
the same set must not mix up patients."""


@dataclass(frozen=True, slots=True)
class _Edition:
    """One version of a document. ``body`` is the address of its bytes."""

    reference: str
    set: Set
    number: int
    body: str
    sequence: int
    in_error: bool


class DocumentVersions:
    """Judges the documents of several messages, in their order. For one transaction, in which
    their patients are locked."""

    def __init__(self, connection: Connection, json: ResourceText) -> None:
        self._connection = connection
        self._json = json
        self._sets: dict[Set, dict[str, _Edition]] = {}
        self._given: list[Set] = []

    def admit(self, puts: Sequence[tuple[str, int, dict[str, Prepared]]]) -> None:
        """Take out what a late version may not state. ``puts``: patient, sequence and entries.

        Raises VersionRefused for an id or a version that another document has.
        """
        found = [
            [edition for one in prepared.values() if (edition := _edition(one, patient, sequence))]
            for patient, sequence, prepared in puts
        ]
        self._given = list(dict.fromkeys(each.set for editions in found for each in editions))
        if not self._given:
            return
        self._read({each.reference for editions in found for each in editions})
        for (_, _, prepared), editions in zip(puts, found, strict=True):
            late = [edition for edition in editions if self._judge(edition)]
            if late and len(late) == len(editions):
                for reference in [*prepared]:
                    if prepared[reference].type not in KEPT_OF_A_LATE_VERSION:
                        del prepared[reference]

    def _judge(self, mine: _Edition) -> bool:
        """Whether a higher version came before it. Adds it to those that are there."""
        others = self._sets.setdefault(mine.set, {})
        same = next((e[mine.reference] for e in self._sets.values() if mine.reference in e), None)
        another = same is not None and same.sequence != mine.sequence and same.body != mine.body
        if another and not mine.in_error:
            raise VersionRefused("another document with the same id is in the record")
        for other in others.values():
            if other.reference == mine.reference or other.sequence == mine.sequence:
                continue
            if other.number == mine.number and not mine.in_error and not other.in_error:
                raise VersionRefused(
                    f"version {mine.number} of this document's set is in the record, with "
                    "another id"
                )
        others[mine.reference] = mine
        # One that came later is later in the order of messages, which protects it already.
        return any(
            other.number > mine.number and other.sequence < mine.sequence
            for other in others.values()
        )

    def link(self) -> set[str]:
        """Note for each set that its highest version stands for the lower ones; these.

        Call it once the entries are written.
        """
        pairs: list[tuple[str, str]] = []
        for wanted in self._given:
            editions = sorted(self._sets.get(wanted, {}).values(), key=lambda each: each.number)
            pairs += [
                (each.reference, editions[-1].reference)
                for each in editions
                if each.number < editions[-1].number
            ]
        if not pairs:
            return set()
        keys = self._keys({higher for _, higher in pairs})
        insert_new(
            self._connection,
            record_replacement,
            [[lower, keys[higher]] for lower, higher in sorted(set(pairs)) if higher in keys],
        )
        return {lower for lower, _ in pairs}

    # --- what the record holds ---------------------------------------------------------

    def _read(self, references: set[str]) -> None:
        """The editions of the given sets, and those of the given references."""
        entry, version, named = record_entry, record_entry_version, record_identifier
        keys: set[int] = set()
        for patient, _, value in self._given:
            # Of this patient alone: what others have under the same identifier may be any number.
            statement = (
                select(named.c.entry_key)
                .join(entry, entry.c.key == named.c.entry_key)
                .where(named.c.value == cut(value, IDENTIFIER_MAX), entry.c.patient_id == patient)
                .order_by(named.c.entry_key.desc())
            )
            keys.update(self._connection.execute(statement.limit(_EDITIONS_MAX)).scalars())
        conditions = [entry.c.key.in_(batch) for batch in batches(sorted(keys), _KEYS_MAX)]
        conditions += [
            entry.c.reference.in_(batch) for batch in batches(sorted(references), _KEYS_MAX)
        ]
        for condition in conditions:
            rows = self._connection.execute(
                select(entry.c.patient_id, entry.c.sequence, version.c.resource)
                .join(version, version.c.entry_key == entry.c.key)
                .where(
                    condition,
                    entry.c.type == "DocumentReference",
                    version.c.version == entry.c.base,
                )
            )
            for patient, sequence, text in rows:
                known = _edition_of(self._json.loads(text), str(patient or ""), int(sequence))
                if known is not None:
                    self._sets.setdefault(known.set, {}).setdefault(known.reference, known)

    def _keys(self, references: Iterable[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for batch in batches(sorted(references), _KEYS_MAX):
            statement = select(record_entry.c.reference, record_entry.c.key).where(
                record_entry.c.reference.in_(batch)
            )
            found.update((row.reference, row.key) for row in self._connection.execute(statement))
        return found


def _edition(one: Prepared, patient: str, sequence: int) -> _Edition | None:
    return _edition_of(one.resource, patient, sequence) if one.type == "DocumentReference" else None


def _edition_of(resource: Mapping[str, Any], patient: str, sequence: int) -> _Edition | None:
    """The version that a DocumentReference is; None for a document without one."""
    if is_withdrawn(resource):
        return None
    number = next(_numbers(resource), None)
    identifiers = resource.get("identifier") or ()
    if number is None or not identifiers:
        return None
    contents: Sequence[Mapping[str, Any]] = resource.get("content") or ({},)
    return _Edition(
        reference=f"DocumentReference/{resource['id']}",
        set=(patient, str(identifiers[0].get("system", "")), str(identifiers[0].get("value", ""))),
        number=number,
        body=str(contents[0].get("attachment", {}).get("url", "")),
        sequence=sequence,
        in_error=resource.get("status") == "entered-in-error",
    )


def _numbers(resource: Mapping[str, Any]) -> Iterator[int]:
    for extension in resource.get("extension") or ():
        value = extension.get("valueInteger")
        if extension.get("url") == VERSION and isinstance(value, int):
            yield value

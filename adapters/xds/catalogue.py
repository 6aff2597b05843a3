"""The documents of the record as a registry sees them, with what their sources submitted of them.

What a version of a DocumentReference says to searches never changes, and neither does what a
submission registered: both are remembered, so that a query reads only what is new to it. Whole
documents are read for those alone that are given as objects.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from lxml import etree

from adapters.ebrim.names import DEPRECATED, REPLACING
from adapters.xds.entries import Facts, Registered, Relation, registered, submitted_facts
from adapters.xds.identifiers import identifiers_of, resource_id_of, unique_id_key
from adapters.xds.people import author_texts
from adapters.xds.writing import Describing
from gateway.documents import DocumentRegistry, SharedDocument
from gateway.model import Identifier, RegistryKind, RegistryObject

REMEMBERED_MAX = 10_000
"""Documents; each takes about 3 KB."""
ASSOCIATIONS_MAX = 20_000
_WHOLE_AT_ONCE = 200

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memory:
    """What was read of documents: the least lately used goes first. Any thread."""

    def __init__(self, entries_max: int = REMEMBERED_MAX) -> None:
        self._entries_max = entries_max
        self._held: OrderedDict[tuple[str, int], Registered | None] = OrderedDict()
        self._facts: OrderedDict[str, Facts] = OrderedDict()
        self._lock = threading.Lock()

    def documents(
        self, versions: Sequence[tuple[str, int]]
    ) -> dict[tuple[str, int], Registered | None]:
        """Those that are known; None is one that XDS has no word for."""
        with self._lock:
            return _used(self._held, versions)

    def facts(self, ids: Sequence[str]) -> dict[str, Facts]:
        """What sources said, by the ids of their objects."""
        with self._lock:
            return _used(self._facts, ids)

    def note(self, version: tuple[str, int], one: Registered | None) -> None:
        """Remember a document."""
        with self._lock:
            self._held[version] = one
            while len(self._held) > self._entries_max:
                self._held.popitem(last=False)

    def note_facts(self, identifier: str, facts: Facts) -> None:
        """Remember what a source said."""
        with self._lock:
            self._facts[identifier] = facts
            while len(self._facts) > self._entries_max:
                self._facts.popitem(last=False)


class Catalogue:
    """Documents for one request. Blocks. Raises ``gateway.documents.RegistryUnavailable`` and
    ``gateway.documents.TooManyDocuments``."""

    def __init__(self, documents: DocumentRegistry, describing: Describing, memory: Memory) -> None:
        self._documents = documents
        self._describing = describing
        self._memory = memory

    # --- which documents ---------------------------------------------------------------

    def of_patient(self, patient: Identifier, *, limit: int) -> list[Registered]:
        """All documents of a patient, the last first."""
        versions = [(each.id, each.version) for each in
                    self._documents.of_patient(patient, limit=limit)]  # fmt: skip
        known = self._memory.documents(versions)
        unread = [each for each in versions if each not in known]
        for at in range(0, len(unread), _WHOLE_AT_ONCE):
            some = unread[at : at + _WHOLE_AT_ONCE]
            for document in self._documents.by_id([identifier for identifier, _ in some]):
                known[(str(document.resource["id"]), _version(document))] = self._read(document)
        found = [one for each in versions if (one := known.get(each)) is not None]
        return self._with_status(self._with_submitted(found))

    def by_uuid(self, uuids: Sequence[str]) -> list[Registered]:
        """Those with these entryUUIDs, their sources' or the record's own."""
        named = {each.strip().lower() for each in uuids}
        kept = [
            each
            for each in self._documents.objects(sorted(named))
            if each.kind is RegistryKind.DOCUMENT
        ]
        ids = [one for each in named if (one := resource_id_of(each))]
        found = {each.uuid: each for each in self._shared(self._documents.by_id(ids))}
        for each in self._of_objects(kept):
            found[each.uuid] = each
        return self._with_status([each for each in found.values() if each.uuid in named])

    def by_unique_id(self, unique_ids: Sequence[str]) -> list[Registered]:
        """Those with these uniqueIds."""
        wanted = [one for each in unique_ids for one in identifiers_of(each)]
        return self._with_status(self._shared(self._documents.by_identifier(wanted)))

    # --- what is said of them ----------------------------------------------------------

    def people(self, found: Sequence[Registered]) -> Mapping[str, Sequence[str]]:
        """The authors of documents as XCN, by entryUUID."""
        said = {each.uuid: each.facts.people for each in found if each.facts.people is not None}
        for one, document in self._whole([each for each in found if each.uuid not in said]):
            said[one.uuid] = tuple(author_texts(document)[0])
        return said

    def patients(self, found: Sequence[Registered]) -> Mapping[str, str]:
        """The patientId that this affinity domain has for each document's patient, by
        entryUUID."""
        return {
            one.uuid: self._describing.patient_id(document.patient)
            for one, document in self._whole(found)
        }

    def entries(self, found: Sequence[Registered]) -> Iterator[etree._Element]:
        """Whole document entries."""
        for at in range(0, len(found), _WHOLE_AT_ONCE):
            some = found[at : at + _WHOLE_AT_ONCE]
            submitted = [each.uuid for each in some if each.submitted]
            kept = {each.id: each for each in self._documents.objects(submitted)}
            for one, document in self._whole(some):
                yield self._describing.entry(one, document, kept.get(one.uuid))

    def relations(
        self, ids: Sequence[str], documents: Sequence[Registered], *, both: bool = False
    ) -> list[Relation]:
        """The associations of which one end, or ``both``, is among ``ids``.

        What the record's documents say (both of which are among ``documents``), and what was
        submitted; what is said twice is given once, as it was submitted.
        """
        wanted = set(ids)
        found = {
            each.said: each
            for each in (
                Relation(one.type, one.source, one.target, one)
                for one in self._documents.associations(sorted(wanted), limit=ASSOCIATIONS_MAX)
            )
        }
        uuids = {f"urn:uuid:{each.id}": each.uuid for each in documents}
        for each in documents:
            for kind, target in each.relations:
                if target in uuids:
                    relation = Relation(kind, each.uuid, uuids[target])
                    found.setdefault(relation.said, relation)
        needed = 2 if both else 1
        return [
            each
            for each in found.values()
            if (each.source in wanted) + (each.target in wanted) >= needed
        ]

    # --- reading -------------------------------------------------------------------

    def _shared(self, documents: Sequence[SharedDocument]) -> list[Registered]:
        made = [self._read(each) for each in documents]
        return self._with_submitted([each for each in made if each is not None])

    def _read(self, document: SharedDocument) -> Registered | None:
        one = registered(document, self._describing.schemes)
        self._memory.note((str(document.resource["id"]), _version(document)), one)
        return one

    def _with_submitted(self, found: Sequence[Registered]) -> list[Registered]:
        keys = {each.id: unique_id_key(each.unique_id) for each in found}
        ids = self._documents.object_ids(RegistryKind.DOCUMENT, list(keys.values()))
        facts = self._memory.facts(list(ids.values()))
        unread = [each for each in ids.values() if each not in facts]
        for one in self._documents.objects(unread) if unread else ():
            facts[one.id] = submitted_facts(one)
            self._memory.note_facts(one.id, facts[one.id])
        return [
            each.as_submitted(mine, facts[mine])
            if (mine := ids.get(keys[each.id])) in facts and mine is not None
            else each
            for each in found
        ]

    def _with_status(self, found: Sequence[Registered]) -> list[Registered]:
        """What a registered document replaces is deprecated (ITI TF-3 section 4.2.2.2.3), also
        where the documents themselves say nothing of it."""
        mine = {each.uuid for each in found}
        replaced = self._documents.replaced(sorted(mine), sorted(REPLACING))
        others = sorted({source for source, _ in replaced} - mine)
        sources = self._of_objects(self._documents.objects(others)) if others else []
        here = mine | {each.uuid for each in sources}
        gone = {target for source, target in replaced if source in here}
        return [
            replace(each, status=DEPRECATED) if each.uuid in gone else each for each in found
        ]  # fmt: skip

    def _of_objects(self, kept: Sequence[RegistryObject]) -> list[Registered]:
        """The documents of which these were said, as far as the record has them."""
        names = [str(json.loads(each.facts)["unique_id"]) for each in kept]
        wanted = [one for each in names for one in identifiers_of(each)]
        return self._shared(self._documents.by_identifier(wanted)) if wanted else []

    def _whole(
        self, found: Sequence[Registered]
    ) -> Iterator[tuple[Registered, SharedDocument]]:  # fmt: skip
        for at in range(0, len(found), _WHOLE_AT_ONCE):
            some = found[at : at + _WHOLE_AT_ONCE]
            read = self._documents.by_id([each.id for each in some])
            documents = {str(each.resource["id"]): each for each in read}
            yield from ((each, documents[each.id]) for each in some if each.id in documents)


def _version(document: SharedDocument) -> int:
    return int(document.resource["meta"]["versionId"])


def _used(held: OrderedDict[Key, Value], keys: Sequence[Key]) -> dict[Key, Value]:
    found = {}
    for each in keys:
        if each in held:
            held.move_to_end(each)
            found[each] = held[each]
    return found

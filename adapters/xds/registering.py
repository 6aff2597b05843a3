"""What a submission adds to the registry, and whether it may: ids, memberships and relations.

ITI TF-3 section 4.2.2 (associations), 4.2.3.2.7 (entryUUID: a UUID that is submitted stays, a name
is replaced by one) and ITI TF-2 section 3.42.4.1.3 (what a registry does with a submission).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from adapters.ebrim.faults import metadata, mismatch
from adapters.ebrim.names import (
    DEPRECATED,
    FOLDER_NODE,
    HAS_MEMBER,
    RELATIONS,
    REPLACING,
    RIM,
    SET_NODE,
    SIGNS,
)
from adapters.ebrim.objects import (
    document_facts,
    folder_facts,
    kept,
    made_id,
    set_facts,
    written,
)
from adapters.ebrim.submission import Association, SubmissionSet, bounded
from adapters.xds.catalogue import Catalogue
from adapters.xds.entries import Registered
from adapters.xds.identifiers import patient_of, unique_id_key, uuid_urn
from gateway.documents import DocumentRegistry
from gateway.model import RegistryKind, RegistryObject

_RIM = f"{{{RIM}}}"
_NAMESPACE = uuid.UUID("b0c1f9de-3c0b-5f43-9a47-6a1d5f5c8e21")
FOLDERS_MAX = 200


@dataclass(slots=True)
class Plan:
    """What a submission will add. ``ids`` gives the entryUUID for each id of the submission;
    ``targets`` the registered documents that its associations name, of which ``strangers`` are
    another patient's (a submission set may refer to those); ``joined`` are the folders
    that a document joins because one that it replaces is in them, as (folder, document)."""

    ids: dict[str, str]
    targets: Mapping[str, Registered] = field(default_factory=dict)
    joined: Sequence[tuple[str, str]] = ()
    strangers: frozenset[str] = frozenset()

    def named(self, submitted: str) -> str:
        """The entryUUID for an id of the submission, or of what is registered."""
        return self.ids.get(submitted) or uuid_urn(submitted) or submitted


@dataclass(frozen=True, slots=True)
class _Inside:
    """The ids of a submission, by what they name."""

    entries: frozenset[str]
    folders: frozenset[str]
    associations: frozenset[str]


class Registering:
    """Plans and makes the objects of submissions to one repository. Blocks."""

    def __init__(self, documents: DocumentRegistry, catalogue: Catalogue, repository: str) -> None:
        self._documents = documents
        self._catalogue = catalogue
        self._repository = repository

    def plan(self, found: SubmissionSet) -> Plan:
        """Give ids and check what the associations point to.

        Raises Refused; ``gateway.documents.RegistryUnavailable``.
        """
        plan = Plan(self._ids(found))
        inside = _Inside(
            frozenset(entry.id for entry in found.entries),
            frozenset(folder.id for folder in found.folders),
            frozenset(each.id for each in found.associations if each.id),
        )
        outside = {
            uuid_urn(end): end
            for each in found.associations
            for end in (each.source, each.target)
            if end not in plan.ids
        }
        there = self._catalogue.by_uuid([each for each in outside if each]) if outside else []
        plan.targets = {each.uuid: each for each in there}
        folders = self._folders([each for each in outside if each]) if outside else {}
        plan.strangers = self._strangers(found, there)
        for each in found.associations:
            if each.type == HAS_MEMBER:
                self._check_member(each, found, plan, inside, folders)
            elif each.type in RELATIONS:
                self._check_relation(each, found, plan, inside)
            else:
                raise metadata("an association is of a type that is not taken here",
                               "Association", value=each.type)  # fmt: skip
        plan.joined = list(self._joined(found, plan))
        return plan

    def objects(
        self,
        request: etree._Element,
        found: SubmissionSet,
        plan: Plan,
        contents: Mapping[str, tuple[str, int]],
        *,
        without: Collection[str] = (),
    ) -> list[RegistryObject]:
        """The objects as they are kept. ``contents`` gives SHA-1 and size of each document by the
        id of its entry; the entries of ``without``, and what points to them, are left out.

        Raises Refused for metadata that are too large.
        """
        making = _Making(found, plan, plan.ids[found.id], self._repository, contents)
        made = [
            *making.packages(request),
            *making.entries(request, without),
            *making.associations(request, without),
        ]
        taken = {each.id for each in made}
        return [*made, *(each for each in making.joined(without) if each.id not in taken)]

    # --- ids ---------------------------------------------------------------------------

    def _ids(self, found: SubmissionSet) -> dict[str, str]:
        ids = {found.id: uuid_urn(found.id) or _id("set", found.unique_id)}
        for folder in found.folders:
            ids[folder.id] = uuid_urn(folder.id) or _id("folder", folder.unique_id)
        keys = {entry.id: unique_id_key(entry.unique_id) for entry in found.entries}
        known = self._documents.object_ids(RegistryKind.DOCUMENT, list(keys.values()))
        recorded = {
            unique_id_key(each.unique_id): each.uuid
            for each in self._catalogue.by_unique_id([each.unique_id for each in found.entries])
        }
        for entry in found.entries:
            key = keys[entry.id]
            # A document that is there already keeps the entryUUID under which it was found.
            ids[entry.id] = (
                known.get(key) or recorded.get(key) or uuid_urn(entry.id) or _id("document", key)
            )
        for number, each in enumerate(found.associations):
            if each.id:
                # Its number: two associations may say the same.
                ids[each.id] = uuid_urn(each.id) or made_id(ids[found.id], f"association {number}")
        return ids

    def _folders(self, ids: Sequence[str]) -> dict[str, RegistryObject]:
        found = self._documents.objects(ids)
        return {each.id: each for each in found if each.kind is RegistryKind.FOLDER}

    def check_new(self, found: SubmissionSet, plan: Plan) -> None:
        """A UUID or a folder's uniqueId that something else has (ITI TF-3 table 4.2.4.1-2).
        Raises Refused."""
        keys = {plan.ids[entry.id]: unique_id_key(entry.unique_id) for entry in found.entries}
        taken = [
            each.id
            for each in self._documents.objects(list(plan.ids.values()))
            if each.kind is not RegistryKind.DOCUMENT or keys.get(each.id) != each.unique_id
        ]
        taken += [
            each.uuid
            for each in self._catalogue.by_uuid([each for each in keys if each not in taken])
            if keys[each.uuid] != unique_id_key(each.unique_id)
        ]
        if taken:
            raise mismatch(
                "something else is registered with an entryUUID of the submission",
                "SubmissionSet", value=taken[0],
            )  # fmt: skip
        names = [folder.unique_id for folder in found.folders]
        for each in self._documents.object_ids(RegistryKind.FOLDER, names):
            raise mismatch(
                "another folder is registered with this uniqueId",
                "Folder", "XDSDuplicateUniqueIdInRegistry", each,
            )  # fmt: skip

    # --- associations ------------------------------------------------------------------

    def _strangers(self, found: SubmissionSet, there: Sequence[Registered]) -> frozenset[str]:
        """The entryUUIDs of documents that are another patient's."""
        if not there:
            return frozenset()
        mine = patient_of(found.patient)
        read = self._documents.by_id([each.id for each in there])
        known = {str(each.resource["id"]) for each in read if _is_of(each.patient, mine)}
        return frozenset(each.uuid for each in there if each.id not in known)

    def _check_member(
        self,
        each: Association,
        found: SubmissionSet,
        plan: Plan,
        inside: _Inside,
        folders: Mapping[str, RegistryObject],
    ) -> None:
        """ITI TF-3 section 4.2.2.1: a submission set has members of all kinds, a folder has
        documents."""
        source, target = uuid_urn(each.source), uuid_urn(each.target)
        is_document = each.target in inside.entries or target in plan.targets
        if each.source == found.id:
            linked = each.target in inside.associations and each.target != each.id
            if is_document or linked or each.target in inside.folders or target in folders:
                return
        elif (each.source in inside.folders or source in folders) and is_document:
            if target in plan.strangers or (
                source in folders and folders[source].patient != found.patient.text
            ):
                raise mismatch(
                    "a folder and a document in it would be of different patients",
                    "Association", "XDSPatientIdDoesNotMatch",
                )  # fmt: skip
            return
        raise metadata(
            "a HasMember does not go from the submission set, or from a folder, to what is "
            "submitted or registered here",
            "Association", value=each.target,
        )  # fmt: skip

    def _check_relation(
        self, each: Association, found: SubmissionSet, plan: Plan, inside: _Inside
    ) -> None:
        """ITI TF-3 section 4.2.2.2: from a document that is submitted to one that is registered
        and approved (a signature: to what is submitted, too)."""
        if each.source not in inside.entries:
            raise metadata(
                "a relation does not begin at a document of the submission", "Association",
                value=each.source,
            )  # fmt: skip
        if each.target in inside.entries or each.target == found.id:
            if each.type != SIGNS:
                raise metadata(
                    "a document cannot replace, append to or transform one of the same submission",
                    "Association", value=each.target,
                )  # fmt: skip
            return
        target = plan.targets.get(uuid_urn(each.target))
        if target is None:
            raise metadata(
                "an association names a document that is not registered here", "Association",
                value=each.target,
            )  # fmt: skip
        if target.uuid in plan.strangers:
            raise mismatch(
                "an association names a document of another patient",
                "Association", "XDSPatientIdDoesNotMatch",
            )  # fmt: skip
        if target.status == DEPRECATED:
            raise mismatch(
                "an association names a document that is deprecated",
                "Association", "XDSRegistryDeprecatedDocumentError", each.target,
            )  # fmt: skip

    def _joined(self, found: SubmissionSet, plan: Plan) -> Iterator[tuple[str, str]]:
        """ITI TF-3 section 4.2.2.2.3: what replaces a document of a folder is in that folder."""
        by_target: dict[str, list[str]] = {}
        for each in found.associations:
            if each.type in REPLACING:
                by_target.setdefault(uuid_urn(each.target), []).append(plan.ids[each.source])
        if not by_target:
            return
        links = self._documents.associations(sorted(by_target), limit=FOLDERS_MAX)
        holders = self._folders(
            [each.source for each in links if each.type == HAS_MEMBER and each.target in by_target]
        )
        for link in links:
            if link.type == HAS_MEMBER and link.source in holders:
                yield from ((link.source, one) for one in by_target.get(link.target, ()))


class _Making:
    """The objects of one submission."""

    def __init__(
        self,
        found: SubmissionSet,
        plan: Plan,
        submission: str,
        repository: str,
        contents: Mapping[str, tuple[str, int]],
    ) -> None:
        self._found, self._plan, self._submission = found, plan, submission
        self._repository = repository
        self._contents = contents

    def packages(self, request: etree._Element) -> Iterator[RegistryObject]:
        """The submission set and the folders."""
        unique = {folder.id: folder.unique_id for folder in self._found.folders}
        for element in request.iter(f"{_RIM}RegistryPackage"):
            name = bounded(element.get("id") or "")
            if name == self._found.id:
                copy = kept(element, self._submission, self._plan.named, node=SET_NODE)
                yield self._object(
                    RegistryKind.SUBMISSION_SET, copy, set_facts(copy), self._found.unique_id
                )
            elif name in unique:
                own = {"lastUpdateTime": ""}  # the registry's own, and said when it is asked
                copy = kept(
                    element, self._plan.ids[name], self._plan.named, slots=own, node=FOLDER_NODE
                )
                yield self._object(RegistryKind.FOLDER, copy, folder_facts(copy), unique[name])

    def entries(
        self, request: etree._Element, without: Collection[str]
    ) -> Iterator[RegistryObject]:
        """The document entries; hash, size and repositoryUniqueId are what is so."""
        unique = {entry.id: entry.unique_id for entry in self._found.entries}
        for element in request.iter(f"{_RIM}ExtrinsicObject"):
            name = bounded(element.get("id") or "")
            if name in without:
                continue
            sha1, size = self._contents[name]
            own = {"repositoryUniqueId": self._repository, "hash": sha1, "size": str(size)}
            copy = kept(element, self._plan.ids[name], self._plan.named, slots=own)
            facts = {"unique_id": unique[name], **document_facts(copy)}
            yield self._object(RegistryKind.DOCUMENT, copy, facts, unique_id_key(unique[name]))

    def associations(
        self, request: etree._Element, without: Collection[str]
    ) -> Iterator[RegistryObject]:
        """The associations of which both ends are kept."""
        for number, element in enumerate(request.iter(f"{_RIM}Association")):
            ends = [bounded(element.get(each) or "") for each in ("sourceObject", "targetObject")]
            if any(each in without for each in ends):
                continue
            name = self._plan.ids.get(bounded(element.get("id") or ""))
            copy = kept(
                element, name or made_id(self._submission, f"association {number}"),
                self._plan.named,
            )  # fmt: skip
            yield self._association(copy)

    def joined(self, without: Collection[str]) -> Iterator[RegistryObject]:
        """Memberships of folders that follow from a replacement."""
        left = {self._plan.ids[each] for each in without}
        for folder, document in self._plan.joined:
            if document in left:
                continue
            element = etree.Element(f"{_RIM}Association", nsmap={"rim": RIM})
            element.set("associationType", HAS_MEMBER)
            element.set("sourceObject", folder)
            element.set("targetObject", document)
            name = made_id(self._submission, f"{folder} {document}")
            yield self._association(kept(element, name, self._plan.named))

    def _association(self, copy: etree._Element) -> RegistryObject:
        said = {name: copy.get(name) or "" for name in
                ("associationType", "sourceObject", "targetObject")}  # fmt: skip
        return RegistryObject(
            id=copy.get("id") or "", kind=RegistryKind.ASSOCIATION, submission=self._submission,
            facts="{}", content=written(copy), patient=self._found.patient.text,
            type=said["associationType"], source=said["sourceObject"],
            target=said["targetObject"],
        )  # fmt: skip

    def _object(
        self, kind: RegistryKind, copy: etree._Element, facts: Mapping[str, Any], unique_id: str
    ) -> RegistryObject:
        return RegistryObject(
            id=copy.get("id") or "", kind=kind, submission=self._submission,
            facts=json.dumps(facts, ensure_ascii=False), content=written(copy),
            unique_id=unique_id, patient=self._found.patient.text,
        )  # fmt: skip


def _id(kind: str, unique_id: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{kind} {unique_id}')}"


def _is_of(patient: Mapping[str, Any], wanted: Any) -> bool:
    """Whether a Patient has an identifier; true as well where it has none of that authority."""
    mine = [
        str(each.get("value", ""))
        for each in patient.get("identifier") or ()
        if each.get("system") == wanted.system
    ]
    return not mine or wanted.value in mine

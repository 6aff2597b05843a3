"""Submission sets and folders, as stored queries find and give them.

ITI TF-2 section 3.18.4.1.2.3.7.2 and following. A folder's ``lastUpdateTime`` is the registry's
own: when it, or the last membership in it, was registered (ITI TF-3 section 4.2.3.4.6).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lxml import etree

from adapters.ebrim.names import APPROVED, HAS_MEMBER
from adapters.xds.conditions import coded, during, written_by
from adapters.xds.identifiers import patient_of
from adapters.xds.queries import Query, QueryRefused
from adapters.xds.writing import Describing
from gateway.documents import DocumentRegistry
from gateway.model import RegistryKind, RegistryObject

ASKED_MAX = 500
LINKS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Package:
    """How parameters name a kind of package."""

    kind: RegistryKind
    stem: str
    codes: str
    time: str


SUBMISSION_SET = Package(
    RegistryKind.SUBMISSION_SET, "$XDSSubmissionSet", "ContentType", "SubmissionTime"
)
FOLDER = Package(RegistryKind.FOLDER, "$XDSFolder", "CodeList", "LastUpdateTime")


class Packages:
    """What is registered of submission sets and folders. Blocks."""

    def __init__(
        self, documents: DocumentRegistry, describing: Describing, *, results_max: int
    ) -> None:
        self._documents = documents
        self._describing = describing
        self._results_max = results_max

    def found(self, query: Query, package: Package) -> Iterator[etree._Element]:
        """FindSubmissionSets and FindFolders."""
        stem = package.stem
        patient = patient_of(query.patient(f"{stem}PatientId"))
        statuses = query.needed(f"{stem}Status")
        holds = coded(query, f"{stem}{package.codes}")
        within = during(query, f"{stem}{package.time}")
        sources = query.values(f"{stem}SourceId")
        patterns = query.values(f"{stem}AuthorPerson")
        if APPROVED not in statuses:
            return
        every = self._documents.objects_of(package.kind, patient, limit=self._results_max)
        times = self._updated(every) if package is FOLDER and within is not None else {}
        kept = []
        for each in every:
            said = json.loads(each.facts)
            time = times.get(each.id) or str(said.get("time", ""))
            if (
                holds((code, scheme) for code, scheme, _ in said["codes"])
                and (within is None or within(time))
                and (not sources or said.get("source") in sources)
                and (not patterns or written_by(patterns, said.get("people", ())))
            ):
                kept.append(each)
        yield from self.shown(query, kept)

    def asked(self, query: Query, package: Package) -> list[RegistryObject]:
        """Those that a query names by entryUUID or uniqueId. Raises QueryRefused."""
        stem = package.stem
        uuids, unique_ids = query.either(f"{stem}EntryUUID", f"{stem}UniqueId")
        if len(uuids) + len(unique_ids) > ASKED_MAX:
            raise QueryRefused("XDSTooManyResults", f"at most {ASKED_MAX} are given at a time")
        if uuids:
            found = self.of_kind(package.kind, [each.strip().lower() for each in uuids])
        else:
            found = list(self._documents.objects_named(package.kind, unique_ids))
        if query.objects and len({each.patient for each in found}) > 1:
            raise QueryRefused("XDSResultNotSinglePatient", "they are of several patients")
        return found

    def of_kind(self, kind: RegistryKind, ids: Sequence[str]) -> list[RegistryObject]:
        """Those of these ids that are of this kind."""
        return [each for each in self._documents.objects(ids) if each.kind is kind] if ids else []

    def shown(self, query: Query, found: Sequence[RegistryObject]) -> Iterator[etree._Element]:
        """As objects, or as references."""
        if not query.objects:
            yield from (self._describing.reference(each.id) for each in found)
            return
        times = self._updated([each for each in found if each.kind is RegistryKind.FOLDER])
        for each in found:
            slots = {"lastUpdateTime": times[each.id]} if each.id in times else None
            yield self._describing.submitted(each, slots=slots)

    def _updated(self, folders: Sequence[RegistryObject]) -> dict[str, str]:
        """When each folder was changed last, as DTM."""
        last = {each.id: each.registered_at for each in folders}
        if not last:
            return {}
        for each in self._documents.associations(sorted(last), limit=LINKS_MAX):
            at = last.get(each.source)
            if each.type == HAS_MEMBER and at is not None and each.registered_at is not None:
                last[each.source] = max(at, each.registered_at)
        return {name: _digits(at) for name, at in last.items() if at is not None}


def _digits(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")

"""The Document Registry: stored queries over the documents of the record and what was submitted
with them (ITI-18).

ITI TF-2 section 3.18.4.1.2.3.7. What a document says itself of others (``relatesTo``) is an
association as well as what a submission said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from lxml import etree

from adapters.ebrim.names import APPROVED, HAS_MEMBER
from adapters.ebrim.submission import PatientId
from adapters.xds.answers import Problem, query_response
from adapters.xds.catalogue import Catalogue
from adapters.xds.conditions import ENTRY, coded_as, matching, of_stable, written_by
from adapters.xds.entries import Registered, Relation
from adapters.xds.identifiers import patient_of
from adapters.xds.packages import FOLDER, SUBMISSION_SET, Packages
from adapters.xds.queries import Query, QueryId, QueryRefused, read_query
from adapters.xds.writing import Describing
from gateway.documents import DocumentRegistry, RegistryUnavailable, TooManyDocuments
from gateway.model import RegistryKind, RegistryObject

IDS_MAX = 500
Objects = Iterable[etree._Element]


class Registry:
    """Answers stored queries. Blocks: one per thread, as many as there are threads."""

    def __init__(
        self,
        documents: DocumentRegistry,
        catalogue: Catalogue,
        describing: Describing,
        *,
        results_max: int,
    ) -> None:
        self._documents = documents
        self._catalogue = catalogue
        self._describing = describing
        self._results_max = results_max
        self._packages = Packages(documents, describing, results_max=results_max)
        self._answers: dict[QueryId, Callable[[Query], Objects]] = {
            QueryId.FIND_DOCUMENTS: self._find,
            QueryId.FIND_BY_REFERENCE: self._find_by_reference,
            QueryId.FIND_SUBMISSION_SETS: lambda query: self._packages.found(query, SUBMISSION_SET),
            QueryId.FIND_FOLDERS: lambda query: self._packages.found(query, FOLDER),
            QueryId.GET_ALL: self._all,
            QueryId.GET_DOCUMENTS: self._get,
            QueryId.GET_FOLDERS: self._get_folders,
            QueryId.GET_ASSOCIATIONS: self._associations,
            QueryId.GET_DOCUMENTS_AND_ASSOCIATIONS: self._get_with_associations,
            QueryId.GET_SUBMISSION_SETS: self._get_submission_sets,
            QueryId.GET_SUBMISSION_SET_AND_CONTENTS: self._get_set_and_contents,
            QueryId.GET_FOLDER_AND_CONTENTS: self._get_folder_and_contents,
            QueryId.GET_FOLDERS_FOR_DOCUMENT: self._get_folders_for_document,
            QueryId.GET_RELATED_DOCUMENTS: self._related,
        }

    def answer(self, request: etree._Element) -> etree._Element:
        """The ``AdhocQueryResponse`` to an ``AdhocQueryRequest``. Raises nothing of its own."""
        try:
            query = read_query(request)
            return query_response(list(self._answers[query.id](query)))
        except QueryRefused as refused:
            return query_response((), (refused.problem,))
        except TooManyDocuments:
            said = f"the query concerns more than {self._results_max} documents: ask for less"
            return query_response((), (Problem("XDSTooManyResults", said),))
        except RegistryUnavailable:
            said = "the record does not answer: ask again"
            return query_response((), (Problem("XDSRegistryBusy", said),))

    # --- documents -----------------------------------------------------------------

    def _find(self, query: Query) -> Objects:
        patient = query.patient(f"{ENTRY}PatientId")
        matches = matching(query)
        every = self._catalogue.of_patient(patient_of(patient), limit=self._results_max)
        found = [each for each in every if matches(each)]
        patterns = query.values(f"{ENTRY}AuthorPerson")
        if patterns:
            people = self._catalogue.people(found)
            found = [each for each in found if written_by(patterns, people.get(each.uuid, ()))]
        return self._shown(query, found)

    def _find_by_reference(self, query: Query) -> Objects:
        query.needed(f"{ENTRY}ReferenceIdList")
        return self._find(query)

    def _get(self, query: Query) -> Objects:
        return self._shown(query, self._asked(query))

    def _get_with_associations(self, query: Query) -> Iterator[etree._Element]:
        asked = self._asked(query)
        yield from self._shown(query, asked)
        ids = [each.uuid for each in asked]
        yield from self._shown_relations(query, self._relations(ids, self._neighbours(asked)))

    def _related(self, query: Query) -> Iterator[etree._Element]:
        types = set(query.needed("$AssociationTypes"))
        asked = self._asked(query)
        if len(asked) > 1:
            raise QueryRefused("XDSStoredQueryParamNumber", "one document is asked for at a time")
        every = self._neighbours(asked)
        ids = [one.uuid for one in asked]
        near = [each for each in self._relations(ids, every) if each.type in types]
        if not near:
            return
        ends = {end for each in near for end in (each.source, each.target)}
        yield from self._shown(query, [each for each in every if each.uuid in ends])
        yield from self._shown_relations(query, near)

    # --- associations ----------------------------------------------------------------

    def _associations(self, query: Query) -> Objects:
        ids = _few([each.strip().lower() for each in query.needed("$uuid")])
        asked = self._catalogue.by_uuid(ids)
        return self._shown_relations(query, self._relations(ids, self._neighbours(asked)))

    def _relations(
        self, ids: Sequence[str], documents: Sequence[Registered], *, both: bool = False
    ) -> list[Relation]:
        """Those of which the record, or the registry, has both ends."""
        found = self._catalogue.relations(ids, documents, both=both)
        there = {each.uuid for each in documents}
        ends = sorted({end for each in found for end in (each.source, each.target)} - there)
        if ends:
            objects = self._documents.objects(ends)
            there |= {each.id for each in objects if each.kind is not RegistryKind.DOCUMENT}
            there |= {each.uuid for each in self._catalogue.by_uuid(
                [end for end in ends if end not in there])}  # fmt: skip
        return [each for each in found if each.source in there and each.target in there]

    # --- submission sets and folders ---------------------------------------------------

    def _get_folders(self, query: Query) -> Objects:
        return self._packages.shown(query, self._packages.asked(query, FOLDER))

    def _get_submission_sets(self, query: Query) -> Iterator[etree._Element]:
        ids = _few([each.strip().lower() for each in query.needed("$uuid")])
        links = [
            each
            for each in self._relations(ids, self._catalogue.by_uuid(ids))
            if each.type == HAS_MEMBER and each.target in ids
        ]
        sets = self._packages.of_kind(RegistryKind.SUBMISSION_SET, [each.source for each in links])
        mine = {each.id for each in sets}
        yield from self._packages.shown(query, sets)
        yield from self._shown_relations(query, [each for each in links if each.source in mine])

    def _get_folders_for_document(self, query: Query) -> Objects:
        asked = self._asked(query)
        ids = [each.uuid for each in asked]
        links = [each for each in self._relations(ids, asked) if each.type == HAS_MEMBER]
        folders = self._packages.of_kind(RegistryKind.FOLDER, [each.source for each in links])
        return self._packages.shown(query, folders)

    def _get_set_and_contents(self, query: Query) -> Iterator[etree._Element]:
        return self._contents(query, self._packages.asked(query, SUBMISSION_SET))

    def _get_folder_and_contents(self, query: Query) -> Iterator[etree._Element]:
        return self._contents(query, self._packages.asked(query, FOLDER))

    def _contents(
        self, query: Query, packages: Sequence[RegistryObject]
    ) -> Iterator[etree._Element]:
        """The package, what is in it, and the memberships (3.18.4.1.2.3.7.10 and .11)."""
        if len(packages) > 1:
            raise QueryRefused("XDSStoredQueryParamNumber", "one object is asked for at a time")
        ids = [each.id for each in packages]
        links = [
            each
            for each in self._relations(ids, ())
            if each.type == HAS_MEMBER and each.source in ids
        ]
        members = [each.target for each in links]
        kept = [
            each
            for each in self._catalogue.by_uuid(members)
            if of_stable(query)
            and all(coded_as(query, name)(each) for name in ("FormatCode", "ConfidentialityCode"))
        ]
        folders = self._packages.of_kind(RegistryKind.FOLDER, members)
        inner = [
            each
            for each in self._documents.objects(members)
            if each.kind is RegistryKind.ASSOCIATION
        ]
        there = {each.uuid for each in kept} | {each.id for each in (*folders, *inner)}
        yield from self._packages.shown(query, packages)
        yield from self._packages.shown(query, folders)
        yield from self._shown(query, kept)
        yield from self._shown_relations(query, [each for each in links if each.target in there])
        yield from self._shown_relations(
            query, [Relation(each.type, each.source, each.target, each) for each in inner]
        )

    def _all(self, query: Query) -> Iterator[etree._Element]:
        patient = patient_of(query.patient("$patientId"))
        statuses = set(query.needed(f"{ENTRY}Status"))
        asked = {
            RegistryKind.SUBMISSION_SET: query.needed("$XDSSubmissionSetStatus"),
            RegistryKind.FOLDER: query.needed("$XDSFolderStatus"),
        }
        every = self._catalogue.of_patient(patient, limit=self._results_max)
        holds = [coded_as(query, name) for name in ("FormatCode", "ConfidentialityCode")]
        kept = [
            each
            for each in every
            if each.status in statuses and of_stable(query) and all(one(each) for one in holds)
        ]
        packages = [
            each
            for kind, wanted in asked.items()
            if APPROVED in wanted
            for each in self._documents.objects_of(kind, patient, limit=self._results_max)
        ]
        ids = [*(each.uuid for each in kept), *(each.id for each in packages)]
        yield from self._packages.shown(query, packages)
        yield from self._shown(query, kept)
        yield from self._shown_relations(
            query, self._catalogue.relations(ids, every, both=True)
        )  # fmt: skip

    # --- what they have in common --------------------------------------------------

    def _asked(self, query: Query) -> list[Registered]:
        """The documents of $XDSDocumentEntryEntryUUID or $XDSDocumentEntryUniqueId."""
        uuids, unique_ids = query.either(f"{ENTRY}EntryUUID", f"{ENTRY}UniqueId")
        if uuids:
            asked = self._catalogue.by_uuid(_few(uuids))
        else:
            asked = self._catalogue.by_unique_id(_few(unique_ids))
        if query.objects and len(set(self._catalogue.patients(asked).values())) > 1:
            raise QueryRefused("XDSResultNotSinglePatient", "the documents are of several patients")
        return asked

    def _neighbours(self, asked: Sequence[Registered]) -> list[Registered]:
        """All documents of the patients of these."""
        every: dict[str, Registered] = {each.uuid: each for each in asked}
        for owner in sorted(set(self._catalogue.patients(asked).values())):
            if owner:
                patient = patient_of(PatientId.parse(owner, ""))
                found = self._catalogue.of_patient(patient, limit=self._results_max)
                every.update((each.uuid, each) for each in found)
        return list(every.values())

    def _shown(self, query: Query, found: Sequence[Registered]) -> Objects:
        if query.objects:
            return self._catalogue.entries(found)
        return (self._describing.reference(each.uuid) for each in found)

    def _shown_relations(self, query: Query, found: Iterable[Relation]) -> Iterator[etree._Element]:
        for each in found:
            yield (
                self._describing.association(each)
                if query.objects
                else self._describing.reference(each.uuid)
            )


def _few(ids: Sequence[str]) -> Sequence[str]:
    if len(ids) > IDS_MAX:
        raise QueryRefused("XDSTooManyResults", f"at most {IDS_MAX} documents are given at a time")
    return ids

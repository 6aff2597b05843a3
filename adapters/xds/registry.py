"""The Document Registry: stored queries over the documents of the record (ITI-18).

ITI TF-2 section 3.18.4.1.2.3.7. Folders and submission sets are not kept as objects, so that
no query returns any; associations are those between documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from lxml import etree

from adapters.ebrim.names import STABLE_DOCUMENT
from adapters.ebrim.submission import PatientId
from adapters.xds.answers import Problem, query_response
from adapters.xds.entries import Describing, Registered, Relation
from adapters.xds.identifiers import identifiers_of, patient_of, resource_id_of
from adapters.xds.people import author_texts
from adapters.xds.queries import Query, QueryId, QueryRefused, earliest, read_query
from gateway.ports import DocumentRegistry, RegistryUnavailable, SharedDocument, TooManyDocuments

IDS_MAX = 500
_ENTRY = "$XDSDocumentEntry"
_CODES = {
    "ClassCode": "classCode",
    "TypeCode": "typeCode",
    "PracticeSettingCode": "practiceSettingCode",
    "HealthcareFacilityTypeCode": "healthcareFacilityTypeCode",
    "EventCodeList": "eventCodeList",
    "ConfidentialityCode": "confidentialityCode",
    "FormatCode": "formatCode",
}
_TIMES = ("creationTime", "serviceStartTime", "serviceStopTime")


class Registry:
    """Answers stored queries. Blocks: one per thread, as many as there are threads."""

    def __init__(
        self, documents: DocumentRegistry, describing: Describing, *, results_max: int
    ) -> None:
        self._documents = documents
        self._describing = describing
        self._results_max = results_max
        self._answers: dict[QueryId, Callable[[Query], Iterable[etree._Element]]] = {
            QueryId.FIND_DOCUMENTS: self._find,
            QueryId.FIND_BY_REFERENCE: self._find_by_reference,
            QueryId.GET_ALL: self._all,
            QueryId.GET_DOCUMENTS: self._get,
            QueryId.GET_ASSOCIATIONS: self._associations,
            QueryId.GET_DOCUMENTS_AND_ASSOCIATIONS: self._get_with_associations,
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

    # --- the queries ---------------------------------------------------------------

    def _find(self, query: Query) -> Iterator[etree._Element]:
        patient = query.patient(f"{_ENTRY}PatientId")
        matches = matching(query)
        found = self._documents.of_patient(patient_of(patient), limit=self._results_max)
        return self._shown(query, [each for each in self._registered(found) if matches(each)])

    def _find_by_reference(self, query: Query) -> Iterator[etree._Element]:
        query.needed(f"{_ENTRY}ReferenceIdList")
        return self._find(query)

    def _all(self, query: Query) -> Iterator[etree._Element]:
        patient = query.patient("$patientId")
        statuses = set(query.needed(f"{_ENTRY}Status"))
        query.needed("$XDSSubmissionSetStatus")
        query.needed("$XDSFolderStatus")
        found = self._documents.of_patient(patient_of(patient), limit=self._results_max)
        every = self._registered(found)
        kept = [each for each in every if each.status in statuses]
        formats, labels = _coded(query, "FormatCode"), _coded(query, "ConfidentialityCode")
        kept = [each for each in kept if formats(each) and labels(each)]
        yield from self._shown(query, kept)
        uuids = {each.uuid for each in kept}
        yield from self._shown_relations(query, relations_of(every, uuids, both=True))

    def _get(self, query: Query) -> Iterator[etree._Element]:
        return self._shown(query, self._asked(query))

    def _get_with_associations(self, query: Query) -> Iterator[etree._Element]:
        asked = self._asked(query)
        yield from self._shown(query, asked)
        every = self._neighbours(asked)
        yield from self._shown_relations(query, relations_of(every, {each.uuid for each in asked}))

    def _associations(self, query: Query) -> Iterator[etree._Element]:
        ids = [resource_id_of(each) for each in query.needed("$uuid")]
        asked = self._registered(self._documents.by_id(_few([each for each in ids if each])))
        every = self._neighbours(asked)
        return self._shown_relations(query, relations_of(every, {each.uuid for each in asked}))

    def _related(self, query: Query) -> Iterator[etree._Element]:
        types = set(query.needed("$AssociationTypes"))
        asked = self._asked(query)
        if len(asked) > 1:
            raise QueryRefused("XDSStoredQueryParamNumber", "one document is asked for at a time")
        every = self._neighbours(asked)
        near = [
            each for each in relations_of(every, {one.uuid for one in asked}) if each.type in types
        ]
        if not near:
            return
        ends = {end for each in near for end in (each.source, each.target)}
        yield from self._shown(query, [each for each in every if each.uuid in ends])
        yield from self._shown_relations(query, near)

    # --- what they have in common --------------------------------------------------

    def _registered(self, documents: Iterable[SharedDocument]) -> list[Registered]:
        made = (self._describing.registered(each) for each in documents)
        return [each for each in made if each is not None]

    def _asked(self, query: Query) -> list[Registered]:
        """The documents of $XDSDocumentEntryEntryUUID or $XDSDocumentEntryUniqueId."""
        uuids = query.values(f"{_ENTRY}EntryUUID")
        unique_ids = query.values(f"{_ENTRY}UniqueId")
        if not uuids and not unique_ids:
            raise QueryRefused(
                "XDSStoredQueryMissingParam",
                f"{_ENTRY}EntryUUID or {_ENTRY}UniqueId is needed",
            )
        if uuids and unique_ids:
            raise QueryRefused(
                "XDSStoredQueryParamNumber",
                f"either {_ENTRY}EntryUUID or {_ENTRY}UniqueId, not both",
            )
        if uuids:
            ids = [resource_id_of(each) for each in _few(uuids)]
            found = self._documents.by_id([each for each in ids if each])
        else:
            wanted = [one for each in _few(unique_ids) for one in identifiers_of(each)]
            found = self._documents.by_identifier(wanted)
        asked = self._registered(found)
        if query.objects and len({each.patient_id for each in asked}) > 1:
            raise QueryRefused("XDSResultNotSinglePatient", "the documents are of several patients")
        return asked

    def _neighbours(self, asked: Sequence[Registered]) -> list[Registered]:
        """All documents of the patients of these."""
        every: dict[str, Registered] = {each.uuid: each for each in asked}
        owners = {each.patient_id for each in asked if each.patient_id}
        for owner in sorted(owners):
            patient = patient_of(PatientId.parse(owner, ""))
            found = self._documents.of_patient(patient, limit=self._results_max)
            every.update((each.uuid, each) for each in self._registered(found))
        return list(every.values())

    def _shown(self, query: Query, found: Sequence[Registered]) -> Iterator[etree._Element]:
        for each in found:
            yield (
                self._describing.leaf(each)
                if query.objects
                else self._describing.reference(each.uuid)
            )

    def _shown_relations(self, query: Query, found: Iterable[Relation]) -> Iterator[etree._Element]:
        for each in found:
            yield (
                self._describing.association(each)
                if query.objects
                else self._describing.reference(each.uuid)
            )


def relations_of(
    every: Sequence[Registered], uuids: set[str], *, both: bool = False
) -> list[Relation]:
    """The associations between documents of ``every`` of which one end, or ``both``, is among
    ``uuids``. One whose other end the record does not have is none."""
    known = {each.uuid for each in every}
    found = [
        Relation(kind, each.uuid, target)
        for each in every
        for kind, target in each.relations
        if target in known
    ]
    return [
        each
        for each in found
        if (each.source in uuids) + (each.target in uuids) >= (2 if both else 1)
    ]


def matching(query: Query) -> Callable[[Registered], bool]:
    """The conditions of FindDocuments and FindDocumentsByReferenceId. Raises QueryRefused."""
    statuses = set(query.needed(f"{_ENTRY}Status"))
    kinds = query.values(f"{_ENTRY}Type")
    conditions: list[Callable[[Registered], bool]] = [
        lambda one: one.status in statuses,
        lambda _: not kinds or STABLE_DOCUMENT in kinds,
    ]
    conditions += [_coded(query, name) for name in _CODES]
    conditions += [_during(query, name) for name in _TIMES]
    patterns = query.values(f"{_ENTRY}AuthorPerson")
    if patterns:
        conditions.append(
            lambda one: any(
                like(pattern, person)
                for person in author_texts(one.document)[0]
                for pattern in patterns
            )
        )
    references = query.every(f"{_ENTRY}ReferenceIdList")
    conditions.append(
        lambda one: all(any(each in one.references for each in slot) for slot in references)
    )
    return lambda one: all(condition(one) for condition in conditions)


def _coded(query: Query, name: str) -> Callable[[Registered], bool]:
    """Codes as ``code^^scheme``; each slot must hold, by one of its values."""
    slots = query.every(f"{_ENTRY}{name}")
    wanted = [[each.partition("^^")[::2] for each in slot] for slot in slots]
    attribute = _CODES[name]

    def holds(one: Registered) -> bool:
        has = {(each.code.code, each.code.scheme) for each in one.codes[attribute]}
        plain = {code for code, _ in has}
        return all(
            any((code, scheme) in has if scheme else code in plain for code, scheme in slot)
            for slot in wanted
        )

    return holds


def _during(query: Query, name: str) -> Callable[[Registered], bool]:
    """From is included, To is not (3.18.4.1.2.3.7.1). What has no such time is not found."""
    stem = f"{_ENTRY}{name[0].upper()}{name[1:]}"
    first, last = query.time(f"{stem}From"), query.time(f"{stem}To")

    def holds(one: Registered) -> bool:
        if not first and not last:
            return True
        digits = one.times.get(name, "")
        return bool(digits) and first <= earliest(digits) and (not last or earliest(digits) < last)

    return holds


def like(pattern: str, text: str) -> bool:
    """SQL's LIKE: % any characters, _ one (3.18.4.1.2.3.5). Takes time in proportion to both,
    whatever the pattern."""
    at = place = 0
    star, resume = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "%":
            star, resume, place = place, at, place + 1
        elif place < len(pattern) and pattern[place] in ("_", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return all(each == "%" for each in pattern[place:])


def _few(ids: Sequence[str]) -> Sequence[str]:
    if len(ids) > IDS_MAX:
        raise QueryRefused("XDSTooManyResults", f"at most {IDS_MAX} documents are given at a time")
    return ids

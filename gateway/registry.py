"""The record and the journal as a registry of documents, for those who ask by another protocol."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import yaml
from sqlalchemy import Connection, select

from adapters.xds.identifiers import digest_of, identifiers_of, unique_id_of
from gateway import ins
from gateway.documents import DocumentVersion, RegistryUnavailable, SharedDocument, TooManyDocuments
from gateway.journal import patients, registry_objects, submission_sets, tables
from gateway.journal.faults import IdentityConflict, JournalFault, JournalUnavailable
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.model import Identifier, Payload, RegistryKind, RegistryObject
from record.faults import BytesMissing
from record.searching import COUNT_MAX, VALUES_MAX
from record.store import Record

Item = TypeVar("Item")
_NAMED_TYPES = frozenset({"Practitioner", "PractitionerRole", "Organization", "Device"})
_NATIONAL_SCHEMES = {
    "https://mos.esante.gouv.fr/NOS/TRE_A03-ClasseDocument/FHIR/TRE-A03-ClasseDocument": (
        "1.2.250.1.213.1.1.4.1"
    ),
}
"""classCode: CI-SIS, JDV_J57."""


@dataclass(slots=True, eq=False)
class _Note:
    """A submission set to be noted; ``stands`` is set once it is."""

    unique_id: str
    source: str
    digest: str
    objects: Sequence[RegistryObject]
    stands: str = ""


class RecordRegistry:
    """Implements :class:`gateway.documents.DocumentRegistry`.

    ``roots`` are the assigning authorities of the INS that identify by themselves. Each call
    has a connection of its own; one may be shared by all threads.
    """

    def __init__(
        self, journal: Journal, record: Record, *, roots: frozenset[str] = ins.ROOTS
    ) -> None:
        self._journal = journal
        self._record = record
        self._roots = roots
        self._open = threading.local()
        """The ``connection`` of each thread that asks several things at one time."""
        self._noting = threading.Lock()
        self._waiting: deque[_Note] = deque()

    @contextmanager
    def at_one_time(self) -> Iterator[None]:
        """See :meth:`gateway.documents.DocumentRegistry.at_one_time`."""
        with self._reading() as connection:
            self._open.connection = connection
            try:
                yield
            finally:
                self._open.connection = None

    def of_patient(self, patient: Identifier, *, limit: int) -> Sequence[DocumentVersion]:
        """See :meth:`gateway.documents.DocumentRegistry.of_patient`."""
        with self._reading() as connection:
            owner = self._owner(connection, patient)
            if owner is None:
                return ()
            found = self._record.versions_of(
                connection, "DocumentReference", owner, limit=limit + 1
            )
        if len(found) > limit:
            raise TooManyDocuments
        return [DocumentVersion(*each) for each in found]

    def by_identifier(self, identifiers: Sequence[Identifier]) -> Sequence[SharedDocument]:
        """See :meth:`gateway.documents.DocumentRegistry.by_identifier`."""
        wanted = {(each.system, each.value) for each in identifiers}
        if not wanted:
            return ()
        with self._reading() as connection:
            found = [
                each.resource
                for some in _some(sorted(wanted))
                for each in self._record.identified(connection, "DocumentReference", some)
            ]
            # A document's set has an identifier, too.
            return self._shared(connection, [each for each in found if _master(each) in wanted])

    def by_id(self, ids: Sequence[str]) -> Sequence[SharedDocument]:
        """See :meth:`gateway.documents.DocumentRegistry.by_id`."""
        if not ids:
            return ()
        with self._reading() as connection:
            return self._shared(connection, self._with_ids(connection, "DocumentReference", ids))

    def content(self, sha256: str) -> Payload | None:
        """See :meth:`gateway.documents.DocumentRegistry.content`."""
        with self._reading() as connection:
            try:
                found = self._record.document(connection, sha256)
            except BytesMissing:
                return None
            return found.payload if found is not None else None

    def knows(self, patient: Identifier) -> bool:
        """See :meth:`gateway.documents.DocumentRegistry.knows`."""
        if patient.system in self._roots and ins.fault(patient.value) is None:
            return True
        with self._reading() as connection:
            return self._owner(connection, patient) is not None

    def known(self, source: str, control_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """See :meth:`gateway.documents.DocumentRegistry.known`."""
        message = tables.message
        found: dict[str, set[str]] = {}
        with self._reading() as connection:
            for some in _some(list(dict.fromkeys(control_ids))):
                rows = connection.execute(
                    select(message.c.control_id, message.c.sha256).where(
                        message.c.source == source,
                        message.c.control_id.in_(some),
                        message.c.state != MessageState.REFUSED.value,
                        message.c.parent_id.is_(None),
                    )
                )
                for control_id, sha256 in rows:
                    found.setdefault(control_id, set()).add(sha256)
                pairs = [(one.system, one.value) for each in some for one in identifiers_of(each)]
                for entry in self._record.identified(connection, "DocumentReference", pairs):
                    digest, name = digest_of(entry.resource), unique_id_of(entry.resource)
                    if digest and name:
                        found.setdefault(name, set()).add(digest)
        return {name: frozenset(digests) for name, digests in found.items()}

    def submission(self, unique_id: str) -> str | None:
        """See :meth:`gateway.documents.DocumentRegistry.submission`."""
        with self._reading() as connection:
            return submission_sets.digest_of(connection, unique_id)

    def note_submission(
        self, unique_id: str, *, source: str, digest: str, objects: Sequence[RegistryObject]
    ) -> str:
        """See :meth:`gateway.documents.DocumentRegistry.note_submission`."""
        mine = _Note(unique_id, source, digest, objects)
        self._waiting.append(mine)
        with self._noting:
            # Whoever has the turn writes what has gathered meanwhile: one commit for all of it.
            if not mine.stands:
                try:
                    self._write_notes()
                except RegistryUnavailable:
                    self._waiting.remove(mine)
                    raise
        return mine.stands

    def _write_notes(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            with self._journal.write() as connection:
                at = self._journal.now()
                stands = [
                    submission_sets.note(
                        connection,
                        each.unique_id,
                        source=each.source,
                        digest=each.digest,
                        objects=each.objects,
                        at=at,
                    )
                    for each in taken
                ]
        except (JournalUnavailable, JournalFault) as error:
            # Those that wait for their turn find theirs again, and try for themselves.
            self._waiting.extendleft(reversed(taken))
            raise RegistryUnavailable(type(error).__name__) from None
        for each, digest in zip(taken, stands, strict=True):
            each.stands = digest

    # --- what submissions registered ---------------------------------------------------

    def objects(self, ids: Sequence[str]) -> Sequence[RegistryObject]:
        """See :meth:`gateway.documents.DocumentRegistry.objects`."""
        with self._reading() as connection:
            return registry_objects.by_id(connection, ids)

    def objects_named(
        self, kind: RegistryKind, unique_ids: Sequence[str]
    ) -> Sequence[RegistryObject]:
        """See :meth:`gateway.documents.DocumentRegistry.objects_named`."""
        with self._reading() as connection:
            return registry_objects.by_unique_id(connection, kind, unique_ids)

    def object_ids(self, kind: RegistryKind, unique_ids: Sequence[str]) -> Mapping[str, str]:
        """See :meth:`gateway.documents.DocumentRegistry.object_ids`."""
        with self._reading() as connection:
            return registry_objects.ids_by_unique_id(connection, kind, unique_ids)

    def objects_of(
        self, kind: RegistryKind, patient: Identifier, *, limit: int
    ) -> Sequence[RegistryObject]:
        """See :meth:`gateway.documents.DocumentRegistry.objects_of`."""
        with self._reading() as connection:
            names = {_patient_id(patient)}
            owner = self._owner(connection, patient)
            if owner is not None:
                survivor = self._record.survivor(connection, owner)
                for each in self._with_ids(connection, "Patient", [survivor]):
                    for one in each.get("identifier") or ():
                        system, value = str(one.get("system", "")), str(one.get("value", ""))
                        names.add(_patient_id(Identifier(system=system, value=value)))
            found = registry_objects.of_patients(connection, kind, sorted(names), limit=limit)
        if len(found) > limit:
            raise TooManyDocuments
        return found

    def replaced(self, ids: Sequence[str], types: Sequence[str]) -> Sequence[tuple[str, str]]:
        """See :meth:`gateway.documents.DocumentRegistry.replaced`."""
        with self._reading() as connection:
            return registry_objects.pointing_to(connection, ids, types)

    def associations(self, ids: Sequence[str], *, limit: int) -> Sequence[RegistryObject]:
        """See :meth:`gateway.documents.DocumentRegistry.associations`."""
        with self._reading() as connection:
            found = registry_objects.linked(connection, ids, limit=limit)
        if len(found) > limit:
            raise TooManyDocuments
        return found

    # --- reading -------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        there: Connection | None = getattr(self._open, "connection", None)
        if there is not None:
            yield there
            return
        try:
            with self._journal.read() as connection:
                yield connection
        except (JournalUnavailable, JournalFault) as error:
            raise RegistryUnavailable(type(error).__name__) from None

    def _owner(self, connection: Connection, patient: Identifier) -> str | None:
        """The id of the one patient whom an identifier names."""
        try:
            found = patients.find(connection, [patient])
        except IdentityConflict:
            return None
        return found.id if found is not None else None

    def _with_ids(
        self, connection: Connection, kind: str, ids: Iterable[str]
    ) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for some in _some(sorted(set(ids))):
            asked = [("_id", ",".join(some)), ("_count", str(COUNT_MAX))]
            found += [
                each.resource for each in self._record.search(connection, kind, asked).entries
            ]
        return found

    def _shared(
        self, connection: Connection, found: Sequence[Mapping[str, Any]]
    ) -> list[SharedDocument]:
        """Documents with whom they name; what is named by several is read once."""
        wanted: dict[str, set[str]] = {}
        for resource in found:
            for reference in (_subject(resource), *_named(resource)):
                kind, _, identifier = reference.partition("/")
                wanted.setdefault(kind, set()).add(identifier)
        read = {
            f"{kind}/{each['id']}": each
            for kind, ids in wanted.items()
            if kind == "Patient" or kind in _NAMED_TYPES
            for each in self._with_ids(connection, kind, ids)
        }
        return [
            SharedDocument(
                resource=resource,
                patient=read.get(_subject(resource), {}),
                named={each: read[each] for each in _named(resource) if each in read},
            )
            for resource in found
        ]


def _patient_id(patient: Identifier) -> str:
    """As submissions name a patient."""
    return f"{patient.value}^^^&{patient.system.removeprefix('urn:oid:')}&ISO"


def _subject(resource: Mapping[str, Any]) -> str:
    return str((resource.get("subject") or {}).get("reference", ""))


def _named(resource: Mapping[str, Any]) -> list[str]:
    references = [*(resource.get("author") or ()), resource.get("authenticator") or {}]
    return [str(each["reference"]) for each in references if each.get("reference")]


def _master(resource: Mapping[str, Any]) -> tuple[Any, Any]:
    master = resource.get("masterIdentifier") or {}
    return master.get("system"), master.get("value")


def _some(values: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (values[at : at + VALUES_MAX] for at in range(0, len(values), VALUES_MAX))


@cache
def code_schemes() -> Mapping[str, str]:
    """The OID of a code system by the URI that entries have for it: what the mappings of CDA and
    of HL7 v2 turn from OID to URI, turned back."""
    shipped = resources.files("mappings").joinpath("terminology/cda/code_systems.yaml")
    by_oid = yaml.safe_load(shipped.read_text(encoding="utf-8"))["rows"]
    own = resources.files("gateway.mapping.vocabulary").joinpath("code_systems.json")
    by_oid |= json.loads(own.read_text(encoding="utf-8"))["uris"]
    return {str(uri): str(oid) for oid, uri in by_oid.items()} | _NATIONAL_SCHEMES

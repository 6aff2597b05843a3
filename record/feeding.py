"""How the record is fed: messages' entries, and patients who are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from sqlalchemy import Connection, delete, or_, select, update

from gateway.model import Entry
from gateway.ports import BlobStore
from record.content import Prepared, ResourceText, prepare, prepare_resource, provenance
from record.deriving import Deriving
from record.document_authors import DocumentAuthors
from record.document_versions import DocumentVersions
from record.faults import BytesMissing, MergeRefused
from record.indexing import attachments, index
from record.instants import micros
from record.rows import locked_patients
from record.tables import record_attachment, record_entry, record_member, record_patient
from record.withdrawing import Withdrawing
from record.writing import Changes, Origin, Writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """One message's entries for one patient's record. ``sequence`` is the message's place
    in the order of arrival; a ``revision`` above 0 that of a reading anew, and then what the
    message stated before and does not state now is withdrawn."""

    patient_id: str
    entries: Sequence[Entry]
    message_id: int
    sequence: int
    source: str
    mapping: str
    revision: int = 0
    ready: dict[str, Prepared] | None = None
    """What :meth:`Feeding.make_ready` made of the entries; for one attempt only."""


@dataclass(frozen=True, slots=True)
class PutResult:
    """What one put did, as references ``Type/id`` (the message's Provenance among them).

    ``created`` and ``updated`` have a new current version, ``derived`` one that the
    record made because other entries imply it (a replaced document, a merged patient;
    they may be among the others as well); ``late`` came after a later
    message and are kept behind it; ``unchanged`` were known; ``withdrawn`` have a new
    version that says that their message states them no longer. ``ids`` are all that were
    put.
    """

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything at all was written."""
        return bool(self.created or self.updated or self.late or self.derived or self.withdrawn)


Changed = Callable[[Connection, Mapping[str, tuple[str, str]]], None]
"""Told in the transaction of a put or a merge what changed: by reference (``Type/id``) the
patient whose record it is in now, and the source that said it."""


def untold(connection: Connection, changed: Mapping[str, tuple[str, str]]) -> None:
    """For a record whose changes nobody wants to hear of."""


class Feeding:
    """Writes over the connection that each call is given; see :class:`record.store.Record`."""

    def __init__(
        self,
        blobs: BlobStore,
        now: Callable[[], datetime],
        json: ResourceText,
        zone: tzinfo,
        changed: Changed = untold,
        *,
        same_author: bool = True,
    ) -> None:
        self._changed = changed
        self._same_author = same_author
        self._blobs = blobs
        self._now = now
        self._json = json
        self._zone = zone

    def make_ready(self, put: Put) -> Put:
        """The same put, its entries written and indexed: that takes longer than storing them, and
        needs no transaction for which others wait. Raises EntryRefused and BytesMissing."""
        ready = self._ready(put, micros(self._now()))
        for one in ready.values():
            if not one.provisional:  # as a rule the record has those
                one.indexed = index(one.resource, one.text, self._zone)
        return replace(put, ready=ready)

    def put_all(self, connection: Connection, puts: Sequence[Put]) -> list[PutResult]:
        """Take messages' entries into patients' records, in the caller's transaction.

        Idempotent: what is known makes no version. ``sequence`` is the message's place in
        the order of arrival, which alone decides what is current, but for versions of a
        document (:mod:`record.document_versions`). Entries of a patient who was merged go to
        the survivor. Raises EntryRefused, VersionRefused, AuthorRefused and BytesMissing, before
        anything is written.
        """
        at = micros(self._now())
        ready = [self._ready(put, at) if put.ready is None else put.ready for put in puts]
        named = [put.patient_id for put in puts if put.entries or put.revision]
        owners = locked_patients(connection, named)
        versions = self._admitted(connection, puts, ready, owners)
        gone = self._withdraw(connection, puts, ready)
        work = [
            (
                Origin(
                    patient_id=owners[put.patient_id],
                    given=put.patient_id,
                    message_id=put.message_id,
                    sequence=put.sequence,
                    source=put.source,
                    mapping=put.mapping,
                    at=at,
                    revision=put.revision,
                ),
                prepared,
            )
            for put, prepared in zip(puts, ready, strict=True)
            if prepared
        ]
        writing = Writing(connection, self._zone)
        writing.begin(work)
        changes = [writing.put(origin, prepared) for origin, prepared in work]
        writing.flush()
        touched: dict[str, Origin] = {}
        superseded = versions.link()
        for (origin, _), change in zip(work, changes, strict=True):
            touched.update(dict.fromkeys(sorted({*superseded, *change.touched}), origin))
        derived: dict[int, list[str]] = {}
        for reference in Deriving(connection, self._json, self._zone).settle(touched):
            derived.setdefault(touched[reference].message_id, []).append(reference)
        if touched:
            self._changed(
                connection,
                {name: (origin.patient_id, origin.source) for name, origin in touched.items()},
            )
        done = iter(zip(work, changes, strict=True))
        return [
            _result(*next(done), derived, withdrawn) if prepared else PutResult()
            for prepared, withdrawn in zip(ready, gone, strict=True)
        ]

    def _admitted(
        self,
        connection: Connection,
        puts: Sequence[Put],
        ready: Sequence[dict[str, Prepared]],
        owners: Mapping[str, str],
    ) -> DocumentVersions:
        """Judge the documents among the entries. Raises VersionRefused and AuthorRefused."""
        versions = DocumentVersions(connection, self._json)
        versions.admit(
            [
                (owners.get(put.patient_id, ""), put.sequence, prepared)
                for put, prepared in zip(puts, ready, strict=True)
            ]
        )
        if self._same_author:
            DocumentAuthors(connection, self._json).admit(
                [(put.sequence, prepared) for put, prepared in zip(puts, ready, strict=True)]
            )
        return versions

    def _withdraw(
        self,
        connection: Connection,
        puts: Sequence[Put],
        ready: Sequence[dict[str, Prepared]],
    ) -> list[frozenset[str]]:
        """Add to what is ready what each message withdraws; the references of that."""
        now = {
            put.message_id: frozenset(prepared)
            for put, prepared in zip(puts, ready, strict=True)
            if put.revision
        }
        if not now:
            return [frozenset()] * len(puts)
        withdrawing, found = Withdrawing(connection, self._json, now), []
        for put, prepared in zip(puts, ready, strict=True):
            gone: dict[str, Prepared] = {}
            if put.revision:
                gone = withdrawing.withdrawn(put.message_id, put.sequence)
                prepared.update(gone)
            found.append(frozenset(each for each in gone if not each.startswith("Provenance/")))
        return found

    def _ready(self, put: Put, at: int) -> dict[str, Prepared]:
        """A message's entries and its Provenance, made ready; nothing for none."""
        prepared = prepare(put.entries, self._json)
        self._demand_bytes(prepared.values())
        if prepared:
            made = provenance(
                list(prepared),
                message_id=put.message_id,
                source=put.source,
                mapping=put.mapping,
                at=at,
            )
            evidence = prepare_resource(made, self._json)
            prepared.setdefault(evidence.reference, evidence)
        return prepared

    def merge(
        self,
        connection: Connection,
        survivor: str,
        subsumed: str,
        *,
        message_id: int = 0,
        source: str = "",
        mapping: str = "",
    ) -> bool:
        """Give a patient's whole record to another; False when that was so already.

        What is put for the subsumed one later goes to the survivor as well. What was put
        stays as it is; both Patients get a version that links them. A merge the other way
        round, later, takes its place. Raises MergeRefused when the subsumed
        one has been merged into a third, whose record would be mixed in, and for a
        patient with themself.
        """
        if survivor == subsumed:
            raise MergeRefused("a patient cannot be merged with themself")
        # Locked in one order, so that two merges never wait for one another.
        owners = locked_patients(connection, {survivor, subsumed})
        target = owners[survivor]
        if target == owners[subsumed]:
            if target != subsumed:
                return False
            target = survivor
        elif owners[subsumed] != subsumed:
            raise MergeRefused("the subsumed patient has been merged into another before")
        table = record_patient
        group = or_(table.c.patient_id == subsumed, table.c.survivor == subsumed)
        merged = {"survivor": target, "merged_at": micros(self._now()), "message_id": message_id}
        connection.execute(update(table).where(group, table.c.patient_id != target).values(merged))
        connection.execute(update(table).where(table.c.patient_id == target).values(survivor=None))
        self._hand_over(connection, target, subsumed)
        origin = Origin(
            patient_id=target,
            given=target,
            message_id=message_id,
            sequence=0,
            source=source,
            mapping=mapping,
            at=micros(self._now()),
        )
        linked = connection.execute(select(table.c.patient_id).where(table.c.survivor == target))
        patients = {target, survivor, subsumed, *linked.scalars()}
        deriving = Deriving(connection, self._json, self._zone)
        deriving.settle({f"Patient/{one}": origin for one in sorted(patients)})
        self._changed(connection, {f"Patient/{one}": (target, source) for one in sorted(patients)})
        return True

    def _hand_over(self, connection: Connection, target: str, subsumed: str) -> None:
        member, entry, attachment = record_member, record_entry, record_attachment
        keys = select(member.c.entry_key).where(member.c.patient_id == subsumed)
        connection.execute(
            update(entry)
            .where(entry.c.key.in_(keys), entry.c.patient_id == subsumed)
            .values(patient_id=target)
        )
        connection.execute(
            update(attachment).where(attachment.c.patient_id == subsumed).values(patient_id=target)
        )
        has = select(member.c.entry_key).where(member.c.patient_id == target)
        connection.execute(
            update(member)
            .where(member.c.patient_id == subsumed, member.c.entry_key.not_in(has))
            .values(patient_id=target)
        )
        connection.execute(delete(member).where(member.c.patient_id == subsumed))

    def _demand_bytes(self, prepared: Iterable[Prepared]) -> None:
        for one in prepared:
            for note in attachments(one.resource, one.text):
                try:
                    self._blobs.payload(note.sha256)
                except (KeyError, OSError) as error:
                    raise BytesMissing("a document's bytes cannot be had") from error


def _result(
    work: tuple[Origin, Mapping[str, Prepared]],
    changes: Changes,
    derived: Mapping[int, Sequence[str]],
    withdrawn: frozenset[str],
) -> PutResult:
    origin, prepared = work
    return PutResult(
        created=tuple(changes.created),
        updated=tuple(each for each in changes.updated if each not in withdrawn),
        unchanged=tuple(changes.unchanged),
        late=tuple(changes.late),
        derived=tuple(derived.get(origin.message_id, ())),
        withdrawn=tuple(each for each in changes.updated if each in withdrawn),
        ids=tuple(prepared),
    )

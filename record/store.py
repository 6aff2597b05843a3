"""The built-in shared record: what it holds, how it is fed, how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from gateway.model import Entry, Payload
from gateway.ports import BlobStore
from record.content import Prepared, ResourceText, prepare, prepare_resource, provenance
from record.deriving import Deriving
from record.faults import BytesMissing, MergeRefused, SearchRefused
from record.indexing import attachments, is_digest
from record.instants import micros
from record.reading import HISTORY_MAX, Stored, selection, stored
from record.rows import locked_patients
from record.searching import (
    COUNT_MAX,
    Found,
    Surroundings,
    page_token,
    read_page_token,
    run,
    understand,
)
from record.tables import (
    record_attachment,
    record_entry,
    record_entry_version,
    record_member,
    record_patient,
)
from record.writing import Changes, Origin, Writing

DEFAULT_ZONE = ZoneInfo("Europe/Paris")


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """One message's entries for one patient's record. ``sequence`` is the message's place
    in the order of arrival."""

    patient_id: str
    entries: Sequence[Entry]
    message_id: int
    sequence: int
    source: str
    mapping: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """What one put did, as references ``Type/id`` (the message's Provenance among them).

    ``created`` and ``updated`` have a new current version, ``derived`` one that the
    record made because other entries imply it (a replaced document, a merged patient;
    they may be among the others as well); ``late`` came after a later
    message and are kept behind it; ``unchanged`` were known. ``ids`` are all that were
    put.
    """

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything at all was written."""
        return bool(self.created or self.updated or self.late or self.derived)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search. ``total`` is None when there are more than are counted;
    ``next`` is the token of the following page or empty; ``ignored`` the parameters that
    a lenient search left out."""

    entries: tuple[Stored, ...]
    total: int | None
    next: str
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A document's bytes and what the record knows of them."""

    sha256: str
    media_type: str
    title: str
    patient_ids: tuple[str, ...]
    payload: Payload


class Record:
    """The record over a connection that each call is given.

    ``blobs`` holds documents' bytes, put there before the transaction that names them.
    ``now`` gives aware instants. ``json`` writes and reads resources with decimals that
    keep their text (``gateway.mapping.serialise``). ``zone`` is where a date without an
    offset is read, in what is stored and in what is asked. Holds no state of its own:
    one may be shared by all threads.
    """

    def __init__(
        self,
        blobs: BlobStore,
        now: Callable[[], datetime],
        json: ResourceText,
        zone: tzinfo = DEFAULT_ZONE,
    ) -> None:
        self._blobs = blobs
        self._now = now
        self.json = json
        self._zone = zone

    # --- feeding -------------------------------------------------------------------

    def put(
        self,
        connection: Connection,
        patient_id: str,
        entries: Sequence[Entry],
        *,
        message_id: int,
        sequence: int,
        source: str,
        mapping: str,
    ) -> PutResult:
        """Take one message's entries into a patient's record; see :meth:`put_all`."""
        one = Put(
            patient_id=patient_id,
            entries=entries,
            message_id=message_id,
            sequence=sequence,
            source=source,
            mapping=mapping,
        )
        return self.put_all(connection, [one])[0]

    def put_all(self, connection: Connection, puts: Sequence[Put]) -> list[PutResult]:
        """Take messages' entries into patients' records, in the caller's transaction.

        Idempotent: what is known makes no version. ``sequence`` is the message's place in
        the order of arrival, which alone decides what is current. Entries of a patient
        who was merged go to the survivor. Raises EntryRefused and BytesMissing, before
        anything is written.
        """
        at = micros(self._now())
        ready = [self._ready(put, at) for put in puts]
        owners = locked_patients(connection, [put.patient_id for put in puts if put.entries])
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
        for (origin, _), change in zip(work, changes, strict=True):
            touched.update(dict.fromkeys(sorted(change.touched), origin))
        derived: dict[int, list[str]] = {}
        for reference in Deriving(connection, self.json, self._zone).settle(touched):
            derived.setdefault(touched[reference].message_id, []).append(reference)
        done = iter(zip(work, changes, strict=True))
        return [_result(*next(done), derived) if prepared else PutResult() for prepared in ready]

    def _ready(self, put: Put, at: int) -> dict[str, Prepared]:
        """A message's entries and its Provenance, made ready; nothing for none."""
        prepared = prepare(put.entries, self.json)
        self._demand_bytes(prepared.values())
        if prepared:
            made = provenance(
                list(prepared),
                message_id=put.message_id,
                source=put.source,
                mapping=put.mapping,
                at=at,
            )
            evidence = prepare_resource(made, self.json)
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
        deriving = Deriving(connection, self.json, self._zone)
        deriving.settle({f"Patient/{one}": origin for one in sorted(patients)})
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

    # --- reading -------------------------------------------------------------------

    def survivor(self, connection: Connection, patient_id: str) -> str:
        """The patient whose record a patient's is now; themself when never merged."""
        table = record_patient
        statement = select(table.c.survivor).where(table.c.patient_id == patient_id)
        return connection.execute(statement).scalar() or patient_id

    def read(self, connection: Connection, type_name: str, identifier: str) -> Stored | None:
        """The current version of an entry, or None."""
        statement = selection().where(record_entry.c.reference == f"{type_name}/{identifier}")
        found = stored(connection.execute(statement).all(), self.json)
        return found[0] if found else None

    def version(
        self, connection: Connection, type_name: str, identifier: str, number: int
    ) -> Stored | None:
        """One version of an entry, or None."""
        statement = selection(every_version=True).where(
            record_entry.c.reference == f"{type_name}/{identifier}",
            record_entry_version.c.version == number,
        )
        found = stored(connection.execute(statement).all(), self.json)
        return found[0] if found else None

    def history(
        self, connection: Connection, type_name: str, identifier: str, limit: int = HISTORY_MAX
    ) -> list[Stored]:
        """The versions of an entry: the current one, then the others, the last made first."""
        return list(self.history_page(connection, type_name, identifier, count=limit).entries)

    def history_page(
        self,
        connection: Connection,
        type_name: str,
        identifier: str,
        *,
        count: int = HISTORY_MAX,
        page: str = "",
    ) -> Page:
        """One page of an entry's versions: the current one, then the others, the last made first.

        The page's token names the version that was on top of the first page, so that a
        version made meanwhile neither repeats one nor hides one. Raises SearchRefused for
        a wrong ``page``.
        """
        entry, version = record_entry, record_entry_version
        mine = entry.c.reference == f"{type_name}/{identifier}"
        counted = select(func.count()).join(entry, entry.c.key == version.c.entry_key).where(mine)
        total = connection.execute(counted.select_from(version)).scalar_one()
        statement = selection(every_version=True).where(mine)
        latest_first = version.c.version.desc()
        top: int | None = None
        if page:
            shown, after = read_page_token(page)
            if not isinstance(shown, int):
                raise SearchRefused("page", "is no page of this history")
            top = shown
            following = statement.where(version.c.version < after, version.c.version != top)
            statement = following.order_by(latest_first)
        else:
            statement = statement.order_by(
                (version.c.version == entry.c.version).desc(), latest_first
            )
        size = min(count, HISTORY_MAX)
        rows = connection.execute(statement.limit(size + 1)).all()
        kept = stored(rows[:size], self.json)
        token = ""
        if len(rows) > size and kept:
            top = kept[0].version if top is None else top
            # The current version may be an old one: all the others come after it.
            last = kept[-1].version if page or size > 1 else total + 1
            token = page_token(top, last)
        return Page(tuple(kept), total, token)

    def of_message(self, connection: Connection, message_id: int) -> list[Stored]:
        """The versions that one message made, in the order in which it made them."""
        version = record_entry_version
        statement = (
            selection(every_version=True)
            .where(version.c.message_id == message_id)
            .order_by(version.c.entry_key, version.c.version)
            .limit(HISTORY_MAX)
        )
        return stored(connection.execute(statement).all(), self.json)

    def search(
        self,
        connection: Connection,
        type_name: str,
        parameters: Iterable[tuple[str, str]] = (),
        *,
        lenient: bool = False,
    ) -> Page:
        """Search the current entries of one type. Raises SearchRefused.

        ``parameters`` are names and values as FHIR's query string has them; see
        ``record.parameters`` for those of each type. Without ``_sort`` the entry that
        came last is first.
        """
        surroundings = Surroundings(self._zone, lambda one: self.survivor(connection, one))
        query = understand(type_name, parameters, surroundings, lenient=lenient)
        return self._page(run(connection, query))

    def everything(
        self,
        connection: Connection,
        patient_id: str,
        *,
        types: Sequence[str] = (),
        count: int = COUNT_MAX,
        page: str = "",
    ) -> Page:
        """All current entries of a patient's record, the patient first, page by page.

        Raises SearchRefused for a wrong ``page``.
        """
        owner = self.survivor(connection, patient_id)
        entry, member = record_entry, record_member
        is_member = and_(member.c.entry_key == entry.c.key, member.c.patient_id == owner)
        mine = select(entry.c.key).join(member, is_member)
        if types:
            mine = mine.where(member.c.type.in_(types))
        total = connection.execute(select(func.count()).select_from(mine.subquery())).scalar_one()
        first = (entry.c.reference == f"Patient/{owner}").desc()
        statement = selection().where(entry.c.key.in_(mine)).order_by(first, entry.c.key)
        if page:
            _, after = read_page_token(page)
            statement = statement.where(
                entry.c.key > after, entry.c.reference != f"Patient/{owner}"
            )
        rows = connection.execute(statement.limit(min(count, COUNT_MAX) + 1)).all()
        kept = rows[: min(count, COUNT_MAX)]
        token = ""
        if len(rows) > len(kept) and kept:
            last = kept[-1]
            # Only the patient's own row may come before a smaller key.
            place = 0 if last.reference == f"Patient/{owner}" else last.key
            token = page_token(0, place)
        return Page(tuple(stored(kept, self.json)), total, token)

    def document(self, connection: Connection, sha256: str) -> Document | None:
        """A document's bytes, if an entry names them. Raises BytesMissing when they are gone."""
        if not is_digest(sha256):
            return None
        table = record_attachment
        rows = connection.execute(
            select(table).where(table.c.sha256 == sha256).order_by(table.c.recorded_at.desc())
        ).all()
        if not rows:
            return None
        try:
            payload = self._blobs.payload(sha256)
        except (KeyError, OSError) as error:
            raise BytesMissing("a document's bytes cannot be had") from error
        patients = tuple(sorted({row.patient_id for row in rows}))
        return Document(sha256, rows[0].media_type, rows[0].title, patients, payload)

    def types(self, connection: Connection) -> list[str]:
        """The types of which there are entries; one look at the index for each."""
        column, found = record_entry.c.type, list[str]()
        following = select(func.min(column))
        while (name := connection.execute(following).scalar()) is not None:
            found.append(name)
            following = select(func.min(column)).where(column > name)
        return found

    def _page(self, found: Found) -> Page:
        entries = tuple(stored(found.rows, self.json))
        return Page(entries, found.total, found.next, tuple(found.query.ignored))


def _result(
    work: tuple[Origin, Mapping[str, Prepared]],
    changes: Changes,
    derived: Mapping[int, Sequence[str]],
) -> PutResult:
    origin, prepared = work
    return PutResult(
        created=tuple(changes.created),
        updated=tuple(changes.updated),
        unchanged=tuple(changes.unchanged),
        late=tuple(changes.late),
        derived=tuple(derived.get(origin.message_id, ())),
        ids=tuple(prepared),
    )

"""The built-in shared record: what it holds, how it is fed, how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, and_, func, select, tuple_

from gateway.model import Entry, Payload
from gateway.ports import BlobStore
from record.content import ResourceText
from record.faults import BytesMissing, SearchRefused
from record.feeding import Changed, Feeding, Put, PutResult, untold
from record.indexing import cut, is_digest
from record.reading import HISTORY_MAX, Stored, selection, stored
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
    IDENTIFIER_MAX,
    record_attachment,
    record_entry,
    record_entry_version,
    record_identifier,
    record_member,
    record_patient,
)

DEFAULT_ZONE = ZoneInfo("Europe/Paris")


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
    offset is read, in what is stored and in what is asked. ``changed`` is told, in the same
    transaction, what a put or a merge changed. ``same_author``: whether a document is replaced
    and deleted by its author's organisation only (:mod:`record.document_authors`). Holds no state
    of its own: one may be shared by all threads.
    """

    def __init__(
        self,
        blobs: BlobStore,
        now: Callable[[], datetime],
        json: ResourceText,
        zone: tzinfo = DEFAULT_ZONE,
        changed: Changed = untold,
        *,
        same_author: bool = True,
    ) -> None:
        self._blobs = blobs
        self.json = json
        self._zone = zone
        self._feeding = Feeding(blobs, now, json, zone, changed, same_author=same_author)

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
        revision: int = 0,
    ) -> PutResult:
        """Take one message's entries into a patient's record; see :meth:`put_all`."""
        one = Put(
            patient_id=patient_id,
            entries=entries,
            message_id=message_id,
            sequence=sequence,
            source=source,
            mapping=mapping,
            revision=revision,
        )
        return self.put_all(connection, [one])[0]

    def make_ready(self, put: Put) -> Put:
        """The same put, with all done that needs no transaction; see :meth:`Feeding.make_ready`."""
        return self._feeding.make_ready(put)

    def put_all(self, connection: Connection, puts: Sequence[Put]) -> list[PutResult]:
        """Take messages' entries into patients' records; see :meth:`Feeding.put_all`."""
        return self._feeding.put_all(connection, puts)

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
        """Give a patient's whole record to another; see :meth:`Feeding.merge`."""
        return self._feeding.merge(
            connection, survivor, subsumed, message_id=message_id, source=source, mapping=mapping
        )

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

    def versions_of(
        self, connection: Connection, type_name: str, patient_id: str, *, limit: int
    ) -> list[tuple[str, int]]:
        """The ids of the entries of one type in a patient's record, each with its current
        version, the last first: at most ``limit``. Reads no content."""
        member = record_member
        keys = select(member.c.entry_key).where(
            member.c.patient_id == self.survivor(connection, patient_id),
            member.c.type == type_name,
        )
        statement = (
            select(record_entry.c.reference, record_entry.c.version)
            .where(record_entry.c.type == type_name, record_entry.c.key.in_(keys))
            .order_by(record_entry.c.key.desc())
            .limit(limit)
        )
        rows = connection.execute(statement)
        return [(row.reference.partition("/")[2], row.version) for row in rows]

    def identified(
        self, connection: Connection, type_name: str, identifiers: Sequence[tuple[str, str]]
    ) -> list[Stored]:
        """The current entries of a type with one of these identifiers, as (system, value): at
        most 500, in no order. Without the count and the order of a search."""
        table = record_identifier
        keys = select(table.c.entry_key).where(
            tuple_(table.c.value, table.c.system).in_(
                [(cut(value, IDENTIFIER_MAX), cut(system, IDENTIFIER_MAX))
                 for system, value in identifiers]
            )
        )  # fmt: skip
        statement = selection().where(
            record_entry.c.key.in_(keys), record_entry.c.type == type_name
        )
        return stored(connection.execute(statement.limit(COUNT_MAX)).all(), self.json)

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

    def named(self, connection: Connection, digests: Sequence[str]) -> set[str]:
        """Which of some digests (SHA-256 in lower-case hex) are of documents of the record."""
        column = record_attachment.c.sha256
        return set(connection.execute(select(column).where(column.in_(digests))).scalars())

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

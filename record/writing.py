"""Messages' entries into the tables, many messages in one transaction, a handful of statements.

Rows are locked in one order everywhere (the patients, then the entries by reference), so
that two workers that meet at a shared organisation wait for one another and never block
each other for good. What was read and locked is judged in memory, message by message, and
written together at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from record.content import Prepared
from record.indexing import Indexed, index
from record.precedence import Standing, Verdict, judge
from record.rows import (
    Current,
    insert_entries,
    insert_new,
    insert_rows,
    locked_entries,
)
from record.tables import (
    record_attachment,
    record_entry,
    record_entry_version,
    record_identifier,
    record_member,
    record_replacement,
)

# Made once, so that they are compiled once.
_CHANGING_COLUMNS = (
    *("patient_id", "version", "versions", "base", "hash", "sequence", "provisional"),
    *("recorded_at", "date_low", "date_high", "tokens", "revision"),
)
_CHANGE = (
    update(record_entry)
    .where(record_entry.c.key == bindparam("k"))
    .values({name: bindparam(name) for name in _CHANGING_COLUMNS})
)
_CONFIRM_VERSION = (
    update(record_entry_version)
    .where(
        record_entry_version.c.entry_key == bindparam("k"),
        record_entry_version.c.version == bindparam("v"),
    )
    .values(sequence=bindparam("s"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a content comes from. ``patient_id`` is the record's owner now, ``given``
    the one that the message was identified with; ``at`` is in microseconds."""

    patient_id: str
    given: str
    message_id: int
    sequence: int
    source: str
    mapping: str
    at: int
    revision: int = 0


@dataclass(slots=True)
class Changes:
    """What one put did, as references."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)
    """Documents that a new content, or the one before it, replaces."""

    @property
    def touched(self) -> set[str]:
        """All of which something new is stored, or implied."""
        return {*self.created, *self.updated, *self.late, *self.replaced}


class Writing:
    """Puts in progress: :meth:`begin` with all that will come, :meth:`put` each, :meth:`flush`."""

    def __init__(self, connection: Connection, zone: tzinfo) -> None:
        self._connection = connection
        self._zone = zone
        self._entries: dict[str, Current] = {}
        # Entries that this transaction has made, until the put that makes them.
        self._fresh: dict[str, Indexed] = {}
        self._versions: list[list[Any]] = []
        self._changed: dict[int, Current] = {}
        self._confirmed: dict[tuple[int, int], int] = {}
        self._members: dict[tuple[str, str, int], None] = {}
        self._identifiers: dict[int, frozenset[tuple[str, str]]] = {}
        self._replacements: dict[int, frozenset[str]] = {}
        self._attachments: dict[tuple[str, int], list[Any]] = {}

    def begin(self, puts: Sequence[tuple[Origin, Mapping[str, Prepared]]]) -> None:
        """Lock the entries that are there, and make those that are not."""
        wanted = sorted({reference for _, prepared in puts for reference in prepared})
        self._entries = locked_entries(self._connection, wanted)
        missing = {name for name in wanted if name not in self._entries}
        if not missing:
            return
        rows: dict[str, list[Any]] = {}
        indexed: dict[str, Indexed] = {}
        for origin, prepared in puts:
            for reference in missing.intersection(prepared):
                if reference not in rows:
                    one = prepared[reference]
                    indexed[reference] = self._indexed(one)
                    rows[reference] = _first(one, indexed[reference], origin)
        made = insert_entries(self._connection, [rows[name] for name in sorted(rows)])
        for reference, key in made.items():
            self._entries[reference] = Current(key, *rows[reference])
            self._fresh[reference] = indexed[reference]
        lost = [reference for reference in rows if reference not in made]
        if lost:
            # Another worker put the same shared entry at the same moment, and first.
            self._entries.update(locked_entries(self._connection, lost))

    def put(self, origin: Origin, prepared: Mapping[str, Prepared]) -> Changes:
        """Judge every entry of one message. All that is known by then is in hand."""
        changes = Changes()
        for reference in sorted(prepared):
            one, current = prepared[reference], self._entries[reference]
            indexed = self._fresh.pop(reference, None)
            if indexed is not None:
                changes.created.append(reference)
                self._version(current, 1, one, origin)
                self._reindex(current, one, indexed, origin, changes)
            else:
                self._again(current, one, origin, changes)
        return changes

    # --- one entry -----------------------------------------------------------------

    def _again(self, current: Current, one: Prepared, origin: Origin, changes: Changes) -> None:
        """An entry that exists: a new version, a confirmation, or nothing."""
        verdict = judge(
            Standing(current.hash, current.sequence, current.provisional, current.revision),
            Standing(one.hash, origin.sequence, one.provisional, origin.revision),
            lambda sequence: self._known(current, one.hash, sequence),
        )
        if verdict is Verdict.REPLACE:
            self._replace(current, one, origin, changes)
            return
        if current.patient_id is None:
            self._members[(origin.patient_id, one.type, current.key)] = None
        if verdict is Verdict.KEEP:
            changes.late.append(one.reference)
            current.versions += 1
            self._version(current, current.versions, one, origin)
            self._changed[current.key] = current
            return
        changes.unchanged.append(one.reference)
        if verdict is Verdict.CONFIRM:
            # The same content, said by a later message: it holds from that message on.
            current.sequence, current.provisional = origin.sequence, one.provisional
            current.revision = origin.revision
            self._changed[current.key] = current
            self._confirmed[(current.key, current.base)] = origin.sequence

    def _replace(self, current: Current, one: Prepared, origin: Origin, changes: Changes) -> None:
        indexed = self._indexed(one)
        patient = origin.patient_id if indexed.personal else None
        changes.updated.append(one.reference)
        changes.replaced.update(self._replacements.pop(current.key, ()))
        changes.replaced.update(self._forget(current.key))
        if patient != current.patient_id and current.patient_id is not None:
            self.flush()
            self._move(current.key, origin.patient_id)
        current.versions += 1
        current.version = current.base = current.versions
        current.patient_id, current.hash = patient, one.hash
        current.sequence, current.provisional = origin.sequence, one.provisional
        current.revision = origin.revision
        current.recorded_at, current.tokens = origin.at, indexed.tokens
        current.date_low, current.date_high = indexed.low, indexed.high
        self._changed[current.key] = current
        self._version(current, current.versions, one, origin)
        self._reindex(current, one, indexed, origin, changes)

    def _indexed(self, one: Prepared) -> Indexed:
        return one.indexed or index(one.resource, one.text, self._zone)

    def _known(self, current: Current, digest: str, sequence: int | None) -> bool:
        """Whether a source's content with this hash is stored, of one sequence or of any."""
        if any(digest == said and sequence in (None, of) for said, of in current.said):
            return True
        table = record_entry_version
        statement = select(table.c.version).where(
            table.c.entry_key == current.key, table.c.hash == digest, table.c.derived.is_(False)
        )
        if sequence is not None:
            statement = statement.where(table.c.sequence == sequence)
        return self._connection.execute(statement.limit(1)).first() is not None

    def _version(self, current: Current, number: int, one: Prepared, origin: Origin) -> None:
        current.said.append((one.hash, origin.sequence))
        self._versions.append(version_row(current.key, number, one, origin, derived=False))

    def _reindex(
        self, current: Current, one: Prepared, indexed: Indexed, origin: Origin, changes: Changes
    ) -> None:
        """What the other tables say of an entry's new content."""
        key = current.key
        self._members[(origin.patient_id, one.type, key)] = None
        self._identifiers[key] = indexed.identifiers
        for note in indexed.attachments:
            row = [note.sha256, key, origin.patient_id, note.media_type, note.title, origin.at]
            self._attachments[(note.sha256, key)] = row
        replaces = indexed.replaces - {one.reference}
        if replaces:
            self._replacements[key] = replaces
            changes.replaced.update(replaces)

    # --- the statements ------------------------------------------------------------

    def flush(self) -> None:
        """Write what was decided."""
        connection = self._connection
        insert_rows(connection, record_entry_version, _drained(self._versions))
        changed = [current.changing() for current in self._changed.values()]
        self._changed.clear()
        if changed:
            connection.execute(_CHANGE, changed)
        confirmed = [{"k": k, "v": v, "s": s} for (k, v), s in self._confirmed.items()]
        self._confirmed.clear()
        if confirmed:
            connection.execute(_CONFIRM_VERSION, confirmed)
        members = [list(row) for row in self._members]
        self._members.clear()
        insert_new(connection, record_member, members)
        identifiers = [
            [value, system, key]
            for key, found in self._identifiers.items()
            for value, system in sorted(found)
        ]
        self._identifiers.clear()
        insert_new(connection, record_identifier, identifiers)
        insert_new(connection, record_attachment, list(self._attachments.values()))
        self._attachments.clear()
        replacements = [
            [reference, key]
            for key, found in self._replacements.items()
            for reference in sorted(found)
        ]
        self._replacements.clear()
        insert_new(connection, record_replacement, replacements)

    def _forget(self, key: int) -> list[str]:
        """Take out of the index what only the content before said; the documents that it
        replaced."""
        there = record_replacement.c.entry_key == key
        statement = select(record_replacement.c.replaced).where(there)
        found = list(self._connection.execute(statement).scalars())
        if found:
            self._connection.execute(delete(record_replacement).where(there))
        identified = record_identifier.c.entry_key == key
        self._connection.execute(delete(record_identifier).where(identified))
        return found

    def _move(self, key: int, patient_id: str) -> None:
        """An entry that was another patient's: a correction of whom it is about."""
        self._connection.execute(delete(record_member).where(record_member.c.entry_key == key))
        attached = update(record_attachment).where(record_attachment.c.entry_key == key)
        self._connection.execute(attached.values(patient_id=patient_id))


def _drained(rows: list[list[Any]]) -> list[list[Any]]:
    drained = rows.copy()
    rows.clear()
    return drained


def _first(one: Prepared, indexed: Indexed, origin: Origin) -> list[Any]:
    """The row, but for its key, of an entry that did not exist."""
    return [
        *(one.reference, one.type, origin.patient_id if indexed.personal else None),
        *(1, 1, 1, one.hash, origin.sequence, one.provisional),
        *(origin.at, indexed.low, indexed.high, indexed.tokens, origin.revision),
    ]


def version_row(
    key: int, number: int, one: Prepared, origin: Origin, *, derived: bool
) -> list[Any]:
    """The row of one version of an entry."""
    return [
        *(key, number, origin.sequence, origin.message_id, origin.given, origin.source),
        *(origin.mapping, one.hash, one.provisional, derived, origin.at, one.text),
    ]

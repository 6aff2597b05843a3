"""One message's entries into the tables, in one transaction, a handful of statements.

Rows are locked in one order everywhere (the patient, then the entries by reference), so
that two workers that meet at a shared organisation wait for one another and never block
each other for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from record.content import Prepared
from record.indexing import Indexed, index
from record.precedence import Standing, Verdict, judge
from record.rows import batches, insert_entries, insert_new, locked_entries
from record.tables import (
    record_attachment,
    record_entry,
    record_entry_version,
    record_identifier,
    record_member,
    record_replacement,
)

# Made once, so that they are compiled once.
_REPLACED_COLUMNS = (
    "patient_id version versions base hash sequence provisional recorded_at"
    " date_low date_high tokens"
)
_REPLACE = (
    update(record_entry)
    .where(record_entry.c.key == bindparam("k"))
    .values({name: bindparam(name) for name in _REPLACED_COLUMNS.split()})
)
_CONFIRM_ENTRY = (
    update(record_entry)
    .where(record_entry.c.key == bindparam("k"))
    .values(sequence=bindparam("s"), provisional=bindparam("p"))
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


@dataclass(slots=True)
class Changes:
    """What one put does, gathered so that it is written in a few statements."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    confirmed: list[dict[str, Any]] = field(default_factory=list)
    members: list[dict[str, Any]] = field(default_factory=list)
    identifiers: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    replacements: list[dict[str, Any]] = field(default_factory=list)
    reindexed: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    """Keys of entries that are now another patient's than before."""
    replaced: set[str] = field(default_factory=set)
    """Documents that a new content, or the one before it, replaces."""


class Writing:
    """One put in progress."""

    def __init__(self, connection: Connection, origin: Origin, zone: tzinfo) -> None:
        self._connection = connection
        self._origin = origin
        self._zone = zone
        self.changes = Changes()

    def write(self, prepared: Mapping[str, Prepared]) -> Changes:
        """Judge and store every entry; documents' replacements are settled after it."""
        standing = locked_entries(self._connection, prepared)
        missing = [one for name, one in sorted(prepared.items()) if name not in standing]
        indexed = {one.reference: index(one.resource, one.text, self._zone) for one in missing}
        keys = insert_entries(
            self._connection, [self._first(one, indexed[one.reference]) for one in missing]
        )
        for one in missing:
            if one.reference in keys:
                key = keys[one.reference]
                self.changes.created.append(one.reference)
                self._version(key, 1, one)
                self._reindex(key, one, indexed[one.reference])
        lost = [one.reference for one in missing if one.reference not in keys]
        if lost:
            # Another worker put the same shared entry at the same moment, and first.
            standing |= locked_entries(self._connection, lost)
        for reference, row in standing.items():
            self._again(row, prepared[reference])
        self._flush()
        return self.changes

    # --- one entry -----------------------------------------------------------------

    def _first(self, one: Prepared, indexed: Indexed) -> dict[str, Any]:
        """The row of an entry that did not exist."""
        return {
            "reference": one.reference,
            "type": one.type,
            "patient_id": self._origin.patient_id if indexed.personal else None,
            "version": 1,
            "versions": 1,
            "base": 1,
            "hash": one.hash,
            "sequence": self._origin.sequence,
            "provisional": one.provisional,
            "recorded_at": self._origin.at,
            "date_low": indexed.low,
            "date_high": indexed.high,
            "tokens": indexed.tokens,
        }

    def _again(self, row: Row[Any], one: Prepared) -> None:
        """An entry that exists: a new version, a confirmation, or nothing."""
        key, origin = row.key, self._origin
        verdict = judge(
            Standing(row.hash, row.sequence, row.provisional),
            Standing(one.hash, origin.sequence, one.provisional),
            lambda sequence: self._known(key, one.hash, sequence),
        )
        if verdict is Verdict.REPLACE:
            self._replace(row, one)
            return
        if row.patient_id is None:
            self._member(key, one.type)
        if verdict is Verdict.KEEP:
            self.changes.late.append(one.reference)
            self._version(key, row.versions + 1, one)
            statement = update(record_entry).where(record_entry.c.key == key)
            self._connection.execute(statement.values(versions=row.versions + 1))
            return
        self.changes.unchanged.append(one.reference)
        if verdict is Verdict.CONFIRM:
            confirmed = {"k": key, "v": row.base, "s": origin.sequence, "p": one.provisional}
            self.changes.confirmed.append(confirmed)

    def _replace(self, row: Row[Any], one: Prepared) -> None:
        number, indexed = row.versions + 1, index(one.resource, one.text, self._zone)
        patient = self._origin.patient_id if indexed.personal else None
        self.changes.updated.append(one.reference)
        self.changes.reindexed.append(row.key)
        if patient != row.patient_id and row.patient_id is not None:
            self.changes.moved.append(row.key)
        self._version(row.key, number, one)
        self._reindex(row.key, one, indexed)
        self.changes.entries.append(
            {
                "k": row.key,
                "patient_id": patient,
                "version": number,
                "versions": number,
                "base": number,
                "hash": one.hash,
                "sequence": self._origin.sequence,
                "provisional": one.provisional,
                "recorded_at": self._origin.at,
                "date_low": indexed.low,
                "date_high": indexed.high,
                "tokens": indexed.tokens,
            }
        )

    def _known(self, key: int, digest: str, sequence: int | None) -> bool:
        """Whether a source's content with this hash is stored, of one sequence or of any."""
        table = record_entry_version
        statement = select(table.c.version).where(
            table.c.entry_key == key, table.c.hash == digest, table.c.derived.is_(False)
        )
        if sequence is not None:
            statement = statement.where(table.c.sequence == sequence)
        return self._connection.execute(statement.limit(1)).first() is not None

    def _version(self, key: int, number: int, one: Prepared) -> None:
        self.changes.versions.append(version_row(key, number, one, self._origin, derived=False))

    def _member(self, key: int, type_name: str) -> None:
        self.changes.members.append(
            {"patient_id": self._origin.patient_id, "type": type_name, "entry_key": key}
        )

    def _reindex(self, key: int, one: Prepared, indexed: Indexed) -> None:
        """What the other tables say of an entry's new content."""
        changes = self.changes
        self._member(key, one.type)
        changes.identifiers.extend(
            {"value": value, "system": system, "entry_key": key}
            for value, system in sorted(indexed.identifiers)
        )
        changes.attachments.extend(
            {
                "sha256": note.sha256,
                "entry_key": key,
                "patient_id": self._origin.patient_id,
                "media_type": note.media_type,
                "title": note.title,
                "recorded_at": self._origin.at,
            }
            for note in {note.sha256: note for note in indexed.attachments}.values()
        )
        changes.replacements.extend(
            {"replaced": reference, "entry_key": key}
            for reference in sorted(indexed.replaces)
            if reference != one.reference
        )

    # --- the statements ------------------------------------------------------------

    def _flush(self) -> None:
        changes, connection = self.changes, self._connection
        self._forget(changes.reindexed)
        self._move(changes.moved)
        if changes.versions:
            connection.execute(record_entry_version.insert(), changes.versions)
        if changes.entries:
            connection.execute(_REPLACE, changes.entries)
        if changes.confirmed:
            self._confirm(changes.confirmed)
        insert_new(connection, record_member, changes.members)
        insert_new(connection, record_identifier, changes.identifiers)
        insert_new(connection, record_attachment, changes.attachments)
        insert_new(connection, record_replacement, changes.replacements)
        changes.replaced.update(row["replaced"] for row in changes.replacements)

    def _confirm(self, rows: list[dict[str, Any]]) -> None:
        """The same content, said by a later message: it holds from that message on."""
        self._connection.execute(
            _CONFIRM_ENTRY, [{"k": row["k"], "s": row["s"], "p": row["p"]} for row in rows]
        )
        self._connection.execute(
            _CONFIRM_VERSION, [{"k": row["k"], "v": row["v"], "s": row["s"]} for row in rows]
        )

    def _forget(self, keys: Iterable[int]) -> None:
        """Take out of the index what only the content before said."""
        for batch in batches(keys, 500):
            there = record_replacement.c.entry_key.in_(batch)
            found = self._connection.execute(select(record_replacement.c.replaced).where(there))
            self.changes.replaced.update(found.scalars())
            for table in (record_replacement, record_identifier):
                self._connection.execute(delete(table).where(table.c.entry_key.in_(batch)))

    def _move(self, keys: Iterable[int]) -> None:
        """Entries that were another patient's: a correction of whom they are about."""
        for batch in batches(keys, 500):
            members = delete(record_member).where(record_member.c.entry_key.in_(batch))
            self._connection.execute(members)
            attached = update(record_attachment).where(record_attachment.c.entry_key.in_(batch))
            self._connection.execute(attached.values(patient_id=self._origin.patient_id))


def version_row(
    key: int, number: int, one: Prepared, origin: Origin, *, derived: bool
) -> dict[str, Any]:
    """The row of one version of an entry."""
    return {
        "entry_key": key,
        "version": number,
        "sequence": origin.sequence,
        "message_id": origin.message_id,
        "patient_id": origin.given,
        "source": origin.source,
        "mapping": origin.mapping,
        "hash": one.hash,
        "provisional": one.provisional,
        "derived": derived,
        "recorded_at": origin.at,
        "resource": one.text,
    }

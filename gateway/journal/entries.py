"""What a mapping made of a message, kept until every destination has it and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from sqlalchemy import Connection, insert, select, update

from gateway.bulk import Update, insert_rows, json_text
from gateway.journal import tables
from gateway.journal.blobs import Blobs
from gateway.journal.fitting import fit
from gateway.journal.tables import KEY_MAX, TEXT_MAX
from gateway.journal.values import Normalised, StoredAttachment
from gateway.model import Entry, Flag, Mapped
from gateway.serialise import dumps, loads

ENTRIES_BYTES_MAX = 64 * 1024 * 1024
FLAGS_MAX = 200
EDITED = "entries_edited"
"""The attribute of a message whose entries a person corrected: they are not mapped again."""

_message = tables.message
_normalised = tables.normalised
_COLUMNS = tuple(_normalised.c.keys())
_IN_PLACE = "(message_id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _COLUMNS if name != "message_id"
)
_MAPPED = Update(_message, "id", ("mapping", "mapping_version", "mapping_digest", "flags"))


def store_normalised(connection: Connection, blobs: Blobs, message_id: int, mapped: Mapped) -> None:
    """Keep the entries of one message. See :func:`store_all`."""
    store_all(connection, blobs, [(message_id, mapped, entries_bytes(mapped.entries))])


def store_all(
    connection: Connection, blobs: Blobs, results: Sequence[tuple[int, Mapped, bytes]]
) -> None:
    """Keep the entries of messages, in place of what an earlier mapping made of them.

    The bytes are what is kept as their entries, in the form of :func:`entries_bytes`.
    Attachments go to the blobs; a caller who has put them there before the
    transaction spares it the time. Embedded documents and the trace are not kept:
    they can be made again from the bytes and the mapping. Raises ValueError for
    more than 64 MiB of entries, JournalUnavailable when the blobs cannot be written.
    """
    if not results:
        return
    # A message that stands there twice has the last result; one INSERT takes it once.
    last = {message_id: (mapped, entries) for message_id, mapped, entries in results}
    insert_rows(
        connection,
        _normalised,
        [_row(blobs, message_id, *kept) for message_id, kept in last.items()],
        conflict=_IN_PLACE,
    )
    _MAPPED.rows(
        connection,
        [
            (
                message_id,
                mapped.mapping,
                mapped.version,
                mapped.digest,
                json_text(_flags(mapped.flags)),
            )
            for message_id, (mapped, _) in last.items()
        ],
    )


def store_edited(
    connection: Connection, parent_id: int, child_id: int, edited: Sequence[Entry]
) -> None:
    """Keep entries that a person corrected as those of a child, with what else its parent's
    reading has: the mapping's name, the attachments, the flags. Raises LookupError when the
    parent's are not kept, ValueError for more than 64 MiB."""
    kept = connection.execute(
        select(_normalised).where(_normalised.c.message_id == parent_id)
    ).one_or_none()
    read = connection.execute(
        select(
            _message.c.mapping, _message.c.mapping_version, _message.c.mapping_digest,
            _message.c.flags,
        ).where(_message.c.id == parent_id)
    ).one_or_none()  # fmt: skip
    if kept is None or read is None:
        raise LookupError("the entries of this message are not kept any more")
    found = entries_bytes(edited)
    if len(found) > ENTRIES_BYTES_MAX:
        raise ValueError(f"entries of more than {ENTRIES_BYTES_MAX} bytes")
    connection.execute(
        insert(_normalised),
        {**kept._mapping, "message_id": child_id, "entries": found, "entries_size": len(found)},
    )
    connection.execute(update(_message).where(_message.c.id == child_id).values(**read._mapping))


def _row(blobs: Blobs, message_id: int, mapped: Mapped, entries: bytes) -> tuple[Any, ...]:
    if len(entries) > ENTRIES_BYTES_MAX:
        raise ValueError(f"entries of more than {ENTRIES_BYTES_MAX} bytes")
    attachments = []
    for attachment in mapped.attachments:
        if blobs.put(attachment.data) != attachment.sha256:
            raise ValueError("an attachment does not have the digest that names it")
        attachments.append(
            {
                "sha256": attachment.sha256,
                "media_type": attachment.media_type,
                "size": len(attachment.data),
            }
        )
    # In the order of the table's columns.
    return (
        message_id,
        entries,
        len(entries),
        json_text(attachments),
        mapped.mapping,
        mapped.version,
        mapped.digest,
    )


def _flags(flags: Sequence[Flag]) -> list[dict[str, str]]:
    kept = [
        {
            "code": flag.code,
            "detail": fit(flag.detail, TEXT_MAX),
            "target": fit(flag.target, KEY_MAX),
            "rule": fit(flag.rule, KEY_MAX),
            "source": fit(flag.source, KEY_MAX),
        }
        for flag in flags[:FLAGS_MAX]
    ]
    if len(flags) > FLAGS_MAX:
        kept.append({"code": "more-flags", "detail": f"{len(flags) - FLAGS_MAX} more"})
    return kept


def entries_bytes(entries: Sequence[Entry]) -> bytes:
    """Entries as they are kept. Raises TypeError for a resource that JSON cannot hold."""
    return dumps(
        [{"resource": entry.resource, "create_only": entry.create_only} for entry in entries]
    )


class StoredEntries(Sequence[Entry]):
    """Entries as they are kept, read when somebody looks at them: what claims them does it in a
    transaction for which others wait. Not for two threads at once."""

    __slots__ = ("_read", "_stored")

    def __init__(self, stored: bytes) -> None:
        self._stored = stored
        self._read: tuple[Entry, ...] | None = None

    @property
    def read(self) -> tuple[Entry, ...]:
        """The entries."""
        if self._read is None:
            self._read = entries_of(self._stored)
        return self._read

    def __len__(self) -> int:
        return len(self.read)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.read)

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Entry]: ...

    def __getitem__(self, place: int | slice) -> Entry | Sequence[Entry]:
        return self.read[place]


def entries_of(stored: bytes) -> tuple[Entry, ...]:
    """Entries of what :func:`entries_bytes` gave."""
    return tuple(
        Entry(resource=item["resource"], create_only=item["create_only"]) for item in loads(stored)
    )


def normalised(connection: Connection, message_id: int) -> Normalised | None:
    """What was kept for a message, or None."""
    row = connection.execute(
        select(_normalised).where(_normalised.c.message_id == message_id)
    ).one_or_none()
    if row is None:
        return None
    return Normalised(
        message_id=message_id,
        entries=entries_of(row.entries),
        attachments=tuple(StoredAttachment(**attachment) for attachment in row.attachments),
        mapping=row.mapping,
        version=row.version,
        digest=row.digest,
    )

"""What a mapping made of a message, kept until every destination has it and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from gateway.journal import tables
from gateway.journal.blobs import Blobs
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.tables import KEY_MAX, TEXT_MAX
from gateway.journal.values import Normalised, StoredAttachment
from gateway.model import Entry, Flag, Mapped
from gateway.serialise import dumps, loads

ENTRIES_BYTES_MAX = 64 * 1024 * 1024
FLAGS_MAX = 200

_message = tables.message
_normalised = tables.normalised
_MAPPED = (
    update(_message)
    .where(_message.c.id == bindparam("mapped_message"))
    .values(
        mapping=bindparam("by"),
        mapping_version=bindparam("by_version"),
        mapping_digest=bindparam("by_digest"),
        flags=bindparam("with_flags"),
    )
)


def store_normalised(connection: Connection, blobs: Blobs, message_id: int, mapped: Mapped) -> None:
    """Keep the entries of one message. See :func:`store_all`."""
    store_all(connection, blobs, [(message_id, mapped)])


def kept_entries(entries: Sequence[Entry]) -> bytes:
    """Entries as the journal keeps them. Raises TypeError for a resource that JSON cannot hold."""
    return dumps(
        [{"resource": entry.resource, "create_only": entry.create_only} for entry in entries]
    )


def store_all(
    connection: Connection,
    blobs: Blobs,
    results: Sequence[tuple[int, Mapped]],
    *,
    kept: Mapping[int, bytes] = MappingProxyType({}),
) -> None:
    """Keep the entries of messages, in place of what an earlier mapping made of them.

    ``kept`` has the :func:`kept_entries` of those messages for which they were made before.

    Attachments go to the blobs; a caller who has put them there before the
    transaction spares it the time. Embedded documents and the trace are not kept:
    they can be made again from the bytes and the mapping. Raises ValueError for
    more than 64 MiB of entries, TypeError for a resource that JSON cannot hold,
    JournalUnavailable when the blobs cannot be written.
    """
    if not results:
        return
    rows = [_row(blobs, message_id, mapped, kept.get(message_id)) for message_id, mapped in results]
    statement = upsert(connection, _normalised)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_normalised.c.message_id],
            set_={
                column.name: statement.excluded[column.name]
                for column in _normalised.c
                if not column.primary_key
            },
        ),
        rows,
    )
    connection.execute(
        _MAPPED,
        [
            {
                "mapped_message": message_id,
                "by": mapped.mapping,
                "by_version": mapped.version,
                "by_digest": mapped.digest,
                "with_flags": _flags(mapped.flags),
            }
            for message_id, mapped in results
        ],
    )


def _row(blobs: Blobs, message_id: int, mapped: Mapped, kept: bytes | None) -> dict[str, Any]:
    entries = kept_entries(mapped.entries) if kept is None else kept
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
    return {
        "message_id": message_id,
        "entries": entries,
        "entries_size": len(entries),
        "attachments": attachments,
        "mapping": mapped.mapping,
        "version": mapped.version,
        "digest": mapped.digest,
    }


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


def entries_of(stored: bytes) -> tuple[Entry, ...]:
    """Entries as they were given to :func:`store_all`."""
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

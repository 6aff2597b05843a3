"""A repaired copy of a message takes its place; the original stays as it was."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from gateway.journal import imaging_tables, lanes, states, tables
from gateway.journal.arrival import ORDERS, dedupe_key
from gateway.journal.blobs import Blobs
from gateway.journal.moves import move, note
from gateway.journal.rows import (
    CONTENT_COLUMNS,
    MESSAGE_COLUMNS,
    AnyRow,
    cause_columns,
    message_of,
)
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX
from gateway.journal.times import moment
from gateway.journal.values import Message
from gateway.model import Format, Payload, Stage

REPAIR_BYTES_MAX = 64 * 1024 * 1024

_message = tables.message
_content = tables.content


def append_child(
    connection: Connection,
    blobs: Blobs,
    parent_id: int,
    payload: Payload,
    *,
    actor: str,
    reason: str,
    at: datetime | None = None,
) -> Message:
    """Insert a repaired copy as RECEIVED, with its parent's sequence and lane.

    The parent becomes REPLACED; instances of a study that went on under the parent
    go on under the child. ``actor`` and ``reason`` are kept in the events. Bytes
    from a file are copied, not moved. Raises LookupError, IllegalTransition when the
    parent's state allows no repair, ValueError for more than 64 MiB,
    JournalUnavailable when the blobs cannot be written.
    """
    if payload.size > REPAIR_BYTES_MAX:
        raise ValueError(f"a repaired message of more than {REPAIR_BYTES_MAX} bytes")
    now = moment(connection, at)
    parent = connection.execute(
        select(_message).where(_message.c.id == parent_id).with_for_update()
    ).one_or_none()
    if parent is None:
        raise LookupError("no such message in the journal")
    states.check(MessageState(parent.state), MessageState.REPLACED)
    child_id = _insert(connection, blobs, parent, payload, now)
    connection.execute(
        update(_message).where(_message.c.carrier_id == parent_id).values(carrier_id=child_id)
    )
    by = {"actor": actor, "reason": reason}
    move(
        connection,
        parent_id,
        MessageState.REPLACED,
        event="replaced",
        stage=Stage.INTAKE,
        detail={"child": child_id, **by},
        at=now,
    )
    note(
        connection,
        child_id,
        event="repaired",
        stage=Stage.INTAKE,
        detail={"parent": parent_id, **by},
        at=now,
    )
    lanes.ring(connection, parent.lane, now)
    inserted = connection.execute(
        select(*MESSAGE_COLUMNS, *CONTENT_COLUMNS)
        .join(_content, _content.c.message_id == _message.c.id)
        .where(_message.c.id == child_id)
    ).one()
    return message_of(inserted, with_content=True)


def _insert(
    connection: Connection, blobs: Blobs, parent: AnyRow, payload: Payload, now: datetime
) -> int:
    """The child's row and bytes; everything that is not the repair's is the parent's."""
    key = dedupe_key(f"repaired {parent.id}", parent.control_id, payload.sha256)
    row = {
        **parent._mapping,
        "parent_id": parent.id,
        "dedupe_key": key,
        "state": MessageState.RECEIVED.value,
        **cause_columns(None),
        "sha256": payload.sha256,
        "size": payload.size,
        "received_at": now,
        "changed_at": now,
        "arrivals": 1,
        "starts": 0,
        "mapping": "",
        "mapping_version": "",
        "mapping_digest": "",
        "flags": [],
    }
    del row["id"]
    child_id = connection.execute(insert(_message).returning(_message.c.id), row).scalar_one()
    body = payload.read()
    if payload.size > INLINE_BYTES_MAX:
        blobs.put(body)
    connection.execute(
        insert(_content),
        {
            "message_id": child_id,
            "body": body if payload.size <= INLINE_BYTES_MAX else None,
            "answer": b"",
        },
    )
    if parent.format == Format.DICOM.value and parent.group_key:
        connection.execute(insert(imaging_tables.unindexed), {"message_id": child_id})
    if parent.kind in ORDERS:
        connection.execute(insert(imaging_tables.unscheduled), {"message_id": child_id})
    return int(child_id)

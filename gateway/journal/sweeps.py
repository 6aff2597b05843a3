"""How far the messages that no mapping took have been looked at with the mappings in force."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.journal import mapping_tables, tables
from gateway.journal.dialects import upsert
from gateway.journal.rows import MESSAGE_COLUMNS, message_of
from gateway.journal.states import MessageState
from gateway.journal.values import Message

_sweep = mapping_tables.unmapped_sweep
_message = tables.message
_ONE = 1


def position(connection: Connection, loaded: str) -> int | None:
    """The id up to which all were looked at with what is ``loaded``; None: all of them were."""
    row = connection.execute(select(_sweep).where(_sweep.c.id == _ONE)).one_or_none()
    if row is None or row.loaded != loaded:
        return 0
    return None if row.done else int(row.position)


def note(connection: Connection, loaded: str, reached: int, *, done: bool) -> None:
    """Keep how far it is."""
    values = {"id": _ONE, "loaded": loaded, "position": reached, "done": int(done)}
    statement = upsert(connection, _sweep)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_sweep.c.id],
            set_={name: statement.excluded[name] for name in ("loaded", "position", "done")},
        ),
        values,
    )


def unmapped_after(connection: Connection, after: int, limit: int) -> list[Message]:
    """The next UNMAPPED messages by id, without their bytes."""
    rows = connection.execute(
        select(*MESSAGE_COLUMNS)
        .where(_message.c.state == MessageState.UNMAPPED.value, _message.c.id > after)
        .order_by(_message.c.id)
        .limit(limit)
    )
    return [message_of(row) for row in rows]

"""Messages: look, claim, and change state by the table of transitions.

Functions that change something are called inside ``Journal.write()``, the others
inside either kind of transaction. ``at`` is the present instant by the journal's
clock unless it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from gateway.bulk import Statement
from gateway.journal import lanes, purges, tables
from gateway.journal.children import append_child
from gateway.journal.entries import normalised, store_all, store_normalised
from gateway.journal.holding import hold, release, waiting_for
from gateway.journal.journal import Journal
from gateway.journal.ledger import counts, ledger
from gateway.journal.listing import page
from gateway.journal.moves import move, move_all, note
from gateway.journal.retention import RESOLVED, Part
from gateway.journal.rows import (
    CONTENT_COLUMNS,
    MESSAGE_COLUMNS,
    MESSAGE_VALUES,
    message_of,
    message_of_values,
)
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX
from gateway.journal.values import (
    Event,
    LedgerLine,
    Message,
    MessageFilter,
    Move,
    Normalised,
    StoredAttachment,
)
from gateway.model import Payload, Stage

__all__ = [
    "Event",
    "LedgerLine",
    "Message",
    "MessageFilter",
    "Move",
    "Normalised",
    "StoredAttachment",
    "append_child",
    "begin",
    "claim",
    "counts",
    "events",
    "get",
    "give_back",
    "hold",
    "ledger",
    "move",
    "move_all",
    "normalised",
    "note",
    "overtaken",
    "page",
    "payload",
    "purged",
    "release",
    "store_all",
    "store_normalised",
    "suspect",
    "waiting_for",
]

SUSPECT_STARTS = 2
"""A message whose work was begun this often without an end is claimed alone, so that the
process that it may break takes no other message with it."""

_message = tables.message
_content = tables.content
_whole = (
    select(*MESSAGE_COLUMNS, *CONTENT_COLUMNS)
    .outerjoin(_content, _content.c.message_id == _message.c.id)
    .where(_message.c.id == bindparam("message_id"))
)
_NEXT = Statement(
    f"SELECT {MESSAGE_VALUES} FROM message AS m"  # noqa: S608 - our own names
    # One whose bytes a damaged journal has lost is claimed as well: it is found unreadable.
    " LEFT JOIN content AS c ON c.message_id = m.id"
    " WHERE m.lane = :lane AND m.state = 'received' ORDER BY m.sequence, m.id LIMIT :limit"
)
_UP_TO = Statement(
    "SELECT m.id FROM message AS m WHERE m.lane = :lane AND m.state = 'received'"
    " AND (m.sequence, m.id) <= (:sequence, :id) LIMIT :more"
)
"""The received messages of a lane up to a place in it."""
_BEGUN = Statement("UPDATE message SET starts = starts + 1 WHERE id = ANY(:ids bigint)")
_GIVEN_BACK = Statement(
    "UPDATE message SET starts = starts - 1 WHERE id = ANY(:ids bigint) AND starts > 0"
)


def overtaken(connection: Connection, lane: str, work: Sequence[Message]) -> bool:
    """Whether a message that came earlier has become due since these were claimed, in order.

    Another lane's message may have brought the identity for which it waited;
    a correction that is in hand must then not go in before what it corrects.
    """
    if not work:
        return False
    end = work[-1]
    # The claimed ones are RECEIVED still, so there are exactly as many when none came.
    waiting = _UP_TO.rows(
        connection, lane=lane, sequence=end.sequence, id=end.id, more=len(work) + 1
    )
    return len(waiting) > len(work)


def get(connection: Connection, message_id: int) -> Message | None:
    """One message with its answer and, up to INLINE_BYTES_MAX, its bytes; without either when
    they were purged."""
    row = connection.execute(_whole, {"message_id": message_id}).one_or_none()
    return message_of(row, with_content=True) if row is not None else None


def payload(journal: Journal, message: Message) -> Payload:
    """The exact bytes of a message. Raises KeyError when they are not there (any more)."""
    if message.body is not None:
        return Payload(message.sha256, message.size, data=message.body)
    if message.size > INLINE_BYTES_MAX:
        return journal.blobs.payload(message.sha256)
    with journal.read() as connection:
        body = connection.execute(
            select(_content.c.body).where(_content.c.message_id == message.id)
        ).scalar_one_or_none()
    if body is None:
        raise KeyError(message.id)
    return Payload(message.sha256, message.size, data=bytes(body))


def purged(connection: Connection, message: Message) -> bool:
    """Whether the bytes of a message are not there because a purge took them."""
    kept = select(_content.c.message_id).where(_content.c.message_id == message.id)
    return (
        message.state in (*RESOLVED, MessageState.GATHERED)
        and connection.execute(kept).first() is None
        and message.id <= purges.marked(connection, Part.CONTENT)
    )


def claim(connection: Connection, lane: str, token: int, limit: int) -> list[Message]:
    """The next RECEIVED messages of a lane, in (sequence, id) order, with bytes and answer.

    Their ``starts`` has grown by one; commit that before the work begins, so that
    a message that breaks the process is known by it. A message with two or more
    unfinished starts comes alone, and is not counted yet: :func:`begin` does, when its work
    begins, so that a worker that dies before accuses it of nothing. What is given says the
    number with that one. Raises LeaseLost.
    """
    lanes.fence(connection, lane, token)
    taken: list[Message] = []
    for row in _NEXT.rows(connection, lane=lane, limit=limit):
        message = message_of_values(row, begun=1)
        if suspect(message):
            if not taken:
                return [message]
            break
        taken.append(message)
    if taken:
        _BEGUN.rows(connection, ids=[message.id for message in taken])
    return taken


def suspect(message: Message) -> bool:
    """Whether a claimed message was begun so often without an end that it goes alone."""
    return message.starts > SUSPECT_STARTS


def begin(connection: Connection, lane: str, token: int, message_id: int) -> None:
    """Count that the work on a suspect begins; commit that before. Raises LeaseLost."""
    lanes.fence(connection, lane, token)
    _BEGUN.rows(connection, ids=[message_id])


def give_back(connection: Connection, message_ids: Sequence[int]) -> None:
    """Undo the counting of claims whose work was not done for a reason that is not theirs:
    the worker was asked to stop, the database went away."""
    if message_ids:
        _GIVEN_BACK.rows(connection, ids=list(message_ids))


def events(connection: Connection, message_id: int, *, limit: int = 1000) -> list[Event]:
    """The life of a message, from its beginning; at most ``limit`` events."""
    event = tables.event
    found = connection.execute(
        select(event).where(event.c.message_id == message_id).order_by(event.c.id).limit(limit)
    )
    return [
        Event(
            id=row.id,
            message_id=row.message_id,
            at=row.at,
            stage=Stage(row.stage),
            what=row.what,
            detail=row.detail,
        )
        for row in found
    ]

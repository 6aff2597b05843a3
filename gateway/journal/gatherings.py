"""Studies whose instances arrive one by one, and are normalised when they have been quiet.

A continued HL7 v2 message gathers its fragments in the same way; its last fragment
makes it due at once.

A study is open from an instance's arrival until its round is closed. The newest
instance then carries the study through the lane as one message; the others wait
for nothing more, and name it. A late instance opens a new round.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, or_, select, text, update

from gateway.bulk import Statement
from gateway.journal import studies, tables
from gateway.journal.moves import move, move_all
from gateway.journal.rows import MESSAGE_COLUMNS, AnyRow, message_of
from gateway.journal.states import MessageState
from gateway.journal.values import Gathering, Message, Move
from gateway.model import Format, Stage

__all__ = [
    "Gathering",
    "belonging",
    "close",
    "due",
    "encoding",
    "get",
    "members",
    "study",
    "waiting",
]

MEMBERS_MAX = 20_000

_message = tables.message
_gathering = tables.gathering
_GROUPED = text("message.group_key <> ''")
_ANY_DUE = Statement("SELECT 1 FROM gathering WHERE lane = :lane AND due_at <= :now LIMIT 1")
_GONE = [s.value for s in (MessageState.REFUSED, MessageState.DISCARDED, MessageState.REPLACED)]


def get(connection: Connection, source: str, group_key: str) -> Gathering | None:
    """One study's gathering, open or not."""
    row = connection.execute(
        select(_gathering).where(_gathering.c.source == source, _gathering.c.group_key == group_key)
    ).one_or_none()
    return _gathering_of(row) if row is not None else None


def due(connection: Connection, lane: str, now: datetime, limit: int = 100) -> list[Gathering]:
    """The lane's studies that have been quiet, the longest quiet first."""
    # Every turn in every lane comes by here, and most lanes never gather.
    if not _ANY_DUE.rows(connection, lane=lane, now=now):
        return []
    found = connection.execute(
        select(_gathering)
        .where(_gathering.c.lane == lane, _gathering.c.due_at <= now)
        .order_by(_gathering.c.due_at)
        .limit(limit)
    )
    return [_gathering_of(row) for row in found]


def members(
    connection: Connection, source: str, group_key: str, *, limit: int = MEMBERS_MAX
) -> list[Message]:
    """All instances of a study, of every round, in order of arrival, without their bytes.

    Refused, discarded and replaced ones are left out. Raises OverflowError when
    there are more than ``limit``: part of a study must not pass for the whole.
    """
    found = connection.execute(
        select(*MESSAGE_COLUMNS)
        .where(
            _message.c.group_key == group_key,
            _message.c.source == source,
            _GROUPED,
            _message.c.state.not_in(_GONE),
        )
        .order_by(_message.c.sequence, _message.c.id)
        .limit(limit + 1)
    ).all()
    return _limited(found, limit)


def belonging(
    connection: Connection, message: Message, *, limit: int = MEMBERS_MAX
) -> list[Message]:
    """All that is read together with a message that gathered: see :func:`members`, and
    :func:`study` for one of DICOM."""
    read = study if message.format is Format.DICOM else members
    return read(connection, message.source, message.group_key, limit=limit)


def study(
    connection: Connection, source: str, group_key: str, *, limit: int = MEMBERS_MAX
) -> list[Message]:
    """As :func:`members`, with what other sources brought of the study, in whatever state.

    It is one study in the record, whichever way its instances come. Of all rounds the content
    of the one with the latest message stands, so each must have all that came before it. Of an
    instance that several sources sent, what ``source`` sent counts.
    """
    twin = _message.alias("twin")
    own = (
        select(twin.c.id)
        .where(
            twin.c.source == source,
            twin.c.control_id == _message.c.control_id,
            twin.c.group_key == group_key,
            twin.c.state.not_in(_GONE),
        )
        .exists()
    )
    found = connection.execute(
        select(*MESSAGE_COLUMNS)
        .where(
            _message.c.group_key == group_key,
            _message.c.format == Format.DICOM.value,
            _GROUPED,
            _message.c.state.not_in(_GONE),
            or_(_message.c.source == source, ~own),
        )
        .order_by(_message.c.sequence, _message.c.id)
        .limit(limit + 1)
    ).all()
    return _limited(found, limit)


def _limited(found: Sequence[AnyRow], limit: int) -> list[Message]:
    if len(found) > limit:
        raise OverflowError(f"a study of more than {limit} instances")
    return [message_of(row) for row in found]


def encoding(gathered: Sequence[Message]) -> str:
    """The character set of all: the first one recorded that is more than ASCII."""
    names = [message.encoding for message in gathered]
    return next((name for name in names if name not in ("", "ASCII")), names[-1] if names else "")


def waiting(connection: Connection, source: str, limit: int = MEMBERS_MAX) -> list[Message]:
    """All that gather at a source now, in order of arrival, without their bytes."""
    found = connection.execute(
        select(*MESSAGE_COLUMNS)
        .join(
            _gathering,
            and_(
                _gathering.c.source == _message.c.source,
                _gathering.c.group_key == _message.c.group_key,
            ),
        )
        .where(
            _gathering.c.source == source,
            _gathering.c.due_at.is_not(None),
            _GROUPED,
            _message.c.state == MessageState.GATHERING.value,
        )
        .order_by(_message.c.sequence, _message.c.id)
        .limit(limit)
    )
    return [message_of(row) for row in found]


def close(connection: Connection, source: str, group_key: str, now: datetime) -> int | None:
    """End the round of a study that is due: the carrier's id.

    The newest instance that gathers becomes RECEIVED and rings its lane, the others
    become GATHERED and name it. None when the study is not due (an instance came
    meanwhile and put it off, or evidence says that instances are missing) or nothing gathers.
    """
    row = connection.execute(
        select(_gathering)
        .where(_gathering.c.source == source, _gathering.c.group_key == group_key)
        .with_for_update()
    ).one_or_none()
    if row is None or row.due_at is None or row.due_at > now:
        return None
    if (until := studies.awaited_until(connection, source, group_key, now)) is not None:
        # Something says that there is more to come; without it the study goes on as it is then.
        connection.execute(
            update(_gathering)
            .where(_gathering.c.source == source, _gathering.c.group_key == group_key)
            .values(due_at=until)
        )
        return None
    # A new statement, which sees the instances whose commit the lock waited for.
    ids = list(
        connection.execute(
            select(_message.c.id)
            .where(
                _message.c.group_key == group_key,
                _message.c.source == source,
                _GROUPED,
                _message.c.state == MessageState.GATHERING.value,
            )
            .order_by(_message.c.id)
        ).scalars()
    )
    connection.execute(
        update(_gathering)
        .where(_gathering.c.source == source, _gathering.c.group_key == group_key)
        .values(due_at=None, round=_gathering.c.round + 1)
    )
    if not ids:
        return None
    carrier = ids.pop()
    for start in range(0, len(ids), 1000):
        _gather(connection, ids[start : start + 1000], carrier, now)
    move(
        connection,
        carrier,
        MessageState.RECEIVED,
        event="study-quiet",
        stage=Stage.NORMALISE,
        detail={"instances": len(ids) + 1, "round": row.round + 1},
        at=now,
    )
    return int(carrier)


def _gather(connection: Connection, ids: list[int], carrier: int, now: datetime) -> None:
    moves = [
        Move(
            message_id=message_id,
            to=MessageState.GATHERED,
            event="gathered",
            stage=Stage.NORMALISE,
            detail={"carrier": carrier},
        )
        for message_id in ids
    ]
    move_all(connection, moves, at=now)
    connection.execute(update(_message).where(_message.c.id.in_(ids)).values(carrier_id=carrier))


def _gathering_of(row: AnyRow) -> Gathering:
    return Gathering(
        source=row.source,
        group_key=row.group_key,
        lane=row.lane,
        due_at=row.due_at,
        first_at=row.first_at,
        last_at=row.last_at,
        instances=row.instances,
        round=row.round,
    )

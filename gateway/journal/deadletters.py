"""The rows of what could not go. What to do with them is the dead-letter room's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, insert, select, update

from gateway.journal import tables
from gateway.journal.fitting import fit
from gateway.journal.moves import move, note
from gateway.journal.rows import cause_columns, dead_letter_of
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import TEXT_MAX
from gateway.journal.times import moment
from gateway.journal.values import DeadLetter, DeadLetterFilter, DeadLetterGroup, Resolution
from gateway.model import Cause, Stage

__all__ = [
    "DeadLetter",
    "DeadLetterFilter",
    "DeadLetterGroup",
    "Resolution",
    "bury",
    "count",
    "fingerprint",
    "get",
    "groups",
    "page",
    "resolve",
]

PAGE_MAX = 500
_REPETITION = re.compile(r"[(\[]\d+[)\]]", re.ASCII)

_letter = tables.dead_letter
_message = tables.message
_delivery = tables.delivery


def fingerprint(stage: Stage, cause: Cause, source: str) -> str:
    """16 hex digits that are the same for the same trouble of the same source.

    Repetitions in the location (``OBX(3)``, ``entry[2]``) do not count.
    """
    text = "|".join((stage.value, cause.code.value, _place(cause.location), source))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _place(location: str) -> str:
    return _REPETITION.sub("", location)


def bury(
    connection: Connection,
    message_id: int,
    stage: Stage,
    cause: Cause,
    *,
    delivery_id: int | None = None,
    attempts: int = 0,
    at: datetime | None = None,
) -> int:
    """Write a dead letter; its id. The message becomes DEAD, the delivery too if it is PENDING.

    When the same message (and delivery) has an unresolved dead letter already, that
    one is brought up to date. Raises LookupError, IllegalTransition.
    """
    now = moment(connection, at)
    source = connection.execute(
        select(_message.c.source).where(_message.c.id == message_id).with_for_update(key_share=True)
    ).scalar_one_or_none()
    if source is None:
        raise LookupError("no such message in the journal")
    values: dict[str, Any] = {
        "stage": stage.value,
        **cause_columns(cause),
        "fingerprint": fingerprint(stage, cause, source),
        "buried_at": now,
        "attempts": attempts,
    }
    letter_id = _write(connection, message_id, delivery_id, source, values)
    if delivery_id is not None:
        connection.execute(
            update(_delivery)
            .where(_delivery.c.id == delivery_id, _delivery.c.state == DeliveryState.PENDING.value)
            .values(
                state=DeliveryState.DEAD.value,
                due_at=None,
                changed_at=now,
                **cause_columns(cause),
            )
        )
    detail: dict[str, Any] = {"dead_letter": letter_id, "attempts": attempts}
    if delivery_id is not None:
        detail["delivery"] = delivery_id
    move(
        connection,
        message_id,
        MessageState.DEAD,
        event="buried",
        stage=stage,
        cause=cause,
        detail=detail,
        at=now,
    )
    return letter_id


def _write(
    connection: Connection,
    message_id: int,
    delivery_id: int | None,
    source: str,
    values: dict[str, Any],
) -> int:
    same = (
        _letter.c.delivery_id.is_(None)
        if delivery_id is None
        else _letter.c.delivery_id == delivery_id
    )
    known = connection.execute(
        select(_letter.c.id).where(
            _letter.c.message_id == message_id, _letter.c.resolved_at.is_(None), same
        )
    ).scalar_one_or_none()
    if known is not None:
        connection.execute(update(_letter).where(_letter.c.id == known).values(**values))
        return int(known)
    written = connection.execute(
        insert(_letter).returning(_letter.c.id),
        {
            "message_id": message_id,
            "delivery_id": delivery_id,
            "source": source,
            "reason": "",
            "actor": "",
            **values,
        },
    ).scalar_one()
    return int(written)


def _select() -> Select[*tuple[Any, ...]]:
    return select(_letter, _message.c.kind).join(_message, _message.c.id == _letter.c.message_id)


def get(connection: Connection, dead_letter_id: int) -> DeadLetter | None:
    """One dead letter, resolved or not."""
    row = connection.execute(_select().where(_letter.c.id == dead_letter_id)).one_or_none()
    return dead_letter_of(row) if row is not None else None


def page(
    connection: Connection,
    filter: DeadLetterFilter,  # noqa: A002 - the word that callers of a listing use
    *,
    before_id: int | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """Dead letters by falling id. Raises ValueError for a limit that is not 1 to 500."""
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"a page has 1 to {PAGE_MAX} dead letters")
    query = _select().where(*_conditions(filter)).order_by(_letter.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(_letter.c.id < before_id)
    return [dead_letter_of(row) for row in connection.execute(query)]


def count(
    connection: Connection,
    filter: DeadLetterFilter,  # noqa: A002 - the word that callers of a listing use
) -> int:
    """How many dead letters the filter finds."""
    query = select(func.count()).select_from(_letter).where(*_conditions(filter))
    return connection.execute(query).scalar_one()


def _conditions(wanted: DeadLetterFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.resolved is not None:
        unresolved = _letter.c.resolved_at.is_(None)
        yield ~unresolved if wanted.resolved else unresolved
    if wanted.fingerprint:
        yield _letter.c.fingerprint == wanted.fingerprint
    if wanted.source:
        yield _letter.c.source == wanted.source
    if wanted.stage is not None:
        yield _letter.c.stage == wanted.stage.value
    if wanted.code:
        yield _letter.c.cause_code == wanted.code
    if wanted.message_id is not None:
        yield _letter.c.message_id == wanted.message_id
    if wanted.ids:
        yield _letter.c.id.in_(wanted.ids)
    if wanted.since is not None:
        yield _letter.c.buried_at >= wanted.since
    if wanted.until is not None:
        yield _letter.c.buried_at < wanted.until


def groups(connection: Connection, *, limit: int = 200) -> list[DeadLetterGroup]:
    """The unresolved ones by fingerprint, the largest group first."""
    size = func.count().label("size")
    found = connection.execute(
        select(
            _letter.c.fingerprint,
            func.min(_letter.c.stage).label("stage"),
            func.min(_letter.c.cause_code).label("code"),
            func.min(_letter.c.cause_location).label("location"),
            size,
            func.min(_letter.c.buried_at).label("first_at"),
            func.max(_letter.c.buried_at).label("last_at"),
            func.min(_letter.c.source).label("source"),
            func.max(_letter.c.id).label("sample_id"),
        )
        .where(_letter.c.resolved_at.is_(None))
        .group_by(_letter.c.fingerprint)
        .order_by(size.desc(), _letter.c.fingerprint)
        .limit(limit)
    )
    return [
        DeadLetterGroup(
            fingerprint=row.fingerprint,
            stage=Stage(row.stage),
            code=row.code,
            location=_place(row.location),
            count=row.size,
            first_at=row.first_at,
            last_at=row.last_at,
            sources=(row.source,),
            sample_id=row.sample_id,
        )
        for row in found
    ]


def resolve(
    connection: Connection,
    dead_letter_id: int,
    resolution: Resolution,
    *,
    actor: str,
    reason: str = "",
    child_message_id: int | None = None,
    at: datetime | None = None,
) -> bool:
    """Mark a dead letter as resolved; False when it was already. Raises LookupError.

    Changes no message and no delivery: call ``messages.move``,
    ``messages.append_child`` or ``deliveries.revive`` in the same transaction.
    """
    now = moment(connection, at)
    row = connection.execute(
        select(_letter.c.message_id, _letter.c.resolved_at)
        .where(_letter.c.id == dead_letter_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise LookupError("no such dead letter in the journal")
    if row.resolved_at is not None:
        return False
    connection.execute(
        update(_letter)
        .where(_letter.c.id == dead_letter_id)
        .values(
            resolved_at=now,
            resolution=resolution.value,
            actor=fit(actor, TEXT_MAX),
            reason=fit(reason, TEXT_MAX),
            child_message_id=child_message_id,
        )
    )
    note(
        connection,
        row.message_id,
        event=resolution.value,
        stage=Stage.DELIVER,
        detail={"dead_letter": dead_letter_id, "actor": actor, "reason": reason},
        at=now,
    )
    return True

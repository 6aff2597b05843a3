"""The rows of what could not go. What to do with them is the dead-letter room's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, or_, select, update

from gateway.journal import letter_counts, tables
from gateway.journal.desk_tables import dead_letter, dead_letter_group, dead_letter_owner
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
    "group",
    "groups",
    "owners",
    "page",
    "resolve",
]

PAGE_MAX = 500
_REPETITION = re.compile(r"[(\[]\d+[)\]]", re.ASCII)

_letter = dead_letter
_message = tables.message
_delivery = tables.delivery

_VARIABLE = re.compile(r"\"[^\"]*\"|'[^']*'|[0-9a-f]{8,}|\d+", re.ASCII | re.IGNORECASE)
_DETAIL_MAX = 160


def fingerprint(stage: Stage, cause: Cause, destination: str = "") -> str:
    """16 hex digits that are the same for the same trouble, whichever the source.

    Repetitions in the location (``OBX(3)``, ``entry[2]``) do not count, nor do numbers and
    quoted words in the detail.
    """
    detail = " ".join(_VARIABLE.sub("#", cause.detail).lower().split())[:_DETAIL_MAX]
    text = "|".join(
        (
            stage.value,
            cause.code.value,
            _place(cause.location),
            cause.protocol_code,
            detail,
            destination,
        )
    )
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
    destination = ""
    if delivery_id is not None:
        destination = connection.execute(
            select(_delivery.c.destination).where(_delivery.c.id == delivery_id)
        ).scalar_one()
    values: dict[str, Any] = {
        "stage": stage.value,
        **cause_columns(cause),
        "fingerprint": fingerprint(stage, cause, destination),
        "destination": destination,
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
        select(_letter)
        .where(_letter.c.message_id == message_id, _letter.c.resolved_at.is_(None), same)
        .with_for_update(key_share=True)
    ).one_or_none()
    now = values["buried_at"]
    if known is not None:
        if known.fingerprint != values["fingerprint"]:
            letter_counts.closed(connection, _kind(known))
            letter_counts.opened(connection, _kind(SimpleNamespace(**values, source=source)), now)
        connection.execute(update(_letter).where(_letter.c.id == known.id).values(**values))
        return int(known.id)
    letter_counts.opened(connection, _kind(SimpleNamespace(**values, source=source)), now)
    written = connection.execute(
        insert(_letter).returning(_letter.c.id),
        {
            "message_id": message_id,
            "delivery_id": delivery_id,
            "source": source,
            "reason": "",
            "actor": "",
            "assignee": "",
            **values,
        },
    ).scalar_one()
    return int(written)


def _kind(row: Any) -> letter_counts.Kind:
    return letter_counts.Kind(
        fingerprint=row.fingerprint,
        source=row.source,
        stage=row.stage,
        cause_code=row.cause_code,
        location=_place(row.cause_location),
        destination=row.destination,
    )


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
    """How many dead letters the filter finds. Of what the groups know it is not counted."""
    if filter.resolved is False and filter == DeadLetterFilter(
        fingerprint=filter.fingerprint, source=filter.source, code=filter.code,
        stage=filter.stage, destination=filter.destination,
    ):  # fmt: skip
        of = dead_letter_group.c
        wanted = [of.open_count > 0]
        for column, value in (
            (of.fingerprint, filter.fingerprint),
            (of.source, filter.source),
            (of.cause_code, filter.code),
            (of.stage, filter.stage.value if filter.stage is not None else ""),
            (of.destination, filter.destination),
        ):
            if value:
                wanted.append(column == value)
        known = connection.execute(select(func.sum(of.open_count)).where(*wanted))
        return int(known.scalar_one() or 0)
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
    if wanted.destination:
        yield _letter.c.destination == wanted.destination
    if wanted.assignee:
        theirs = select(dead_letter_owner.c.fingerprint).where(
            dead_letter_owner.c.assignee == wanted.assignee
        )
        yield or_(
            _letter.c.assignee == wanted.assignee,
            and_(_letter.c.assignee == "", _letter.c.fingerprint.in_(theirs)),
        )


def owners(connection: Connection, fingerprints: Iterable[str]) -> dict[str, str]:
    """Whose groups are; those that are nobody's are left out."""
    found = connection.execute(
        select(dead_letter_owner).where(dead_letter_owner.c.fingerprint.in_(set(fingerprints)))
    )
    return {row.fingerprint: row.assignee for row in found}


def groups(
    connection: Connection, *, limit: int = 200, now: datetime | None = None
) -> list[DeadLetterGroup]:
    """The unresolved ones by fingerprint, the largest group first. With ``now`` each has its
    trend."""
    of = dead_letter_group.c
    size = func.sum(of.open_count).label("size")
    largest = connection.execute(
        select(of.fingerprint)
        .where(of.open_count > 0)
        .group_by(of.fingerprint)
        .order_by(size.desc(), of.fingerprint)
        .limit(limit)
    )
    return _groups(connection, list(largest.scalars()), now)


def group(
    connection: Connection, wanted: str, *, now: datetime | None = None
) -> DeadLetterGroup | None:
    """One group, or None when it has no unresolved dead letter."""
    found = _groups(connection, [wanted], now)
    return found[0] if found else None


def _groups(
    connection: Connection, fingerprints: Sequence[str], now: datetime | None
) -> list[DeadLetterGroup]:
    """Groups in the order of their names given, without those that are empty."""
    of, owner = dead_letter_group.c, dead_letter_owner
    rows: dict[str, list[Any]] = {name: [] for name in fingerprints}
    for row in connection.execute(
        select(dead_letter_group, owner.c.assignee)
        .outerjoin(owner, owner.c.fingerprint == of.fingerprint)
        .where(of.fingerprint.in_(fingerprints), of.open_count > 0)
        .order_by(of.source)
    ):
        rows[row.fingerprint].append(row)
    trends = letter_counts.trends(connection, fingerprints, now) if now is not None else {}
    found = []
    for name, parts in rows.items():
        ends = _oldest_and_newest(connection, name) if parts else None
        if ends is None:
            continue
        first = parts[0]
        found.append(
            DeadLetterGroup(
                fingerprint=name,
                stage=Stage(first.stage),
                code=first.cause_code,
                location=first.location,
                count=sum(part.open_count for part in parts),
                first_at=ends[0],
                last_at=max(part.last_at for part in parts),
                by_source={part.source: part.open_count for part in parts},
                sample_id=ends[1],
                destination=first.destination,
                assignee=first.assignee or "",
                total=sum(part.total for part in parts),
                trend=trends.get(name, ()),
            )
        )
    return found


def _oldest_and_newest(connection: Connection, wanted: str) -> tuple[datetime, int] | None:
    """When the oldest open letter of a group was buried, and the newest one's id: both ends of
    an index."""
    query = select(_letter.c.id, _letter.c.buried_at).where(
        _letter.c.resolved_at.is_(None), _letter.c.fingerprint == wanted
    )
    oldest = connection.execute(query.order_by(_letter.c.id).limit(1)).one_or_none()
    newest = connection.execute(query.order_by(_letter.c.id.desc()).limit(1)).one_or_none()
    return (oldest.buried_at, newest.id) if oldest is not None and newest is not None else None


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
        select(_letter).where(_letter.c.id == dead_letter_id).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise LookupError("no such dead letter in the journal")
    if row.resolved_at is not None:
        return False
    letter_counts.closed(connection, _kind(row))
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

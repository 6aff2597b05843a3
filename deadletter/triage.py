"""Looking at what could not go: the list, the groups of one cause, one item's whole life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from deadletter.causes import CAUSES, CauseNote
from gateway.journal import deadletters, deliveries, desk_tables, messages
from gateway.journal.journal import Journal
from gateway.journal.values import (
    Attempt,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
    DeliveryRow,
    Event,
    Message,
    Normalised,
)
from gateway.model import CauseCode, Identifier

GROUPS_MAX = 200
EVENTS_MAX = 1_000
ATTEMPTS_MAX = 100
CHILDREN_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Unresolved dead letters of one fingerprint, and what to do about them."""

    letters: DeadLetterGroup
    note: CauseNote


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLife:
    """One delivery with its attempts, newest first."""

    delivery: DeliveryRow
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Everything that is known of one message, from its arrival to now.

    ``children`` are the repaired copies that took its place, ``waiting`` the
    identifiers for which it is held. The bytes are read by
    ``messages.payload(journal, life.message)``.
    """

    message: Message
    events: tuple[Event, ...]
    normalised: Normalised | None
    waiting: tuple[Identifier, ...]
    deliveries: tuple[DeliveryLife, ...]
    dead_letters: tuple[DeadLetter, ...]
    children: tuple[int, ...]
    note: CauseNote | None


def letters(
    journal: Journal,
    wanted: DeadLetterFilter | None = None,
    *,
    before_id: int | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """A page of dead letters, newest first; the unresolved ones when nothing is wanted.

    ``before_id`` is the last id of the page before. Raises ValueError for a limit
    that is not 1 to 500, JournalUnavailable.
    """
    with journal.read() as connection:
        return deadletters.page(
            connection, wanted or DeadLetterFilter(), before_id=before_id, limit=limit
        )


def count(journal: Journal, wanted: DeadLetterFilter | None = None) -> int:
    """How many dead letters there are; the unresolved ones when nothing is wanted."""
    with journal.read() as connection:
        return deadletters.count(connection, wanted or DeadLetterFilter())


def groups(journal: Journal, *, limit: int = GROUPS_MAX) -> list[Group]:
    """The unresolved ones by fingerprint, the largest group first."""
    with journal.read() as connection:
        found = deadletters.groups(connection, limit=limit, now=journal.now())
    return [Group(letters=each, note=CAUSES[CauseCode(each.code)]) for each in found]


def life_of_letter(journal: Journal, dead_letter_id: int) -> Life | None:
    """The life of the message of a dead letter; None when there is no such letter."""
    with journal.read() as connection:
        letter = deadletters.get(connection, dead_letter_id)
        return _life(connection, letter.message_id) if letter is not None else None


def life(journal: Journal, message_id: int) -> Life | None:
    """The life of a message, dead or not; None when there is no such message."""
    with journal.read() as connection:
        return _life(connection, message_id)


def _life(connection: Connection, message_id: int) -> Life | None:
    message = messages.get(connection, message_id)
    if message is None:
        return None
    sent = deliveries.of_message(connection, message_id)
    return Life(
        message=message,
        events=tuple(messages.events(connection, message_id, limit=EVENTS_MAX)),
        normalised=messages.normalised(connection, message_id),
        waiting=tuple(messages.waiting_for(connection, message_id)),
        deliveries=tuple(
            DeliveryLife(
                delivery=each,
                attempts=tuple(deliveries.attempts(connection, each.id, limit=ATTEMPTS_MAX)),
            )
            for each in sent
        ),
        dead_letters=tuple(
            deadletters.page(
                connection, DeadLetterFilter(resolved=None, message_id=message_id), limit=500
            )
        ),
        children=tuple(_children(connection, message_id)),
        note=CAUSES[message.cause.code] if message.cause is not None else None,
    )


def _children(connection: Connection, message_id: int) -> Sequence[int]:
    column = desk_tables.dead_letter.c
    found = connection.execute(
        select(column.child_message_id)
        .where(column.message_id == message_id, column.child_message_id.is_not(None))
        .distinct()
        .order_by(column.child_message_id)
        .limit(CHILDREN_MAX)
    )
    return [int(child) for child in found.scalars() if child is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """How long the oldest unresolved dead letter has been lying; None when there is none."""

    oldest: datetime | None
    unresolved: int


def age(journal: Journal) -> Age:
    """For a dashboard: how many there are and since when."""
    with journal.read() as connection:
        found = deadletters.groups(connection, limit=GROUPS_MAX)
        unresolved = deadletters.count(connection, DeadLetterFilter())
    return Age(oldest=min((each.first_at for each in found), default=None), unresolved=unresolved)

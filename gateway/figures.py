"""How much waits, where and since when: counts read from the journal, for every face.

Each function takes an open connection of :meth:`Journal.read`. Amounts are bounded:
nothing here reads more rows than its own limit, and counts go over indexed columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Integer, cast, func, select

from gateway.journal import letter_counts, purged
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import attempt, delivery, message
from gateway.journal.times import Instant

ARRIVALS_ROWS_MAX = 50_000
BARS = 60
WINDOWS = (timedelta(minutes=60), timedelta(minutes=10), timedelta(minutes=1))
HELD_STATES = (MessageState.HELD, MessageState.UNMAPPED)
AGES = (
    ("under an hour", timedelta(hours=1)),
    ("under a day", timedelta(days=1)),
    ("under a week", timedelta(days=7)),
    ("older", None),
)
"""Age buckets of what is held: a label and the upper bound; None is everything older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """One destination's queue: pending deliveries and when the oldest was or will be due."""

    destination: str
    pending: int
    oldest_due: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRoom:
    """Messages held for one cause: how many, since when, and how old they are."""

    state: MessageState
    code: str
    count: int
    oldest_at: datetime
    ages: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Messages per slot of time and source, oldest slot first; every list has :data:`BARS`."""

    window: timedelta
    by_source: Mapping[str, Sequence[int]]


def lateness(connection: Connection) -> list[Lateness]:
    """Per destination, the deliveries that are pending."""
    rows = connection.execute(
        select(
            delivery.c.destination,
            func.count(),
            # Without a time of its own it is due since it was put in line.
            func.min(func.coalesce(delivery.c.due_at, delivery.c.changed_at), type_=Instant()),
        )
        .where(delivery.c.state == DeliveryState.PENDING.value)
        .group_by(delivery.c.destination)
        .order_by(delivery.c.destination)
    )
    return [Lateness(destination=d, pending=n, oldest_due=due) for d, n, due in rows]


def last_answers(
    connection: Connection, destinations: Sequence[str], *, look_back: int = 500
) -> dict[str, tuple[str, datetime]]:
    """The outcome and time of each destination's newest ended attempt, if it is among the
    newest ``look_back`` attempts of all destinations."""
    newest = (
        select(attempt.c.delivery_id, attempt.c.outcome, attempt.c.ended_at, attempt.c.id)
        .order_by(attempt.c.id.desc())
        .limit(look_back)
        .subquery()
    )
    rows = connection.execute(
        select(delivery.c.destination, newest.c.outcome, newest.c.ended_at)
        .join(newest, newest.c.delivery_id == delivery.c.id)
        .where(newest.c.ended_at.is_not(None))
        .order_by(newest.c.id.desc())
    )
    found: dict[str, tuple[str, datetime]] = {}
    for destination, outcome, ended_at in rows:
        if destination in destinations and destination not in found:
            found[destination] = (outcome, ended_at)
    return found


def dead_by_cause(connection: Connection) -> dict[str, int]:
    """Unresolved dead letters by cause code."""
    return letter_counts.open_by_cause(connection)


def held_by_cause(connection: Connection) -> dict[str, int]:
    """Held and unmapped messages by cause code."""
    rows = connection.execute(
        select(message.c.cause_code, func.count())
        .where(message.c.state.in_([state.value for state in HELD_STATES]))
        .group_by(message.c.cause_code)
    )
    return {row[0]: row[1] for row in rows}


def held_rooms(connection: Connection, now: datetime) -> list[HeldRoom]:
    """What is held, by state and cause, with ages counted at ``now``."""
    where = message.c.state.in_([state.value for state in HELD_STATES])
    bounds = [now - bound for _, bound in AGES if bound is not None]
    younger = [
        func.count().filter(message.c.received_at > bound).label(f"younger_{place}")
        for place, bound in enumerate(bounds)
    ]
    rows = connection.execute(
        select(
            message.c.state,
            message.c.cause_code,
            func.count(),
            func.min(message.c.received_at, type_=Instant()),
            *younger,
        )
        .where(where)
        .group_by(message.c.state, message.c.cause_code)
        .order_by(func.count().desc())
    )
    rooms = []
    for state, code, count, oldest_at, *cumulated in rows:
        steps = [0, *cumulated, count]
        ages = tuple(
            (label, steps[place + 1] - steps[place]) for place, (label, _) in enumerate(AGES)
        )
        rooms.append(
            HeldRoom(
                state=MessageState(state), code=code, count=count, oldest_at=oldest_at, ages=ages
            )
        )
    return rooms


def attempts(connection: Connection) -> dict[tuple[str, str], int]:
    """Attempts that ended, by destination and outcome. Looks at every attempt."""
    rows = connection.execute(
        select(delivery.c.destination, attempt.c.outcome, func.count())
        .join(delivery, delivery.c.id == attempt.c.delivery_id)
        .where(attempt.c.ended_at.is_not(None))
        .group_by(delivery.c.destination, attempt.c.outcome)
    )
    found = {(destination, outcome): int(count) for destination, outcome, count in rows}
    return _with_purged(found, purged.sums(connection, purged.ATTEMPTS))


def open_dead_letters(connection: Connection) -> int:
    """Unresolved dead letters."""
    return sum(letter_counts.open_by_cause(connection).values())


def received_by_format(connection: Connection) -> dict[tuple[str, str], int]:
    """How often messages arrived, repeated ones included, by source and format.

    A repaired child did not arrive and is not counted.
    """
    rows = connection.execute(
        select(message.c.source, message.c.format, func.sum(message.c.arrivals))
        .where(message.c.parent_id.is_(None))
        .group_by(message.c.source, message.c.format)
    )
    found = {(source, form): int(count) for source, form, count in rows}
    return _with_purged(found, purged.sums(connection, purged.ARRIVALS))


def _with_purged(
    found: dict[tuple[str, str], int], gone: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """Counts of rows with those of rows that were purged: a counter never falls."""
    return {key: found.get(key, 0) + gone.get(key, 0) for key in {**found, **gone}}


def arrivals(connection: Connection, now: datetime) -> Arrivals:
    """When the newest messages came, over the longest window that the row limit covers."""
    newest = connection.execute(select(func.max(message.c.id))).scalar_one() or 0
    floor = max(newest - ARRIVALS_ROWS_MAX, 0)
    reached = connection.execute(
        select(message.c.received_at).where(message.c.id > floor).order_by(message.c.id).limit(1)
    ).scalar_one_or_none()
    window = next(
        (w for w in WINDOWS if floor == 0 or (reached is not None and reached <= now - w)),
        WINDOWS[-1],
    )
    start, width = now - window, window.total_seconds() / BARS
    if connection.dialect.name == "sqlite":
        # The text is ISO 8601 in UTC; strftime reads its first 19 characters without the fraction.
        second = cast(func.strftime("%s", func.substr(message.c.received_at, 1, 19)), Integer)
    else:
        second = cast(func.floor(func.extract("epoch", message.c.received_at)), Integer)
    rows = connection.execute(
        select(message.c.source, second.label("second"), func.count())
        .where(message.c.id > floor, message.c.received_at > start, message.c.parent_id.is_(None))
        .group_by(message.c.source, second)
    )
    found: dict[str, list[int]] = {}
    for source, at, count in rows:
        slot = min(max(int((at - start.timestamp()) // width), 0), BARS - 1)
        found.setdefault(source, [0] * BARS)[slot] += count
    return Arrivals(window=window, by_source=found)

"""What waits and is not dead: every reason for waiting is a room, with its count, its ages and
the way out.

Messages wait for an identity or a mapping; messages were refused by the patient's permission;
sources and destinations stand still because a person said so, because the destination rests, or
because it is not configured any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from deadletter.causes import CAUSES
from gateway import figures
from gateway.journal.lanes import EVERYTHING
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import delivery, literal_state, message
from gateway.journal.times import Instant
from gateway.model import CauseCode
from gateway.route import inbound_lane
from gateway.shares import Shares, View, standing_of

PERMISSION = (CauseCode.FEEDING_OPPOSED, CauseCode.RECORD_CLOSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One reason for waiting. ``name`` is the source or destination where there is one;
    ``what`` says whether messages or deliveries are counted; ``until`` when it ends by itself."""

    code: str
    title: str
    means: str
    do: str
    count: int
    what: str
    name: str = ""
    oldest_at: datetime | None = None
    until: datetime | None = None
    ages: tuple[tuple[str, int], ...] = ()


_WORDS = {
    "source-paused": (
        "{name} is paused",
        "Its messages are accepted, acknowledged and kept; none is read.",
        "Resume the source: ecluse resume source {name}. They go on in their order.",
    ),
    "destination-paused": (
        "{name} is paused",
        "Nothing is delivered there. Everything else goes on.",
        "Resume it: ecluse resume destination {name}. What waits goes on in its order.",
    ),
    "destination-draining": (
        "{name} is being emptied",
        "What was accepted before goes there; what came later waits.",
        "Resume the destination: ecluse resume destination {name}.",
    ),
    "destination-resting": (
        "{name} is left alone for a while",
        "It failed several times in a row, or asked for it (Retry-After). No attempt is used up "
        "meanwhile.",
        "Nothing: it is tried again by itself. If it lasts, call whoever runs the destination.",
    ),
    "destination-not-configured": (
        "{name} is not configured any more",
        "Deliveries wait for a destination that the configuration does not name.",
        "Configure it again under the same name, or discard the messages.",
    ),
}


def rooms(connection: Connection, shares: Shares, now: datetime) -> list[Room]:
    """Every room in which something waits."""
    view = shares.look(connection, now)
    return [
        *_by_cause(connection, now),
        *_by_permission(connection, now),
        *_sources(connection, view, now),
        *_destinations(connection, view, now),
    ]


def _by_cause(connection: Connection, now: datetime) -> list[Room]:
    found = []
    for each in figures.held_rooms(connection, now):
        note = CAUSES.get(CauseCode(each.code)) if each.code in set(CauseCode) else None
        found.append(
            Room(
                code=each.code or each.state.value,
                title=note.title if note else each.state.value,
                means=note.means if note else "",
                do=note.do if note else "",
                count=each.count,
                what="messages",
                oldest_at=each.oldest_at,
                ages=each.ages,
            )
        )
    return found


def _by_permission(connection: Connection, now: datetime) -> list[Room]:
    found = []
    for code in PERMISSION:
        note = CAUSES[code]
        where = [literal_state(message, MessageState.REFUSED), message.c.cause_code == code.value]
        found += _room(
            connection, message.c.received_at, where, now,
            (code.value, note.title, note.means, note.do),
            what="messages",
        )  # fmt: skip
    return found


def _sources(connection: Connection, view: View, now: datetime) -> list[Room]:
    found = []
    for name in sorted(view.standstills.paused_sources):
        where = [
            literal_state(message, MessageState.RECEIVED),
            message.c.lane == inbound_lane(name),
        ]
        found += _room(
            connection, message.c.received_at, where, now, _words("source-paused", name),
            what="messages", name=name,
        )  # fmt: skip
    return found


def _destinations(connection: Connection, view: View, now: datetime) -> list[Room]:
    found = []
    for name in _names(connection):
        code, after, until = "", 0, view.closed.get(name)
        if name not in view.destinations:
            code = "destination-not-configured"
        elif name in view.standstills.paused_destinations:
            code = "destination-paused"
        elif view.standstills.up_to(name) != EVERYTHING:
            code, after = "destination-draining", view.standstills.up_to(name)
        elif until is not None:
            code = "destination-resting"
        if not code:
            continue
        where = [
            literal_state(delivery, DeliveryState.PENDING),
            delivery.c.destination == name,
            delivery.c.sequence > after,
        ]
        found += _room(
            connection, delivery.c.created_at, where, now, _words(code, name),
            what="deliveries", name=name, until=until,
        )  # fmt: skip
    return found


def _names(connection: Connection) -> list[str]:
    """The destinations at which something is pending, found along the index."""
    found: list[str] = []
    column = delivery.c.destination
    while True:
        where = [literal_state(delivery, DeliveryState.PENDING)]
        if found:
            where.append(column > found[-1])
        name = connection.execute(select(func.min(column)).where(*where)).scalar_one()
        if name is None:
            return found
        found.append(name)


def _words(code: str, name: str) -> tuple[str, str, str, str]:
    title, means, do = (each.format(name=name) for each in _WORDS[code])
    return code, title, means, do


def _room(
    connection: Connection,
    since: Any,
    where: Sequence[ColumnElement[bool]],
    now: datetime,
    words: tuple[str, str, str, str],
    *,
    what: str,
    name: str = "",
    until: datetime | None = None,
) -> list[Room]:
    bounds = [now - bound for _, bound in figures.AGES if bound is not None]
    younger = [func.count().filter(since > bound) for bound in bounds]
    count, oldest, *cumulated = connection.execute(
        select(func.count(), func.min(since, type_=Instant()), *younger).where(*where)
    ).one()
    if not count:
        return []
    steps = [0, *cumulated, count]
    code, title, means, do = words
    return [
        Room(
            code=code,
            title=title,
            means=means,
            do=do,
            count=count,
            what=what,
            name=name,
            oldest_at=oldest,
            until=until,
            ages=tuple(
                (label, steps[place + 1] - steps[place])
                for place, (label, _) in enumerate(figures.AGES)
            ),
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """How one source or destination stands: its mode, and for a destination its breaker."""

    kind: str
    name: str
    mode: str
    breaker: str = ""
    failures: int = 0
    closed_until: datetime | None = None
    cause: str = ""


def standing(
    connection: Connection, sources: Sequence[str], destinations: Sequence[str], now: datetime
) -> list[Standstill]:
    """How each source and destination of the configuration stands."""
    from gateway.journal import standings, standstills

    still = standstills.current(connection)
    rows = {row["destination"]: row for row in standings.all_of(connection)}
    found = [
        Standstill(kind="source", name=name, mode=still.mode(standstills.Kind.SOURCE, name).value)
        for name in sources
    ]
    for name in destinations:
        each = standing_of(rows.get(name), name)
        found.append(
            Standstill(
                kind="destination",
                name=name,
                mode=still.mode(standstills.Kind.DESTINATION, name).value,
                breaker=each.breaker.value,
                failures=each.failures,
                closed_until=each.closed_until(now),
                cause=each.cause.detail or each.cause.code.value if each.cause else "",
            )
        )
    return found

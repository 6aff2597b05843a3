"""Sources and destinations that a person has paused or drains: durable, with who and why.

Every change is a new row; the newest of a name is in force. Nothing is ever removed, so that
the rows are the audit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, insert, select

from gateway.bulk import Statement
from gateway.journal import tables
from gateway.journal.fitting import fit
from gateway.journal.lanes import EVERYTHING
from gateway.journal.tables import SOURCE_MAX, TEXT_MAX
from gateway.journal.times import moment

_table = tables.standstill
_NEWEST = Statement(
    "SELECT s.kind, s.name, s.mode, s.up_to FROM standstill AS s"
    " WHERE s.mode <> 'running' AND s.id ="
    " (SELECT max(n.id) FROM standstill AS n WHERE n.kind = s.kind AND n.name = s.name)"
)
_WAKE = Statement(
    "UPDATE lane SET next_at = :now WHERE next_at IS NULL AND name IN"
    " (SELECT d.lane FROM delivery AS d WHERE d.state = 'pending' AND d.destination = :name)"
)


class Kind(StrEnum):
    """What stands still."""

    SOURCE = "source"
    DESTINATION = "destination"


class Mode(StrEnum):
    """How it stands still."""

    RUNNING = "running"
    PAUSED = "paused"
    """Nothing goes on. A source's door stays open: what comes is kept and acknowledged."""
    DRAINING = "draining"
    """What is there goes on, nothing new is begun: a source's door is closed; a destination
    gets what was accepted before, and nothing of what comes after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One decision of a person."""

    kind: Kind
    name: str
    mode: Mode
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Standstills:
    """What stands still now."""

    paused_sources: frozenset[str] = frozenset()
    draining_sources: frozenset[str] = frozenset()
    paused_destinations: frozenset[str] = frozenset()
    draining_destinations: dict[str, int] | None = None
    """With the last message whose deliveries still go."""

    def up_to(self, destination: str) -> int:
        """The last message whose deliveries go to a destination."""
        return (self.draining_destinations or {}).get(destination, EVERYTHING)

    def mode(self, kind: Kind, name: str) -> Mode:
        """How one stands."""
        source = kind is Kind.SOURCE
        if name in (self.paused_sources if source else self.paused_destinations):
            return Mode.PAUSED
        draining = self.draining_sources if source else (self.draining_destinations or {})
        return Mode.DRAINING if name in draining else Mode.RUNNING


def current(connection: Connection) -> Standstills:
    """What stands still now. Cheap: the rows are people's decisions."""
    paused: dict[str, set[str]] = {kind.value: set() for kind in Kind}
    sources: set[str] = set()
    destinations: dict[str, int] = {}
    for kind, name, mode, up_to in _NEWEST.rows(connection):
        if mode == Mode.PAUSED.value:
            paused[kind].add(name)
        elif kind == Kind.SOURCE.value:
            sources.add(name)
        else:
            destinations[name] = int(up_to or 0)
    return Standstills(
        frozenset(paused[Kind.SOURCE.value]),
        frozenset(sources),
        frozenset(paused[Kind.DESTINATION.value]),
        destinations,
    )


def change(
    connection: Connection,
    kind: Kind,
    name: str,
    mode: Mode,
    *,
    actor: str,
    reason: str,
    at: datetime | None = None,
) -> bool:
    """Let something stand still or go on; False when it stands so already.

    What waits at a destination that goes on is due at once. Raises ValueError for a name
    that is none.
    """
    if not 0 < len(name) <= SOURCE_MAX:
        raise ValueError(f"a name has 1 to {SOURCE_MAX} characters")
    if current(connection).mode(kind, name) is mode:
        return False
    now = moment(connection, at)
    up_to: int | None = None
    if kind is Kind.DESTINATION and mode is Mode.DRAINING:
        newest = connection.execute(select(func.max(tables.message.c.id))).scalar_one()
        up_to = newest or 0
    connection.execute(
        insert(_table),
        {
            "kind": kind.value,
            "name": name,
            "mode": mode.value,
            "up_to": up_to,
            "actor": fit(actor, TEXT_MAX),
            "reason": fit(reason, TEXT_MAX),
            "at": now,
        },
    )
    if kind is Kind.DESTINATION and mode is Mode.RUNNING:
        _WAKE.rows(connection, now=now, name=name)
    return True


def history(connection: Connection, *, limit: int = 100) -> list[Change]:
    """The decisions, newest first."""
    found = connection.execute(select(_table).order_by(_table.c.id.desc()).limit(limit))
    return [
        Change(
            kind=Kind(row.kind),
            name=row.name,
            mode=Mode(row.mode),
            actor=row.actor,
            reason=row.reason,
            at=row.at,
        )
        for row in found
    ]

"""Whose work is looked at, and in which order: priorities, fair shares, what stands still.

Within one class of priority every source has its share of a destination, however much another
one has waiting there (``gateway.journal.lanes.due``). A destination that is paused, rests or is
no longer configured is not looked at: what waits there costs the others nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from gateway.breaker import BreakerState, Standing
from gateway.journal import standings, standstills
from gateway.journal.standings import Row
from gateway.journal.standstills import Standstills
from gateway.route import lane_source

PRIORITIES = ("high", "normal", "low")


def standing_of(row: Row | None, destination: str) -> Standing:
    """How a destination stands, from its row."""
    if row is None:
        return Standing(destination=destination)
    return Standing(**{**row, "breaker": BreakerState(row["breaker"])})


@dataclass(frozen=True, slots=True)
class View:
    """What may be worked on at one moment."""

    standstills: Standstills
    closed: Mapping[str, datetime]
    """Destinations at which nothing is attempted now, and until when."""
    destinations: frozenset[str]
    priorities: Mapping[str, str]

    def open(self, destination: str) -> bool:
        """Whether attempts may be made there."""
        return (
            destination in self.destinations
            and destination not in self.closed
            and destination not in self.standstills.paused_destinations
        )

    def takes(self, lane: str) -> bool:
        """Whether a lane may be worked on."""
        source = lane_source(lane)
        if source is not None:
            return source not in self.standstills.paused_sources
        return self.open(lane.rpartition("@")[2])

    def rank(self, rooms: Sequence[str]) -> Sequence[Sequence[str]]:
        """Rooms by class of priority, those left out in which nothing may be done."""
        classes: dict[str, list[str]] = defaultdict(list)
        for room in rooms:
            source = lane_source(room)
            if source is None:
                destination, _, source = room.partition("/")
                if not self.open(destination):
                    continue
            elif source in self.standstills.paused_sources:
                continue
            classes[self.priorities.get(source, "normal")].append(room)
        return [classes[name] for name in PRIORITIES if classes[name]]


class Shares:
    """What is known of sources and destinations from the settings; :meth:`look` adds how they
    stand. ``priorities`` is by source; it may be replaced at any time."""

    def __init__(
        self, destinations: Iterable[str], priorities: Mapping[str, str] | None = None
    ) -> None:
        self.destinations = frozenset(destinations)
        self.priorities: Mapping[str, str] = dict(priorities or {})

    def look(self, connection: Connection, now: datetime) -> View:
        """What may be worked on now."""
        closed: dict[str, datetime] = {}
        for row in standings.all_of(connection):
            until = standing_of(row, row["destination"]).closed_until(now)
            if until is not None:
                closed[row["destination"]] = until
        still = standstills.current(connection)
        return View(still, closed, self.destinations, self.priorities)

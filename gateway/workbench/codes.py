"""The codes of a message that no terminology table has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.mapping.observing import Answered, Asked, Entered, Event, Instance, LookedUp, Ruled
from gateway.workbench.examining import Examined


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownCode:
    """A code that a table does not have."""

    table: str
    code: str


def unknown_codes(examined: Examined) -> Iterator[UnknownCode]:
    """Codes of one message that no table has."""
    for part in examined.parts:
        for event in _lookups(part.watch.events):
            if event.row is None:
                yield UnknownCode(table=event.table, code=event.code)


def _lookups(events: Iterable[Event]) -> Iterator[LookedUp]:
    waiting = list(events)[::-1]
    while waiting:
        event = waiting.pop()
        if isinstance(event, LookedUp):
            yield event
        elif isinstance(event, Asked | Answered | Ruled | Instance | Entered):
            waiting.extend(reversed(event.events))

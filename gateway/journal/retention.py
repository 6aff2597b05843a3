"""How long what is resolved is kept, and which messages are past that.

Three parts have times of their own: ``content``, the exact bytes and the answer that was given;
``normalised``, the working copy of the entries; ``message``, everything else of a message. Only
what is resolved ever expires: delivered, refused, discarded or replaced by a repaired copy. What
is received, gathering, held, unmapped, routed or dead never does, however old it is.

The age of a message counts from when it came to its present state. An instance of a study is as
old as the message that carries it. A study, or a message in fragments, is kept as a whole while
any part of it is unresolved or came less long ago, because a late part is read with the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.journal.states import MessageState


class Part(StrEnum):
    """What has a retention time of its own."""

    CONTENT = "content"
    NORMALISED = "normalised"
    MESSAGE = "message"


class Ending(StrEnum):
    """How a message was resolved; a repaired one counts as discarded."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    DISCARDED = "discarded"


STATES: Mapping[Ending, tuple[MessageState, ...]] = {
    Ending.DELIVERED: (MessageState.DELIVERED,),
    Ending.REFUSED: (MessageState.REFUSED,),
    Ending.DISCARDED: (MessageState.DISCARDED, MessageState.REPLACED),
}

RESOLVED = tuple(state for states in STATES.values() for state in states)
UNRESOLVED = tuple(
    state for state in MessageState if state not in RESOLVED and state is not MessageState.GATHERED
)
"""States in which a message never expires. An instance that was gathered has its carrier's."""


@dataclass(frozen=True, slots=True)
class Policy:
    """For each part and ending the days that it is kept; no key where it is kept for ever."""

    days: Mapping[Part, Mapping[Ending, int]] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Whether anything ever expires."""
        return any(self.days.values())

    def of(self, part: Part) -> Mapping[Ending, int]:
        """The days of one part."""
        return self.days.get(part, {})

    def newest(self, part: Part, now: datetime) -> datetime | None:
        """Messages that came after this instant cannot have expired; None: none ever does."""
        days = self.of(part).values()
        return now - timedelta(days=min(days)) if days else None

    def as_json(self) -> dict[str, dict[str, int]]:
        """As it is kept with a purge."""
        return {part.value: {e.value: n for e, n in of.items()} for part, of in self.days.items()}

    @classmethod
    def from_json(cls, kept: Mapping[str, Mapping[str, int]]) -> Policy:
        """What :meth:`as_json` gave."""
        return cls(
            {Part(part): {Ending(e): int(n) for e, n in of.items()} for part, of in kept.items()}
        )

    def text(self) -> str:
        """On one line, as a seal has it."""
        said = [
            f"{part.value} {ending.value} {days}d"
            for part in Part
            for ending, days in sorted(self.of(part).items())
        ]
        return ", ".join(said)

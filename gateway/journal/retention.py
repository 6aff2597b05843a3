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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, exists, false, or_, select
from sqlalchemy.sql.selectable import NamedFromClause

from gateway.journal import tables
from gateway.journal.states import AnswerState, MessageState

_message = tables.message


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


_STATES: Mapping[Ending, tuple[MessageState, ...]] = {
    Ending.DELIVERED: (MessageState.DELIVERED,),
    Ending.REFUSED: (MessageState.REFUSED,),
    Ending.DISCARDED: (MessageState.DISCARDED, MessageState.REPLACED),
}

RESOLVED = tuple(state for states in _STATES.values() for state in states)
UNRESOLVED = tuple(
    state for state in MessageState if state not in RESOLVED and state is not MessageState.GATHERED
)
"""States in which a message never expires. An instance that was gathered has its carrier's."""

_OWED = (AnswerState.AWAITED.value, AnswerState.DUE.value)


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


def expired(policy: Policy, part: Part, now: datetime) -> ColumnElement[bool]:
    """The condition on ``message`` for what is past its time.

    Such a message may lose this part: nothing that could still go needs it.
    """
    days = policy.of(part)
    if not days:
        return false()
    carrier = _message.alias("carrier")
    # A carrier that is gone was past its time itself.
    carried = and_(
        _message.c.state == MessageState.GATHERED.value,
        ~exists(
            select(carrier.c.id).where(
                carrier.c.id == _message.c.carrier_id, ~or_(*_ended(carrier, days, now))
            )
        ),
    )
    conditions = [or_(*_ended(_message, days, now), carried), _no_part_awaited(days, now)]
    if part is Part.MESSAGE:
        conditions += [_nothing_open()]
    return and_(*conditions)


def _ended(
    table: NamedFromClause, days: Mapping[Ending, int], now: datetime
) -> Iterator[ColumnElement[bool]]:
    for ending, count in days.items():
        states = [state.value for state in _STATES[ending]]
        yield and_(table.c.state.in_(states), table.c.changed_at < now - timedelta(days=count))


def _no_part_awaited(days: Mapping[Ending, int], now: datetime) -> ColumnElement[bool]:
    """It belongs to no study of which a part may still be read, or come."""
    gathering = tables.gathering
    mate = _message.alias("mate")
    since = now - timedelta(days=max(days.values()))
    return or_(
        _message.c.group_key == "",
        and_(
            ~exists(
                select(gathering.c.source).where(
                    gathering.c.source == _message.c.source,
                    gathering.c.group_key == _message.c.group_key,
                    or_(gathering.c.due_at.is_not(None), gathering.c.last_at >= since),
                )
            ),
            ~exists(
                select(mate.c.id).where(
                    mate.c.source == _message.c.source,
                    mate.c.group_key == _message.c.group_key,
                    mate.c.group_key != "",  # as the index has it
                    mate.c.state.in_([state.value for state in UNRESOLVED]),
                )
            ),
        ),
    )


def _nothing_open() -> ColumnElement[bool]:
    """No dead letter waits for a person, no answer is owed, no delivery is on its way."""
    letter, owed = tables.dead_letter, tables.application_acknowledgement
    delivery = tables.delivery
    return and_(
        ~exists(
            select(letter.c.id).where(
                letter.c.message_id == _message.c.id, letter.c.resolved_at.is_(None)
            )
        ),
        ~exists(
            select(owed.c.message_id).where(
                owed.c.message_id == _message.c.id, owed.c.state.in_(_OWED)
            )
        ),
        ~exists(
            select(delivery.c.id).where(
                delivery.c.message_id == _message.c.id, delivery.c.state == "pending"
            )
        ),
    )

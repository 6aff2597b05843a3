"""What is past its time, as a condition on the journal's messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, false, or_, select
from sqlalchemy.sql.selectable import NamedFromClause

from gateway.journal import desk_tables, tables
from gateway.journal.retention import STATES, UNRESOLVED, Ending, Part, Policy
from gateway.journal.states import AnswerState, MessageState
from gateway.model import Format

_message = tables.message
_OWED = (AnswerState.AWAITED.value, AnswerState.DUE.value)


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
        states = [state.value for state in STATES[ending]]
        yield and_(table.c.state.in_(states), table.c.changed_at < now - timedelta(days=count))


def _no_part_awaited(days: Mapping[Ending, int], now: datetime) -> ColumnElement[bool]:
    """It belongs to no study of which a part may still be read, or come."""
    gathering = tables.gathering
    mate, other = _message.alias("mate"), _message.alias("other")
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
            # A DICOM study is read with what other sources brought of it.
            or_(
                _message.c.format != Format.DICOM.value,
                ~exists(
                    select(other.c.id).where(
                        other.c.group_key == _message.c.group_key,
                        other.c.group_key != "",
                        other.c.source != _message.c.source,
                        other.c.format == Format.DICOM.value,
                        or_(
                            other.c.state.in_([state.value for state in UNRESOLVED]),
                            other.c.received_at >= since,
                        ),
                    )
                ),
            ),
        ),
    )


def _nothing_open() -> ColumnElement[bool]:
    """No dead letter waits for a person, no answer is owed, no delivery is on its way."""
    letter, owed = desk_tables.dead_letter, tables.application_acknowledgement
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

"""Attempts of deliveries: written down before the work, settled after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from gateway.bulk import Statement, Update, insert_rows, instant_text
from gateway.journal import states, tables
from gateway.journal.fitting import fit
from gateway.journal.moves import move_all, write_events
from gateway.journal.rows import CAUSE_COLUMNS, cause_values
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import TEXT_MAX
from gateway.journal.times import moment
from gateway.journal.values import Move, Settlement
from gateway.model import Cause, Stage

_delivery = tables.delivery
_attempt = tables.attempt

UNFINISHED = "unfinished"
"""Outcome of an attempt of which nothing was heard again."""

_BEGIN = Statement(
    "UPDATE delivery SET starts = starts + 1, unfinished = unfinished + 1"
    " WHERE id = ANY(:ids bigint) AND state = 'pending' RETURNING id, starts, unfinished"
)
_LOST = Statement(
    "UPDATE attempt SET ended_at = :at, outcome = :how"
    " WHERE delivery_id = ANY(:ids bigint) AND ended_at IS NULL"
)
_LOCKED = Statement(
    "SELECT id, message_id, destination, state, starts FROM delivery"
    " WHERE id = ANY(:ids bigint) ORDER BY id FOR NO KEY UPDATE"
)
_SETTLE = Update(
    _delivery,
    "id",
    ("state", "attempts", "due_at", "evidence", "changed_at", *CAUSE_COLUMNS),
    computed=(("attempts", "t.attempts + v.attempts"), ("unfinished", "0")),
)
_END = Update(
    _attempt,
    "delivery_id",
    ("ended_at", "outcome", "evidence", *CAUSE_COLUMNS),
    where="t.ended_at IS NULL",
)
_UNDO = Statement("DELETE FROM attempt WHERE delivery_id = ANY(:ids bigint) AND ended_at IS NULL")
_MESSAGES = Statement(
    "SELECT id, state FROM message WHERE id = ANY(:ids bigint) ORDER BY id FOR NO KEY UPDATE"
)
_DELIVERIES = Statement(
    "SELECT DISTINCT message_id, state FROM delivery WHERE message_id = ANY(:ids bigint)"
)
_ATTEMPT = tuple(name for name in _attempt.c.keys() if name != "id")  # noqa: SIM118 - no dict


class _Locked(NamedTuple):
    """A delivery that is being settled."""

    id: int
    message_id: int
    destination: str
    state: str
    starts: int


def start_attempts(
    connection: Connection, delivery_ids: Sequence[int], *, at: datetime | None = None
) -> dict[int, int]:
    """Write down that attempts begin; commit that before the work.

    For each delivery that is PENDING, how many earlier attempts were begun since
    the last one that ended: above the limit it is taken to break its process.
    """
    if not delivery_ids:
        return {}
    now = moment(connection, at)
    begun = _BEGIN.rows(connection, ids=list(delivery_ids))
    lost = [delivery for delivery, _, unfinished in begun if unfinished > 1]
    if lost:
        _LOST.rows(connection, ids=lost, at=now, how=UNFINISHED)
    at_text = instant_text(now)
    insert_rows(
        connection,
        _attempt,
        [
            (delivery, starts, at_text, None, "", *cause_values(None), "")
            for delivery, starts, _ in begun
        ],
        columns=_ATTEMPT,
    )
    return {delivery: unfinished - 1 for delivery, _, unfinished in begun}


def settle(
    connection: Connection,
    delivery_id: int,
    *,
    outcome: str,
    state: DeliveryState,
    due_at: datetime | None = None,
    cause: Cause | None = None,
    evidence: str = "",
    counted: bool = True,
    at: datetime | None = None,
) -> None:
    """Note how one attempt ended. See :func:`settle_all`."""
    settlement = Settlement(
        delivery_id=delivery_id,
        outcome=outcome,
        state=state,
        due_at=due_at,
        cause=cause,
        evidence=evidence,
        counted=counted,
    )
    settle_all(connection, [settlement], at=at)


def settle_all(
    connection: Connection, settlements: Sequence[Settlement], *, at: datetime | None = None
) -> None:
    """Note how attempts ended, after ``lanes.fence`` in the same transaction.

    An attempt that does not count (a Wait) leaves no row and no event, only the
    delivery's cause and due time. Raises IllegalTransition (a delivery that was
    settled meanwhile), LookupError.
    """
    if not settlements:
        return
    now = moment(connection, at)
    ids = sorted({settlement.delivery_id for settlement in settlements})
    rows = {row[0]: _Locked(*row) for row in _LOCKED.rows(connection, ids=ids)}
    if len(rows) < len(ids):
        raise LookupError("no such delivery in the journal")
    at_text = instant_text(now)
    changes, ends, undone, events = [], [], [], []
    for settlement in settlements:
        row = rows[settlement.delivery_id]
        states.check(DeliveryState(row.state), settlement.state)
        evidence, cause = fit(settlement.evidence, TEXT_MAX), cause_values(settlement.cause)
        due_at = None
        if settlement.state is DeliveryState.PENDING and settlement.due_at is not None:
            due_at = instant_text(settlement.due_at)
        counted = int(settlement.counted)
        changes.append((row.id, settlement.state.value, counted, due_at, evidence, at_text, *cause))
        if counted:
            ends.append((row.id, at_text, settlement.outcome, evidence, *cause))
            detail = _attempt_detail(row, settlement)
            events.append((row.message_id, Stage.DELIVER, "attempt", detail))
        else:
            undone.append(row.id)
    _SETTLE.rows(connection, changes)
    if ends:
        _END.rows(connection, ends)
        write_events(connection, events, now)
    if undone:
        _UNDO.rows(connection, ids=undone)


def _attempt_detail(row: _Locked, settlement: Settlement) -> dict[str, Any]:
    detail = {
        "delivery": row.id,
        "destination": row.destination,
        "outcome": settlement.outcome,
        "number": row.starts,
    }
    if settlement.cause is not None:
        detail["cause"] = settlement.cause.code.value
    return detail


def conclude(
    connection: Connection, message_ids: Sequence[int], *, at: datetime | None = None
) -> dict[int, MessageState]:
    """Bring messages to the state that their deliveries say; the states after, by id.

    Any PENDING: unchanged. Else DEAD if any is, DELIVERED if any is, REFUSED if any
    was withheld, DISCARDED. A ROUTED message without a delivery of its own (another
    message's said the same) is DELIVERED. To be called after every ``settle_all``
    and after ``insert``, in the same transaction; two workers who settle the last
    two deliveries of one message at once are put in order here.
    """
    ids = sorted(set(message_ids))
    if not ids:
        return {}
    before = {i: MessageState(state) for i, state in _MESSAGES.rows(connection, ids=ids)}
    # A new statement: it sees what was settled while the lock was waited for.
    found: dict[int, set[DeliveryState]] = defaultdict(set)
    for message_id, state in _DELIVERIES.rows(connection, ids=ids):
        found[message_id].add(DeliveryState(state))
    after = {i: _concluded(state, found[i]) for i, state in before.items()}
    moves = [
        Move(message_id=i, to=state, event=state.value, stage=Stage.DELIVER)
        for i, state in after.items()
        if state is not before[i]
    ]
    move_all(connection, moves, at=at)
    return after


def _concluded(state: MessageState, deliveries: set[DeliveryState]) -> MessageState:
    if not deliveries:
        return MessageState.DELIVERED if state is MessageState.ROUTED else state
    if DeliveryState.PENDING in deliveries:
        return state
    for delivery, message in (
        (DeliveryState.DEAD, MessageState.DEAD),
        (DeliveryState.DELIVERED, MessageState.DELIVERED),
        (DeliveryState.WITHHELD, MessageState.REFUSED),
    ):
        if delivery in deliveries:
            return message
    return MessageState.DISCARDED

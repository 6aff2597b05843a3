"""Attempts of deliveries: written down before the work, settled after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from gateway.journal import states, tables
from gateway.journal.fitting import fit
from gateway.journal.moves import move_all
from gateway.journal.rows import AnyRow, cause_columns
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import TEXT_MAX
from gateway.journal.times import moment
from gateway.journal.values import Move, Settlement
from gateway.model import Cause, Stage

_delivery = tables.delivery
_attempt = tables.attempt
_message = tables.message

UNFINISHED = "unfinished"
"""Outcome of an attempt of which nothing was heard again."""

_BEGIN = (
    update(_delivery)
    .where(
        _delivery.c.id.in_(bindparam("ids", expanding=True)),
        _delivery.c.state == DeliveryState.PENDING.value,
    )
    .values(starts=_delivery.c.starts + 1, unfinished=_delivery.c.unfinished + 1)
    .returning(_delivery.c.id, _delivery.c.starts, _delivery.c.unfinished)
)
_LOCKED = (
    select(
        _delivery.c.id,
        _delivery.c.message_id,
        _delivery.c.destination,
        _delivery.c.state,
        _delivery.c.starts,
    )
    .where(_delivery.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(_delivery.c.id)
    .with_for_update(key_share=True)
)
_SETTLE = (
    update(_delivery)
    .where(_delivery.c.id == bindparam("settled_id"))
    .values(
        state=bindparam("to"),
        attempts=_delivery.c.attempts + bindparam("counts"),
        unfinished=0,
        due_at=bindparam("next_at"),
        evidence=bindparam("with_evidence"),
        changed_at=bindparam("at"),
        cause_code=bindparam("cause_code"),
        cause_detail=bindparam("cause_detail"),
        cause_location=bindparam("cause_location"),
        cause_protocol_code=bindparam("cause_protocol_code"),
    )
)
_END = (
    update(_attempt)
    .where(_attempt.c.delivery_id == bindparam("settled_id"), _attempt.c.ended_at.is_(None))
    .values(
        ended_at=bindparam("at"),
        outcome=bindparam("how"),
        evidence=bindparam("with_evidence"),
        cause_code=bindparam("cause_code"),
        cause_detail=bindparam("cause_detail"),
        cause_location=bindparam("cause_location"),
        cause_protocol_code=bindparam("cause_protocol_code"),
    )
)
_UNDO = delete(_attempt).where(
    _attempt.c.delivery_id == bindparam("settled_id"), _attempt.c.ended_at.is_(None)
)


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
    begun = connection.execute(_BEGIN, {"ids": list(delivery_ids)}).all()
    lost = [row.id for row in begun if row.unfinished > 1]
    if lost:
        connection.execute(
            update(_attempt)
            .where(_attempt.c.delivery_id.in_(lost), _attempt.c.ended_at.is_(None))
            .values(ended_at=now, outcome=UNFINISHED)
        )
    if begun:
        connection.execute(
            insert(_attempt),
            [
                {
                    "delivery_id": row.id,
                    "number": row.starts,
                    "started_at": now,
                    "ended_at": None,
                    "outcome": "",
                }
                for row in begun
            ],
        )
    return {row.id: row.unfinished - 1 for row in begun}


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
    rows = {row.id: row for row in connection.execute(_LOCKED, {"ids": ids})}
    if len(rows) < len(ids):
        raise LookupError("no such delivery in the journal")
    changes, ends, undone, events = [], [], [], []
    for settlement in settlements:
        row = rows[settlement.delivery_id]
        states.check(DeliveryState(row.state), settlement.state)
        change = {
            "settled_id": settlement.delivery_id,
            "at": now,
            "with_evidence": fit(settlement.evidence, TEXT_MAX),
            **cause_columns(settlement.cause),
        }
        pending = settlement.state is DeliveryState.PENDING
        changes.append(
            {
                **change,
                "to": settlement.state.value,
                "counts": int(settlement.counted),
                "next_at": settlement.due_at if pending else None,
            }
        )
        if settlement.counted:
            ends.append({**change, "how": settlement.outcome})
            events.append(_attempt_event(row, settlement, now))
        else:
            undone.append({"settled_id": settlement.delivery_id})
    connection.execute(_SETTLE, changes)
    if ends:
        connection.execute(_END, ends)
        connection.execute(insert(tables.event), events)
    if undone:
        connection.execute(_UNDO, undone)


def _attempt_event(row: AnyRow, settlement: Settlement, now: datetime) -> dict[str, Any]:
    detail = {
        "delivery": row.id,
        "destination": row.destination,
        "outcome": settlement.outcome,
        "number": row.starts,
    }
    if settlement.cause is not None:
        detail["cause"] = settlement.cause.code.value
    return {
        "message_id": row.message_id,
        "at": now,
        "stage": Stage.DELIVER.value,
        "what": "attempt",
        "detail": detail,
    }


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
    before = {
        row.id: MessageState(row.state)
        for row in connection.execute(
            select(_message.c.id, _message.c.state)
            .where(_message.c.id.in_(ids))
            .order_by(_message.c.id)
            .with_for_update(key_share=True)
        )
    }
    # A new statement: it sees what was settled while the lock was waited for.
    found: dict[int, set[DeliveryState]] = defaultdict(set)
    for message_id, state in connection.execute(
        select(_delivery.c.message_id, _delivery.c.state)
        .where(_delivery.c.message_id.in_(ids))
        .distinct()
    ):
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

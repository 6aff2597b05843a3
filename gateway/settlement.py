"""How attempts ended, written down: the outcome, the policy's decision, the message's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select

from gateway.bulk import Statement
from gateway.journal import deadletters, deliveries, desk_tables, tables
from gateway.journal.states import DeliveryState
from gateway.journal.values import Settlement
from gateway.model import Again, Cause, CauseCode, Delivery, Outcome, Stage
from gateway.retry import Decision, Retry, RetryPolicy, Settled, decide

UNFINISHED_MAX = 3
"""Attempts, made alone, that never ended after which a delivery is set apart."""

UNFINISHED = Cause(
    code=CauseCode.UNFINISHED_ATTEMPTS,
    detail=f"{UNFINISHED_MAX} attempts were begun with nothing else in hand, and none ended",
)

_UNFINISHED = Statement("SELECT id FROM delivery WHERE id = ANY(:ids bigint) AND unfinished > 0")

End = tuple[Delivery, Outcome | None]
"""A delivery and how its attempt ended; None for an attempt that was begun and not made, or
undone with its transaction."""


class Settler:
    """Settles attempts by the retry policies: ``policies`` by destination, else ``policy``."""

    def __init__(
        self,
        policies: Mapping[str, RetryPolicy],
        policy: RetryPolicy,
        *,
        now: Callable[[], datetime],
        random: Callable[[], float],
    ) -> None:
        self._policies = dict(policies)
        self._policy = policy
        self._now = now
        self._random = random

    def begin(self, connection: Connection, item: Delivery, *, in_company: int) -> bool:
        """Write down that an attempt begins. False when too many have never ended: the
        delivery is buried then, and must not be made.

        ``in_company`` is how many of them may have been begun together with others:
        when a worker dies with a hundred items in hand, that accuses none of them.
        """
        unfinished = deliveries.start_attempts(connection, [item.id])
        if unfinished.get(item.id, 0) < UNFINISHED_MAX + in_company:
            return True
        _bury(connection, item, UNFINISHED, "unfinished")
        deliveries.conclude(connection, [item.message_id])
        return False

    def record(self, connection: Connection, ends: Sequence[End]) -> None:
        """Settle attempts, bury what will never go, and bring the messages up to date."""
        settled: list[Settlement] = []
        concluded: set[int] = set()
        for item, outcome in ends:
            if outcome is None:
                settled.append(_not_made(item))
                continue
            name = type(outcome).__name__.lower()
            decision = self._decide(connection, item, outcome)
            if isinstance(decision, Retry):
                settled.append(_retried(item, name, decision))
                continue
            concluded.add(item.message_id)
            if isinstance(decision, Settled):
                settled.append(_delivered(item, name, decision))
            else:
                _bury(connection, item, decision.cause, name)
        if settled:
            deliveries.settle_all(connection, settled)
        if concluded:
            deliveries.conclude(connection, sorted(concluded))

    def _decide(self, connection: Connection, item: Delivery, outcome: Outcome) -> Decision:
        now = self._now()
        first = now
        if isinstance(outcome, Again) and item.attempts:
            first = _first_attempt_at(connection, item.id) or now
        return decide(
            outcome,
            attempts=item.attempts + 1,
            first_attempt_at=first,
            now=now,
            policy=self._policies.get(item.destination, self._policy),
            random=self._random,
        )


def unfinished(connection: Connection, items: Sequence[Delivery]) -> frozenset[int]:
    """Those of the deliveries of which an earlier attempt was begun and never ended."""
    ids = [item.id for item in items]
    return frozenset(row[0] for row in _UNFINISHED.rows(connection, ids=ids))


def _first_attempt_at(connection: Connection, delivery_id: int) -> datetime | None:
    """When the present series of attempts began: the first one since the last replay."""
    tried, dead = tables.attempt.c, desk_tables.dead_letter.c
    replayed = connection.execute(
        select(func.max(dead.resolved_at)).where(dead.delivery_id == delivery_id)
    ).scalar_one()
    first = select(func.min(tried.started_at)).where(tried.delivery_id == delivery_id)
    if replayed is not None:
        first = first.where(tried.started_at >= replayed)
    began: datetime | None = connection.execute(first).scalar_one()
    return began


def _delivered(item: Delivery, outcome: str, decision: Settled) -> Settlement:
    return Settlement(
        delivery_id=item.id,
        outcome=outcome,
        state=DeliveryState.DELIVERED,
        evidence=decision.evidence,
    )


def _retried(item: Delivery, outcome: str, decision: Retry) -> Settlement:
    return Settlement(
        delivery_id=item.id,
        outcome=outcome,
        state=DeliveryState.PENDING,
        due_at=decision.at,
        cause=decision.cause,
        counted=decision.counted,
    )


def _not_made(item: Delivery) -> Settlement:
    return Settlement(
        delivery_id=item.id, outcome="not-made", state=DeliveryState.PENDING, counted=False
    )


def _bury(connection: Connection, item: Delivery, cause: Cause, outcome: str) -> None:
    deliveries.settle(connection, item.id, outcome=outcome, state=DeliveryState.DEAD, cause=cause)
    deadletters.bury(
        connection,
        item.message_id,
        Stage.DELIVER,
        cause,
        delivery_id=item.id,
        attempts=item.attempts + 1,
    )

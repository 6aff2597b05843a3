"""Stage 6 for destinations outside the database: one lane, one item after the other.

An attempt is committed before it is made and settled after it. What happened in between nobody
knows when the worker dies, or when the destination does not answer: the next attempt is told
(``Delivery.begun``) and asks the destination before it sends. A worker that was frozen finds
its lease too old before it sends, and lost when it settles.

How the destination stands (breaker, rate, rest) is shared by all workers. While nothing may be
attempted there its lanes stay due and are not looked at: that uses up no attempt, and costs the
other destinations nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from gateway.attempt import call, current
from gateway.breaker import (
    DestinationPolicy,
    Go,
    NotBefore,
    Standing,
    admit,
    after_failure,
    after_rest,
    after_success,
)
from gateway.destinations import Destination, ReplacesEntries
from gateway.journal import deliveries, lanes, placed, standings, standstills
from gateway.journal.journal import Journal, JournalUnavailable, LeaseLost
from gateway.journal.placed import Placed
from gateway.model import Again, Cause, CauseCode, Delivered, Delivery, Entry, Outcome, Wait
from gateway.route import lane_destination
from gateway.settlement import Settler
from gateway.shares import Shares, standing_of

LANE_ITEMS_MAX = 16
"""Deliveries of one lane that are claimed at a time."""

LANES_LOOKED_AT = 8
"""Due lanes that a worker of a destination looks for at a time."""

RENEW_BEFORE = 4
"""An attempt is only made in the first so-many-th part of a lease: what was frozen asks first."""

NOTHING_NEWER = Delivered(evidence="nothing to send: what stands there is as new or newer")

_DESTINATION_FAILED = frozenset({CauseCode.DESTINATION_UNAVAILABLE, CauseCode.OUTCOME_UNKNOWN})


@dataclass(slots=True)
class _Held:
    lane: str
    token: int
    items: list[Delivery]
    up_to: int
    renewed_at: datetime


@dataclass(slots=True)
class _Attempt:
    """One attempt in hand: what is sent, and the word on it."""

    item: Delivery
    sent: Delivery
    probe: bool
    outcome: Outcome | None = None


class ElsewhereDrain:
    """Drains lanes of destinations outside the database. Safe to share between threads."""

    def __init__(
        self,
        journal: Journal,
        destinations: Mapping[str, Destination],
        settler: Settler,
        shares: Shares,
        *,
        policies: Mapping[str, DestinationPolicy] | None = None,
        owner: str,
        lease: timedelta,
        now: Callable[[], datetime],
        stopping: Callable[[], bool],
        on_postponed: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._destinations = {n: d for n, d in destinations.items() if not d.transactional}
        self._settler = settler
        self._shares = shares
        self._policies = dict(policies or {})
        self._owner = owner
        self._lease = lease
        self._now = now
        self._stopping = stopping
        self._on_postponed = on_postponed

    @property
    def names(self) -> frozenset[str]:
        """The destinations that it delivers to."""
        return frozenset(self._destinations)

    def drain(self, lane: str) -> bool:
        """Work in one lane for a turn; True when it should be rung again.

        Raises JournalUnavailable.
        """
        destination = self._destinations.get(lane_destination(lane))
        if destination is None:
            return False
        with self._journal.read() as connection:
            if not self._shares.look(connection, self._now()).takes(lane):
                return False
        return self._turn(destination, lane)

    def work(self, name: str) -> float | None:
        """Work in the due lanes of a destination, the most urgent first.

        Gives the seconds after which to look again: 0 when there is more, None when nothing
        is due. Raises JournalUnavailable, and what one lane met once the others had their turn.
        """
        destination, now = self._destinations[name], self._now()
        with self._journal.read() as connection:
            view = self._shares.look(connection, now)
            if name in view.closed:
                return (view.closed[name] - now).total_seconds()
            row = standings.get(connection, name)
            slot = row.get("next_slot") if row is not None else None
            if slot is not None and self._policy(name).per_second > 0:
                verdict, _ = self._admit(standing_of(row, name), now)
                if isinstance(verdict, NotBefore):
                    return (verdict.at - now).total_seconds()
            due = lanes.due(connection, now, LANES_LOOKED_AT, destination=name, rank=view.rank)
        faults: list[Exception] = []
        for lane in due:
            if self._stopping():
                return None
            try:
                self._turn(destination, lane)
            except JournalUnavailable:
                raise
            except Exception as fault:  # noqa: BLE001  one patient's lane stops no other's
                faults.append(fault)
        if faults:
            raise faults[0]
        return 0.0 if due else None

    # --- one lane -----------------------------------------------------------------

    def _turn(self, destination: Destination, lane: str) -> bool:
        with contextlib.suppress(LeaseLost):
            held = self._take(destination, lane)
            if held is not None:
                return self._empty(destination, held)
        return False

    def _take(self, destination: Destination, lane: str) -> _Held | None:
        now = self._now()
        with self._journal.write() as connection:
            token = lanes.lease(connection, lane, self._owner, self._lease, now)
            if token is None:
                return None
            up_to = self._shares.look(connection, now).standstills.up_to(destination.name)
            items = deliveries.claim(connection, lane, token, LANE_ITEMS_MAX, now, up_to=up_to)
            if not items:
                lanes.release(connection, lane, token, now, up_to=up_to)
                return None
        return _Held(lane, token, items, up_to, now)

    def _empty(self, destination: Destination, held: _Held) -> bool:
        """Begin, make and settle each delivery; whether the lane, given back, has due work."""
        attempt: _Attempt | None = None
        while True:
            try:
                attempt, postponed, again = self._step(destination, held, attempt)
            except LeaseLost:
                raise
            except Exception:
                if attempt is not None:
                    # It is done whatever became of the transaction: written down if possible.
                    with contextlib.suppress(LeaseLost, JournalUnavailable):
                        self._step(destination, held, attempt, begin=False)
                raise
            if postponed:
                self._on_postponed()
            if attempt is None:
                return again
            if attempt.outcome is None:
                self._renewed(held)
                attempt.outcome = call(destination, attempt.sent)

    def _step(
        self,
        destination: Destination,
        held: _Held,
        done: _Attempt | None,
        *,
        begin: bool = True,
    ) -> tuple[_Attempt | None, bool, bool]:
        """One transaction: settle what was attempted and begin the next, or give the lane back.

        Gives the next attempt, whether something was put off, and whether there is more due.
        """
        now = self._now()
        with self._journal.write() as connection:
            lanes.fence(connection, held.lane, held.token)
            blocked = done is not None and self._settle(connection, destination, done, now)
            attempt = None
            if begin and not blocked:
                attempt = self._begin(connection, destination, held, now)
            again = False
            if attempt is None:
                again = lanes.release(connection, held.lane, held.token, now, up_to=held.up_to)
            else:
                lanes.renew(connection, held.lane, held.token, self._lease, now)
                held.renewed_at = now
        return attempt, done is not None and isinstance(done.outcome, Again | Wait), again

    def _renewed(self, held: _Held) -> None:
        """Make sure, before something is sent, that the lane is still ours for long enough.
        Raises LeaseLost, which leaves the attempt unfinished."""
        now = self._now()
        if now - held.renewed_at <= self._lease / RENEW_BEFORE:
            return
        with self._journal.write() as connection:
            lanes.renew(connection, held.lane, held.token, self._lease, now)
        held.renewed_at = now

    def _begin(
        self, connection: Connection, destination: Destination, held: _Held, now: datetime
    ) -> _Attempt | None:
        if destination.name in standstills.current(connection).paused_destinations:
            return None
        while held.items and not self._stopping():
            row = standings.get(connection, destination.name)
            verdict: Go | NotBefore
            verdict, after = self._admit(standing_of(row, destination.name), now)
            if after != standing_of(row, destination.name):
                # It would change: decided once more, where no other worker decides too.
                locked = standing_of(
                    standings.lock(connection, destination.name, now), destination.name
                )
                verdict, after = self._admit(locked, now)
                self._store(connection, locked, after, now)
            if isinstance(verdict, NotBefore):
                return None
            item = held.items.pop(0)
            if not self._settler.begin(connection, item, in_company=0):
                continue
            sent = current(item)
            if isinstance(destination, ReplacesEntries):
                sent = _not_outdated(connection, sent)
                if not sent.entries and not sent.merged_patients:
                    return _Attempt(item, sent, verdict.probe, NOTHING_NEWER)
            return _Attempt(item, sent, verdict.probe)
        return None

    def _settle(
        self, connection: Connection, destination: Destination, done: _Attempt, now: datetime
    ) -> bool:
        """Write down how an attempt ended; whether its lane must wait."""
        assert done.outcome is not None, "an attempt is settled after it was made"
        outcome = self._judge(connection, destination.name, done, done.outcome, now)
        self._settler.record(connection, [(done.item, outcome)])
        if isinstance(outcome, Delivered) and isinstance(destination, ReplacesEntries):
            put = [(each.reference, _placed(done.sent, each)) for each in done.sent.entries]
            placed.note(connection, destination.name, put)
        later = isinstance(outcome, Again) or (isinstance(outcome, Wait) and outcome.alone)
        if later and self._policy(destination.name).passes:
            deliveries.set_aside(connection, done.item.id)
            return False
        return isinstance(outcome, Again | Wait)

    # --- the destination's standing -----------------------------------------------

    def _policy(self, name: str) -> DestinationPolicy:
        return self._policies.get(name) or DestinationPolicy()

    def _admit(self, standing: Standing, now: datetime) -> tuple[Go | NotBefore, Standing]:
        policy = self._policy(standing.destination)
        return admit(
            standing,
            now,
            per_second=policy.per_second,
            burst=policy.burst,
            probe_for=2 * self._lease,
        )

    def _judge(
        self, connection: Connection, name: str, done: _Attempt, outcome: Outcome, now: datetime
    ) -> Outcome:
        """Note what an outcome says of the destination; the outcome as it counts for the item:
        an attempt that was made to find out about the destination is not counted."""
        before = standing_of(standings.get(connection, name), name)
        after = self._after(before, done, outcome, now)
        if after != before:
            before = standing_of(standings.lock(connection, name, now), name)
            after = self._after(before, done, outcome, now)
            self._store(connection, before, after, now)
        if done.probe and _failed(outcome) and isinstance(outcome, Again):
            return Wait(cause=outcome.cause, after=(after.until or now) - now)
        return outcome

    def _after(
        self, standing: Standing, done: _Attempt, outcome: Outcome, now: datetime
    ) -> Standing:
        if done.outcome is NOTHING_NEWER and not done.probe:
            return standing
        if isinstance(outcome, Wait) and not outcome.alone:
            return after_rest(standing, now + outcome.after, outcome.cause, now)
        if _failed(outcome) and isinstance(outcome, Again):
            breaker = self._policy(standing.destination).breaker
            return after_failure(standing, now, breaker, outcome.cause, probe=done.probe)
        return after_success(standing, now, probe=done.probe)

    def _store(
        self, connection: Connection, before: Standing, after: Standing, now: datetime
    ) -> None:
        if after != before:
            standings.store(connection, _row(replace(after, changed_at=now)))


def _row(standing: Standing) -> dict[str, Any]:
    cause: Cause | None = standing.cause
    return {
        **{name: value for name, value in asdict(standing).items() if name != "cause"},
        "breaker": standing.breaker.value,
        "cause": cause,
    }


def _failed(outcome: Outcome) -> bool:
    """Whether the destination failed, not the item."""
    return isinstance(outcome, Again) and outcome.cause.code in _DESTINATION_FAILED


def _not_outdated(connection: Connection, item: Delivery) -> Delivery:
    """The delivery without what would turn the destination back."""
    standing = placed.found(connection, item.destination, (each.reference for each in item.entries))
    kept = tuple(
        each
        for each in item.entries
        if each.reference not in standing
        or standing[each.reference].gives_way_to(_placed(item, each))
    )
    return item if len(kept) == len(item.entries) else replace(item, entries=kept)


def _placed(item: Delivery, entry: Entry) -> Placed:
    return Placed(item.sequence, item.revision, entry.create_only)

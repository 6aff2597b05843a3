"""Stage 6: one patient's deliveries to one destination in the database, in order.

The built-in record lives in the journal's database: what it does and the mark
that it was done are one transaction. (``gateway.elsewhere`` is the same for all others.)

A failed attempt that may pass blocks its lane until its time, and no other lane.
One that never will is buried, and the lane goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from sqlalchemy import Connection

from gateway.attempt import NotAtOnce, attempt, attempt_at_once, make_ready
from gateway.destinations import Destination
from gateway.failure import internal
from gateway.journal import convoy, deliveries, lanes
from gateway.journal.journal import Journal, JournalUnavailable, LeaseLost
from gateway.model import Again, Delivery, Outcome, Refused, Wait
from gateway.route import lane_destination
from gateway.settlement import End, Settler, unfinished
from gateway.shares import Shares
from gateway.solo import Solo

LANES_MAX = 64
"""Lanes of the built-in record that are worked on in one transaction."""

TOGETHER_ITEMS_MAX = 128
"""Deliveries, of one lane or of many, in one transaction of the built-in record."""

EACH_ITEMS_MIN = 4
"""Deliveries that each of many lanes may at least put into it."""

TURN_ROUNDS = 8
"""Rounds after which a worker makes room for other lanes."""


@dataclass(frozen=True, slots=True)
class _Held:
    """One lane that this worker has, and what it claimed there."""

    lane: str
    token: int
    items: tuple[Delivery, ...]
    up_to: int
    """The last message whose deliveries go there now."""

    @property
    def ids(self) -> frozenset[int]:
        """The ids of the items."""
        return frozenset(item.id for item in self.items)


class OutboundDrain:
    """Drains lanes ``<patient>@<destination>`` of destinations in this database. Safe to share
    between threads.

    ``on_postponed`` is called after the commit of an attempt that will be made again.
    ``exclusive`` is held from the claim to the commit of all but suspects.
    """

    def __init__(
        self,
        journal: Journal,
        destinations: Mapping[str, Destination],
        settler: Settler,
        shares: Shares,
        *,
        owner: str,
        lease: timedelta,
        now: Callable[[], datetime],
        random: Callable[[], float],
        stopping: Callable[[], bool],
        on_postponed: Callable[[], None],
        exclusive: AbstractContextManager[object],
    ) -> None:
        self._journal = journal
        self._destinations = {n: d for n, d in destinations.items() if d.transactional}
        self._settler = settler
        self._shares = shares
        self._owner = owner
        self._lease = lease
        self._now = now
        self._random = random
        self._stopping = stopping
        self._on_postponed = on_postponed
        self._exclusive = exclusive
        self._solo = Solo()

    @property
    def names(self) -> frozenset[str]:
        """The destinations that it delivers to."""
        return frozenset(self._destinations)

    def drain(self, lane: str) -> bool:
        """Work for a turn in all due lanes of the lane's destination; True when it should be
        rung again.

        One transaction for many patients costs little more than one for one, and one
        ring may stand for many. Raises JournalUnavailable.
        """
        destination = self._destinations.get(lane_destination(lane))
        return destination is not None and self._drain_together(destination)

    # --- the record: effect and mark in one transaction ---------------------------

    def _drain_together(self, destination: Destination) -> bool:
        """A turn in all due lanes of a destination in this database.

        Where one transaction writes at a time (SQLite), one worker does it at a time: a
        second one would wait for each of its transactions only to find the lanes taken.
        """
        if self._journal.dialect != "sqlite":
            return self._turn_together(destination)
        return self._solo.do(destination.name, lambda: self._turn_together(destination))

    def _turn_together(self, destination: Destination) -> bool:
        for _ in range(TURN_ROUNDS):
            names, up_to = self._due(destination.name)
            if not names:
                return False
            with self._exclusive:
                together, suspect = self._take(names, up_to)
                self._all_at_once(destination, together)
            # In any order but always the same: when workers are killed for other reasons than
            # their work, it must not be the same item each time that they have in hand.
            for held in sorted(suspect, key=lambda _: self._random()):
                with contextlib.suppress(LeaseLost):
                    self._one_at_a_time(destination, held)
            if self._stopping():
                break
        return bool(self._due(destination.name)[0])

    def _due(self, destination: str) -> tuple[list[str], int]:
        """Lanes of a destination that are due, and up to which message deliveries go there."""
        now = self._now()
        with self._journal.read() as connection:
            view = self._shares.look(connection, now)
            due = lanes.due(connection, now, LANES_MAX, destination=destination, rank=view.rank)
        return due, view.standstills.up_to(destination)

    def _take(self, names: Sequence[str], up_to: int) -> tuple[list[_Held], list[_Held]]:
        """Lease and claim: lanes that can go together, their attempts begun; and lanes in
        which something was begun before and never ended, which must go one by one."""
        now = self._now()
        with self._journal.write() as connection:
            tokens = convoy.lease_all(connection, names, self._owner, self._lease, now)
            each_max = max(EACH_ITEMS_MIN, TOGETHER_ITEMS_MAX // max(len(tokens), 1))
            claimed = convoy.claim_all(
                connection, tokens, each=each_max, limit=TOGETHER_ITEMS_MAX, now=now, up_to=up_to
            )
            idle = {lane: token for lane, token in tokens.items() if lane not in claimed}
            convoy.release_all(connection, idle, now, up_to=up_to)
            held = [
                _Held(lane, tokens[lane], tuple(items), up_to) for lane, items in claimed.items()
            ]
            lost = unfinished(connection, [item for each in held for item in each.items])
            suspect = [each for each in held if lost.intersection(each.ids)]
            together = [each for each in held if not lost.intersection(each.ids)]
            deliveries.start_attempts(
                connection, [item.id for each in together for item in each.items]
            )
        return together, suspect

    def _all_at_once(self, destination: Destination, held: Sequence[_Held]) -> None:
        """Deliver what several lanes hold in one transaction, if all of it goes."""
        if not held:
            return
        tokens = {each.lane: each.token for each in held}
        items = [item for each in held for item in each.items]
        try:
            ready = make_ready(destination, items)
            with self._journal.write() as connection:
                convoy.fence_all(connection, tokens)
                ends: Sequence[End] = attempt_at_once(connection, destination, items, ready)
                self._settler.record(connection, ends)
                convoy.release_all(connection, tokens, self._now(), up_to=held[0].up_to)
        except JournalUnavailable:
            self._give_up(held, [(item, None) for each in held for item in each.items])
            raise
        except NotAtOnce as one:
            self._lane_by_lane(destination, held, {one.delivery_id: one.outcome})
        except Exception:  # noqa: BLE001  one lane lost, or a fault: found one by one
            self._lane_by_lane(destination, held, {})

    def _lane_by_lane(
        self, destination: Destination, held: Sequence[_Held], ended: Mapping[int, Outcome]
    ) -> None:
        """The same, one item after the other; their attempts are begun already, and how one
        of them ended may be known."""
        for each in held:
            # A lane that was lost meanwhile (a merge took it) is another's concern now.
            with contextlib.suppress(LeaseLost):
                self._one_at_a_time(destination, each, begun=each.ids, ended=ended)

    def _give_up(self, held: Sequence[_Held], ends: Sequence[End]) -> None:
        """The journal failed: settle what is known and give the lanes back, if it lets us."""
        tokens = {each.lane: each.token for each in held}
        with (
            contextlib.suppress(JournalUnavailable, LeaseLost),
            self._journal.write() as connection,
        ):
            convoy.fence_all(connection, tokens)
            self._settler.record(connection, ends)
            convoy.release_all(connection, tokens, self._now())

    # --- one item after the other -------------------------------------------------

    def _one_at_a_time(
        self,
        destination: Destination,
        held: _Held,
        *,
        begun: frozenset[int] = frozenset(),
        ended: Mapping[int, Outcome] = MappingProxyType({}),
    ) -> bool:
        """Begin, make and settle each delivery of a lane by itself; whether the lane, given
        back, has due work again. An attempt is committed before it is made."""
        left = list(held.items)
        item: Delivery | None = None
        while True:
            try:
                with self._journal.write() as connection:
                    lanes.fence(connection, held.lane, held.token)
                    blocked = False
                    if item is not None:
                        outcome = ended.get(item.id) or attempt(connection, destination, item)
                        blocked = isinstance(outcome, Again | Wait)
                        self._settler.record(connection, [(item, outcome)])
                    following = None
                    if not blocked:
                        following = self._begin_next(connection, left, begun)
                    now = self._now()
                    again = False
                    if following is None:
                        # Begun with the others of its batch, and not to be made now.
                        idle: list[End] = [(each, None) for each in left if each.id in begun]
                        self._settler.record(connection, idle)
                        again = lanes.release(
                            connection, held.lane, held.token, now, up_to=held.up_to
                        )
                    else:
                        lanes.renew(connection, held.lane, held.token, self._lease, now)
            except LeaseLost:
                raise
            except JournalUnavailable:
                ends: list[End] = [(each, None) for each in left if each.id in begun]
                self._give_up([held], [*ends, (item, None)] if item else ends)
                raise
            except Exception as error:
                if item is None:
                    raise
                self._settle_alone(held, item, error)
                item = None
                continue
            if following is None:
                if blocked:
                    self._on_postponed()
                return again
            item = following

    def _begin_next(
        self, connection: Connection, left: list[Delivery], begun: frozenset[int]
    ) -> Delivery | None:
        while left and not self._stopping():
            item = left.pop(0)
            if item.id in begun or self._settler.begin(connection, item, in_company=1):
                return item
        return None

    def _settle_alone(self, held: _Held, item: Delivery, error: Exception) -> None:
        """Settle an item after its transaction failed: what the record would have done is
        undone, and will fail again, so it is buried."""
        with self._journal.write() as connection:
            lanes.fence(connection, held.lane, held.token)
            self._settler.record(connection, [(item, Refused(cause=internal(error)))])

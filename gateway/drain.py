"""One lane, whichever kind it is: the only thing that a worker calls."""

from __future__ import annotations

import os
import random
import socket
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from gateway.breaker import DestinationPolicy
from gateway.bulk import Statement
from gateway.deliver import OutboundDrain
from gateway.destinations import Destination
from gateway.elsewhere import ElsewhereDrain
from gateway.gate import PermissionGate
from gateway.inbound import InboundDrain
from gateway.joined import JudgeJoined, unjudged
from gateway.journal.journal import Journal
from gateway.journal.times import utc_now
from gateway.journal.turnstile import Turnstile
from gateway.mapping_processes import MappingProcesses
from gateway.normalise import Normaliser
from gateway.preparing import Reads
from gateway.reported import HearReports, unheard
from gateway.retry import RetryPolicy
from gateway.route import DestinationRule, lane_destination, lane_source
from gateway.settlement import Settler
from gateway.shares import PRIORITIES, Shares

LANES_PER_RING = 32
"""Lanes of the built-in record for which one worker is woken."""

_DUE = Statement(
    "SELECT 1 FROM lane WHERE name = :lane AND next_at <= :now"
    " AND (lease_until IS NULL OR lease_until <= :now)"
)

LEASE_DEFAULT = timedelta(seconds=30)


class Drainer:
    """Empties lanes. Any number of threads, processes and machines may drain at the same
    time: a lease with a fencing token keeps every lane to one of them.

    ``lease`` must be longer than a destination's longest call. ``policies`` gives
    destinations their own retry policy, ``policy`` is for the others; ``treatment`` says
    how those outside the database are treated, ``shares`` who goes first. ``gate`` is
    told when a permission changes. ``on_postponed`` may be set to a function that is
    called when something was put off to a later time. ``processes`` read and map in the
    place of the draining thread when there is a backlog. ``judge_joined`` holds messages that came
    in fragments against what their source demands, ``hear_reports`` is told of validated reports.
    Raises ValueError when a rule names a destination that is not there.
    """

    def __init__(
        self,
        journal: Journal,
        normaliser: Normaliser,
        destinations: Sequence[Destination],
        *,
        rules: Sequence[DestinationRule] | None = None,
        policies: Mapping[str, RetryPolicy] | None = None,
        policy: RetryPolicy | None = None,
        treatment: Mapping[str, DestinationPolicy] | None = None,
        shares: Shares | None = None,
        gate: PermissionGate | None = None,
        lease: timedelta = LEASE_DEFAULT,
        now: Callable[[], datetime] = utc_now,
        draw: Callable[[], float] = random.random,
        processes: MappingProcesses | None = None,
        judge_joined: JudgeJoined = unjudged,
        hear_reports: HearReports = unheard,
    ) -> None:
        known = {destination.name: destination for destination in destinations}
        if rules is None:
            rules = [DestinationRule(destination=name) for name in known]
        missing = sorted({rule.destination for rule in rules} - known.keys())
        if missing:
            raise ValueError(f"no destination is named {', '.join(missing)}")
        self._journal = journal
        self._now = now
        self.lease = lease
        self._together = frozenset(each.name for each in destinations if each.transactional)
        self._stopping = threading.Event()
        self.on_postponed: Callable[[], None] | None = None
        owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        # One thread at a time gets anything done in Python and in SQLite: two that wait for one
        # another within their transactions would take longer than one after the other.
        alone = journal.dialect == "sqlite"
        exclusive: AbstractContextManager[object] = Turnstile() if alone else nullcontext()
        self._inbound = InboundDrain(
            journal,
            Reads(normaliser, processes),
            rules,
            gate=gate,
            owner=owner,
            lease=lease,
            now=now,
            stopping=self._stopping.is_set,
            exclusive=exclusive,
            judge_joined=judge_joined,
            hear_reports=hear_reports,
        )
        settler = Settler(policies or {}, policy or RetryPolicy(), now=now, random=draw)
        self.shares = shares or Shares(known)
        self._outbound = OutboundDrain(
            journal,
            known,
            settler,
            self.shares,
            owner=owner,
            lease=lease,
            now=now,
            random=draw,
            stopping=self._stopping.is_set,
            on_postponed=self._postponed,
            exclusive=exclusive,
        )
        self.elsewhere = ElsewhereDrain(
            journal,
            known,
            settler,
            self.shares,
            policies=treatment,
            owner=owner,
            lease=lease,
            now=now,
            stopping=self._stopping.is_set,
            on_postponed=self._postponed,
        )

    def drain(self, lane: str) -> bool:
        """Work in a lane for one turn; True when it should be rung again.

        A lane that is not due, that somebody else has or that does not exist
        costs one short read. Raises JournalUnavailable.
        """
        if self._stopping.is_set():
            return False
        if lane_source(lane) is not None:
            return self._due(lane) and self._inbound.drain(lane)
        if lane_destination(lane) in self._together:
            # Looks for due lanes by itself; this one stands for all of its destination.
            return self._outbound.drain(lane)
        return self._due(lane) and self.elsewhere.drain(lane)

    def rings(self, lanes: Iterable[str]) -> list[str]:
        """Of lanes that have become due together, those to ring: every one but, of a
        destination whose lanes are drained together, one in ``LANES_PER_RING`` (on SQLite
        one)."""
        kept: list[str] = []
        together: dict[str, list[str]] = defaultdict(list)
        for lane in sorted(lanes, key=self._urgency):
            if lane_source(lane) is None and lane_destination(lane) in self._together:
                together[lane_destination(lane)].append(lane)
            else:
                kept.append(lane)
        for names in together.values():
            # On SQLite one worker at a time drains them (``gateway.deliver``).
            kept += names[:1] if self._journal.dialect == "sqlite" else names[::LANES_PER_RING]
        return kept

    def _urgency(self, lane: str) -> tuple[int, str]:
        priority = self.shares.priorities.get(lane_source(lane) or "", "normal")
        return PRIORITIES.index(priority), lane

    def read_with(self, normaliser: Normaliser, processes: MappingProcesses | None) -> None:
        """Read and map messages with these from the next turn in a lane on."""
        self._inbound.reads = Reads(normaliser, processes)

    @property
    def on_outdated(self) -> Callable[[], None]:
        """Called after a turn that ended with other mappings than those in force by then."""
        return self._inbound.on_outdated

    @on_outdated.setter
    def on_outdated(self, call: Callable[[], None]) -> None:
        self._inbound.on_outdated = call

    def stop(self) -> None:
        """Finish the batches in hand, give the lanes back and begin nothing more."""
        self._stopping.set()

    def _postponed(self) -> None:
        if self.on_postponed is not None:
            self.on_postponed()

    def _due(self, lane: str) -> bool:
        now = self._now()
        with self._journal.read() as connection:
            if not _DUE.rows(connection, lane=lane, now=now):
                return False
            return self.shares.look(connection, now).takes(lane)

"""The workers of one process: threads that drain lanes, and the sweep behind them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from dramatiq.worker import Worker
from sqlalchemy import Connection, func, or_, select

from gateway.bell import Bell, EmbeddedBell, RedisBell
from gateway.broker import DoorbellRedisBroker, EmbeddedBroker, declare_drain
from gateway.failure import internal
from gateway.journal import lanes
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.tables import lane as lane_table
from gateway.journal.times import utc_now

SWEEP_LANES_MAX = 500
"""Lanes that one sweep rings; the next sweep rings the next."""

PREFETCH = 64
"""Rings that a process takes from Redis at a time. They are small and soon done."""

WORKER_TIMEOUT_MILLISECONDS = 50
"""How long an idle worker waits before it asks Redis again."""

OVERDUE = timedelta(seconds=30)
"""A lane that has been due for so long without a worker is drained by the sweep itself:
either all workers are busy, or the doorbell says that it rings and nobody hears it."""

OVERDUE_LANES_MAX = 8
"""Overdue lanes that one sweep drains."""

PAUSE_MIN_SECONDS = 0.02
"""The shortest pause between two sweeps, whatever falls due meanwhile."""

STOP_TIMEOUT_SECONDS = 30.0

log = structlog.get_logger("ecluse.worker")


class Drains(Protocol):
    """What empties a lane: :class:`gateway.drain.Drainer`."""

    on_postponed: Callable[[], None] | None

    def drain(self, lane: str) -> bool:
        """Work in a lane; True when it should be rung again. Raises JournalUnavailable."""
        ...

    def rings(self, lanes: Iterable[str]) -> list[str]:
        """Of lanes that have become due together, those that must be rung."""
        ...

    def stop(self) -> None:
        """Finish the batches in hand, give the lanes back, begin nothing more."""
        ...


class Sweeper:
    """Rings every due lane at the start, then every ``every`` seconds, and sooner when one
    falls due sooner. While the bell is away it drains them itself."""

    def __init__(
        self,
        journal: Journal,
        bell: Bell,
        ring_all: Callable[[Iterable[str]], None],
        drain: Callable[[str], None],
        *,
        every: float,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._journal = journal
        self._bell = bell
        self._ring_all = ring_all
        self._drain = drain
        self._every = every
        self._now = now
        self._awake = threading.Event()
        self._stopping = False
        self._unavailable = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start sweeping in a thread."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="ecluse-sweep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the lane that it may be draining. Idempotent."""
        self._stopping = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """Sweep now."""
        self._awake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._awake.clear()
            pause = self._every
            try:
                pause = self.sweep()
                self._tell(unavailable=False)
            except JournalUnavailable:
                self._tell(unavailable=True)
            except Exception as error:  # noqa: BLE001  the sweep must outlive any fault
                fault = internal(error)
                log.critical("the sweep failed", error=fault.detail, at=fault.location)
            self._awake.wait(pause)

    def _tell(self, *, unavailable: bool) -> None:
        if unavailable != self._unavailable:
            self._unavailable = unavailable
            log.warning("the journal is away" if unavailable else "the journal answers again")

    def sweep(self) -> float:
        """One sweep; the seconds until the next. Raises JournalUnavailable."""
        now = self._now()
        with self._journal.read() as connection:
            due = lanes.due(connection, now, SWEEP_LANES_MAX)
            following: datetime | None = connection.execute(
                select(func.min(lane_table.c.next_at)).where(lane_table.c.next_at > now)
            ).scalar_one()
            overdue = self._overdue(connection, now) if due else []
        if due and not (self._bell.away or self._bell.busy):
            self._ring_all(due)
        for lane in due if self._bell.away else overdue:
            if self._stopping:
                return 0.0
            self._drain(lane)
        if self._bell.away and len(due) == SWEEP_LANES_MAX:
            return 0.0
        if following is None:
            return self._every
        soon = max((following - self._now()).total_seconds(), PAUSE_MIN_SECONDS)
        return min(self._every, soon)

    @staticmethod
    def _overdue(connection: Connection, now: datetime) -> list[str]:
        column = lane_table.c
        found = connection.execute(
            select(column.name)
            .where(
                column.next_at <= now - OVERDUE,
                or_(column.lease_until.is_(None), column.lease_until <= now),
            )
            .order_by(column.next_at)
            .limit(OVERDUE_LANES_MAX)
        )
        return list(found.scalars())


class WorkerPool:
    """Broker, bell, worker threads and sweep, started and stopped together.

    ``threads`` drain lanes at the same time. :meth:`ring` and :meth:`ring_all`
    may be called from any thread at any time, before ``start`` too.
    """

    def __init__(
        self,
        journal: Journal,
        drainer: Drains,
        broker: EmbeddedBroker | DoorbellRedisBroker,
        *,
        threads: int = 2,
        sweep_seconds: float = 1.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._drainer = drainer
        self._broker = broker
        self._threads = threads
        self._actor = declare_drain(broker, self._drain)
        self.bell: Bell
        if isinstance(broker, EmbeddedBroker):
            self.bell = EmbeddedBell(self._actor)
        else:
            self.bell = RedisBell(broker, self._actor, self._unheard)
        self._sweeper = Sweeper(
            journal, self.bell, self.ring_all, self._drain, every=sweep_seconds, now=now
        )
        drainer.on_postponed = self._sweeper.wake
        self._worker: Worker | None = None
        self._unavailable_until = 0.0

    def start(self) -> None:
        """Start draining. Whatever is due from an earlier run is rung at once."""
        self._worker = Worker(
            self._broker,
            worker_threads=self._threads,
            worker_timeout=WORKER_TIMEOUT_MILLISECONDS,
        )
        if isinstance(self._broker, DoorbellRedisBroker):
            self._worker.queue_prefetch = PREFETCH
        self.bell.start()
        self._worker.start()
        self._sweeper.start()

    def stop(self, timeout: timedelta = timedelta(seconds=STOP_TIMEOUT_SECONDS)) -> None:
        """Finish the batches in hand, give the lanes back and end the threads. Idempotent.

        After ``timeout`` a thread that is still inside a destination's call is
        left behind; its lease ends by itself and another worker does it again.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return
        self._drainer.stop()
        self._sweeper.stop()
        self.bell.stop()
        worker.stop(timeout=int(timeout.total_seconds() * 1000))
        self._broker.close()

    def ring(self, lane: str) -> None:
        """Wake a worker for a lane. Never blocks, never raises."""
        self.bell.ring(lane)

    def ring_all(self, names: Iterable[str]) -> None:
        """Wake workers for lanes that became due together, as ``Journal(on_ring=…)`` calls it."""
        self.bell.ring_all(self._drainer.rings(names))

    def _unheard(self) -> None:
        self._sweeper.wake()

    def _drain(self, lane: str) -> None:
        """One turn in a lane. Whatever happens, the worker's thread goes on."""
        try:
            if self._drainer.drain(lane):
                self.bell.ring(lane)
        except JournalUnavailable:
            # The lane stays due; the sweep comes back to it. One line a minute is enough.
            if time.monotonic() > self._unavailable_until:
                self._unavailable_until = time.monotonic() + 60
                log.warning("a lane was left because the journal is away")
        except Exception as error:  # noqa: BLE001  a fault in one lane must not end a worker
            fault = internal(error)
            log.critical("a lane was left by a fault", error=fault.detail, at=fault.location)

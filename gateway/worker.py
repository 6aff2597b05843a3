"""The workers of one process: threads that drain lanes, and the sweep behind them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import structlog
from dramatiq.worker import Worker

from gateway.bell import Bell, EmbeddedBell, ServerBell
from gateway.broker import EmbeddedBroker, declare_drain
from gateway.crew import Crew
from gateway.elsewhere import ElsewhereDrain
from gateway.failure import internal
from gateway.journal import clock, lanes
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.times import utc_now
from gateway.route import lane_source
from gateway.shares import Shares, View

if TYPE_CHECKING:
    from gateway.rabbitmq import DoorbellRabbitmqBroker
    from gateway.redis_broker import DoorbellRedisBroker

SWEEP_LANES_MAX = 500
"""Lanes that one sweep rings; the next sweep rings the next."""

PREFETCH = 64
"""Rings that a process takes from the broker at a time. They are small and soon done."""

WORKER_TIMEOUT_MILLISECONDS = 50
"""How long an idle worker waits before it asks the broker again."""

OVERDUE = timedelta(seconds=30)
"""A lane that has been due for so long without a worker is drained by the sweep itself:
either all workers are busy, or the doorbell says that it rings and nobody hears it."""

OVERDUE_LANES_MAX = 8
"""Overdue lanes that one sweep drains."""

PAUSE_MIN_SECONDS = 0.02
"""The shortest pause between two sweeps, whatever falls due meanwhile."""

STOP_TIMEOUT_SECONDS = 30.0

SET_BACK = timedelta(seconds=5)
"""A clock that lost so much between two sweeps was set back."""

log = structlog.get_logger("ecluse.worker")


class Drains(Protocol):
    """What empties a lane: :class:`gateway.drain.Drainer`."""

    on_postponed: Callable[[], None] | None
    shares: Shares
    elsewhere: ElsewhereDrain
    lease: timedelta
    """For how long a lane is held without renewing."""

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
    falls due sooner. While the bell is away it drains them itself.

    The destinations ``crewed`` have threads of their own, which ``wake`` wakes: their lanes
    are neither rung nor drained here."""

    def __init__(
        self,
        journal: Journal,
        bell: Bell,
        ring_all: Callable[[Iterable[str]], None],
        drain: Callable[[str], None],
        shares: Shares,
        *,
        wake: Callable[[], None],
        crewed: frozenset[str],
        every: float,
        lease: timedelta,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._journal = journal
        self._bell = bell
        self._ring_all = ring_all
        self._drain = drain
        self._shares = shares
        self._wake_crews = wake
        self._crewed = crewed
        self._every = every
        self._lease = lease
        self._now = now
        self._ahead: timedelta | None = None
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
        self._mind_the_clock(now)
        with self._journal.read() as connection:
            view = self._shares.look(connection, now)
            rank = self._uncrewed(view)
            due = lanes.due(connection, now, SWEEP_LANES_MAX, rank=rank)
            following = lanes.following(connection, now)
            overdue = (
                lanes.due(connection, now - OVERDUE, OVERDUE_LANES_MAX, rank=rank) if due else []
            )
        self._wake_crews()
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

    def _mind_the_clock(self, now: datetime) -> None:
        """At the first sweep, and when the clock was set back: undo what a clock that was ahead
        has put off."""
        ahead = now - datetime.fromtimestamp(0, UTC) - timedelta(seconds=time.monotonic())
        before, self._ahead = self._ahead, ahead
        if before is not None and before - ahead < SET_BACK:
            return
        with self._journal.write() as connection:
            count = clock.put_right(connection, now, self._lease)
        if count:
            log.warning("lanes waited for an instant of a clock that was ahead", lanes=count)

    def _uncrewed(self, view: View) -> lanes.Rank:
        def rank(rooms: Sequence[str]) -> Sequence[Sequence[str]]:
            return view.rank([room for room in rooms if room.partition("/")[0] not in self._crewed])

        return rank


class WorkerPool:
    """Broker, bell, worker threads and sweep, started and stopped together.

    ``threads`` drain lanes at the same time, and ``connections`` (by name, else 1) deliver to
    each destination elsewhere. With no threads it only rings. ``notify`` is the URL of a
    PostgreSQL journal by which processes tell each other, with an embedded broker.
    :meth:`ring` and :meth:`ring_all` may be called from any thread at any time, before
    ``start`` too.
    """

    def __init__(
        self,
        journal: Journal,
        drainer: Drains,
        broker: EmbeddedBroker | DoorbellRedisBroker | DoorbellRabbitmqBroker,
        *,
        threads: int = 2,
        connections: Mapping[str, int] | None = None,
        notify: str = "",
        sweep_seconds: float = 1.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._drainer = drainer
        self.shares = drainer.shares
        self._broker = broker
        self._threads = threads
        self._actor = declare_drain(broker, self._drain)
        self.bell: Bell
        ring_due: Callable[[Iterable[str]], None] = self.ring_all
        if notify and isinstance(broker, EmbeddedBroker):
            from gateway.postgres_bell import PostgresBell

            bell = PostgresBell(notify, broker, self._actor, self._unheard, threads=threads)
            self.bell = bell
            # What a sweep finds others find by their own.
            ring_due = bell.ring_here
        elif isinstance(broker, EmbeddedBroker):
            self.bell = EmbeddedBell(self._actor)
        else:
            self.bell = ServerBell(broker, self._actor, self._unheard)
        self._crews = {
            name: Crew(
                name,
                drainer.elsewhere.work,
                threads=(connections or {}).get(name, 1),
                every=sweep_seconds,
            )
            for name in (drainer.elsewhere.names if threads else ())
        }
        self._sweeper = Sweeper(
            journal,
            self.bell,
            lambda lanes: ring_due(drainer.rings(lanes)),
            self._drain,
            drainer.shares,
            wake=self._wake_crews,
            crewed=frozenset(self._crews),
            every=sweep_seconds,
            lease=drainer.lease,
            now=now,
        )
        drainer.on_postponed = self._sweeper.wake
        self._worker: Worker | None = None
        self._started = False
        self._unavailable_until = 0.0

    def start(self) -> None:
        """Start draining. Whatever is due from an earlier run is rung at once."""
        self._started = True
        if not self._threads:
            self.bell.start()
            return
        self._worker = Worker(
            self._broker,
            worker_threads=self._threads,
            worker_timeout=WORKER_TIMEOUT_MILLISECONDS,
        )
        if not isinstance(self._broker, EmbeddedBroker):
            self._worker.queue_prefetch = PREFETCH
        self.bell.start()
        self._worker.start()
        for crew in self._crews.values():
            crew.start()
        self._sweeper.start()

    def stop(self, timeout: timedelta = timedelta(seconds=STOP_TIMEOUT_SECONDS)) -> None:
        """Finish the batches in hand, give the lanes back and end the threads. Idempotent.

        After ``timeout`` a thread that is still inside a destination's call is
        left behind; its lease ends by itself and another worker does it again.
        """
        worker, self._worker = self._worker, None
        if not self._started:
            return
        self._started = False
        until = time.monotonic() + timeout.total_seconds()
        if worker is not None:
            self._drainer.stop()
            self._sweeper.stop()
        self.bell.stop()
        for crew in self._crews.values():
            crew.stop(until)
        if worker is not None:
            worker.stop(timeout=int(max(until - time.monotonic(), 1.0) * 1000))
        self._broker.close()

    def ring(self, lane: str) -> None:
        """Wake a worker for a lane. Never blocks, never raises."""
        self.ring_all((lane,))

    def ring_all(self, names: Iterable[str]) -> None:
        """Wake workers for lanes that became due together, as ``Journal(on_ring=…)`` calls it."""
        rung = []
        for lane in self._drainer.rings(names):
            crew = self._crew(lane)
            if crew is None:
                rung.append(lane)
            else:
                crew.wake()
        if rung:
            self.bell.ring_all(rung)

    def wake(self) -> None:
        """Look at what is due now, because something was allowed to go on."""
        self._sweeper.wake()

    def _crew(self, lane: str) -> Crew | None:
        return None if lane_source(lane) else self._crews.get(lane.rpartition("@")[2])

    def _wake_crews(self) -> None:
        for crew in self._crews.values():
            crew.wake()

    def _unheard(self) -> None:
        self._sweeper.wake()

    def _drain(self, lane: str) -> None:
        """One turn in a lane. Whatever happens, the worker's thread goes on."""
        crew = self._crew(lane)
        if crew is not None:
            crew.wake()
            return
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

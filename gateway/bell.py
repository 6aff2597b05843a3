"""The doorbell: tells workers that a lane has work. Never blocks, never raises.

Whoever rings has just committed; nothing may fail or wait there because a
broker is slow or away. A ring that is lost is found by the sweep.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Protocol

import dramatiq
import structlog

from gateway.broker import ServerBroker
from gateway.failure import internal

RINGS_MAX = 10_000
"""Lanes that wait to be sent to the broker; the sweep finds what is turned away."""

QUEUE_LENGTH_MAX = 2_000
"""Rings in the broker above which the sweep adds none: the workers have enough to do."""

PROBE_SECONDS = 1.0
"""How often a broker that is away is asked whether it is back."""

log = structlog.get_logger("ecluse.bell")


class Bell(Protocol):
    """What rings lanes."""

    @property
    def away(self) -> bool:
        """Whether nobody hears it now, so that the lanes must be drained in process."""
        ...

    @property
    def busy(self) -> bool:
        """Whether so many rings wait that a sweep should add none."""
        ...

    def start(self) -> None:
        """Begin to send. Rings from before are kept."""
        ...

    def stop(self) -> None:
        """Send no more. Idempotent."""
        ...

    def ring(self, lane: str) -> None:
        """Wake a worker for the lane."""
        ...

    def ring_all(self, lanes: Iterable[str]) -> None:
        """Wake workers for several lanes."""
        ...


class EmbeddedBell:
    """Rings the broker inside the process, at once."""

    away = False
    busy = False

    def __init__(self, actor: dramatiq.Actor[[str], None]) -> None:
        self._actor = actor

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def ring(self, lane: str) -> None:
        """Queue a ring in memory."""
        self._actor.send(lane)

    def ring_all(self, lanes: Iterable[str]) -> None:
        """Queue rings in memory."""
        for lane in lanes:
            self._actor.send(lane)


class ServerBell:
    """Rings through Redis or RabbitMQ, in a thread of its own.

    While that is away the rings go to ``unheard`` instead (once per ring, no
    argument: it wakes the sweep, which drains in process), and one line in the
    log says so; another says when it is back.
    """

    def __init__(
        self,
        broker: ServerBroker,
        actor: dramatiq.Actor[[str], None],
        unheard: Callable[[], None],
        *,
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        self._broker = broker
        self._actor = actor
        self._unheard = unheard
        self._probe_seconds = probe_seconds
        self._lanes: dict[str, None] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._away = False
        self._thread: threading.Thread | None = None

    @property
    def away(self) -> bool:
        """Whether the broker did not answer when it was last tried."""
        return self._away

    @property
    def busy(self) -> bool:
        """Whether the broker holds more rings than the workers soon need."""
        try:
            return self._broker.length() > QUEUE_LENGTH_MAX
        except self._broker.unreachable:
            return True

    def start(self) -> None:
        """Start the thread that sends."""
        self._stopping = False
        self._thread = threading.Thread(target=self._send_all, name="ecluse-bell", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is unsent is left to the sweep of another process."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def ring(self, lane: str) -> None:
        """Queue a ring for the thread; a lane that waits already is not queued twice."""
        self.ring_all((lane,))

    def ring_all(self, lanes: Iterable[str]) -> None:
        """Queue several rings for the thread."""
        with self._changed:
            away = self._away
            if not away:
                for lane in lanes:
                    if len(self._lanes) >= RINGS_MAX:
                        break
                    self._lanes[lane] = None
                self._changed.notify_all()
        if away:
            self._unheard()

    def _send_all(self) -> None:
        while not self._stopping:
            with self._changed:
                if not self._lanes:
                    self._changed.wait(self._probe_seconds)
                lanes, self._lanes = list(self._lanes), {}
            if self._stopping:
                return
            if self._away and not lanes:
                self._set_away(not self._broker.answers())
                continue
            self._send(lanes)

    def _send(self, lanes: list[str]) -> None:
        try:
            for lane in lanes:
                self._actor.send(lane)
        except self._broker.unreachable:
            # Whether the last one arrived is not known, and does not matter.
            self._set_away(True)
        except Exception as error:  # noqa: BLE001  the doorbell must outlive any fault
            fault = internal(error)
            log.critical("the doorbell failed", error=fault.detail, at=fault.location)
            self._set_away(True)

    def _set_away(self, away: bool) -> None:
        if away != self._away:
            with self._changed:
                self._away = away
                self._lanes.clear()
            name = self._broker.name
            said = f"{name} does not answer; lanes are drained in this process"
            log.warning(said if away else f"{name} answers again")
        if away:
            self._unheard()

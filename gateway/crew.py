"""Threads of their own for each destination elsewhere.

A destination that hangs keeps its own threads waiting and nobody else's. They look for due
lanes in the journal; whoever rings only wakes them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from gateway.failure import internal
from gateway.journal.journal import JournalUnavailable

FAULT_SECONDS = 1.0
"""The pause after a fault or while the journal is away."""

log = structlog.get_logger("ecluse.crew")


class Crew:
    """``threads`` threads that deliver to one destination.

    ``work`` does a turn and gives the seconds after which to look again, None when nothing is
    due (:meth:`gateway.elsewhere.ElsewhereDrain.work`); they look every ``every`` seconds even
    if nobody wakes them.
    """

    def __init__(
        self, name: str, work: Callable[[str], float | None], *, threads: int, every: float
    ) -> None:
        self.name = name
        self._work = work
        self._count = threads
        self._every = every
        self._changed = threading.Condition()
        self._wakes = 0
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self._away = False

    def start(self) -> None:
        """Start the threads."""
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"ecluse-{self.name}-{n}", daemon=True)
            for n in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, until: float) -> None:
        """Begin nothing more; wait for what is in hand until the monotonic time ``until``.

        A thread that is still inside the destination's call then is left behind: its lease
        ends by itself, and the next attempt asks the destination. Idempotent.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._threads = []

    def wake(self) -> None:
        """Look now. Never blocks, never raises."""
        with self._changed:
            self._wakes += 1
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._stopping:
            seen = self._wakes
            pause = self._turn()
            if pause == 0:
                continue
            until = time.monotonic() + (self._every if pause is None else min(pause, self._every))
            with self._changed:
                # A wake does not end a pause that the destination or its rate wants.
                while not self._stopping and not (pause is None and self._wakes != seen):
                    left = until - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)

    def _turn(self) -> float | None:
        try:
            pause = self._work(self.name)
        except JournalUnavailable:
            if not self._away:
                log.warning("deliveries wait because the journal is away", destination=self.name)
            self._away = True
            return FAULT_SECONDS
        except Exception as error:  # noqa: BLE001  a fault in one lane must not end a thread
            fault = internal(error)
            log.critical(
                "a lane was left by a fault",
                destination=self.name,
                error=fault.detail,
                at=fault.location,
            )
            return FAULT_SECONDS
        self._away = False
        return pause

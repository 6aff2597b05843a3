"""A thread that does one step after the other, and rests between them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from gateway.failure import internal
from gateway.journal.journal import JournalUnavailable

BETWEEN_STEPS_SECONDS = 0.02
"""Between two steps, so that live messages come first."""

log = structlog.get_logger("ecluse.steps")


class Stepping:
    """Calls ``step`` in a thread called ``name`` from :meth:`start` to :meth:`stop`: at once
    again while it says that there is more to do, else every so many seconds. A fault is
    logged as ``failed``, and the next step is made all the same."""

    def __init__(
        self, name: str, step: Callable[[], bool], *, every_seconds: float, failed: str
    ) -> None:
        self._name = name
        self._step = step
        self._every_seconds = every_seconds
        self._failed = failed
        self._awake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step in hand. Idempotent."""
        self._stopping = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """Make a step now. From any thread."""
        self._awake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._awake.clear()
            more = False
            try:
                more = self._step()
            except JournalUnavailable:
                log.debug("the journal is away", thread=self._name)
            except Exception as error:  # noqa: BLE001  the thread must outlive any fault
                fault = internal(error)
                log.critical(self._failed, error=fault.detail, at=fault.location)
            self._awake.wait(BETWEEN_STEPS_SECONDS if more else self._every_seconds)

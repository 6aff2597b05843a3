"""The thread that does the steps of replays, and keeps the desk's books short."""

from __future__ import annotations

import time

from deadletter.jobs import ReplayRunner
from gateway.journal import letter_counts
from gateway.journal.journal import Journal
from gateway.stepping import Stepping

EVERY_SECONDS = 0.5
HOUSEKEEPING_SECONDS = 3_600.0


class DeskWatch:
    """Runs in a thread of its own from :meth:`start` to :meth:`stop`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._runner = ReplayRunner(journal)
        self._thread = Stepping(
            "ecluse-desk", self.step, every_seconds=EVERY_SECONDS, failed="a replay's step failed"
        )
        self._kept_at = float("-inf")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step in hand. Idempotent."""
        self._thread.stop()

    def wake(self) -> None:
        """Look now. From any thread."""
        self._thread.wake()

    def step(self) -> bool:
        """One step; whether there is more to do. Raises JournalUnavailable."""
        more = self._runner.step()
        self._keep_short()
        return more

    def _keep_short(self) -> None:
        if time.monotonic() - self._kept_at < HOUSEKEEPING_SECONDS:
            return
        self._kept_at = time.monotonic()
        with self._journal.write() as connection:
            letter_counts.forget_old_hours(connection, self._journal.now())

"""The thread that follows the mappings: the journal's word, what waits for a mapping, and jobs."""

from __future__ import annotations

import structlog

from gateway.deployment.deploying import CannotDeploy, Deployer
from gateway.deployment.force import Mappings
from gateway.deployment.reprocessing import ReprocessingRunner
from gateway.deployment.unmapped import UnmappedSweep
from gateway.journal.journal import Journal
from gateway.mapping import MappingError
from gateway.stepping import Stepping

EVERY_SECONDS = 1.0
log = structlog.get_logger("ecluse.mapping")


class Follower:
    """Runs in a thread of its own from :meth:`start` to :meth:`stop`.

    One that does not ``work`` only follows what is in force: for a process that listens and
    leaves the messages to others.
    """

    def __init__(
        self, journal: Journal, mappings: Mappings, deployer: Deployer, *, works: bool = True
    ) -> None:
        self._works = works
        self._mappings = mappings
        self._deployer = deployer
        self._sweep = UnmappedSweep(journal)
        self._runner = ReprocessingRunner(journal)
        self._thread = Stepping(
            "ecluse-mappings", self.step, every_seconds=EVERY_SECONDS,
            failed="following the mappings failed",
        )  # fmt: skip
        self._unusable = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step in hand. Idempotent."""
        self._thread.stop()

    def wake(self) -> None:
        """Look now. From any thread."""
        self._thread.wake()

    def outdated(self) -> None:
        """A turn ended with mappings that are not in force any more. From any thread."""
        self._sweep.again()
        self._thread.wake()

    def step(self) -> bool:
        """One look at everything; whether there is more to do. Raises JournalUnavailable."""
        self._follow()
        if not self._works:
            return False
        now = self._mappings.now
        swept = self._sweep.step(now)
        return self._runner.step(now) or swept

    def _follow(self) -> None:
        wanted = self._deployer.current_version()
        if wanted in (self._unusable, self._mappings.now.version):
            return
        try:
            self._deployer.follow()
        except (CannotDeploy, MappingError) as error:
            # Said once: what runs goes on.
            self._unusable = wanted
            log.critical("the deployed mappings cannot be used here", version=wanted,
                         error=str(error).splitlines()[0])  # fmt: skip

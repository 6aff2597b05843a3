"""The return links in use: one for each source that has a way back to its sender."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from adapters.hl7.return_link import MllpReturnLink
from adapters.hl7.settings import MllpSourceSettings
from gateway.acknowledgements import Acknowledgements
from gateway.journal.journal import Journal
from gateway.ports import Clock
from gateway.retry import RetryPolicy


class ReturnLinks:
    """Runs the application acknowledgements of the sources that are in force.

    What is owed stands in the journal: a source that is gone, or has lost its
    ``return_link``, leaves it there until it has one again.
    """

    def __init__(self, journal: Journal, clock: Clock, policy: RetryPolicy) -> None:
        self._journal = journal
        self._clock = clock
        # Nothing brings a lost acknowledgement back: only its age ends the attempts.
        self._policy = replace(policy, attempts_max=sys.maxsize)
        self._running: dict[str, tuple[tuple[object, ...], Acknowledgements]] = {}
        self._turn = threading.Lock()

    def follow(self, settings: Sequence[Any]) -> None:
        """Start, change and stop so that it is as these settings of sources say.

        Blocks until the attempts in hand of those that stop have ended: two of one source
        at a time would each take the other's for a dead process's.
        """
        wanted = {
            each.name: each
            for each in settings
            if isinstance(each, MllpSourceSettings) and each.return_link
        }
        with self._turn:
            for name, (linked, _) in list(self._running.items()):
                if name not in wanted or _linked(wanted[name]) != linked:
                    self._stop(name)
            for name, each in wanted.items():
                if name not in self._running:
                    link = MllpReturnLink(each, self._clock)
                    made = Acknowledgements(self._journal, link, self._policy)
                    self._running[name] = (_linked(each), made)
                    made.start()

    def stop(self) -> None:
        """Stop all of them, after the attempts in hand. Idempotent."""
        with self._turn:
            for name in list(self._running):
                self._stop(name)

    def _stop(self, name: str) -> None:
        self._running.pop(name)[1].stop()


def _linked(settings: MllpSourceSettings) -> tuple[object, ...]:
    """What a return link is made of."""
    return (
        settings.return_link,
        settings.return_link_timeout_seconds,
        settings.return_link_confirmed,
        settings.zone,
    )

"""The return links in use: one for each source that has a way back to its sender."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters.hl7.return_link import MllpReturnLink
from adapters.hl7.settings import MllpSourceSettings
from adapters.tls import HeldCertificate
from gateway.acknowledgements import Acknowledgements
from gateway.journal.journal import Journal
from gateway.ports import Clock
from gateway.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class _Running:
    linked: tuple[object, ...]
    link: MllpReturnLink
    acknowledgements: Acknowledgements


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
        self._running: dict[str, _Running] = {}
        self._turn = threading.Lock()

    def make(self, settings: Any) -> MllpReturnLink | None:
        """The link that a source of these settings wants, not yet in use; None without one.

        Raises ``adapters.tls.TlsUnusable``.
        """
        return MllpReturnLink(settings, self._clock) if _wants(settings) else None

    def follow(self, settings: Sequence[Any], links: Mapping[str, MllpReturnLink]) -> None:
        """Start, change and stop so that it is as these settings of sources say.

        ``links`` are those of :meth:`make`, by the source's name, for all that are new or have
        changed. Blocks until the attempts in hand of those that stop have ended: two of one source
        at a time would each take the other's for a dead process's.
        """
        wanted = {each.name: each for each in settings if _wants(each)}
        with self._turn:
            for name, running in list(self._running.items()):
                if name not in wanted or _linked(wanted[name]) != running.linked:
                    self._stop(name)
            for name, each in wanted.items():
                if name not in self._running:
                    made = Acknowledgements(self._journal, links[name], self._policy)
                    self._running[name] = _Running(_linked(each), links[name], made)
                    made.start()

    def certificates(self) -> dict[str, Sequence[HeldCertificate]]:
        """The certificates on which each link relies, by its source's name."""
        return {name: each.link.certificates() for name, each in dict(self._running).items()}

    def stop(self) -> None:
        """Stop all of them, after the attempts in hand. Idempotent."""
        with self._turn:
            for name in list(self._running):
                self._stop(name)

    def _stop(self, name: str) -> None:
        self._running.pop(name).acknowledgements.stop()


def _wants(settings: Any) -> bool:
    return isinstance(settings, MllpSourceSettings) and bool(settings.return_link)


def _linked(settings: MllpSourceSettings) -> tuple[object, ...]:
    """What a return link is made of."""
    return (
        settings.return_link,
        settings.return_link_timeout_seconds,
        settings.return_link_confirmed,
        settings.return_link_tls,
        settings.return_link_mllp_release,
        settings.zone,
    )

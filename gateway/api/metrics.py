"""GET /metrics: what the process counted, and what the journal knows, in Prometheus' text format.

Labels are names of the configuration, states and causes: sets that are small and closed.
No patient, no control id.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from gateway import figures, telemetry
from gateway.journal import (
    acknowledgements,
    manifests,
    messages,
    purged,
    purges,
    standings,
    standstills,
)
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.standstills import Kind
from gateway.release import version
from gateway.shares import standing_of

log = structlog.get_logger("ecluse.metrics")

KEEP_SECONDS = 2.0
"""Scrapes within this time share one reading of what is small or indexed."""
KEEP_LONG_SECONDS = 30.0
"""The same for totals that look at every message or attempt."""


class JournalCollector(Collector):
    """Reads the journal when it is scraped; when that fails, ``ecluse_journal_up`` is 0."""

    def __init__(self, journal: Journal, now: Callable[[], datetime] | None = None) -> None:
        self._journal = journal
        self._now = now or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()
        self._standing = _Kept(KEEP_SECONDS, self._read_standing)
        self._totals = _Kept(KEEP_LONG_SECONDS, self._read_totals)

    def describe(self) -> list[Metric]:
        """Nothing: registering must not read the journal."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families, read now or a little before."""
        up = GaugeMetricFamily("ecluse_journal_up", "Whether the journal could be read.")
        with self._lock:
            try:
                families = [*self._standing.get(), *self._totals.get()]
                up.add_metric([], 1)
            except JournalUnavailable:
                log.warning("the journal cannot be read for metrics")
                families = []
                up.add_metric([], 0)
        yield up
        yield from families

    def _read_totals(self) -> list[Metric]:
        received = CounterMetricFamily(
            "ecluse_messages_received",
            "Messages that arrived, repeated ones included.",
            labels=["source", "format"],
        )
        attempts = CounterMetricFamily(
            "ecluse_delivery_attempts",
            "Attempts to deliver that ended, by how they ended.",
            labels=["destination", "outcome"],
        )
        later = GaugeMetricFamily(
            "ecluse_application_acknowledgements",
            "Acknowledgements that senders asked for at the end of a message, by where they stand.",
            labels=["source", "state"],
        )
        with self._journal.read() as connection:
            for (source, form), count in figures.received_by_format(connection).items():
                received.add_metric([source, form], count)
            for (destination, outcome), count in figures.attempts(connection).items():
                attempts.add_metric([destination, outcome], count)
            for source, standing in acknowledgements.counts(connection).items():
                for state, count in standing.items():
                    later.add_metric([source, state.value], count)
            gone = self._purges(connection)
        return [received, attempts, later, *gone]

    @staticmethod
    def _purges(connection: Connection) -> list[Metric]:
        """What purges took, and when the newest one ended; nothing before the first."""
        taken = CounterMetricFamily(
            "ecluse_purged",
            "What purges have taken out: rows by part and state, bytes, files, links.",
            labels=["what", "state"],
        )
        for (what, state), count in purged.sums(connection, purges.PURGED).items():
            taken.add_metric([what, state], count)
        ended = GaugeMetricFamily(
            "ecluse_purge_ended_timestamp_seconds", "When the newest purge came to its end."
        )
        at = purges.last_end(connection)
        if at is not None:
            ended.add_metric([], at.timestamp())
        return [taken, ended]

    def _read_standing(self) -> list[Metric]:
        states = GaugeMetricFamily(
            "ecluse_messages", "Messages by where they stand.", labels=["source", "state"]
        )
        dead = GaugeMetricFamily(
            "ecluse_dead_letters", "Dead letters that nobody settled yet.", labels=["cause"]
        )
        held = GaugeMetricFamily(
            "ecluse_held", "Messages that wait for something known.", labels=["cause"]
        )
        pending = GaugeMetricFamily(
            "ecluse_deliveries_pending", "Deliveries still to be made.", labels=["destination"]
        )
        late = GaugeMetricFamily(
            "ecluse_oldest_due_seconds",
            "How long the oldest due delivery has been due; 0 when none is.",
            labels=["destination"],
        )
        manifested = GaugeMetricFamily(
            "ecluse_manifests", "Imaging studies by where their manifest stands.", labels=["state"]
        )
        now = self._now()
        with self._journal.read() as connection:
            for state_of_manifest, count in manifests.counts(connection).items():
                manifested.add_metric([state_of_manifest], count)
            for (source, state), count in messages.counts(connection).items():
                states.add_metric([source, state.value], count)
            for cause, count in figures.dead_by_cause(connection).items():
                dead.add_metric([cause], count)
            for cause, count in figures.held_by_cause(connection).items():
                held.add_metric([cause], count)
            for queue in figures.lateness(connection):
                pending.add_metric([queue.destination], queue.pending)
                since = (now - queue.oldest_due).total_seconds() if queue.oldest_due else 0.0
                late.add_metric([queue.destination], max(since, 0.0))
            still = self._standing_still(connection, now)
        return [states, dead, held, pending, late, manifested, *still]

    @staticmethod
    def _standing_still(connection: Connection, now: datetime) -> list[Metric]:
        """Only of what was ever paused, drained or left alone."""
        still = GaugeMetricFamily(
            "ecluse_standing_still",
            "1 for a source or destination that a person has paused or is draining.",
            labels=["kind", "name", "mode"],
        )
        closed = GaugeMetricFamily(
            "ecluse_destination_left_alone_seconds",
            "For how long nothing will be attempted at a destination: its breaker is open, or it "
            "asked for it; 0 when something may be.",
            labels=["destination"],
        )
        found = standstills.current(connection)
        for name in sorted(found.paused_sources | found.draining_sources):
            still.add_metric(["source", name, found.mode(Kind.SOURCE, name).value], 1)
        draining = frozenset(found.draining_destinations or ())
        for name in sorted(found.paused_destinations | draining):
            still.add_metric(["destination", name, found.mode(Kind.DESTINATION, name).value], 1)
        for row in standings.all_of(connection):
            until = standing_of(row, row["destination"]).closed_until(now)
            seconds = (until - now).total_seconds() if until else 0.0
            closed.add_metric([row["destination"]], seconds)
        return [still, closed]


class _Kept:
    """Families that are read again only when they are older than some seconds."""

    def __init__(self, seconds: float, read: Callable[[], list[Metric]]) -> None:
        self._seconds = seconds
        self._read = read
        self._families: list[Metric] = []
        self._at = float("-inf")

    def get(self) -> list[Metric]:
        """The families. Raises JournalUnavailable."""
        if time.monotonic() - self._at >= self._seconds:
            self._families = self._read()
            self._at = time.monotonic()
        return self._families


class BuildCollector(Collector):
    """``ecluse_build_info``: always 1; the labels say what runs."""

    def describe(self) -> list[Metric]:
        """The same as what is collected."""
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        """One sample."""
        info = GaugeMetricFamily("ecluse_build_info", "What runs.", labels=["version", "python"])
        info.add_metric([version(), platform.python_version()], 1)
        yield info


class Exposition:
    """The registries of one gateway: its journal's, and the process's own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, journal: Journal, *others: Collector) -> None:
        self._registry = CollectorRegistry()
        for collector in (BuildCollector(), JournalCollector(journal), *others):
            self._registry.register(collector)

    def text(self) -> bytes:
        """The text of one scrape."""
        return generate_latest(self._registry) + generate_latest(telemetry.METRICS.registry)

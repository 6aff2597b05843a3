"""Metrics of the sources' doors and of the configuration, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

HELD_NOW = frozenset({"connections", "held-bytes"})
"""What a source tells of the moment; the rest it has counted since its start."""


class DoorCollector(Collector):
    """Connections, refusals, certificates and readings of the configuration.

    Labels are names and addresses of the configuration, and closed sets of reasons.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask the sources."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield from self._events()
        yield self._refusals()
        yield self._certificates()
        yield from self._configuration()

    def _events(self) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "ecluse_source_events",
            "What a source counted since its start: answers by code, deviations of senders, "
            "reasons of closed connections.",
            labels=["source", "event"],
        )
        connections = GaugeMetricFamily(
            "ecluse_source_connections", "Open connections.", labels=["source"]
        )
        held = GaugeMetricFamily(
            "ecluse_source_held_bytes", "Bytes of messages in memory.", labels=["source"]
        )
        for source, counted in self._gateway.sources.events().items():
            for event, count in counted.items():
                if event not in HELD_NOW:
                    events.add_metric([source, event], count)
            connections.add_metric([source], counted.get("connections", 0))
            held.add_metric([source], counted.get("held-bytes", 0))
        yield from (events, connections, held)

    def _refusals(self) -> Metric:
        refused = CounterMetricFamily(
            "ecluse_connections_refused",
            "Connections closed before their source was known, by reason.",
            labels=["listen", "reason"],
        )
        for listen, counted in self._gateway.sources.refusals().items():
            for reason, count in counted.items():
                refused.add_metric([listen, reason], count)
        return refused

    def _certificates(self) -> Metric:
        expiry = GaugeMetricFamily(
            "ecluse_certificate_expiry_timestamp_seconds",
            "When the first of the certificates of this use expires, in seconds since 1970.",
            labels=["source", "use"],
        )
        for source, held in self._gateway.sources.certificates().items():
            for use in sorted({each.use for each in held}):
                first = min(each.certificate.not_after for each in held if each.use == use)
                expiry.add_metric([source, use], first.timestamp())
        return expiry

    def _configuration(self) -> Iterator[Metric]:
        configuration = self._gateway.configuration
        in_force = GaugeMetricFamily(
            "ecluse_configuration_in_force",
            "1 when the configuration that was read last is in force, 0 when it was not taken.",
        )
        in_force.add_metric([], configuration.last.in_force)
        at = GaugeMetricFamily(
            "ecluse_configuration_read_timestamp_seconds",
            "When the configuration was read last, in seconds since 1970.",
        )
        at.add_metric([], configuration.last.at.timestamp())
        restart = GaugeMetricFamily(
            "ecluse_configuration_waiting", "Changed settings that wait for a restart."
        )
        restart.add_metric([], len(configuration.last.restart))
        readings = CounterMetricFamily(
            "ecluse_configuration_reloads",
            "Readings since the start, by whether they were taken.",
            labels=["outcome"],
        )
        for taken, count in configuration.readings.items():
            readings.add_metric(["taken" if taken else "not-taken"], count)
        yield from (in_force, at, restart, readings)

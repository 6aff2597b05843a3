"""Stages that say how long they took: wrappers that the composition puts around them.

The stages themselves know no metrics. What is measured goes to
:data:`gateway.telemetry.METRICS`, as ``ecluse_stage_duration_seconds{stage}``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from typing import Any

from gateway.destinations import DeliversTogether, Destination, ReplacesEntries
from gateway.model import Delivery, Outcome, Payload, Receipt, Received, Stage
from gateway.normalise import Normaliser, Original, Reading, Unusable
from gateway.ports import Intake, KeepsBytes, Settle, Word
from gateway.telemetry import METRICS

_INTAKE_SECONDS = METRICS.stage_seconds.labels(Stage.INTAKE.value)
_DELIVER_SECONDS = METRICS.stage_seconds.labels(Stage.DELIVER.value)


class TimedIntake:
    """An intake that measures from a message's submission to the end of its commit."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def submit(self, received: Received) -> Future[Receipt]:
        """As :meth:`gateway.ports.Intake.submit`."""
        started = time.perf_counter()
        future = self._intake.submit(received)
        future.add_done_callback(lambda _: _observe(Stage.INTAKE, started))
        return future

    def keep(self, payload: Payload, *, flushed: bool = False) -> Payload:
        """As :meth:`gateway.ports.KeepsBytes.keep`."""
        if not isinstance(self._intake, KeepsBytes):
            return payload
        return self._intake.keep(payload, flushed=flushed)

    def submit_all(self, handed: Sequence[tuple[Received, Any]], settle: Settle) -> None:
        """As :meth:`gateway.ports.Intake.submit_all`."""
        started = time.perf_counter()

        def timed(words: Sequence[tuple[Any, Word]]) -> None:
            _INTAKE_SECONDS.observe(time.perf_counter() - started, len(words))
            settle(words)

        self._intake.submit_all(handed, timed)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedNormaliser(Normaliser):
    """A normaliser that measures the reading and mapping of each message."""

    @classmethod
    def around(cls, normaliser: Normaliser) -> TimedNormaliser:
        """The same normaliser, measured."""
        return cls(**{each.name: getattr(normaliser, each.name) for each in fields(normaliser)})

    def normalise(self, original: Original) -> Reading | Unusable:
        """As :meth:`Normaliser.normalise`."""
        started = time.perf_counter()
        try:
            return Normaliser.normalise(self, original)
        finally:
            _observe(Stage.NORMALISE, started)


def observe_mapping(seconds: float) -> None:
    """Count a message that a mapping process read and mapped."""
    METRICS.stage_seconds.labels(Stage.NORMALISE.value).observe(seconds)


class TimedDestination:
    """A destination that measures each call."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.name = destination.name
        self.transactional = destination.transactional

    def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
        """As :meth:`gateway.destinations.Destination.deliver`."""
        started = time.perf_counter()
        try:
            return self._destination.deliver(delivery, connection)
        finally:
            _observe(Stage.DELIVER, started)


class TimedReplacing(TimedDestination):
    """The same for one at which entries take the place of one another."""

    replaces_entries = True


def timed(destination: Destination) -> TimedDestination:
    """The same destination, measured."""
    if isinstance(destination, ReplacesEntries):
        return TimedReplacing(destination)
    if isinstance(destination, DeliversTogether):
        return TimedTogether(destination, destination)
    return TimedDestination(destination)


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a destination made ready of ``count`` deliveries, and how long it took."""

    made: Any
    count: int
    seconds: float


class TimedTogether(TimedDestination):
    """The same for one that delivers together: each delivery took its share of the time."""

    def __init__(self, destination: Destination, together: DeliversTogether) -> None:
        super().__init__(destination)
        self._together = together

    def make_ready(self, deliveries: Sequence[Delivery]) -> _Ready:
        """As :meth:`gateway.destinations.DeliversTogether.make_ready`."""
        started = time.perf_counter()
        made = self._together.make_ready(deliveries)
        return _Ready(made, len(deliveries), time.perf_counter() - started)

    def deliver_together(self, ready: _Ready, connection: Any) -> Sequence[Outcome]:
        """As :meth:`gateway.destinations.DeliversTogether.deliver_together`."""
        started = time.perf_counter()
        try:
            return self._together.deliver_together(ready.made, connection)
        finally:
            seconds = ready.seconds + time.perf_counter() - started
            _DELIVER_SECONDS.observe(seconds / max(1, ready.count), ready.count)


def _observe(stage: Stage, started: float) -> None:
    METRICS.stage_seconds.labels(stage.value).observe(time.perf_counter() - started)

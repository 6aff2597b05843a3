"""How long things took, as a histogram for Prometheus in which many count at once.

The client library's own takes one observation at a time, under two locks; the stages that
take messages by the batch have one duration for all of them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class Series:
    """The durations under one label. Any thread."""

    __slots__ = ("_bounds", "_counts", "_lock", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, seconds: float, count: int = 1) -> None:
        """``count`` things took so long, each."""
        place = bisect_left(self._bounds, seconds)
        with self._lock:
            self._counts[place] += count
            self._sum += seconds * count

    def totals(self) -> tuple[list[int], float]:
        """How many took up to each bound, and up to any; and the sum of all, in seconds."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        cumulated, so_far = [], 0
        for count in counts:
            so_far += count
            cumulated.append(so_far)
        return cumulated, total


class Durations(Collector):
    """A histogram with one label.

    ``bounds`` are the upper bounds of its buckets in seconds, rising; one without a bound
    follows them. The values of the label come from the program, never from a message.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        bounds: tuple[float, ...],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = bounds
        self._series: dict[str, Series] = {}
        registry.register(self)

    def labels(self, value: str) -> Series:
        """The durations under this value of the label."""
        found = self._series.get(value)
        return found if found is not None else self._series.setdefault(value, Series(self._bounds))

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Its name, for the registry."""
        return [self._family()]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What there is to scrape."""
        family = self._family()
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for value, series in sorted(self._series.items()):
            counts, total = series.totals()
            family.add_metric([value], list(zip(names, counts, strict=True)), total)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._documentation, labels=[self._label])

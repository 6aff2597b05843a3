"""Work on the journal timed in turns of one transaction each, before and after something grew."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from gateway.journal.journal import Journal

Work = Callable[[Connection, int], object]
"""What one turn does; it is given the turn's number, from 0."""

Figures = Mapping[str, tuple[float, float]]
"""By what was done, the median and the quickest turn in milliseconds."""


def spent(journal: Journal, work: Work, turns: int) -> list[float]:
    """Milliseconds of each of so many transactions that do the work."""
    found = []
    for turn in range(turns):
        began = time.perf_counter()
        with journal.write() as connection:
            work(connection, turn)
        found.append((time.perf_counter() - began) * 1000)
    return found


def measure(journal: Journal, works: Mapping[str, Work], turns: int) -> Figures:
    """Each work in turns."""
    found = {}
    for name, work in works.items():
        times = spent(journal, work, turns)
        found[name] = (statistics.median(times), min(times))
    return found


def compare(
    before: Figures, after: Figures, labels: tuple[str, str], *, ratio_max: float, slack: float
) -> tuple[dict[str, Any], list[str]]:
    """Both sides of each work under their labels, with the ratio of the quickest turns; and what
    takes more than ``ratio_max`` times as long, but for ``slack`` milliseconds."""
    told = {
        name: {
            labels[0]: [round(each, 3) for each in before[name]],
            labels[1]: [round(each, 3) for each in after[name]],
            "ratio": round(after[name][1] / before[name][1], 2),
        }
        for name in before
    }
    slow = [name for name in before if after[name][1] > ratio_max * before[name][1] + slack]
    return told, slow

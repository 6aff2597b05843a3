"""Work on the journal timed in turns of one transaction each, before and after something grew."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from gateway.journal.journal import Journal

Work = Callable[[Connection, int], object]
"""What one turn does; it is given the turn's number, from 0."""


class Turns(NamedTuple):
    """Milliseconds of the turns of one work: the median and the quickest by the clock, and the
    least that is judged by: on SQLite, all of which happens in the thread that asks, its processor
    time, which a busy machine changes little; elsewhere the quickest."""

    median: float
    quickest: float
    least: float


Figures = Mapping[str, Turns]
"""By what was done."""


def spent(journal: Journal, work: Work, turns: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each of so many transactions that do the work, by the clock and of the
    thread's processor time."""
    found: list[float] = []
    worked: list[float] = []
    for turn in range(turns):
        began, worked_before = time.perf_counter(), time.thread_time()
        with journal.write() as connection:
            work(connection, turn)
        worked.append((time.thread_time() - worked_before) * 1000)
        found.append((time.perf_counter() - began) * 1000)
    return found, worked


def measure(journal: Journal, works: Mapping[str, Work], turns: int) -> Figures:
    """Each work in turns."""
    found = {}
    for name, work in works.items():
        times, worked = spent(journal, work, turns)
        least = min(worked if journal.dialect == "sqlite" else times)
        found[name] = Turns(statistics.median(times), min(times), least)
    return found


def compare(
    before: Figures, after: Figures, labels: tuple[str, str], *, ratio_max: float, slack: float
) -> tuple[dict[str, Any], list[str]]:
    """Both sides of each work under their labels, with the ratio of the least; and what takes more
    than ``ratio_max`` times as long, but for ``slack`` milliseconds."""
    told = {
        name: {
            labels[0]: [round(each, 3) for each in before[name]],
            labels[1]: [round(each, 3) for each in after[name]],
            "ratio": round(after[name].least / before[name].least, 2),
        }
        for name in before
    }
    slow = [name for name in before if after[name].least > ratio_max * before[name].least + slack]
    return told, slow

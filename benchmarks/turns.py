"""Work on the journal timed in turns of one transaction each, before and after something grew."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection

from gateway.journal.journal import Journal

Work = Callable[[Connection, int], object]
"""What one turn does; it is given the turn's number, from 0."""


class Turns(NamedTuple):
    """Milliseconds of the turns of one work: the median and the quickest by the clock, and the
    least that is judged by: processor time, which a busy machine changes little, of the thread that
    asks and of the server's process that answers it. By the clock where the server is elsewhere."""

    median: float
    quickest: float
    least: float


Figures = Mapping[str, Turns]
"""By what was done."""


def spent(journal: Journal, work: Work, turns: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each of so many transactions that do the work, by the clock and of processor
    time; the latter empty where it cannot be known."""
    found: list[float] = []
    worked: list[float] = []
    for turn in range(turns):
        began, mine = time.perf_counter(), time.thread_time_ns()
        with journal.write() as connection:
            server = _server(connection)
            theirs = _on_processor(server)
            work(connection, turn)
        found.append((time.perf_counter() - began) * 1000)
        if server is None or theirs:
            used = time.thread_time_ns() - mine + _on_processor(server) - theirs
            worked.append(used / 1_000_000)
    return found, worked


def _server(connection: Connection) -> Path | None:
    """Where Linux tells of the server's process that answers; None on SQLite, which has none."""
    if connection.dialect.name == "sqlite":
        return None
    driver: Any = connection.connection.driver_connection
    local = driver.info.host in ("127.0.0.1", "::1", "localhost") or driver.info.host[:1] == "/"
    return Path(f"/proc/{driver.info.backend_pid if local else 0}/schedstat")


def _on_processor(server: Path | None) -> int:
    """Nanoseconds that the process was on a processor (Linux, scheduler statistics, the first
    value of /proc/PID/schedstat); 0 where that is not told."""
    if server is None:
        return 0
    try:
        return int(server.read_text("ascii").split()[0])
    except (OSError, ValueError):
        return 0


def measure(journal: Journal, works: Mapping[str, Work], turns: int) -> Figures:
    """Each work in turns."""
    found = {}
    for name, work in works.items():
        times, worked = spent(journal, work, turns)
        found[name] = Turns(statistics.median(times), min(times), min(worked or times))
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

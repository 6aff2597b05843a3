"""When to look into a lane again: at once, or after more has come.

A turn for one message costs nearly what a turn for ten does: the commits, and the statements
around them. Where messages come one by one but steadily, a lane that was emptied a moment ago
is therefore given a moment in which some more gather. The first message after a pause, and a
lane in which work is left, are never kept waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable

GATHER_SECONDS = 0.02
"""How long a lane is left to gather."""

STEADY_SECONDS = 0.1
"""A lane that has work again so soon after it was emptied has a steady stream."""

LANES_MAX = 1_000
"""Lanes that are remembered."""


class Pace:
    """The moments at which lanes were emptied. Any thread."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._emptied: dict[str, float] = {}

    def gather(self, lane: str) -> None:
        """Called before a turn: wait for more, where more is on its way."""
        emptied = self._emptied.pop(lane, None)
        if emptied is not None and self._monotonic() - emptied < STEADY_SECONDS:
            self._sleep(GATHER_SECONDS)

    def emptied(self, lane: str) -> None:
        """Called after a turn that did something and left nothing to do."""
        if len(self._emptied) >= LANES_MAX:
            self._emptied.clear()
        self._emptied[lane] = self._monotonic()

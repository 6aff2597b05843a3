"""One thread at a time per name, and no word lost of those that came meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Solo:
    """Keeps the threads of a process from doing at once what one of them does for all.

    A lane is rung for each arrival. A second thread that took up the same lane would wait for
    its transaction only to find that the first has it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work: dict[str, bool] = {}

    def do(self, name: str, work: Callable[[], bool]) -> bool:
        """What ``work`` says; True as well when another thread came for it meanwhile. False,
        with nothing done, while another thread is at work under this name: that one says it, unless
        its work fails, which is raised."""
        with self._lock:
            if name in self._at_work:
                self._at_work[name] = True
                return False
            self._at_work[name] = False
        again = False
        try:
            again = work()
        finally:
            with self._lock:
                came = self._at_work.pop(name)
        return again or came

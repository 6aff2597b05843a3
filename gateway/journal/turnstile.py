"""A lock that serves threads in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turnstile:
    """Mutual exclusion, first come, first served.

    ``threading.Lock`` lets a thread that releases and asks again overtake all
    that wait; a busy worker would then keep acknowledgements waiting. Not
    reentrant: asking again from the thread that is inside raises RuntimeError.
    """

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._queue: deque[threading.Lock] = deque()
        self._inside: int | None = None

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._gate:
            if self._inside is None:
                self._inside = me
                return
            if self._inside == me:
                raise RuntimeError("a transaction is open in this thread already")
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        # Whoever leaves hands the turn over; nobody can slip in between.
        turn.acquire()
        self._inside = me

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._gate:
            if self._queue:
                self._inside = 0
                self._queue.popleft().release()
            else:
                self._inside = None

"""Connections of a destination that are kept between its attempts: one for each thread that makes
attempts, all of them closed together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A connection, of whichever protocol."""

    def close(self) -> None: ...


Line = TypeVar("Line", bound=Closable)


class KeptLines(Generic[Line]):
    """``make`` makes the connection of a thread that has none. Thread-safe."""

    def __init__(self, make: Callable[[], Line]) -> None:
        self._make = make
        self._mine = threading.local()
        self._made: list[Line] = []

    def mine(self) -> Line:
        """The calling thread's connection."""
        line: Line | None = getattr(self._mine, "line", None)
        if line is None:
            line = self._mine.line = self._make()
            self._made.append(line)
        return line

    def close(self) -> None:
        """Close all of them. To be called when no attempt is made any more."""
        for line in self._made:
            line.close()

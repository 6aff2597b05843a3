"""A small bounded memory of what senders repeat."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")
ENTRIES_MAX = 1024
KEY_CHARACTERS_MAX = 1024


class Remembered(Generic[T]):
    """Results by key: at most 1024, of keys of at most 1024 characters.

    Forgets all when full: a source's senders are few, and one that never repeats
    itself must not fill the memory. Callable from any thread.
    """

    __slots__ = ("_results",)

    def __init__(self) -> None:
        self._results: dict[tuple[str, ...], T] = {}

    def get(self, key: tuple[str, ...]) -> T | None:
        """What was kept under the key, if it still is."""
        return self._results.get(key)

    def keep(self, key: tuple[str, ...], result: T) -> T:
        """Keep a result; returns it."""
        if len(self._results) >= ENTRIES_MAX:
            self._results = {}
        if sum(map(len, key)) <= KEY_CHARACTERS_MAX:
            self._results[key] = result
        return result

"""The forms that an invariant of FHIR R4 (``ElementDefinition.constraint``) takes.

Most say what stands beside what: :class:`Needs`, :class:`Excludes`, :class:`Counts`.
Any other is a function (:class:`Rule`). Which invariants there are says ``invariants``.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.mapping.r4.ordering import Json, there


class Invariant:
    """One rule. It is asked only of a value that has the property ``trigger``, if that is set."""

    __slots__ = ("key", "text", "trigger")

    def __init__(self, key: str, text: str, trigger: str = "") -> None:
        self.key = key
        self.text = text
        self.trigger = trigger

    def holds(self, value: Json) -> bool:
        """Whether the rule holds for a value."""
        raise NotImplementedError


class Needs(Invariant):
    """What stands only beside one of some others."""

    __slots__ = ("_names",)

    def __init__(self, key: str, text: str, trigger: str, *names: str) -> None:
        super().__init__(key, text, trigger)
        self._names = names

    def holds(self, value: Json) -> bool:
        """See :class:`Invariant`."""
        for name in self._names:  # noqa: SIM110 - by a third quicker, every quantity comes by here
            if name in value or f"_{name}" in value:
                return True
        return False


class Excludes(Invariant):
    """What never stands beside another."""

    __slots__ = ("_name",)

    def __init__(self, key: str, text: str, trigger: str, name: str) -> None:
        super().__init__(key, text, trigger)
        self._name = name

    def holds(self, value: Json) -> bool:
        """See :class:`Invariant`."""
        return not there(value, self._name)


class Counts(Invariant):
    """Of some elements, at least ``least`` and at most ``most`` are there."""

    __slots__ = ("_least", "_most", "_names")

    def __init__(
        self, key: str, text: str, *names: str, least: int = 1, most: int | None = None
    ) -> None:
        super().__init__(key, text)
        self._names = names
        self._least = least
        self._most = len(names) if most is None else most

    def holds(self, value: Json) -> bool:
        """See :class:`Invariant`."""
        present = sum(1 for name in self._names if there(value, name))
        return self._least <= present <= self._most


class Rule(Invariant):
    """Any other rule, as a function."""

    __slots__ = ("_function",)

    def __init__(
        self, key: str, text: str, function: Callable[[Json], bool], trigger: str = ""
    ) -> None:
        super().__init__(key, text, trigger)
        self._function = function

    def holds(self, value: Json) -> bool:
        """See :class:`Invariant`."""
        return self._function(value)

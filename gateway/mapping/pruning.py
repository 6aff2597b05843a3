"""Rules without what a message cannot make them give.

Most of what a mapping provides for is not in a message: of forty rules of an order six
find something. Which paths of a scope have content is a *pattern* that a sender repeats
from message to message; for each pattern a rule is pruned once, and what is left of it
does only what can give something. A rule and what is left of it give the same for every
scope of the pattern, flags included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from gateway.ports import CompiledPath, Scope, Value

if TYPE_CHECKING:
    from gateway.mapping.compiling import Compiled, Paths

ABSENT, EMPTY, PRESENT = range(3)
"""What a content says of its path: nothing is there, it is empty, something is there."""


class Known:
    """What is known of the paths of a scope, and a scope of which it is true."""

    __slots__ = ("item", "scope", "states")

    def __init__(self, states: Mapping[str, int], scope: Scope, item: Value | None) -> None:
        self.states = states
        self.scope = scope
        self.item = item

    def lacks(self, paths: Paths) -> bool:
        """Whether there is certainly nothing at any of these paths."""
        if not paths:
            return False
        return all(self.states.get(path.text, PRESENT) != PRESENT for path in paths)


Prune = Callable[[Known], "Compiled | None"]


def pruned(rule: Compiled, known: Known) -> Compiled | None:
    """What is left of a rule; None when it gives nothing and does nothing."""
    if known.lacks(rule.needs):
        return None
    return rule.prune(known) if rule.prune is not None else rule


def looked_at(rules: Iterable[Compiled]) -> list[CompiledPath]:
    """The paths that decide what is left of these rules, each once."""
    found: dict[str, CompiledPath] = {}
    stack = list(rules)
    while stack:
        rule = stack.pop()
        for paths in (rule.needs, rule.reads, rule.asks):
            if paths:
                found.update({path.text: path for path in paths})
        stack.extend(rule.parts)
    return list(found.values())

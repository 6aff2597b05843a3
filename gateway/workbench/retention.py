"""What became of everything that one message says: mapped, ignored with a reason, or lost.

``docs/coverage.md`` defines the measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from gateway.ports import Inventory, Leaf, LeafKey
from gateway.workbench.examining import Part

WHOLE = frozenset({"Attachment", "SampledNumeric"})
"""Conversions that take a value with all its parts, not its text alone."""


class Fate(StrEnum):
    """What became of a leaf."""

    MAPPED = "mapped"
    IGNORED = "ignored"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Settled:
    """One leaf and what became of it; ``reason`` is that of the ``ignore:`` that names it."""

    leaf: Leaf
    fate: Fate
    reason: str = ""


def settle(part: Part, inventory: Inventory) -> Iterator[Settled]:
    """What became of every leaf of a message (or of a document inside one), in its order."""
    taken = _taken(part, inventory)
    ignored = [
        (inventory.covers(rule.path, part.root), rule.reason) for rule in part.program.ignored
    ]
    for leaf in inventory.leaves(part.root):
        if taken.has(leaf):
            yield Settled(leaf, Fate.MAPPED)
            continue
        reason = _reason(leaf, ignored)
        yield Settled(leaf, Fate.LOST if reason is None else Fate.IGNORED, reason or "")


def _reason(leaf: Leaf, ignored: list[tuple[Callable[[Leaf], bool], str]]) -> str | None:
    return next((reason for covers, reason in ignored if covers(leaf)), None)


@dataclass(slots=True)
class _Taken:
    """The places whose values went into the result: their texts, or all that is in them."""

    heard: set[LeafKey]
    whole: set[LeafKey]

    def has(self, leaf: Leaf) -> bool:
        """Whether a leaf was taken, by itself or in a value around it."""
        key, heard = leaf.key, self.heard
        for length in range(len(key), leaf.heard - 1, -1):
            if key[:length] in heard:
                return True
        return any(key[:length] in self.whole for length in range(1, len(key) + 1))


def _taken(part: Part, inventory: Inventory) -> _Taken:
    taken = _Taken(set(), set())
    for step in part.mapped.trace:
        into = taken.whole if WHOLE.intersection(step.steps) else taken.heard
        into.update(inventory.places(step.source, part.root))
    for path in part.program.match.paths:
        for value in path.read(part.root):
            taken.heard.update(inventory.places(value.path, part.root))
    for flag in part.mapped.flags:
        if flag.code == "deleted" and flag.source:
            taken.heard.update(inventory.places(flag.source, part.root))
    for document in part.mapped.embedded:
        taken.whole.update(inventory.places(document.source, part.root))
    return taken

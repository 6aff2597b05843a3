"""What became of everything that one message says: mapped, ignored with a reason, or lost.

``docs/coverage.md`` defines the measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gateway.inventory import Inventory, Leaf, LeafKey
from gateway.mapping.observing import Answered, Instance, Readout, Ruled
from gateway.ports import Scope, Value
from gateway.workbench.examining import Part
from gateway.workbench.happenings import (
    Outcome,
    asked_in,
    gave,
    has_key,
    instances,
    live_rules,
    own_notes,
    present,
    readouts,
    rules_in,
)

WHOLE = frozenset({"Attachment", "SampledNumeric"})
"""Conversions that take a value with all its parts, not its text alone."""


class Fate(StrEnum):
    """What became of a leaf."""

    MAPPED = "mapped"
    IGNORED = "ignored"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Use:
    """What a value was taken for: an element of an entry (``Type/id#path``), or in words what
    else; and the ``file:line:col`` of the rule."""

    target: str
    rule: str


@dataclass(frozen=True, slots=True)
class Settled:
    """One leaf and what became of it; ``reason`` is that of the ``ignore:`` that names it,
    ``uses`` what it was taken for, each once."""

    leaf: Leaf
    fate: Fate
    reason: str = ""
    uses: tuple[Use, ...] = ()


def settle(part: Part, outcome: Outcome, inventory: Inventory) -> Iterator[Settled]:
    """What became of every leaf of a message (or of a document inside one), in its order."""
    taken = _taken(part, outcome, inventory)
    ignored = [(inventory.covers(rule.path, part.root), rule) for rule in part.program.ignored]
    for leaf in inventory.leaves(part.root):
        uses = taken.uses(leaf)
        if uses:
            yield Settled(leaf, Fate.MAPPED, uses=uses)
            continue
        reason = next(
            (
                rule.reason
                for covers, rule in ignored
                if covers(leaf)
                and (rule.test is None or rule.test(inventory.scope(leaf, part.root), None))
            ),
            None,
        )
        yield Settled(leaf, Fate.LOST if reason is None else Fate.IGNORED, reason or "")


class _Taken:
    """The places whose values went into the result: their texts, or all that is in them."""

    def __init__(self, inventory: Inventory, root: Scope) -> None:
        self.heard: dict[LeafKey, dict[tuple[str, str], None]] = {}
        self.whole: dict[LeafKey, dict[tuple[str, str], None]] = {}
        self._inventory = inventory
        self._root = root

    def take(self, path: str, target: str, rule: str, *, whole: bool = False) -> None:
        """A value at a place was taken, for what and by which rule."""
        kept = self.whole if whole else self.heard
        for key in self._inventory.places(path, self._root):
            kept.setdefault(key, {})[target, rule] = None

    def uses(self, leaf: Leaf) -> tuple[Use, ...]:
        """What a leaf was taken for, by itself or in a value around it; empty when it was not."""
        key, heard = leaf.key, self.heard
        found: dict[tuple[str, str], None] = {}
        for length in range(len(key), leaf.heard - 1, -1):
            found.update(heard.get(key[:length], _NOT_TAKEN))
        if self.whole:
            for length in range(1, len(key) + 1):
                found.update(self.whole.get(key[:length], _NOT_TAKEN))
        return tuple(Use(target, rule) for target, rule in found)


_NOT_TAKEN: dict[tuple[str, str], None] = {}


def _taken(part: Part, outcome: Outcome, inventory: Inventory) -> _Taken:
    taken = _Taken(inventory, part.root)
    trace = part.mapped.trace
    for instance in instances(part.watch.events):
        if outcome.resource(instance) is not None:
            for number in own_notes(instance):
                step = trace[number]
                taken.take(step.source, _now_at(outcome, instance, step.target), step.rule)
    for instance, rule in live_rules(part, outcome):
        for number in own_notes(rule):
            step = trace[number]
            target = _now_at(outcome, instance, step.target)
            taken.take(step.source, target, step.rule, whole=not WHOLE.isdisjoint(step.steps))
        for value in _decided(rule):
            taken.take(value.path, _now_at(outcome, instance, rule.at), str(rule.node.place))
    _take_for_the_message(part, taken)
    return taken


def _take_for_the_message(part: Part, taken: _Taken) -> None:
    """What chose the mapping, what deletes, and the documents inside."""
    for path in part.program.match.paths:
        for value in path.read(part.root):
            taken.take(value.path, f"the choice of the mapping {part.program.name}", "match")
    for flag in part.mapped.flags:
        if flag.code == "deleted" and flag.source:
            taken.take(flag.source, f"the flag deleted, for {flag.target}", flag.rule)
    for document in part.mapped.embedded:
        what = f"the document inside, which is read as {document.format.value}"
        taken.take(document.source, what, "hand_over", whole=True)


def _now_at(outcome: Outcome, instance: Instance, target: str) -> str:
    """A target of an instance in the entry that holds what the instance says."""
    found = outcome.resource(instance)
    path = target.partition("#")[2]
    return f"{found['resourceType']}/{found['id']}#{path}" if found is not None else target


def _decided(rule: Ruled) -> Iterator[Value]:
    """What decided a rule's result without being in it: the path of a switch, the texts that
    a policy gave, and what was asked before a constant, which then says the answer."""
    for event in rule.events:
        if isinstance(event, Readout) and has_key(rule, "switch"):
            yield from present(event.values)
        elif isinstance(event, Answered) and gave(event):
            yield from (v for found in readouts(event.events) for v in present(found.values))
    start, end = rule.notes
    if start == end and says_constant(rule):
        for asked in asked_in(rule):
            if asked.fulfilled:
                yield from (v for found in readouts(asked.events) for v in present(found.values))


def says_constant(rule: Ruled) -> bool:
    """Whether a rule gave nothing but constants, and one that says something: a reference or
    a name alone does not."""
    if has_key(rule, "const"):
        return True
    return any(says_constant(inner) for inner in rules_in(rule) if gave(inner))

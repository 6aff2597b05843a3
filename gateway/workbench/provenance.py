"""Where a value of an entry comes from: rule, places in the message, steps, row, conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.mapping.document import Node, Table, Text
from gateway.mapping.observing import (
    Answered,
    Asked,
    Entered,
    Event,
    Instance,
    LookedUp,
    Ruled,
)
from gateway.ports import Value
from gateway.workbench.elements import Steps, canonical, leaves, parse, shown, value_at
from gateway.workbench.examining import Examined, Part
from gateway.workbench.happenings import (
    asked_in,
    gave,
    has_key,
    own_notes,
    present,
    readouts,
    rules_in,
)


class Origin(StrEnum):
    """What kind of thing a value comes from."""

    SOURCE = "source"
    TABLE = "table"
    CONSTANT = "constant"
    POLICY = "policy"
    REFERENCE = "reference"
    IDENTIFIER = "identifier"
    RESOURCE = "resource"
    """The type of the resource, which the mapping's entry names."""


@dataclass(frozen=True, slots=True)
class SourceValue:
    """One value that was read: its place with positions, and what stands there."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class RowUsed:
    """The row of a table that was used, and the file and line where it stands."""

    table: str
    version: str
    code: str
    to: str
    place: str


@dataclass(frozen=True, slots=True)
class ConditionMet:
    """A condition that was fulfilled on the way to a value, and where it stands."""

    text: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Where one value comes from.

    ``target`` is ``Type/id#path``, ``rule`` the ``file:line:col`` of the innermost rule that
    gave it, ``around`` those outside of it from the nearest on. ``reason`` is what the
    mapping writes beside a constant or a policy; ``document`` the place of the document
    inside the message, when it comes from one.
    """

    target: str
    value: str
    origin: Origin
    rule: str
    around: tuple[str, ...] = ()
    sources: tuple[SourceValue, ...] = ()
    steps: tuple[str, ...] = ()
    row: RowUsed | None = None
    conditions: tuple[ConditionMet, ...] = ()
    reason: str = ""
    document: str = ""


@dataclass(slots=True)
class _Spot:
    """A rule with those around it, up to the resource."""

    rule: Ruled
    trail: tuple[Ruled, ...]
    instance: Instance
    entered: tuple[Entered, ...]
    part: Part


class Provenance:
    """Everything that one examined message can say of its entries."""

    def __init__(self, examined: Examined) -> None:
        self.examined = examined
        self._containers: dict[int, list[_Spot]] = {}
        self._places: dict[tuple[str, Steps], list[_Spot]] = {}
        self._instances: dict[str, list[tuple[Instance, tuple[Entered, ...], Part]]] = {}
        for part in examined.parts:
            self._collect(part, part.watch.events, ())

    def _collect(self, part: Part, events: Sequence[Event], entered: tuple[Entered, ...]) -> None:
        for event in events:
            if isinstance(event, Entered):
                self._collect(part, event.events, (*entered, event))
            elif isinstance(event, Instance):
                if event.reference is not None:
                    known = self._instances.setdefault(event.reference, [])
                    known.append((event, entered, part))
                self._rules(part, event, entered)
            elif isinstance(event, Ruled | Answered):
                self._collect(part, event.events, entered)

    def _rules(self, part: Part, instance: Instance, entered: tuple[Entered, ...]) -> None:
        waiting: list[tuple[Ruled, tuple[Ruled, ...]]] = [
            (rule, ()) for rule in reversed(list(rules_in(instance)))
        ]
        for event in instance.events:
            if isinstance(event, Entered):
                self._collect(part, [event], entered)
        while waiting:
            rule, trail = waiting.pop()
            if gave(rule):
                self._keep(_Spot(rule, trail, instance, entered, part))
            inner = [(each, (rule, *trail)) for each in rules_in(rule)]
            waiting.extend(reversed(inner))
            for event in rule.events:
                if isinstance(event, Entered):
                    self._collect(part, [event], entered)

    def _keep(self, spot: _Spot) -> None:
        value = spot.rule.value
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                self._containers.setdefault(id(each), []).append(spot)
        reference, _, path = spot.rule.at.partition("#")
        if path and path != "id":
            steps = canonical(parse(path))
            if isinstance(steps[-1], str):  # of an open choice the property that was chosen
                steps = (*steps[:-1], spot.rule.key if spot.rule.choice else steps[-1])
            self._places.setdefault((reference, steps), []).append(spot)

    # --- explaining ------------------------------------------------------------------

    def explain(self, resource: Mapping[str, Any], steps: Steps) -> Explained | None:
        """Where the value at some steps of an entry comes from; None when no rule can say.

        The steps lead to a leaf. What stands there must be there.
        """
        reference = f"{resource['resourceType']}/{resource['id']}"
        value = value_at(resource, steps)
        target = f"{reference}#{shown(steps)}"
        if steps in (("id",), ("resourceType",)):
            return self._of_instance(reference, target, str(value), identifier=steps == ("id",))
        spot = self._spot(resource, reference, steps, value)
        return _explained(spot, target, value) if spot is not None else None

    def everything(self) -> Iterator[tuple[Mapping[str, Any], Steps, Any, Explained | None]]:
        """Every leaf of every entry with its explanation, in the order of the entries."""
        for entry in self.examined.mapped.entries:
            for steps, value in leaves(entry.resource):
                yield entry.resource, steps, value, self.explain(entry.resource, steps)

    def instances_of(self, reference: str) -> list[tuple[Instance, tuple[Entered, ...], Part]]:
        """The makings of an entry: more than one when it is said again."""
        return self._instances.get(reference, [])

    def _of_instance(
        self, reference: str, target: str, value: str, *, identifier: bool
    ) -> Explained | None:
        for instance, entered, part in self._instances.get(reference, []):
            conditions = [asked for around in entered for asked in asked_in(around)]
            return Explained(
                target=target,
                value=value,
                origin=Origin.IDENTIFIER if identifier else Origin.RESOURCE,
                rule=str(instance.place),
                sources=tuple(_key_values(instance)) if identifier else (),
                steps=("UUID version 5 of type, authority and key",) if identifier else (),
                conditions=_met(conditions),
                document=part.source,
            )
        return None

    def _spot(
        self, resource: Mapping[str, Any], reference: str, steps: Steps, value: Any
    ) -> _Spot | None:
        """The innermost rule that gave the value: by the object that it is in, from the
        innermost out, else by its place."""
        for length in range(len(steps) - 1, 0, -1):
            holder = value_at(resource, steps[:length])
            if isinstance(holder, dict) and id(holder) in self._containers:
                return self._inside(self._containers[id(holder)], steps[length:], value)
        found = [
            spot
            for spot in self._places.get((reference, canonical(steps[:1])), [])
            if _says(spot.rule.value, value)
        ]
        if found:
            return _innermost(found[0], value)
        for length in range(len(steps), 0, -1):
            there = value_at(resource, steps[:length])
            for spot in self._places.get((reference, canonical(steps[:length])), []):
                if _says(spot.rule.value, there):
                    return self._inside([spot], steps[length:], value)
        return self._handed_over(resource, steps, value)

    def _inside(self, spots: list[_Spot], rest: Steps, value: Any) -> _Spot:
        """The rule inside some rules of one object that gave what stands at ``rest``."""
        if rest and isinstance(rest[0], str):
            for spot in reversed(spots):
                for rule in rules_in(spot.rule):
                    if gave(rule) and rest[0] in (rule.key, rule.target.name):
                        inner = _Spot(
                            rule, (spot.rule, *spot.trail), spot.instance, spot.entered, spot.part
                        )
                        if len(rest) > 1 or _says(rule.value, value):
                            return _innermost(inner, value)
        return _innermost(spots[-1], value)

    def _handed_over(self, resource: Mapping[str, Any], steps: Steps, value: Any) -> _Spot | None:
        """What the message says of a document in it: rules of the entry that gave way."""
        wanted = canonical(steps)
        kinds = (f"{resource['resourceType']}/", "DocumentReference/")  # a withdrawal is of all
        for (reference, path), spots in self._places.items():
            if path == wanted and reference.startswith(kinds):
                for spot in spots:
                    if _says(spot.rule.value, value):
                        return _innermost(spot, value)
        return None


def _says(result: Any, value: Any) -> bool:
    """Whether a result is a value, or has it among several."""
    if result is value or result == value:
        return True
    if isinstance(result, list):
        return value in result or (isinstance(value, list) and all(v in value for v in result))
    return isinstance(value, list) and result in value


def _innermost(spot: _Spot, value: Any) -> _Spot:
    """The rule that gave a value itself, out of those that only handed it on."""
    while True:
        inner = [
            rule
            for rule in rules_in(spot.rule)
            if gave(rule) and (_says(rule.value, value) or _holds(rule.value, value))
        ]
        if not inner:
            return spot
        exact = [rule for rule in inner if rule.value == value] or inner
        spot = _Spot(exact[-1], (spot.rule, *spot.trail), spot.instance, spot.entered, spot.part)


def _holds(result: Any, value: Any) -> bool:
    """Whether a scalar stands somewhere in a result that is an object."""
    if isinstance(value, dict | list) or not isinstance(result, dict | list):
        return False
    return any(found == value for _, found in leaves(result))


def _explained(spot: _Spot, target: str, value: Any) -> Explained:
    rule = spot.rule
    trace = spot.part.mapped.trace
    noted = [trace[number] for number in own_notes(rule)]
    row = _row(spot, value)
    policy = _policy(rule, value)
    origin, reason = _origin(rule, noted=bool(noted), row=row, policy=policy)
    conditions = [asked for each in (rule, *spot.trail) for asked in asked_in(each)]
    conditions += [asked for around in spot.entered for asked in asked_in(around)]
    extra: tuple[str, ...] = ()
    if origin is Origin.REFERENCE:
        extra = (f"reference to {_texts(rule.node, 'ref', 'resource', 'refer')}",)
    elif policy is not None:
        extra = (f"{policy.which}: {policy.word}",)
    steps_taken = tuple(dict.fromkeys(step for note in noted for step in note.steps))
    return Explained(
        target=target,
        value=str(value),
        origin=origin,
        rule=str(rule.node.place),
        around=tuple(dict.fromkeys(str(each.node.place) for each in spot.trail)),
        sources=tuple(_sources(spot, [note.source for note in noted])),
        steps=(*steps_taken, *extra),
        row=row,
        conditions=_met(conditions),
        reason=reason,
        document=spot.part.source,
    )


def _origin(
    rule: Ruled, *, noted: bool, row: RowUsed | None, policy: Answered | None
) -> tuple[Origin, str]:
    if policy is not None:
        return Origin.POLICY, _texts(policy_node(rule, policy.which), "reason")
    if row is not None:
        return Origin.TABLE, ""
    if has_key(rule, "const"):
        return Origin.CONSTANT, _texts(rule.node, "reason") or "names, and says nothing"
    if any(has_key(rule, key) for key in ("ref", "resource", "refer")):
        return Origin.REFERENCE, ""
    return (Origin.SOURCE, "") if noted else (Origin.CONSTANT, _texts(rule.node, "reason"))


def policy_node(rule: Ruled, which: str) -> Node | None:
    """A rule's own policy as the mapping writes it."""
    return rule.node.get(which) if isinstance(rule.node, Table) else None


def _texts(node: Node | None, *keys: str) -> str:
    """The text of the first of some keys of a rule."""
    for key in keys:
        found = node.get(key) if isinstance(node, Table) else None
        if isinstance(found, Text):
            return found.text
    return ""


def _row(spot: _Spot, value: Any) -> RowUsed | None:
    """The row that a value is from: of the rule itself, or of one that it is inside."""
    for rule in (spot.rule, *spot.trail):
        for event in rule.events:
            if isinstance(event, LookedUp) and event.row is not None:
                row = event.row
                if str(value) in (row.code, row.system, row.display) or value is True:
                    return RowUsed(event.table, event.version, event.code, row.code, str(row.place))
    return None


def _policy(rule: Ruled, value: Any) -> Answered | None:
    for event in rule.events:
        if isinstance(event, Answered) and event.result is not None:
            result = event.result[1] if isinstance(event.result, tuple) else event.result
            if _says(result, value) or _holds(result, value):
                return event
    return None


def _sources(spot: _Spot, noted: list[str]) -> Iterator[SourceValue]:
    """The places that were noted, with their texts; else what the rule read."""
    known: dict[str, str] = {}
    for each in (*reversed(spot.trail), spot.rule):
        for found in readouts(each.events):
            for value in present(found.values):
                known.setdefault(value.path, value.text)
    paths = dict.fromkeys(path for each in noted for path in each.split(" + ") if path)
    for path in paths:
        yield SourceValue(path, known.get(path, ""))


def _key_values(instance: Instance) -> Iterator[SourceValue]:
    """What the key and the authority of an identifier were made of."""
    seen: dict[str, Value] = {}
    for event in instance.events:
        inner: Sequence[Event] = [event]
        if isinstance(event, Ruled):
            if not event.at.endswith("#id"):
                continue
            inner = event.events
        for found in readouts(inner):
            for value in present(found.values)[:1]:
                seen.setdefault(value.path, value)
    for path, value in seen.items():
        yield SourceValue(path, value.text)


def _met(conditions: Sequence[Asked]) -> tuple[ConditionMet, ...]:
    return tuple(
        dict.fromkeys(
            ConditionMet(asked.text, str(asked.place)) for asked in conditions if asked.fulfilled
        )
    )

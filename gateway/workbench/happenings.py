"""What of a watched run went into the entries: the rules whose results are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.mapping.document import Table, Text
from gateway.mapping.observing import Answered, Asked, Entered, Event, Instance, Readout, Ruled
from gateway.ports import Value, ValueState
from gateway.workbench.elements import parse, value_at
from gateway.workbench.examining import Examined, Part


def instances(events: Sequence[Event]) -> Iterator[Instance]:
    """Every resource that was made or left out, those around before those inside."""
    waiting: list[Event] = list(reversed(events))
    while waiting:
        event = waiting.pop()
        if isinstance(event, Instance):
            yield event
        if isinstance(event, Instance | Entered | Ruled):
            waiting.extend(reversed(event.events))


def gave(event: Event) -> bool:
    """Whether a rule or a policy gave something."""
    if isinstance(event, Ruled | Answered):
        return event.result is not None
    return False


def present(values: Sequence[Value]) -> list[Value]:
    """The values that say something."""
    return [value for value in values if value.state is ValueState.PRESENT]


def own_notes(event: Ruled | Instance) -> Iterator[int]:
    """The numbers of the trace steps noted by a rule itself, not by one inside it."""
    start, end = event.notes
    for inner in ranges(event.events):
        yield from range(start, inner[0])
        start = inner[1]
    yield from range(start, end)


def ranges(events: Sequence[Event]) -> Iterator[tuple[int, int]]:
    """The notes of the rules and resources directly below."""
    for event in events:
        if isinstance(event, Ruled | Instance):
            yield event.notes
        elif isinstance(event, Entered | Answered):
            yield from ranges(event.events)


def rules_in(around: Ruled | Instance | Answered) -> Iterator[Ruled]:
    """The rules directly below, through policies. A policy for what is missing, which
    belongs to the object, stands for a rule of the element that it filled."""
    for event in around.events:
        if isinstance(event, Ruled):
            yield event
        elif isinstance(event, Answered):
            yield from rules_in(event)
            if event.which == "missing" and gave(event) and not is_filled(around, event):
                yield _filled(around, event)


def is_filled(around: Ruled | Instance | Answered, event: Answered) -> bool:
    """Whether a rule is only the one that stands for a policy's answer."""
    return isinstance(around, Ruled) and around.events[:1] == [event] and not around.scope


def _filled(around: Ruled | Instance | Answered, event: Answered) -> Ruled:
    name, at = event.target.name, ""
    if isinstance(around, Instance):
        at = f"{around.reference}#{name}"
    elif isinstance(around, Ruled):
        at = f"{around.at}.{name}"
    node = Text(event.word, event.place)
    return Ruled(node, event.target, at, "", result=event.result, events=[event])


def asked_in(event: Ruled | Instance | Entered) -> Iterator[Asked]:
    """The conditions asked directly below."""
    for inner in event.events:
        if isinstance(inner, Asked):
            yield inner


def readouts(events: Sequence[Event]) -> Iterator[Readout]:
    """The paths read directly below, through conditions and policies."""
    for event in events:
        if isinstance(event, Readout):
            yield event
        elif isinstance(event, Asked | Answered):
            yield from readouts(event.events)


def has_key(event: Ruled, key: str) -> bool:
    """Whether a rule as the mapping writes it has a key (``const``, ``switch``)."""
    return isinstance(event.node, Table) and event.node.get(key) is not None


class Outcome:
    """Where the resources that rules made are now, after documents were taken in."""

    def __init__(self, examined: Examined) -> None:
        self._final = {entry.reference: entry.resource for entry in examined.mapped.entries}
        patients = [name for name in self._final if name.startswith("Patient/")]
        self._patient = patients[0] if len(patients) == 1 else ""

    def resource(self, instance: Instance) -> Mapping[str, Any] | None:
        """The resource of the result that holds what an instance says, or None.

        The patient of a document inside a message is the message's own.
        """
        if instance.reference is None:
            return None
        found = self._final.get(instance.reference)
        if found is None and instance.kind == "Patient" and self._patient:
            found = self._final[self._patient]
        return found

    def whole(self, instance: Instance) -> bool:
        """Whether everything that an instance made is in the result as it made it."""
        made, found = instance.resource, self.resource(instance)
        if made is None or found is None:
            return False
        return made is found or all(found.get(key) == made[key] for key in made)

    def kept(self, instance: Instance, rule: Ruled) -> bool:
        """Whether the result of one rule is in the result, by its place and value."""
        found = self.resource(instance)
        path = rule.at.partition("#")[2]
        if found is None or not path:
            return False
        there, value = value_at(found, parse(path)), rule.value
        if there == value:
            return True
        if isinstance(there, list):
            return value in there
        return isinstance(value, list) and there in value


def live_rules(part: Part, outcome: Outcome) -> Iterator[tuple[Instance, Ruled]]:
    """Every rule whose result is in an entry, with the resource that it was made for."""
    for instance in instances(part.watch.events):
        if outcome.resource(instance) is None:
            continue
        whole = outcome.whole(instance)
        waiting = [rule for rule in rules_in(instance) if gave(rule)]
        while waiting:
            rule = waiting.pop()
            inner = [each for each in rules_in(rule) if gave(each) and _stayed(rule, each)]
            waiting.extend(inner)
            if whole or is_key(rule) or outcome.kept(instance, rule):
                yield instance, rule


def is_key(rule: Ruled) -> bool:
    """Whether a rule gave a part of an identifier's key."""
    return rule.at.endswith("#id")


def _stayed(around: Ruled, rule: Ruled) -> bool:
    """Whether an element of an object is still in it (a Period loses an end before its start)."""
    if not has_key(around, "set") or has_key(around, "from"):
        return True
    holders = around.value if isinstance(around.value, list) else [around.value]
    return any(not isinstance(each, dict) or rule.key in each for each in holders)

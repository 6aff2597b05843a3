"""Why a value is not in the entries: the rules that were tried, and why each gave nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.mapping.document import Table, Text
from gateway.mapping.observing import (
    Answered,
    Asked,
    Entered,
    Event,
    Instance,
    LookedUp,
    Readout,
    Ruled,
)
from gateway.ports import ValueState
from gateway.workbench.elements import Steps, entry_and_path, shown, value_at
from gateway.workbench.examining import Examined
from gateway.workbench.happenings import gave, readouts, rules_in
from gateway.workbench.provenance import Provenance

TRIES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule that was tried (``file:line:col``), for which element, and why it gave nothing.

    ``depth`` counts how far inside another rule that was tried it stands.
    """

    rule: str
    element: str
    reasons: tuple[str, ...]
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Absence:
    """The answer for one target. ``there`` holds what stands there after all, by entry."""

    target: str
    tried: tuple[Tried, ...]
    there: tuple[str, ...] = ()


def why_absent(examined: Examined, target: str) -> Absence:
    """Why ``Observation[2].valueQuantity`` or ``Encounter`` is not among the entries.

    Without a number every entry of the type is looked at. Raises NoTarget.
    """
    kind, number, identifier, steps = entry_and_path(target)
    entries = [entry for entry in examined.mapped.entries if entry.resource["resourceType"] == kind]
    if identifier:
        entries = [entry for entry in entries if entry.resource["id"] == identifier]
    elif number is not None:
        entries = entries[number : number + 1]
    if not entries or not steps:
        there = tuple(entry.reference for entry in entries)
        return Absence(target, () if there else tuple(_no_entry(examined, kind)), there)
    provenance = Provenance(examined)
    tried: list[Tried] = []
    found: list[str] = []
    for entry in entries:
        if value_at(entry.resource, steps) is not None:
            found.append(f"{entry.reference}#{shown(steps)}")
            continue
        for instance, _, _ in provenance.instances_of(entry.reference):
            tried += _tries(instance, steps, kind, 0)
            if len(tried) > TRIES_MAX:
                return Absence(target, tuple(tried[:TRIES_MAX]), tuple(found))
    return Absence(target, tuple(dict.fromkeys(tried)), tuple(found))


# --- no entry at all ------------------------------------------------------------------------


def _no_entry(examined: Examined, kind: str) -> Iterator[Tried]:
    """Every entry of the mapping that could have made one."""
    nothing = True
    for part in examined.parts:
        for entered in _entered(part.watch.events, kind):
            nothing = False
            yield Tried(str(entered.place), entered.name, tuple(_not_made(entered)))
    if nothing:
        names = ", ".join(part.program.name for part in examined.parts)
        yield Tried(names, kind, (f"the mapping came to no entry that makes a {kind}",))


def _entered(events: Sequence[Event], kind: str) -> Iterator[Entered]:
    for event in events:
        if isinstance(event, Entered) and event.kind == kind:
            yield event
        if isinstance(event, Entered | Instance | Ruled):
            yield from _entered(event.events, kind)


def _not_made(entered: Entered) -> Iterator[str]:
    made = [event for event in entered.events if isinstance(event, Instance)]
    yield from _conditions(entered.events)
    yield from _readings(entered.events)
    for instance in made:
        if instance.reference is not None:
            yield f"made, and then one with {instance.reference}"
        elif instance.stopped:
            yield f"stopped by {instance.stopped}"
        else:
            yield from _left_out(instance)
    if not made and not any(isinstance(event, Asked | Readout) for event in entered.events):
        yield "its each: finds nothing to walk: there is no such group, segment or element"


def _left_out(instance: Instance) -> Iterator[str]:
    stopped = [rule for rule in _below(instance) if rule.stopped]
    for rule in stopped[-1:]:
        where = f"{rule.node.place} ({rule.target.path})"
        if rule.stopped == "HandedOver":
            yield f"{where} hands the document over to its own mapping"
        else:
            yield f"{where} drops it: {'; '.join(_reasons(rule)) or rule.stopped}"
    if not stopped:
        answers = [e for e in instance.events if isinstance(e, Answered) and not gave(e)]
        if answers:
            for answer in answers:
                yield f"{answer.place} ({answer.target.path}) {answer.which}: {answer.word}"
        else:
            yield "none of its rules gave anything but constants"


def _below(around: Ruled | Instance) -> Iterator[Ruled]:
    for rule in rules_in(around):
        yield rule
        yield from _below(rule)


# --- an element of an entry -------------------------------------------------------------------


def _tries(around: Instance | Ruled, steps: Steps, path: str, depth: int) -> Iterator[Tried]:
    name = next((step for step in steps if isinstance(step, str)), "")
    rest = steps[steps.index(name) + 1 :] if name else ()
    found = _rules_for(around, name)
    element = f"{path}.{name}"
    if not found:
        place = str(around.place if isinstance(around, Instance) else around.node.place)
        yield Tried(place, element, (_no_rule(around, name),), depth)
    deeper = any(isinstance(step, str) for step in rest)
    for rule in found:
        if not gave(rule):
            yield from _tried(rule, element, depth)
        elif deeper:
            yield from _tries(rule, rest, element, depth)
        else:
            yield Tried(str(rule.node.place), element, tuple(_other(rule)), depth)


def _other(rule: Ruled) -> Iterator[str]:
    """What a rule gave instead of what is asked for."""
    if rule.choice:
        yield f"it gave {rule.key} instead"
        for event in (rule, *_below(rule)):
            for answer in event.events:
                if isinstance(answer, Answered):
                    yield f"the value is {answer.which}, and the policy is {answer.word}"
    else:
        yield "it gave something that is not at this place: look at the element without a number"


def _rules_for(around: Instance | Ruled, name: str) -> list[Ruled]:
    """The rules for an element, also of a type or a first: that the rule handed on to."""
    found = [rule for rule in rules_in(around) if _is_for(rule, name)]
    if found or isinstance(around, Instance):
        return found
    return [
        rule
        for inner in rules_in(around)
        if inner.target.path == around.target.path or inner.at.startswith(around.at)
        for rule in _rules_for(inner, name)
    ]


def _is_for(rule: Ruled, name: str) -> bool:
    target = rule.target
    if name in (target.name, target.key):
        return True
    return target.open and any(target.key_of(kind) == name for kind in target.types)


def _no_rule(around: Instance | Ruled, name: str) -> str:
    known = sorted({rule.target.name for rule in rules_in(around)})
    told = f" (it gives {', '.join(known)})" if known else ""
    return f"no rule gives {name} here{told}"


def _tried(rule: Ruled, element: str, depth: int) -> Iterator[Tried]:
    reasons = tuple(dict.fromkeys(_reasons(rule)))
    inner = [each for each in rules_in(rule) if not gave(each)]
    if not reasons and not inner:
        reasons = ("it gave nothing",)
    yield Tried(str(rule.node.place), element, reasons, depth)
    for each in inner:
        below = each.target.path.rpartition(".")[2]
        same = each.target.path == rule.target.path or each.at == rule.at
        yield from _tried(each, element if same else f"{element}.{below}", depth + 1)


def _reasons(rule: Ruled) -> Iterator[str]:
    """Why one rule gave nothing, by itself."""
    yield from _conditions(rule.events)
    yield from _readings(rule.events)
    for event in rule.events:
        if isinstance(event, LookedUp) and event.row is None:
            yield f"table {event.table} {event.version} has no row for {event.code!r}"
        elif isinstance(event, Answered):
            yield f"the value is {event.which}, and the policy is {event.word}"
    node = rule.node
    if isinstance(node, Table):
        for key in ("skip", "flag"):
            said = node.get(key)
            if isinstance(said, Text):
                yield f"{key}: {said.text}"
        names = node.get("ref")
        if names is not None and not any(isinstance(e, Asked) for e in rule.events):
            wanted = names.text if isinstance(names, Text) else "of those named"
            yield f"there is no entry {wanted} to refer to"
    if rule.stopped == "Drop":
        yield "what holds it was left out by a policy"


def _conditions(events: Sequence[Event]) -> Iterator[str]:
    for event in events:
        if isinstance(event, Asked) and not event.fulfilled:
            stands = "; ".join(
                f"{found.path} is {_state(found)}" for found in readouts(event.events)
            )
            yield f"the condition «{event.text}» is not fulfilled ({stands})"


def _readings(events: Sequence[Event]) -> Iterator[str]:
    for event in events:
        if isinstance(event, Readout) and not any(
            value.state is ValueState.PRESENT for value in event.values
        ):
            yield f"{event.path} is {_state(event)}"


def _state(found: Readout) -> str:
    """What stands at a path: a text, or which kind of nothing."""
    if not found.values:
        return "absent: nothing stands there"
    for value in found.values:
        if value.state is ValueState.PRESENT:
            return repr(value.text)
    first = found.values[0]
    if first.state is ValueState.ABSENT:
        return "absent" if first.path else "absent: there is no such segment"
    return "null: the sender deletes it" if first.state is ValueState.NULL else "empty"

"""``set:``: objects built element by element, complete or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from gateway.mapping.compiling import At, Compiled, Compiler, Fn, Item, together
from gateway.mapping.document import Node, Table
from gateway.mapping.findings import Place
from gateway.mapping.ordering import in_order
from gateway.mapping.policies import Handler, compile_policy, leaves_nothing
from gateway.mapping.pruning import Known, pruned
from gateway.mapping.r4.definitions import UnknownPath
from gateway.mapping.rules import compile_rule, may_be_empty
from gateway.mapping.running import Drop, Run
from gateway.mapping.targets import Target, child, required_children
from gateway.mapping.vocabulary import times
from gateway.ports import Scope

Build = Callable[[Run, Scope, Item], dict[str, Any] | None]


class Put(Enum):
    """How a rule's result goes into its element."""

    AS_IS = 0
    IN_LIST = 1
    PAIR = 2
    FIRST = 3


@dataclass(slots=True)
class Field:
    """One element of an object."""

    key: str
    run: Fn
    put: Put
    constant: bool
    fixed: Any
    missing: Handler | None
    target: Target
    rule: Compiled


def compile_set(c: Compiler, node: Node, target: Target, at: At) -> Compiled | None:
    """Compile the elements of an object; None when one is wrong (reported)."""
    if not isinstance(node, Table):
        c.error(node.place, "wrong-shape", "set: is a map of elements")
        return None
    if target.types[0] in c.definitions.primitives:
        c.error(node.place, "type", f"{target.path} is a {target.types[0]}: it has no elements")
        return None
    fields = compile_fields(c, node, target, at)
    complete = check_required(c, node, target)
    if fields is None or not complete:
        return None
    period = node.place if target.types == ("Period",) else None
    return _object(c, fields, fields, target.path, period)


def _object(
    c: Compiler, fields: list[Field], left: list[Field], path: str, period: Place | None
) -> Compiled:
    """An object of the elements that are ``left`` of all its fields."""
    build = builder(c, left, fields)
    if period is not None:
        build = _ordered(build, period, path)
    constant = all(field.constant for field in fields)

    def prune(known: Known) -> Compiled | None:
        kept = pruned_fields(left, known)
        if not constant and all(field.constant for field in kept):
            return None  # only what the source does not say would be in it
        return _object(c, fields, kept, path, period)

    varying = [field.rule for field in left if not field.constant]
    return Compiled(
        build,
        constant=constant,
        needs=None if constant else together(rule.needs for rule in varying),
        reads=together(field.rule.reads for field in left),
        lasting=all(rule.lasting for rule in varying),
        parts=[field.rule for field in left],
        prune=prune,
    )


def pruned_fields(fields: list[Field], known: Known) -> list[Field]:
    """The elements of which something is left."""
    kept = []
    for field in fields:
        rule = pruned(field.rule, known)
        if rule is field.rule:
            kept.append(field)
        elif rule is not None:
            kept.append(replace(field, run=rule.run, rule=rule))
    return kept


def _ordered(build: Build, place: Place, path: str) -> Build:
    """A Period that R4 takes (per-1): an end before its start is left out, and flagged."""

    def ordered(run: Run, scope: Scope, item: Item) -> dict[str, Any] | None:
        made = build(run, scope, item)
        if made is not None and "start" in made and "end" in made:
            start, end = made["start"], made["end"]
            if times.is_after(start, end):
                del made["end"]
                run.flag("period-reversed", place, path, scope.path)
        return made

    return ordered


def compile_fields(c: Compiler, node: Table, target: Target, at: At) -> list[Field] | None:
    """The rules of every element, those that others refer to first."""
    fields: list[Field] = []
    sound = True
    for name, rule in in_order(node.items.items()):
        try:
            below = child(c.definitions, target, name)
        except UnknownPath as wrong:
            c.unknown_element(node.places.get(name, node.place), wrong)
            sound = False
            continue
        field = _field(c, rule, below, at)
        sound = sound and field is not None
        if field is not None:
            fields.append(field)
    return fields if sound else None


def _field(c: Compiler, rule: Node, target: Target, at: At) -> Field | None:
    compiled = compile_rule(c, rule, target, at)
    missing = _missing(c, rule, target, at)
    if compiled is None or missing is False:
        return None
    if compiled.choice:
        put = Put.PAIR
    elif target.repeats:
        put = Put.AS_IS if compiled.many else Put.IN_LIST
    else:
        put = Put.FIRST if compiled.many else Put.AS_IS
    handler = missing if callable(missing) else None
    return Field(
        key=target.key,
        run=compiled.run,
        put=put,
        constant=compiled.constant,
        fixed=compiled.fixed,
        missing=handler,
        target=target,
        rule=compiled,
    )


def _missing(c: Compiler, rule: Node, target: Target, at: At) -> Handler | bool:
    """The ``missing`` handler of an element, False when there should be one."""
    table = rule if isinstance(rule, Table) else Table({}, rule.place)
    own = table.get("missing")
    node = own if own is not None else c.policy_node("missing", table)
    if target.required and may_be_empty(c, rule) and leaves_nothing(node):
        what = f"R4 requires {target.path}, and the source may not say it"
        hint = "add missing: drop (or reject, {map: …, reason: …}, {absent: unknown})"
        c.error(rule.place, "fallible", what, hint)
        return False
    if node is None or (own is None and not target.required):
        return True
    item = target.item()
    handler = compile_policy(c, "missing", node, item, at, place=rule.place)
    return handler if handler is not None else False


def check_required(c: Compiler, node: Table, target: Target) -> bool:
    """Report every element that R4 requires and no rule gives."""
    where = target.location or target.types[0]
    sound = True
    for name, definition in required_children(c.definitions, where).items():
        bare = name.removesuffix("[x]")
        names = {bare, *definition.keys().values()}
        if not names & set(node.items):
            c.error(node.place, "missing-element", f"R4 requires {target.path}.{bare}",
                    f"add {bare}:")  # fmt: skip
            sound = False
    return sound


def builder(c: Compiler, fields: list[Field], whole: list[Field] | None = None) -> Build:
    """The closure that makes the object, or None when only its constants would be in it.

    ``whole`` are all of its fields where ``fields`` are what is left of them.
    """
    whole = fields if whole is None else whole
    if c.traced:
        return _traced(fields, whole)
    rows: list[tuple[str, Fn | None, int, bool, Any]] = []
    variable = any(not field.constant for field in whole)
    for field in fields:
        if field.constant and field.fixed is not None:
            fixed = [field.fixed] if field.put is Put.IN_LIST else field.fixed
            rows.append((field.key, None, 0, True, fixed))
        else:
            rows.append((field.key, field.run, field.put.value, field.constant, None))
    return _plain(tuple(rows), handlers_of(whole), variable)


def _plain(rows: tuple[Any, ...], handlers: tuple[Any, ...], variable: bool) -> Build:
    def build(run: Run, scope: Scope, item: Item) -> dict[str, Any] | None:
        made: dict[str, Any] = {}
        said = not variable
        try:
            for key, get, put, constant, fixed in rows:
                if get is None:
                    made[key] = fixed
                    continue
                value = get(run, scope, item)
                if value is None:
                    continue
                if not constant:
                    said = True
                if put == 0:
                    made[key] = value
                elif put == 1:
                    made[key] = [value]
                elif put == 2:
                    made[value[0]] = value[1]
                else:
                    made[key] = value[0]
            if not said:
                return None
            if handlers:
                complete(run, scope, item, made, handlers)
        except Drop:
            run.pending.clear()
            return None
        return made

    return build


def complete(
    run: Run, scope: Scope, item: Item, made: dict[str, Any], handlers: tuple[Any, ...]
) -> None:
    """Ask the ``missing`` policies of the elements that are not there."""
    for keys, handler, repeats in handlers:
        if keys[0] in made or (len(keys) > 1 and any(key in made for key in keys)):
            continue
        value = handler(run, scope, item, None)
        if value is None:
            continue
        if len(keys) > 1:
            made[value[0]] = value[1]
        else:
            made[keys[0]] = [value] if repeats else value


def handlers_of(fields: list[Field]) -> tuple[Any, ...]:
    """The ``missing`` policies of an object's elements, for :func:`complete`."""
    return tuple(
        (_keys(field.target), field.missing, field.target.repeats)
        for field in fields
        if field.missing is not None
    )


def _keys(target: Target) -> tuple[str, ...]:
    if not target.open:
        return (target.key,)
    return tuple(target.key_of(kind) for kind in target.types)


def _traced(fields: list[Field], whole: list[Field]) -> Build:
    """The same with the trail of element names kept, for provenance."""
    variable = any(not field.constant for field in whole)
    handlers = handlers_of(whole)

    def build(run: Run, scope: Scope, item: Item) -> dict[str, Any] | None:
        made: dict[str, Any] = {}
        said = not variable
        before = len(run.trail), run.offset
        try:
            said = _fill(run, scope, item, fields, made) or said
            if not said:
                return None
            complete(run, scope, item, made, handlers)
        except Drop:
            run.pending.clear()
            del run.trail[before[0] :]
            run.offset = before[1]
            return None
        return made

    return build


def _fill(run: Run, scope: Scope, item: Item, fields: list[Field], made: dict[str, Any]) -> bool:
    """Run every rule with its element on the trail; whether one said something."""
    said = False
    for field in fields:
        dot = "" if run.trail[-1].endswith("#") else "."
        run.trail.append(f"{dot}{field.target.name}")
        before, run.offset = run.offset, 0
        value = field.run(run, scope, item)
        run.offset = before
        run.trail.pop()
        if value is not None:
            said = said or not field.constant
            _place_value(made, field, value)
    return said


def _place_value(made: dict[str, Any], field: Field, value: Any) -> None:
    if field.put is Put.PAIR:
        made[value[0]] = value[1]
    elif field.put is Put.IN_LIST:
        made[field.key] = [value]
    elif field.put is Put.FIRST:
        made[field.key] = value[0]
    else:
        made[field.key] = value

"""Rules to closures: what a target element's value is made of."""

from __future__ import annotations

from typing import Any

from gateway.mapping import attachments, quantities, sources  # noqa: F401 - they register
from gateway.mapping.compiling import (
    At,
    Compiled,
    Compiler,
    Gate,
    Item,
    Paths,
    together,
)
from gateway.mapping.conditions import Test
from gateway.mapping.conversions import Convert
from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.leaves import compile_all, compile_from
from gateway.mapping.observing import watched_rule
from gateway.mapping.policies import leaves_nothing
from gateway.mapping.pruning import Known, pruned
from gateway.mapping.running import Run
from gateway.mapping.targets import Target, text_target
from gateway.mapping.walking import compile_each
from gateway.ports import Scope

SOURCES = (
    "from", "first", "all", "items", "const", "ref", "switch", "set", "resource", "refer", "flag",
    "skip",
)  # fmt: skip
MODIFIERS = (
    "when", "each", "as", "table", "translate", "unit", "join", "reason", "cases", "detail",
    "missing", "invalid", "unknown", "final", "note", "use",
)  # fmt: skip
ENTRY_KEYS = ("name", "id", "also", "check", "create_only", "hand_over", "along")
KEYS = (*SOURCES, *MODIFIERS, *attachments.OPTIONS)


def compile_rule(c: Compiler, node: Node, target: Target, at: At) -> Compiled | None:
    """Compile one rule for a target; None when it is wrong (reported)."""
    compiled = _rule(c, node, target, at)
    return watched_rule(compiled, node, target) if c.watched and compiled else compiled


def _rule(c: Compiler, node: Node, target: Target, at: At) -> Compiled | None:
    if isinstance(node, Many):
        return _joined(c, node, target, at)
    rule = Table({"from": node}, node.place) if isinstance(node, Text) else node
    nested = rule.get("resource") is not None
    more = ENTRY_KEYS if nested else ("id",) if rule.get("refer") is not None else ()
    c.unknown_keys(rule, (*KEYS, *more), "a rule")
    kinds = [key for key in SOURCES if key in rule.items]
    if "resource" in kinds:
        return sources.nested(c, rule, target, at)
    if "from" in kinds and "set" in kinds:
        kinds.remove("set")
    each = rule.get("each")
    if not kinds and each is not None and not isinstance(each, Table):
        rule = rule.with_items({**rule.items, "from": Text("$", each.place)})
        kinds = ["from"]
    if len(kinds) != 1:
        what = f"both {kinds[0]}: and {kinds[1]}:" if kinds else "no source of its value"
        c.error(rule.place, "source", f"the rule has {what}", f"one of {', '.join(SOURCES)}")
        return None
    if each is None:
        return _conditional(c, rule, kinds[0], target, at)
    return _repeated(c, rule, kinds[0], target, at)


def _items(c: Compiler, rule: Table, target: Target, at: At) -> Compiled | None:
    node = rule.items["items"]
    if isinstance(node, Many):
        return _joined(c, node, target, at)
    c.error(node.place, "wrong-shape", "items: is a list of rules")
    return None


def _joined(c: Compiler, node: Many, target: Target, at: At) -> Compiled | None:
    """Several rules for one repeating element."""
    if not target.repeats:
        c.error(node.place, "type", f"{target.path} does not repeat", "first: takes one of several")
        return None
    found = [compile_rule(c, item, target, at) for item in node.items]
    parts = [part for part in found if part is not None]
    if len(parts) < len(found) or not parts:
        return None
    constant = all(part.constant for part in parts)
    return _together(parts, constant=constant, traced=c.traced)


def _together(parts: list[Compiled], *, constant: bool, traced: bool) -> Compiled:
    """The values of several rules in one list."""
    rules = tuple((part.run, part.many) for part in parts)

    def run_all(run: Run, scope: Scope, item: Item) -> list[Any] | None:
        made: list[Any] = []
        for get, many in rules:
            value = get(run, scope, item)
            if value is None:
                continue
            if many:
                made.extend(value)
            else:
                made.append(value)
        return made or None

    def run_traced(run: Run, scope: Scope, item: Item) -> list[Any] | None:
        made: list[Any] = []
        for get, many in rules:
            run.offset = len(made)
            if not many:
                run.trail.append(f"[{len(made)}]")
            value = get(run, scope, item)
            if not many:
                run.trail.pop()
            if value is not None:
                made.extend(value if many else (value,))
        run.offset = 0
        return made or None

    def prune(known: Known) -> Compiled | None:
        left = [part for part in (pruned(part, known) for part in parts) if part is not None]
        return _together(left, constant=constant, traced=traced) if left else None

    return Compiled(
        run_traced if traced else run_all,
        many=True,
        constant=constant,
        needs=together(part.needs for part in parts),
        reads=together(part.reads for part in parts),
        lasting=all(part.lasting for part in parts),
        parts=parts,
        prune=prune,
    )


def _repeated(c: Compiler, rule: Table, kind: str, target: Target, at: At) -> Compiled | None:
    walked = compile_each(c, rule.items["each"], at)
    if walked is None:
        return None
    walk, inside, needs, reads = walked
    if not target.repeats:
        c.error(rule.place, "type", f"each: makes several, and {target.path} does not repeat")
        return None
    when = rule.get("when")
    before = isinstance(rule.items["each"], Text) and isinstance(when, Text)
    if before and isinstance(when, Text) and "$" not in when.text:
        # The condition is not about the item: ask it once, before walking.
        rule = rule.with_items({k: v for k, v in rule.items.items() if k != "when"})
    else:
        when = None
    inner = _conditional(c, rule, kind, target.item(), inside)
    if inner is None:
        return None
    get, many = inner.run, inner.many

    def run_each(run: Run, scope: Scope, item: Item) -> list[Any] | None:
        made: list[Any] = []
        for place, value in walk(run, scope, item):
            result = get(run, place, value)
            if result is not None:
                if many:
                    made.extend(result)
                else:
                    made.append(result)
        return made or None

    def run_traced(run: Run, scope: Scope, item: Item) -> list[Any] | None:
        made: list[Any] = []
        base, run.offset = run.offset, 0
        for place, value in walk(run, scope, item):
            run.trail.append(f"[{base + len(made)}]")
            result = get(run, place, value)
            run.trail.pop()
            if result is not None:
                made.extend(result if many else (result,))
        return made or None

    walked_over = Compiled(
        run_traced if c.traced else run_each,
        many=True,
        needs=needs,
        reads=together((reads, inner.reads)),
        lasting=inner.lasting,
    )
    if when is None:
        return walked_over
    condition = c.condition(when, at)
    return _when(condition[0], walked_over, condition[1]) if condition is not None else None


def _conditional(c: Compiler, rule: Table, kind: str, target: Target, at: At) -> Compiled | None:
    body = _source(c, rule, kind, target, at)
    when = rule.get("when")
    if when is None:
        return body
    condition = c.condition(when, at)
    if condition is None or body is None:
        return None
    return _when(condition[0], body, condition[1])


def _when(test: Test, body: Compiled, reads: Paths) -> Compiled:
    get = body.run

    def run(run: Run, scope: Scope, item: Item) -> Any:
        return get(run, scope, item) if test(scope, item) else None

    def prune(known: Known) -> Compiled | None:
        left = pruned(body, known)
        if left is None or not known.lacks(reads):
            return _when(test, left, reads) if left is not None else None
        # There is nothing at all that it asks about: the answer is the same for all of them.
        return left if test(known.scope, known.item) else None

    return Compiled(
        run,
        body.many,
        body.choice,
        body.constant,
        needs=body.needs,
        reads=together((reads, body.reads)),
        lasting=body.lasting,
        gate=Gate(test, reads, body),
        asks=reads,
        parts=(body,),
        prune=prune,
    )


def _source(c: Compiler, rule: Table, kind: str, target: Target, at: At) -> Compiled | None:
    if kind in ("from", "all"):
        compiler = compile_from if kind == "from" else compile_all
        return compiler(c, rule, target, at)
    if kind == "first":
        return _first(c, rule, target, at)
    if kind == "items":
        return _items(c, rule, target, at)
    if kind == "const":
        return sources.constant(c, rule, target)
    if kind == "ref":
        return sources.reference(c, rule, target)
    if kind == "switch":
        return sources.switch(c, rule, target, at)
    if kind == "set":
        return sources.an_object(c, rule, target, at)
    if kind == "refer":
        return sources.elsewhere(c, rule, target, at)
    return sources.nothing(c, rule, kind, target)


def _first(c: Compiler, rule: Table, target: Target, at: At) -> Compiled | None:
    """The first of several rules that gives something. Each inherits the rule's own keys."""
    node = rule.items["first"]
    if not isinstance(node, Many) or not node.items:
        c.error(node.place, "wrong-shape", "first: is a list of paths or rules")
        return None
    own = {k: v for k, v in rule.items.items() if k not in ("first", "when", "each", "missing")}
    parts = []
    for item in node.items:
        inner = Table({"from": item}, item.place) if isinstance(item, Text) else item
        if isinstance(inner, Table):
            inner = Table({**own, **inner.items}, inner.place, inner.places)
        parts.append(compile_rule(c, inner, target, at))
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    return _one_of(found, many=any(part.many for part in found), choice=found[0].choice)


def _one_of(parts: list[Compiled], *, many: bool, choice: bool) -> Compiled:
    """The value of the first rule that gives one."""
    rules = tuple(part.run if part.many == many else sources.listed(part.run) for part in parts)

    def run(run: Run, scope: Scope, item: Item) -> Any:
        for get in rules:
            value = get(run, scope, item)
            if value is not None:
                return value
        return None

    def prune(known: Known) -> Compiled | None:
        left = [part for part in (pruned(part, known) for part in parts) if part is not None]
        if len(left) == 1 and left[0].many == many:
            return left[0]
        return _one_of(left, many=many, choice=choice) if left else None

    return Compiled(
        rules[0] if len(rules) == 1 else run,
        many,
        choice,
        needs=together(part.needs for part in parts),
        reads=together(part.reads for part in parts),
        lasting=all(part.lasting for part in parts),
        parts=parts,
        prune=prune,
    )


def compile_type(c: Compiler, name: str, target: Target, at: At) -> Convert | None:
    """A type from ``types:`` as a conversion of its ``$``."""
    body = c.types[name]
    rule = body.with_items({k: v for k, v in body.items.items() if k != "type"})
    compiled = compile_rule(c, rule, target, at)
    if compiled is None or compiled.many:
        return None
    get = compiled.run
    return lambda run, scope, _item, value: get(run, scope, value)


def compile_text(c: Compiler, node: Node, at: At, path: str) -> Compiled | None:
    """A rule that gives a text for no element (a part of a key)."""
    return compile_rule(c, node, text_target(path), at)


def may_be_empty(c: Compiler, node: Node) -> bool:
    """Whether a rule may leave its element without a value."""
    if isinstance(node, Many):
        return all(may_be_empty(c, item) for item in node.items)
    if not isinstance(node, Table):
        return True
    if "when" not in node.items:
        if "const" in node.items:
            return False
        for key in ("first", "items"):
            below = node.get(key)
            if below is not None and not may_be_empty(c, below):
                return False
    return leaves_nothing(c.policy_node("missing", node))

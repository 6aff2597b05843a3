"""Entries: resources with their deterministic identifiers, one per scope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.mapping.checks import CHECKS
from gateway.mapping.compiling import At, Compiler, Item, Paths
from gateway.mapping.conditions import Test
from gateway.mapping.document import Many, Node, Table
from gateway.mapping.findings import Place, nearest
from gateway.mapping.identities import compile_identity, look_up
from gateway.mapping.looking import Look, Tokens, compile_looking, looking_builder
from gateway.mapping.objects import Build, builder, check_required, compile_fields
from gateway.mapping.observing import watched_entry, watched_make
from gateway.mapping.pruning import Known
from gateway.mapping.r4.definitions import UnknownPath
from gateway.mapping.rules import ENTRY_KEYS
from gateway.mapping.running import Drop, Frame, HandedOver, Run, derived_id, same_content
from gateway.mapping.shapes import Shape, Shapes
from gateway.mapping.targets import Target
from gateway.mapping.trees import entry_name
from gateway.mapping.walking import compile_each
from gateway.model import Embedded
from gateway.ports import Scope

Make = Callable[[Run, Scope, Item], list[str]]


@dataclass(slots=True)
class Entry:
    """``run`` makes the entries of one rule and gives their references, in order.

    ``needs``: without content at any of these paths of the scope around there is none;
    ``test`` (None: none) must hold there, and asks for the paths ``asks``.
    """

    run: Make
    needs: Paths = None
    test: Test | None = None
    asks: Paths = None

    def possible(self, known: Known) -> bool:
        """Whether there may be one in such a scope."""
        if known.lacks(self.needs):
            return False
        if self.test is None or not known.lacks(self.asks):
            return True
        return self.test(known.scope, known.item)


KEYS = ("resource", "each", "when", "set", "use", "final", "note", "reason", *ENTRY_KEYS)


@dataclass(slots=True)
class Plan:
    """One entry compiled."""

    kind: str
    name: str
    place: Place
    same: bool
    look: Look
    shapes: Shapes
    create_only: bool
    checks: list[Callable[[dict[str, Any]], str]]
    along: Build | None


def compile_entry(c: Compiler, node: Node, at: At) -> Entry | None:
    """Compile one entry; None when it is wrong (reported)."""
    if not isinstance(node, Table):
        c.error(node.place, "wrong-shape", "an entry is a map")
        return None
    c.unknown_keys(node, KEYS, "an entry")
    kind = c.text(node, "resource")
    if kind is None:
        c.error(node.place, "missing-key", "an entry needs resource:")
        return None
    try:
        c.definitions.resource(kind)
    except UnknownPath as wrong:
        c.unknown_element(node.items["resource"].place, wrong)
        return None
    walk, inside = None, at
    needs: Paths = None
    if node.get("each") is not None:
        walked = compile_each(c, node.items["each"], at, entry=True)
        if walked is None:
            return None
        walk, inside, needs = walked[:3]
    when = node.get("when")
    condition = c.condition(when, inside) if when is not None else None
    plan = _plan(c, node, kind, inside)
    if plan is None or (when is not None and condition is None):
        return None
    test = condition[0] if condition is not None else None
    make = watched_make(_make) if c.traced else _make

    def run_entry(run: Run, scope: Scope, item: Item) -> list[str]:
        places = walk(run, scope, item) if walk is not None else ((scope, item),)
        made = []
        for place, value in places:
            if test is None or test(place, value):
                reference = make(run, place, value, plan)
                if reference is not None:
                    made.append(reference)
        return made

    if c.watched:
        return Entry(watched_entry(run_entry, kind, plan.name, node.place))
    if condition is None or walk is not None:  # behind a walk it is not asked of this scope
        return Entry(run_entry, needs)
    return Entry(run_entry, needs, condition[0], condition[1])


def _plan(c: Compiler, node: Table, kind: str, at: At) -> Plan | None:
    target = Target(kind, kind, (kind,))
    keys = compile_identity(c, node, kind, at)
    body = node.get("set")
    if not isinstance(body, Table):
        c.error(node.place, "missing-key", f"{kind} needs set:")
        return None
    fields = compile_fields(c, body, target, at)
    complete = check_required(c, body, target)
    also = _also(c, node, at)
    along = _along(c, node, body, target, at)
    checks = _checks(c, node, kind)
    if fields is None or keys is None or also is None or not complete:
        return None
    name, place = entry_name(node), node.place
    looking = compile_looking(
        c,
        [*(field.rule for field in fields), *keys.rules()],
        [paths for entry in also for paths in (entry.needs, entry.asks)],
    )

    def shape(known: Known | None) -> Shape:
        left = also if known is None else [entry for entry in also if entry.possible(known)]
        return Shape(
            identity=look_up(c, kind, keys, looking, place=place, known=known),
            build=looking_builder(c, fields, looking, known),
            also=tuple(entry.run for entry in left),
            memos=0,
        )

    return Plan(
        kind=kind,
        name=name,
        place=place,
        same=keys.same,
        look=looking.look,
        shapes=Shapes(c, looking, shape),
        create_only=c.yes(node, "create_only"),
        checks=checks,
        along=along,
    )


def _also(c: Compiler, node: Table, at: At) -> list[Entry] | None:
    listed = node.get("also")
    if listed is None:
        return []
    items = listed.items if isinstance(listed, Many) else (listed,)
    found = [compile_entry(c, item, at) for item in items]
    made = [entry for entry in found if entry is not None]
    return made if len(made) == len(found) else None


def _along(c: Compiler, node: Table, body: Table, target: Target, at: At) -> Build | None:
    """The elements that go along with a document that is handed over."""
    names = c.texts(node.get("along"))
    kept = {}
    for name in names:
        if name.text in body.items:
            kept[name.text] = body.items[name.text]
        else:
            c.error(name.place, "unknown-element", f"set: has no {name.text!r}",
                    nearest(name.text, body.items))  # fmt: skip
    fields = compile_fields(c, body.with_items(kept), target, at) if kept else None
    return builder(c, fields) if fields else None


def _checks(c: Compiler, node: Table, kind: str) -> list[Callable[[dict[str, Any]], str]]:
    found = []
    for name in c.texts(node.get("check")):
        known = CHECKS.get(name.text)
        if known is None:
            c.error(name.place, "unknown-check", f"no check {name.text!r}",
                    nearest(name.text, CHECKS))  # fmt: skip
        elif known[0] != kind:
            c.error(name.place, "type", f"{name.text} is for {known[0]}")
        else:
            found.append(known[1])
    return found


def _make(run: Run, scope: Scope, item: Item, plan: Plan) -> str | None:
    """Make one resource, and what is made beside it; None when it was left out."""
    tokens = plan.look(scope)
    shape = plan.shapes.of(run, scope, item, tokens)
    if run.trace is None:
        key = shape.identity(run, scope, item, tokens)
    else:
        key = _traced_key(run, scope, item, plan, shape, tokens)
    number = run.seen.get(key, 0) + 1
    identifier = key if number == 1 or plan.same else derived_id(key, str(number))
    named = f"{plan.kind}/{identifier}"
    reference: str | None = named
    around = run.frame
    run.frame = inner = Frame(around)
    inner.known[plan.name] = named
    run.seen[key] = number
    if run.trace is not None:
        trail, run.trail = run.trail, [f"{reference}#"]
    try:
        built = _built(run, scope, item, plan, shape, tokens)
        if built is not None:
            resource = {"resourceType": plan.kind, "id": identifier, **built}
            reference = _emit(run, scope, plan, resource, named, key=key, number=number)
            inner.known[plan.name] = reference
            around.add(plan.name, reference)
        else:
            run.seen[key] = number - 1
            run.frame, reference = Frame(around), None
        for entry in shape.also:
            entry(run, scope, item)
    finally:
        run.frame = around
        if run.trace is not None:
            run.trail = trail
    return reference


def _emit(
    run: Run, scope: Scope, plan: Plan, resource: dict[str, Any], reference: str, *,
    key: str, number: int,
) -> str:  # fmt: skip
    """Add a resource, unless an earlier one of its key says the same: then that one's
    reference, else its own."""
    if number > 1:
        earlier = _repeated(run, scope, plan, resource, key=key, number=number)
        if earlier is not None:
            return earlier
    run.made[key, number] = (resource, reference)
    for check in plan.checks:
        code = check(resource)
        if code:
            run.flag(code, plan.place, plan.kind, scope.path)
    run.emit(resource, create_only=plan.create_only)
    return reference


def _traced_key(  # noqa: PLR0917 - as _built
    run: Run, scope: Scope, item: Item, plan: Plan, shape: Shape, tokens: Tokens
) -> str:
    trail, run.trail = run.trail, [f"{plan.kind}#id"]
    try:
        return shape.identity(run, scope, item, tokens)
    finally:
        run.trail = trail


def _built(  # noqa: PLR0917 - called for every resource
    run: Run, scope: Scope, item: Item, plan: Plan, shape: Shape, tokens: Tokens
) -> dict[str, Any] | None:
    """The elements of the resource; None when a policy or a hand-over leaves it out."""
    try:
        return shape.build(run, scope, item, tokens)
    except Drop:
        run.pending.clear()
    except HandedOver as away:
        _hand_over(run, scope, item, plan, away.embedded)
    return None


def _repeated(
    run: Run, scope: Scope, plan: Plan, resource: dict[str, Any], *, key: str, number: int
) -> str | None:
    """The earlier reference when the resource says nothing new, else None."""
    for count in range(1, number):
        before = run.made.get((key, count))
        if before is None:
            continue
        equal = same_content(before[0], resource)
        if equal or plan.same:
            run.seen[key] = number - 1
            code = "repeated-entry" if equal else "conflicting-repeat"
            if not (equal and plan.same):
                run.flag(code, plan.place, plan.kind, scope.path)
            return before[1]
    run.flag("repeated-key", plan.place, plan.kind, scope.path)
    return None


def _hand_over(run: Run, scope: Scope, item: Item, plan: Plan, embedded: Embedded) -> None:
    overlay = plan.along(run, scope, item) if plan.along is not None else None
    if overlay:
        embedded = Embedded(
            format=embedded.format, data=embedded.data, source=embedded.source, overlay=overlay
        )
    run.embedded.append(embedded)

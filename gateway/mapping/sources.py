"""The sources of a rule's value other than paths: constants, references, cases, objects."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from gateway.mapping.compiling import (
    At,
    Choice,
    Compiled,
    Compiler,
    Fn,
    Item,
    Reader,
    together,
)
from gateway.mapping.constants import compile_constant, constant_value
from gateway.mapping.document import Table, Text
from gateway.mapping.findings import nearest
from gateway.mapping.pruning import Known, pruned
from gateway.mapping.r4.definitions import UnknownPath
from gateway.mapping.running import Run
from gateway.mapping.targets import Target
from gateway.ports import Scope, ValueState

if TYPE_CHECKING:
    from gateway.mapping.entries import Entry

CASES_MAX = 1_000
"""Contents for which a switch remembers its case."""


def listed(get: Fn) -> Fn:
    """A rule that gives one value as one that gives a list."""

    def run(run: Run, scope: Scope, item: Item) -> list[Any] | None:
        value = get(run, scope, item)
        return [value] if value is not None else None

    return run


def constant(c: Compiler, rule: Table, target: Target) -> Compiled | None:
    """``const:`` with its reason."""
    if not target.free and not c.text(rule, "reason"):
        c.error(rule.place, "reason", f"a constant for {target.path} needs a written reason",
                "add reason:")  # fmt: skip
    chosen, typed = c.text(rule, "as"), target
    if target.open:
        if chosen not in target.types:
            c.error(rule.place, "type", f"{target.path} may be {', '.join(target.types)}",
                    nearest(chosen or "", target.types) or "say which with as:")  # fmt: skip
            return None
        typed = target.typed(chosen)
    make = compile_constant(c, rule.items["const"], typed)
    if make is None:
        return None
    if target.open:
        key = typed.key
        return Compiled(
            lambda _r, _s, _i: (key, make()), choice=True, constant=True, reads=(), lasting=True
        )
    fixed = constant_value(c, rule.items["const"], typed)
    return Compiled(
        lambda _r, _s, _i: make(),
        many=typed.repeats,
        constant=True,
        fixed=None if isinstance(fixed, dict | list) else fixed,
        reads=(),
        lasting=True,
    )


def reference(c: Compiler, rule: Table, target: Target) -> Compiled | None:
    """``ref:`` to an entry of this mapping."""
    node = rule.items["ref"]
    names = c.texts(node)
    if not names:
        return None
    if "Reference" not in target.types or target.open:
        c.error(rule.place, "type", f"{target.path} is no Reference")
        return None
    for name in names:
        kind = c.entries.get(name.text)
        if kind is None:
            c.error(name.place, "unknown-entry", f"no entry {name.text!r} in this mapping",
                    nearest(name.text, c.entries))  # fmt: skip
            return None
        if target.references and kind not in target.references:
            c.error(name.place, "type", f"{target.path} refers to {', '.join(target.references)},"
                    f" not to {kind}")  # fmt: skip
            return None
    wanted = tuple(name.text for name in names)

    def run(run: Run, _scope: Scope, _item: Item) -> dict[str, str] | None:
        known = run.frame.known
        for name in wanted:
            found = known.get(name)
            if found is not None:
                return {"reference": found}
        return None

    return Compiled(run, refers=wanted)


def elsewhere(c: Compiler, rule: Table, target: Target, at: At) -> Compiled | None:
    """``refer:`` to an entry that another message makes, by the keys of its id."""
    from gateway.mapping.identities import compile_identity, name_elsewhere

    kind = c.text(rule, "refer") or ""
    if target.key != "reference" or target.types != ("string",):
        c.error(rule.place, "type", f"{target.path} is no reference of a Reference",
                "target: {set: {reference: {refer: …, id: …}}}")  # fmt: skip
        return None
    try:
        c.definitions.resource(kind)
    except UnknownPath as wrong:
        c.unknown_element(rule.items["refer"].place, wrong)
        return None
    keys = compile_identity(c, rule, kind, at)
    if keys is None:
        return None
    if keys.otherwise:
        c.error(rule.place, "unknown-key", "refer: has no otherwise:, what has no key is not named")
        return None
    return Compiled(name_elsewhere(kind, keys))


def switch(c: Compiler, rule: Table, target: Target, at: At) -> Compiled | None:
    """``switch:`` with its ``cases:``."""
    from gateway.mapping.rules import compile_rule

    node, cases = rule.items["switch"], rule.get("cases")
    reader = c.reader(node, at) if isinstance(node, Text) else None
    if not isinstance(cases, Table) or not isinstance(node, Text):
        c.error(rule.place, "wrong-shape", "switch: is a path, and cases: a map of its values")
        return None
    if "else" not in cases.items:
        c.error(cases.place, "fallible", f"{target.path}: nothing says what any other value gives",
                "add else: {flag: …} or {skip: …}")  # fmt: skip
        return None
    found: dict[str, Compiled] = {}
    for labels, case in cases:
        compiled = compile_rule(c, case, target, at)
        if compiled is None:
            reader = None
            continue
        for label in labels.replace(",", " ").split():
            if label in found:
                c.error(cases.places[labels], "duplicate-key", f"the case {label} stands twice")
            found[label] = compiled
    if reader is None:
        return None
    many = any(case.many for case in found.values())
    reads = together((reader.reads, *(case.reads for case in found.values())))
    lasting = all(case.lasting for case in found.values())
    chosen = {
        label: _case(case) if case.many == many else listed(_case(case))
        for label, case in found.items()
    }
    run, choice = _switched(reader, chosen)
    return Compiled(run, many, target.open, reads=reads, lasting=lasting, choice_of=choice)


def _case(case: Compiled) -> Fn:
    """A case's rule; it need not look for content that the switch's own path promises."""
    return case.run if case.lasting or case.bare is None else case.bare


def _switched(reader: Reader, chosen: dict[str, Fn]) -> tuple[Fn, Choice | None]:
    other, read, content = chosen.pop("else"), reader.read, reader.content
    present = ValueState.PRESENT

    def choose(scope: Scope, item: Item) -> Fn:
        for value in read(scope, item):
            if value.state is present:
                return chosen.get(value.text.strip(), other)
        return other

    if content is None or not reader.needs:
        return (lambda run, scope, item: choose(scope, item)(run, scope, item)), None
    choice = Choice(reader.needs[0], choose, {})

    def run(run: Run, scope: Scope, item: Item) -> Any:
        case = chosen_case(choice, content(scope), scope, item)
        return case(run, scope, item)

    return run, choice


def chosen_case(choice: Choice, token: Hashable, scope: Scope, item: Item) -> Fn:
    """The case of a switch for a content, worked out once."""
    case = choice.known.get(token)
    if case is None:
        if len(choice.known) >= CASES_MAX:
            choice.known.clear()
        case = choice.known[token] = choice.choose(scope, item)
    return case


def an_object(c: Compiler, rule: Table, target: Target, at: At) -> Compiled | None:
    """``set:``, typed by ``as:`` where the element is a choice."""
    from gateway.mapping.objects import compile_set

    typed = target
    if target.open:
        chosen = c.text(rule, "as")
        if chosen not in target.types:
            c.error(rule.place, "type", f"{target.path} may be {', '.join(target.types)}",
                    nearest(chosen or "", target.types) or "say which with as:")  # fmt: skip
            return None
        typed = target.typed(chosen)
    built = compile_set(c, rule.items["set"], typed.item(), at)
    if built is None:
        return None
    return _keyed(typed.key, built) if target.open else built


def _keyed(key: str, built: Compiled) -> Compiled:
    """An object for an open choice: with the property that it stands under."""
    get = built.run

    def run(run: Run, scope: Scope, item: Item) -> Any:
        made = get(run, scope, item)
        return (key, made) if made is not None else None

    def prune(known: Known) -> Compiled | None:
        left = pruned(built, known)
        return _keyed(key, left) if left is not None else None

    return Compiled(
        run,
        choice=True,
        constant=built.constant,
        needs=built.needs,
        reads=built.reads,
        lasting=built.lasting,
        parts=(built,),
        prune=prune,
    )


def skipped(_run: Run, _scope: Scope, _item: Item) -> None:
    """``skip:``: nothing, on purpose."""


def nothing(c: Compiler, rule: Table, kind: str, target: Target) -> Compiled | None:
    """``flag:`` and ``skip:``: no value, on purpose."""
    text = c.text(rule, kind)
    if not text:
        c.error(rule.place, "missing-key", f"{kind}: needs a text")
        return None
    if kind == "skip":
        return Compiled(skipped, constant=True, needs=(), reads=(), lasting=True)
    detail, place, path = c.text(rule, "detail") or "", rule.place, target.path

    def run(run: Run, scope: Scope, item: Item) -> None:
        run.flag(text, place, path, item.path if item is not None else scope.path, detail)

    return Compiled(run, constant=True, reads=(), lasting=True)


def nested(c: Compiler, rule: Table, target: Target, at: At) -> Compiled | None:
    """``resource:`` inside a Reference: an entry of its own, and the reference to it."""
    from gateway.mapping.entries import compile_entry

    kind = c.text(rule, "resource") or ""
    if target.types != ("Reference",):
        c.error(rule.place, "type", f"{target.path} is no Reference")
        return None
    if target.references and kind not in target.references:
        c.error(rule.place, "type", f"{target.path} refers to {', '.join(target.references)},"
                f" not to {kind}")  # fmt: skip
        return None
    entry = compile_entry(c, rule, at)
    if entry is None:
        return None
    if rule.get("each") is not None and not target.repeats:
        c.error(rule.place, "type", f"each: makes several, and {target.path} does not repeat")
        return None
    make = entry.run
    if target.repeats:

        def run_many(run: Run, scope: Scope, item: Item) -> list[dict[str, str]] | None:
            found = make(run, scope, item)
            return [{"reference": ref} for ref in dict.fromkeys(found)] or None

        return _possibly(run_many, entry, many=True)

    def run_one(run: Run, scope: Scope, item: Item) -> dict[str, str] | None:
        found = make(run, scope, item)
        return {"reference": found[0]} if found else None

    return _possibly(run_one, entry, many=False)


def _possibly(run: Fn, entry: Entry, *, many: bool) -> Compiled:
    """An entry of its own, left out where nothing of what it needs is there."""
    made = Compiled(run, many, needs=entry.needs, asks=entry.asks)

    def prune(known: Known) -> Compiled | None:
        return made if entry.possible(known) else None

    made.prune = prune
    return made

"""Entries built from one look at their scope.

All contents that an entry's rules depend on are looked up at once; a rule without any
is skipped, one that is made of contents alone is remembered, the others run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from gateway.mapping.compiling import Compiled, Compiler, Fn, Item, Paths, together
from gateway.mapping.conditions import Test
from gateway.mapping.memory import NOTHING, REMEMBERED_MAX, Memo, learn
from gateway.mapping.objects import Field, Put, builder, complete, handlers_of
from gateway.mapping.running import Run
from gateway.mapping.sources import chosen_case
from gateway.ports import CompiledPath, Scope

Tokens = Sequence[Hashable]
Look = Callable[[Scope], Tokens]
LookingBuild = Callable[[Run, Scope, Item, Tokens], dict[str, Any] | None]

FUSED_MIN = 2
"""Elements that are worth remembering together."""

_FIXED, _RUN, _REFERENCE, _SWITCH, _NEEDING, _ONE, _SEVERAL = range(7)


@dataclass(slots=True)
class Looking:
    """How the contents of one entry's paths are had: which of them is where."""

    look: Look
    places: dict[str, int]

    def at(self, paths: Paths) -> tuple[int, ...] | None:
        """Where the contents of some paths are; None when they are not all looked at."""
        if paths is None or any(path.text not in self.places for path in paths):
            return None
        return tuple(self.places[path.text] for path in paths)

    def tokens_at(self, places: tuple[int, ...]) -> Callable[[Tokens], Hashable]:
        """A function that picks some tokens as one: itself for one place, else a tuple."""
        return itemgetter(*places)


def compile_looking(c: Compiler, rules: Sequence[Compiled]) -> Looking:
    """One look for all rules; a look at nothing where the language has none."""
    wanted: dict[str, CompiledPath] = {}
    for rule in rules:
        gate = rule.gate
        behind = (gate.reads, gate.inner.reads, gate.inner.needs) if gate is not None else ()
        choice = rule.choice_of
        switched = (choice.path,) if choice is not None else ()
        for paths in (rule.reads, rule.needs, switched, *behind):
            wanted.update({path.text: path for path in paths or ()})
    look = c.language.contents(tuple(wanted.values())) if wanted and not c.traced else None
    if look is None:
        return Looking(lambda _scope: (), {})
    return Looking(look, {text: place for place, text in enumerate(wanted)})


def looking_builder(c: Compiler, fields: list[Field], looking: Looking) -> LookingBuild:
    """The builder of a resource, given the tokens of its scope."""
    if not looking.places:
        build = builder(c, fields)
        return lambda run, scope, item, _tokens: build(run, scope, item)
    fused, others = _fused(c, fields, looking)
    rows = tuple(_row(c, field, looking) for field in others)
    return _builder(fused, rows, handlers_of(fields), any(not field.constant for field in fields))


@dataclass(slots=True)
class Condition:
    """A ``when:`` asked before a rule, and what it answered for the contents seen so far."""

    pick: Callable[[Tokens], Hashable]
    test: Test
    known: dict[Hashable, bool]
    idle: bool = False
    """Its contents hardly ever come again: it is asked every time."""


Row = tuple[int, str, int, Any, bool, Any, Any, int, bool, Condition | None]
"""Kind, key, put, rule (or names, or switch), constant, where, pick, memo, lasting, condition.

``where`` is the fixed value, the place of the only content, or the places of those that
the rule needs; ``pick`` takes the contents that make its result."""


def _row(c: Compiler, field: Field, looking: Looking) -> Row:
    rule, put = field.rule, field.put.value
    if field.constant and field.fixed is not None:
        fixed = [field.fixed] if field.put is Put.IN_LIST else field.fixed
        return (_FIXED, field.key, 0, None, True, fixed, None, 0, False, None)
    condition = None
    if rule.gate is not None:
        places = looking.at(rule.gate.reads)
        if places:
            condition = Condition(looking.tokens_at(places), rule.gate.test, {})
            rule = rule.gate.inner
    kind, number = _RUN, 0
    get: Any = rule.run
    where: Any = None
    pick: Any = None
    reads, needs = looking.at(rule.reads), looking.at(rule.needs)
    if rule.refers:
        kind, get = _REFERENCE, rule.refers
    elif rule.choice_of is not None and rule.choice_of.path.text in looking.places:
        kind, get, where = _SWITCH, rule.choice_of, looking.places[rule.choice_of.path.text]
    elif reads and needs and not field.constant:
        one = reads == needs and len(reads) == 1
        kind, get = (_ONE if one else _SEVERAL), rule.bare or rule.run
        where, pick = (reads[0] if one else needs), looking.tokens_at(reads)
        number = c.memos
        c.memos += 1
    elif needs:
        kind, get, where = _NEEDING, rule.bare or rule.run, needs
    return (
        kind, field.key, put, get, field.constant, where, pick, number, rule.lasting, condition,
    )  # fmt: skip


def _passes(condition: Condition, scope: Scope, item: Item, tokens: Tokens) -> bool:
    """What a condition says of its contents: asked once for each."""
    if condition.idle:
        return condition.test(scope, item)
    token = condition.pick(tokens)
    answer = condition.known.get(token)
    if answer is None:
        if len(condition.known) >= REMEMBERED_MAX:
            condition.known.clear()
            condition.idle = True
        answer = condition.known[token] = condition.test(scope, item)
    return answer


@dataclass(slots=True)
class Fused:
    """Elements that are remembered together: the contents of all their paths make them all.

    Most of what a laboratory says of a result comes again with the same code, unit and
    range: one look then gives all of it.
    """

    rows: tuple[Row, ...]
    pick: Callable[[Tokens], Hashable]
    number: int
    lasting: bool


def _fused(
    c: Compiler, fields: list[Field], looking: Looking
) -> tuple[tuple[Fused, ...], list[Field]]:
    """What can be remembered together, for ever and within one message; and the others.

    A switch stays alone, and a constant under a condition: they look at values that hardly
    ever come again.
    """
    groups: dict[bool, list[Field]] = {True: [], False: []}
    others = []
    for field in fields:
        rule = field.rule
        plain = not (rule.refers or rule.choice_of or rule.constant)
        if field.constant and field.fixed is not None:
            groups[True].append(field)
        elif plain and looking.at(rule.reads) and not _switches(rule):
            groups[rule.lasting].append(field)
        else:
            others.append(field)
    fused = []
    for lasting, members in groups.items():
        places = looking.at(together(field.rule.reads for field in members))
        if len(members) < FUSED_MIN or not places:
            others = [field for field in fields if field in members or field in others]
            continue
        rows = tuple(_row(c, field, looking) for field in members)
        fused.append(Fused(rows, looking.tokens_at(places), c.memos, lasting))
        c.memos += 1
    return tuple(fused), others


def _switches(rule: Compiled) -> bool:
    return rule.gate is not None and rule.gate.inner.choice_of is not None


def _builder(
    fused: tuple[Fused, ...], rows: tuple[Row, ...], handlers: tuple[Any, ...], variable: bool
) -> LookingBuild:
    wanted = frozenset(keys[0] for keys, _, _ in handlers)

    def build(run: Run, scope: Scope, item: Item, tokens: Tokens) -> dict[str, Any] | None:
        made: dict[str, Any] = {}
        said = not variable
        for part in fused:
            values, spoke = _fused_values(part, run, scope, item, tokens)
            made.update(values)
            said = said or spoke
        said = _fill(rows, run, scope, item, tokens, made) or said
        if not said:
            return None
        if not wanted <= made.keys():
            complete(run, scope, item, made, handlers)
        return made

    return build


def _fused_values(
    part: Fused, run: Run, scope: Scope, item: Item, tokens: Tokens
) -> tuple[dict[str, Any], bool]:
    """Elements made together, and whether one of them says something of the source."""
    token = part.pick(tokens)
    memo: Memo | None = run.lasting[part.number] if part.lasting else None
    known: dict[Hashable, Any]
    if memo is not None:
        known = memo.known
    else:
        passing = run.passing.get(part.number)
        if passing is None:
            passing = run.passing[part.number] = {}
        known = passing
    found: tuple[dict[str, Any], bool] | None = known.get(token)
    if found is not None:
        if memo is not None:
            memo.hits += 1
        return found
    before = len(run.flags)
    values: dict[str, Any] = {}
    spoke = _fill(part.rows, run, scope, item, tokens, values)
    flagged = len(run.flags) != before
    if memo is not None:
        learn(memo, known, token, ((values, spoke), flagged))
    elif not flagged and len(known) < REMEMBERED_MAX:
        known[token] = (values, spoke)
    return values, spoke


# The hot loop of every mapping stays in one place, whatever its branches.
def _fill(  # noqa: PLR0912, PLR0917
    rows: tuple[Row, ...],
    run: Run,
    scope: Scope,
    item: Item,
    tokens: Tokens,
    made: dict[str, Any],
) -> bool:
    """Make elements; whether one of them says something of the source."""
    said = False
    for kind, key, put, get, constant, where, pick, number, lasting, condition in rows:
        if kind == _FIXED:
            made[key] = where
            continue
        if kind == _ONE:
            if not tokens[where]:
                continue
        elif kind > _SWITCH:
            for place in where:
                if tokens[place]:
                    break
            else:
                continue
        if condition is not None and not _passes(condition, scope, item, tokens):
            continue
        value: Any = None
        if kind >= _ONE:
            value = recalled(run, scope, item, get, pick(tokens), number, lasting)
        elif kind == _REFERENCE:
            for name in get:
                if name in run.frame.known:
                    value = {"reference": run.frame.known[name]}
                    break
        elif kind == _SWITCH:
            case = get.known.get(tokens[where])
            if case is None:
                case = chosen_case(get, tokens[where], scope, item)
            value = case(run, scope, item)
        else:
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
    return said


def recalled(  # noqa: PLR0917 - called for every element of every resource
    run: Run, scope: Scope, item: Item, get: Fn, token: Hashable, number: int, lasting: bool
) -> Any:
    """What a rule makes of a content: remembered, or made now."""
    memo: Memo = run.lasting[number]
    if memo.idle:
        return get(run, scope, item)
    if lasting:
        known = memo.known
    else:
        passing = run.passing.get(number)
        if passing is None:
            passing = run.passing[number] = {}
        known = passing
    found = known.get(token)
    if found is not None:
        memo.hits += 1
        return None if found is NOTHING else found
    before = len(run.flags)
    value = get(run, scope, item)
    learn(memo, known, token, (value, len(run.flags) != before))
    return value

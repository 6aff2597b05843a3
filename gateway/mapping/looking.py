"""Entries built from one look at their scope.

All contents that an entry's rules depend on are looked up at once. What is left of the
rules for the contents that are there (:mod:`gateway.mapping.shapes`) is remembered where
it is made of contents alone; the others run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from gateway.mapping.compiling import Compiled, Compiler, Fn, Item, Paths, together
from gateway.mapping.conditions import Test
from gateway.mapping.memory import (
    NOTHING,
    REMEMBERED_MAX,
    TRANSIENT_MAX,
    Memo,
    learn,
)
from gateway.mapping.objects import Field, Put, builder, complete, handlers_of, pruned_fields
from gateway.mapping.pruning import PRESENT, Known, looked_at
from gateway.mapping.running import Run
from gateway.mapping.sources import skipped
from gateway.ports import CompiledPath, Scope

Tokens = Sequence[Hashable]
Look = Callable[[Scope], Tokens]
LookingBuild = Callable[[Run, Scope, Item, Tokens], dict[str, Any] | None]

FUSED_MIN = 2
"""Elements that are worth remembering together."""

_FIXED, _RUN, _REFERENCE, _SWITCH, _REMEMBERED = range(5)


@dataclass(slots=True)
class Looking:
    """How the contents of one entry's paths are had: which of them is where."""

    look: Look
    places: dict[str, int]
    count: int

    def at(self, paths: Paths) -> tuple[int, ...] | None:
        """Where the contents of some paths are; None when they are not all looked at."""
        if paths is None or any(path.text not in self.places for path in paths):
            return None
        return tuple(dict.fromkeys(self.places[path.text] for path in paths))

    def tokens_at(self, places: tuple[int, ...]) -> Callable[[Tokens], Hashable]:
        """A function that picks some tokens as one: itself for one place, else a tuple."""
        return itemgetter(*places)

    def known(self, pattern: Sequence[int | None], scope: Scope, item: Item) -> Known:
        """What a pattern (:mod:`gateway.mapping.shapes`) tells of every path."""
        states = {}
        for text, place in self.places.items():
            state = pattern[place]
            states[text] = PRESENT if state is None else state
        return Known(states, scope, item)


def compile_looking(c: Compiler, rules: Sequence[Compiled], paths: Sequence[Paths]) -> Looking:
    """One look for all rules and some more paths; at nothing where the language has none."""
    if c.watched:
        return Looking(lambda _scope: (), {}, 0)
    wanted = {path.text: path for path in looked_at(rules)}
    for more in paths:
        wanted.update({path.text: path for path in more or ()})
    distinct: dict[Hashable, CompiledPath] = {}
    for path in wanted.values():
        distinct.setdefault(path.text if path.place is None else path.place, path)
    look = c.language.contents(tuple(distinct.values())) if distinct else None
    if look is None:
        return Looking(lambda _scope: (), {}, 0)
    where = {key: number for number, key in enumerate(distinct)}
    places = {
        path.text: where[path.text if path.place is None else path.place]
        for path in wanted.values()
    }
    return Looking(look, places, len(distinct))


def looking_builder(
    c: Compiler, fields: list[Field], looking: Looking, known: Known | None
) -> LookingBuild:
    """The builder of a resource, given the tokens of its scope and what is known of them."""
    if not looking.places:
        build = builder(c, fields)
        return lambda run, scope, item, _tokens: build(run, scope, item)
    left = fields if known is None else pruned_fields(fields, known)
    if c.traced:  # what is remembered has no place to be noted
        build = builder(c, left, fields)
        return lambda run, scope, item, _tokens: build(run, scope, item)
    # The groups of all fields, whatever is left of them: so elements keep their order.
    keys = [{field.key for field in group} for group in _groups(fields, looking)]
    parts = [_part(c, [f for f in left if f.key in group], looking) for group in keys[:2]]
    rows = tuple(_row(c, field, looking) for field in left if field.key in keys[2])
    variable = any(not field.constant for field in fields)
    return _builder(tuple(parts), rows, handlers_of(fields), variable)


@dataclass(slots=True)
class Condition:
    """A ``when:`` asked before a rule, and the memory of what it answered."""

    pick: Callable[[Tokens], Hashable]
    test: Test
    number: int


Row = tuple[int, str, int, Any, bool, Any, Any, int, int, Condition | None]
"""Kind, key, put, rule (or names, or switch), constant, what, pick, memo, limit, condition.

``what`` is the fixed value, or the place of the content that a switch asks; ``pick`` takes
the contents that make the result, of which at most ``limit`` are remembered."""


def _number(c: Compiler) -> int:
    number = c.memos
    c.memos += 1
    return number


def _row(c: Compiler, field: Field, looking: Looking) -> Row:
    rule, put = field.rule, field.put.value
    if field.constant and field.fixed is not None:
        fixed = [field.fixed] if field.put is Put.IN_LIST else field.fixed
        return (_FIXED, field.key, 0, None, True, fixed, None, 0, 0, None)
    condition = None
    if rule.gate is not None:
        places = looking.at(rule.gate.reads)
        if places:
            condition = Condition(looking.tokens_at(places), rule.gate.test, _number(c))
            rule = rule.gate.inner
    kind, number, get = _RUN, 0, rule.run
    what: Any = None
    pick: Any = None
    reads = looking.at(rule.reads)
    if rule.refers:
        kind, what = _REFERENCE, rule.refers
    elif rule.choice_of is not None and rule.choice_of.path.text in looking.places:
        kind, what = _SWITCH, (rule.choice_of, looking.places[rule.choice_of.path.text])
        number = _number(c)
    elif reads and not field.constant:
        kind, get = _REMEMBERED, rule.bare or rule.run
        pick, number = looking.tokens_at(reads), _number(c)
    elif rule.needs is not None:
        get = rule.bare or rule.run
    limit = REMEMBERED_MAX if rule.lasting else TRANSIENT_MAX
    return (kind, field.key, put, get, field.constant, what, pick, number, limit, condition)


def _passes(condition: Condition, run: Run, scope: Scope, item: Item, tokens: Tokens) -> bool:
    """What a condition says of its contents: asked once for each."""
    memo: Memo = run.lasting[condition.number]
    if memo.idle:
        return condition.test(scope, item)
    token = condition.pick(tokens)
    answer: bool | None = memo.known.get(token)
    if answer is None:
        if len(memo.known) >= REMEMBERED_MAX:
            memo.known.clear()
            memo.idle = True
        answer = memo.known[token] = condition.test(scope, item)
    return answer


@dataclass(slots=True)
class Fused:
    """Elements that are remembered together: the contents of all their paths make them all.
    Without ``pick`` each is made by itself.

    Most of what a laboratory says of a result comes again with the same code, unit and
    range: one look then gives all of it.
    """

    rows: tuple[Row, ...]
    pick: Callable[[Tokens], Hashable] | None
    number: int
    limit: int


def _groups(fields: list[Field], looking: Looking) -> tuple[list[Field], list[Field], list[Field]]:
    """What can be remembered together, the lasting and the transient; and the others.

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
    for members in groups.values():
        places = looking.at(together(field.rule.reads for field in members))
        if len(members) < FUSED_MIN or not places:
            others = [field for field in fields if field in members or field in others]
            members.clear()
    return groups[True], groups[False], others


def _part(c: Compiler, fields: list[Field], looking: Looking) -> Fused:
    """Elements to be remembered together; by themselves where nothing or one is left."""
    rows = tuple(_row(c, field, looking) for field in fields)
    places = looking.at(together(field.rule.reads for field in fields))
    if not places or len(rows) < FUSED_MIN:
        return Fused(rows, None, 0, 0)
    limit = REMEMBERED_MAX if all(field.rule.lasting for field in fields) else TRANSIENT_MAX
    return Fused(rows, looking.tokens_at(places), _number(c), limit)


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
            if part.pick is None:
                said = _fill(part.rows, run, scope, item, tokens, made) or said
                continue
            values, spoke = _fused_values(part, part.pick, run, scope, item, tokens)
            made.update(values)
            said = said or spoke
        said = _fill(rows, run, scope, item, tokens, made) or said
        if not said:
            return None
        if not wanted <= made.keys():
            complete(run, scope, item, made, handlers)
        return made

    return build


def _fused_values(  # noqa: PLR0917 - called for every resource
    part: Fused,
    pick: Callable[[Tokens], Hashable],
    run: Run,
    scope: Scope,
    item: Item,
    tokens: Tokens,
) -> tuple[Mapping[str, Any], bool]:
    """Elements made together, and whether one of them says something of the source."""
    memo: Memo = run.lasting[part.number]
    token: Hashable = None
    if not memo.idle:
        token = pick(tokens)
        found: tuple[dict[str, Any], bool] | None = memo.known.get(token)
        if found is not None:
            memo.hits += 1
            return found
    before = len(run.flags)
    values: dict[str, Any] = {}
    spoke = _fill(part.rows, run, scope, item, tokens, values)
    if not memo.idle:
        learn(memo, token, (values, spoke), part.limit, flagged=len(run.flags) != before)
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
    for kind, key, put, get, constant, what, pick, number, limit, condition in rows:
        if kind == _FIXED:
            made[key] = what
            continue
        if condition is not None and not _passes(condition, run, scope, item, tokens):
            continue
        value: Any = None
        if kind == _REMEMBERED:
            value = recalled(run, scope, item, get, pick(tokens), number, limit)
        elif kind == _REFERENCE:
            for name in what:
                if name in run.frame.known:
                    value = {"reference": run.frame.known[name]}
                    break
        elif kind == _SWITCH:
            case = _case(run, scope, item, what, tokens, number)
            if case is skipped:
                continue
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


def _case(  # noqa: PLR0917 - called for every switch of every resource
    run: Run, scope: Scope, item: Item, what: tuple[Any, int], tokens: Tokens, number: int
) -> Fn:
    """The case of a switch for its content, worked out once."""
    choice, place = what
    memo: Memo = run.lasting[number]
    token = tokens[place]
    case: Fn | None = memo.known.get(token)
    if case is None:
        if len(memo.known) >= REMEMBERED_MAX:
            memo.known.clear()
        case = memo.known[token] = choice.choose(scope, item)
    return case


def recalled(  # noqa: PLR0917 - called for every element of every resource
    run: Run, scope: Scope, item: Item, get: Fn, token: Hashable, number: int, limit: int
) -> Any:
    """What a rule makes of a content: remembered, or made now."""
    memo: Memo = run.lasting[number]
    if memo.idle:
        return get(run, scope, item)
    found = memo.known.get(token)
    if found is not None:
        memo.hits += 1
        return None if found is NOTHING else found
    before = len(run.flags)
    value = get(run, scope, item)
    learn(memo, token, value, limit, flagged=len(run.flags) != before)
    return value

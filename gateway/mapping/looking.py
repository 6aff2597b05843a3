"""Entries built from one look at their scope.

All contents that an entry's rules depend on are looked up at once; a rule without any
is skipped, one that is made of contents alone is remembered, the others run.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.mapping.compiling import Compiled, Compiler, Fn, Item, Paths
from gateway.mapping.conditions import Test
from gateway.mapping.memory import REMEMBERED_MAX, Memo, fresh, learn, unpacked
from gateway.mapping.objects import Field, Put, builder, complete, handlers_of
from gateway.mapping.running import Run
from gateway.ports import CompiledPath, Scope

Tokens = Sequence[Hashable]
Look = Callable[[Scope], Tokens]
LookingBuild = Callable[[Run, Scope, Item, Tokens], dict[str, Any] | None]

_FIXED, _RUN, _NEEDING, _ONE, _SEVERAL = range(5)


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


def compile_looking(c: Compiler, rules: Sequence[Compiled]) -> Looking:
    """One look for all rules; a look at nothing where the language has none."""
    wanted: dict[str, CompiledPath] = {}
    for rule in rules:
        gate = rule.gate
        behind = (gate.reads, gate.inner.reads, gate.inner.needs) if gate is not None else ()
        for paths in (rule.reads, rule.needs, *behind):
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
    rows = tuple(_row(c, field, looking).plain() for field in fields)
    return _builder(rows, handlers_of(fields), any(not field.constant for field in fields))


@dataclass(slots=True)
class Row:
    """One element of a resource, ready to run.

    ``where`` is the place of the only content, or those that the rule needs; ``reads``
    those that make its result. ``gate`` is a condition asked before it: the places of
    its contents and what it answered for them.
    """

    kind: int
    key: str
    put: int
    get: Fn
    constant: bool
    where: Any = None
    reads: tuple[int, ...] = ()
    number: int = 0
    lasting: bool = False
    gate: tuple[tuple[int, ...], dict[Hashable, bool], Test] | None = None

    def plain(self) -> tuple[Any, ...]:
        """The row as the builder unpacks it."""
        return (
            self.kind,
            self.key,
            self.put,
            self.get,
            self.constant,
            self.where,
            self.reads,
            self.number,
            self.lasting,
            self.gate,
        )


def _row(c: Compiler, field: Field, looking: Looking) -> Row:
    rule, put = field.rule, field.put.value
    if field.constant and field.fixed is not None:
        fixed = [field.fixed] if field.put is Put.IN_LIST else field.fixed
        return Row(_FIXED, field.key, 0, field.run, constant=True, where=fixed)
    gate: tuple[tuple[int, ...], dict[Hashable, bool], Test] | None = None
    if rule.gate is not None:
        places = looking.at(rule.gate.reads)
        if places:
            gate, rule = (places, {}, rule.gate.test), rule.gate.inner
    reads, needs = looking.at(rule.reads), looking.at(rule.needs)
    run = rule.bare or rule.run
    if reads and needs and not field.constant:
        number = c.memos
        c.memos += 1
        one = reads == needs and len(reads) == 1
        where: Any = reads[0] if one else needs
        kind = _ONE if one else _SEVERAL
        return Row(kind, field.key, put, run, False, where, reads, number, rule.lasting, gate)
    if needs:
        return Row(_NEEDING, field.key, put, run, field.constant, needs, gate=gate)
    return Row(_RUN, field.key, put, rule.run, field.constant, gate=gate)


def _passes(
    gate: tuple[tuple[int, ...], dict[Hashable, bool], Test],
    scope: Scope,
    item: Item,
    tokens: Tokens,
) -> bool:
    """What a condition says of its contents: asked once for each."""
    places, known, test = gate
    token = tuple([tokens[place] for place in places])
    answer = known.get(token)
    if answer is None:
        if len(known) >= REMEMBERED_MAX:
            known.clear()
        answer = known[token] = test(scope, item)
    return answer


def _builder(rows: tuple[Any, ...], handlers: tuple[Any, ...], variable: bool) -> LookingBuild:
    # The hot loop of every mapping stays in one place, whatever its branches.
    def build(  # noqa: PLR0912
        run: Run, scope: Scope, item: Item, tokens: Tokens
    ) -> dict[str, Any] | None:
        made: dict[str, Any] = {}
        said = not variable
        memory = run.lasting
        for kind, key, put, get, constant, where, reads, number, lasting, gate in rows:
            if kind == _FIXED:
                made[key] = where
                continue
            if kind == _ONE:
                token = tokens[where]
                if not token:
                    continue
            elif kind != _RUN:
                for place in where:
                    if tokens[place]:
                        break
                else:
                    continue
            if gate is not None and not _passes(gate, scope, item, tokens):
                continue
            if kind >= _ONE:
                if kind == _SEVERAL:
                    token = tuple([tokens[place] for place in reads])
                found = memory[number].known.get(token) if lasting else None
                if found is None:
                    value = recalled(run, scope, item, get, token, number, lasting)
                elif type(found) is bytes:
                    value = marshal.loads(found)  # noqa: S302 - our own bytes
                else:
                    value = found if type(found) is str else fresh(found.value)
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
        if not said:
            return None
        if handlers:
            complete(run, scope, item, made, handlers)
        return made

    return build


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
        known = run.passing.get(number)  # type: ignore[assignment]
        if known is None:
            known = run.passing[number] = {}
    found = known.get(token)
    if found is not None:
        memo.hits += 1
        return found if type(found) is str else unpacked(found)
    before = len(run.flags)
    value = get(run, scope, item)
    learn(memo, known, token, (value, len(run.flags) != before))
    return value

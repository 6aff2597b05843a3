"""``each:``: the repetitions, groups, segments, elements and series that a rule walks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gateway.mapping.compiling import At, Compiler, Item, Paths, together
from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.running import Run
from gateway.ports import PathError, Scope, ValueState

Walk = Callable[[Run, Scope, Item], Iterable[tuple[Scope, Item]]]

_PRESENT = ValueState.PRESENT


Walked = tuple[Walk, At, Paths, Paths]
"""The walk, the place inside it, the paths without which there is nothing to walk, and
the paths that decide what is walked (None: not known)."""


def compile_each(c: Compiler, node: Node, at: At, *, entry: bool = False) -> Walked | None:
    """Compile an ``each:``; None when wrong (reported).

    ``entry``: of an entry, whose rules see an item that their scope does not tell.
    """
    if isinstance(node, Text):
        return _values(c, node, at, entry=entry)
    if isinstance(node, Table):
        return _scopes(c, node, at)
    return _nested(c, node, at, entry=entry)


def _nested(c: Compiler, node: Many, at: At, *, entry: bool) -> Walked | None:
    """Several steps: each is walked inside the one before it."""
    walks: list[Walk] = []
    needs: Paths = None
    reads: Paths = ()
    scopes = True
    for step in node.items:
        if isinstance(step, Many):
            c.error(step.place, "wrong-shape", "a step of each: is a path or a map")
            return None
        compiled = compile_each(c, step, at, entry=entry)
        if compiled is None:
            return None
        walks.append(compiled[0])
        at = compiled[1]
        wanted = compiled[2]
        if len(walks) == 1:
            needs = wanted
        elif scopes and wanted and all(path.everywhere for path in wanted):
            needs = wanted  # without it the steps before are in vain
        scopes = scopes and isinstance(step, Table)
        reads = together((reads, compiled[3]))
    if not walks:
        c.error(node.place, "wrong-shape", "each: has no step")
        return None

    def walk(run: Run, scope: Scope, item: Item) -> Iterable[tuple[Scope, Item]]:
        places: Iterable[tuple[Scope, Item]] = ((scope, item),)
        for steps in walks:
            places = [inner for place, value in places for inner in steps(run, place, value)]
        return places

    return walk, at, needs, reads


def _values(c: Compiler, node: Text, at: At, *, entry: bool) -> Walked | None:
    reader = c.reader(node, at)
    if reader is None:
        return None
    read, place, path = reader.read, node.place, reader.text
    content = reader.content

    def walk(run: Run, scope: Scope, item: Item) -> Iterator[tuple[Scope, Item]]:
        if content is not None and not content(scope):
            return
        for value in read(scope, item):
            state = value.state
            if state is _PRESENT:
                yield scope, value
            elif state is ValueState.NULL:
                run.flag("deleted", place, path, value.path)

    loose = entry or reader.reads is None
    return walk, at.with_item(loose=loose), reader.needs, reader.reads


def _scopes(c: Compiler, node: Table, at: At) -> Walked | None:
    if not at.scoped:
        c.error(node.place, "path", "a type has no scope to walk: it knows only its $")
        return None
    spec = {}
    for key, value in node:
        if key == "where":
            continue
        if not isinstance(value, Text):
            c.error(value.place, "wrong-shape", f"{key}: is a text")
            return None
        spec[key] = value.text
    try:
        compiled = c.language.scope(spec, versions=c.versions_at(node.place), within=at.within)
    except PathError as wrong:
        hint = f"did you mean {wrong.suggestion}?" if wrong.suggestion else ""
        c.error(node.place, "path", str(wrong), hint)
        return None
    inside, steps = at.inside(compiled.kind), compiled.walk
    needs = (compiled.needs,) if compiled.needs is not None else None
    where = node.get("where")
    if where is None:

        def walk(_run: Run, scope: Scope, _item: Item) -> Iterator[tuple[Scope, Item]]:
            for place in steps(scope):
                yield place, None

        return walk, inside, needs, None
    condition = c.condition(where, inside)
    if condition is None:
        return None
    test = condition[0]

    def walk_where(_run: Run, scope: Scope, _item: Item) -> Iterator[tuple[Scope, Item]]:
        for place in steps(scope):
            if test(place, None):
                yield place, None

    return walk_where, inside, needs, None

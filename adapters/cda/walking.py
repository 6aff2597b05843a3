"""How compiled CDA paths go from element to element.

No XPath engine: nested XPath over a few thousand nodes can take minutes. The elements
below one are sorted by name once for each document (:class:`adapters.cda.nodes.Node`),
because every rule of a mapping asks for some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count

from adapters.cda.nodes import Node
from adapters.cda.paths import ANY, Axis, CdaPath, Ending, Predicate, Step
from adapters.cda.structure import NAMESPACES, tag_of
from adapters.cda.values import CdaElement, CdaValue, attribute_value, compared_values, ending_value
from gateway.ports import PathError

Walk = Callable[[Node], Sequence[Node]]
Holds = Callable[[Node], bool]

_TEMPLATE = tag_of("templateId")
_NUMBERS = count(1)


def start_of(scope: CdaElement, path: CdaPath) -> Node:
    return scope.reading.root if path.absolute else scope.element


def read_at(scope: CdaElement, path: CdaPath, walk: Walk) -> Sequence[CdaValue]:
    reading = scope.reading
    found: list[CdaValue] = []
    for element in walk(start_of(scope, path)):
        value = ending_value(CdaElement(reading, element), path)
        if value is not None:
            found.append(value)
    return found


def find(scope: CdaElement, path: CdaPath) -> Sequence[CdaValue]:
    """Read a parsed path that was not checked against the schema (a value's parts)."""
    return read_at(scope, path, _compiled(path))


def compile_walk(path: CdaPath) -> Walk:
    """One function from an element to the elements that the steps reach, in order."""
    return _walk([compile_step(step) for step in path.steps])


def _walk(hops: Sequence[Walk]) -> Walk:
    if len(hops) == 1:
        return hops[0]

    def walk(start: Node) -> Sequence[Node]:
        current: Sequence[Node] = (start,)
        for hop in hops:
            current = hop(current[0]) if len(current) == 1 else from_each(current, hop)
            if not current:
                break
        return current

    return walk


def from_each(starts: Sequence[Node], hop: Walk) -> Sequence[Node]:
    """What one step reaches from several elements, each once: two may reach the same one
    (nested sections below "//")."""
    reached: dict[Node, None] = {}
    for element in starts:
        for found in hop(element):
            reached[found] = None
    return tuple(reached)


_COMPILED: dict[str, Walk] = {}
_COMPILED_MAX = 4096


def _compiled(path: CdaPath) -> Walk:
    """The walk of a path that is read again and again; the path's text says all of it."""
    walk = _COMPILED.get(path.text)
    if walk is None:
        walk = compile_walk(path)
        if len(_COMPILED) < _COMPILED_MAX:
            _COMPILED[path.text] = walk
    return walk


@lru_cache(maxsize=16_384)
def compile_step(step: Step) -> Walk:
    """One function for one step, shared by all paths that have it."""
    reach = _reach(step)
    tests = [_compile_predicate(predicate) for predicate in step.predicates]
    # Of several ancestors that fit, the nearest is meant.
    position = step.position or (1 if step.axis is Axis.ANCESTOR else 0)
    if not tests and not position:
        return reach

    number = next(_NUMBERS)

    def hop(start: Node) -> Sequence[Node]:
        # Several paths begin with the same step, and who asks whether one is there goes there.
        chosen = start.chosen
        if chosen is None:
            chosen = start.chosen = {}
        found = chosen.get(number)
        if found is None:
            found = chosen[number] = choose(start)
        return found

    def choose(start: Node) -> Sequence[Node]:
        found: Sequence[Node] = reach(start)
        for test in tests:
            found = [element for element in found if test(element)]
        if position == -1:
            return found[-1:]
        return found[position - 1 : position] if position else found

    return hop


def _reach(step: Step) -> Walk:
    if step.axis is Axis.PARENT:

        def parent(start: Node) -> Sequence[Node]:
            return () if start.parent is None else (start.parent,)

        return parent
    tag = "" if step.name == ANY else tag_of(step.name)
    if step.axis is Axis.CHILD:
        return _children(step.name, tag) if tag else lambda start: start.children
    if step.axis is Axis.ANCESTOR:
        return lambda start: [node for node in start.above() if not tag or node.tag == tag]
    return lambda start: start.under(tag)


def _children(name: str, tag: str) -> Walk:
    """Children by tag. A data type's parts below a pharmacy element may be in its namespace."""
    twin = tag if ":" in name else tag_of(f"pharm:{name}")
    pharmacy = "{" + NAMESPACES["pharm"] + "}"

    def children(start: Node) -> Sequence[Node]:
        by_tag = start.by_tag()
        if twin != tag and twin in by_tag and start.tag.startswith(pharmacy):
            return [child for child in start.children if child.tag in (tag, twin)]
        return by_tag.get(tag, ())

    return children


def _compile_predicate(predicate: Predicate) -> Holds:
    path = predicate.path
    values = frozenset(predicate.values)
    positive = not predicate.negated
    if values and _is_template(path):
        return _compile_template(values, positive=positive)
    walk = compile_walk(path)
    reader = _predicate_reader(path)
    if not values and path.ending is Ending.ELEMENT:
        # That there is one is all that is asked: its words need not be put together.
        return lambda element: bool(walk(element)) is positive

    def test(element: Node) -> bool:
        for found in walk(element):
            for value in reader(found):
                if not values or value in values:
                    return positive
        return not positive

    return test


def _is_template(path: CdaPath) -> bool:
    """Whether a predicate asks for the templates of the element itself."""
    return path.text == "templateId" and path.ending is Ending.ELEMENT and not path.absolute


def _compile_template(values: frozenset[str], *, positive: bool) -> Holds:
    """``[templateId=…]``, the predicate by which mappings choose, without a walk."""
    versioned = any("^" in value for value in values)

    def test(element: Node) -> bool:
        for template in element.by_tag().get(_TEMPLATE, ()):
            root = template.get("root")
            if root in values or (
                versioned and f"{root}^{template.attributes.get('extension', '')}" in values
            ):
                return positive
        return not positive

    return test


def _predicate_reader(path: CdaPath) -> Callable[[Node], Sequence[str]]:
    if path.ending is Ending.ELEMENT:
        return compared_values
    if path.ending is Ending.ATTRIBUTE:
        name = path.attribute

        def attribute(element: Node) -> Sequence[str]:
            found = attribute_value(element, name)
            return () if found is None else (found,)

        return attribute
    raise PathError(f"CDA path {path.text!r}: a predicate compares an element or an attribute")

"""What stands at a path, as a token: so that rules about what is not there cost nothing.

``gateway.ports.CompiledPath.content``: None when nothing is there, the empty string when
it says nothing, else a token; equal tokens mean equal values. A string is its own token,
an element without anything in it its attributes, a small one its XML. One that points
elsewhere in its document (``originalText/reference``), or is large, is told from every
other element there is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import cast

from adapters.cda.nodes import Node
from adapters.cda.paths import ANY, Axis, CdaPath, Ending, Step
from adapters.cda.structure import tag_of
from adapters.cda.values import (
    REFERENCES,
    CdaElement,
    Reading,
    attribute_value,
    ending_value,
    says_something,
)
from adapters.cda.walking import Walk, compile_step, from_each
from gateway.ports import CompiledPath, Scope, ValueState

Content = Callable[[Scope], Hashable]
Token = Callable[[CdaElement], Hashable]

SMALL_MAX = 12
"""Elements in an element whose XML is worth being written down to be told by it."""

CHARACTERS_MAX = 4096
"""Characters of text in such an element: a PDF in Base64 is not kept a second time."""

_PLAIN = frozenset({Ending.ELEMENT, Ending.ATTRIBUTE, Ending.TEXT, Ending.REFERENCE, Ending.URI,
                    Ending.SCHEME, Ending.ADDRESS, Ending.IDENTITY})  # fmt: skip


def compile_content(path: CdaPath, walk: Walk) -> Content | None:
    """How to look at a path; None for one that does not go down from its scope."""
    if path.ending not in _PLAIN or any(step.axis is not Axis.CHILD for step in path.steps):
        return None
    if path.ending is Ending.ELEMENT and not path.steps:
        return None
    token = _token_of(path)

    def content(scope: Scope) -> Hashable:
        start = cast("CdaElement", scope)
        found = walk(start.reading.root if path.absolute else start.element)
        return _of_all(start.reading, found, token) if found else None

    if not path.absolute:
        return content

    def once(scope: Scope) -> Hashable:
        known = cast("CdaElement", scope).reading.absolute
        if path.text not in known:
            known[path.text] = content(scope)
        return known[path.text]

    return once


def _token_of(path: CdaPath) -> Token:
    if path.ending is Ending.ATTRIBUTE:
        return _of_attribute(path.attribute)
    return _of_element if path.ending is Ending.ELEMENT else _of_ending(path)


def _of_all(reading: Reading, found: Sequence[Node], token: Token) -> Hashable:
    """The token of what a walk has found, at least one element."""
    if len(found) == 1:
        return token(CdaElement(reading, found[0]))
    tokens = [token(CdaElement(reading, element)) for element in found]
    if any(tokens):
        return tuple(tokens)
    return None if all(one is None for one in tokens) else ""


class Branch:
    """Paths that begin with the same steps: where they go next, and which end here."""

    __slots__ = ("endings", "further", "hop")

    def __init__(self, hop: Walk) -> None:
        self.hop: Walk = hop
        self.endings: list[tuple[int, Token]] = []
        self.further: dict[Step, Branch] = {}


def compile_contents(
    paths: Sequence[CompiledPath], parsed: Sequence[CdaPath]
) -> Callable[[Scope], Sequence[Hashable]]:
    """One look for several paths: steps that they share are gone once, and what has no first
    step in the scope is not walked."""
    always: list[tuple[int, Content]] = []
    first: dict[Step, Branch] = {}
    for place, (compiled, path) in enumerate(zip(paths, parsed, strict=True)):
        if path.absolute or not path.steps or path.steps[0].name == ANY:
            always.append((place, cast("Content", compiled.content)))
            continue
        branches, branch = first, Branch(_nowhere)
        for step in path.steps:
            if step not in branches:
                branches[step] = Branch(compile_step(step))
            branch = branches[step]
            branches = branch.further
        branch.endings.append((place, _token_of(path)))
    by_tag: dict[str, list[Branch]] = {}
    for step, branch in first.items():
        name = step.name
        for tag in {tag_of(name), tag_of(name if ":" in name else f"pharm:{name}")}:
            by_tag.setdefault(tag, []).append(branch)
    count = len(paths)

    def contents(scope: Scope) -> Sequence[Hashable]:
        tokens: list[Hashable] = [None] * count
        for place, look in always:
            tokens[place] = look(scope)
        start = cast("CdaElement", scope)
        element = start.element
        for tag in element.by_tag():
            for branch in by_tag.get(tag, ()):
                found = branch.hop(element)
                if found:
                    _look(branch, found, start.reading, tokens)
        return tokens

    return contents


def _nowhere(_start: Node) -> Sequence[Node]:
    return ()


def _look(branch: Branch, found: Sequence[Node], reading: Reading, tokens: list[Hashable]) -> None:
    """The tokens of all paths that go by a branch, which has led to some elements."""
    for place, token in branch.endings:
        tokens[place] = _of_all(reading, found, token)
    for inner in branch.further.values():
        hop = inner.hop
        reached = hop(found[0]) if len(found) == 1 else from_each(found, hop)
        if reached:
            _look(inner, reached, reading, tokens)


def _of_attribute(name: str) -> Token:
    def token(holder: CdaElement) -> Hashable:
        found = attribute_value(holder.element, name)
        if found is None and "nullFlavor" in holder.element.attributes:
            return ""
        return found

    return token


def _of_element(holder: CdaElement) -> Hashable:
    element = holder.element
    token = element.token
    if token is None:
        token = element.token = _written(holder)
    return token


def _written(holder: CdaElement) -> Hashable:
    element = holder.element
    if not says_something(element):
        return ""
    if not element.children and not element.text:
        return _start(element)
    if element.end - element.number - 1 > SMALL_MAX:
        return holder.reading.number(element)
    written = ""
    for inner in element.below():
        if len(inner.text) > CHARACTERS_MAX or inner.tag in REFERENCES:
            return holder.reading.number(element)
        # XML has no such characters (XML 1.0, 2.2), so nothing else is written like this.
        tail = "" if inner is element else inner.tail
        written += f"\x1e{inner.end - inner.number}{_start(inner)}\x1f{inner.text}\x1f{tail}"
    return written


def _start(element: Node) -> str:
    """Name and attributes as one string."""
    written = f"\x1c{element.tag}"
    for name, value in element.attributes.items():
        written += f"\x1d{name}={value}"
    return written


def _of_ending(path: CdaPath) -> Token:
    def token(holder: CdaElement) -> Hashable:
        value = ending_value(holder, path)
        if value is None:
            return None
        return value.text if value.state is ValueState.PRESENT else ""

    return token

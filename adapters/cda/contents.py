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
from adapters.cda.paths import Axis, CdaPath, Ending
from adapters.cda.structure import tag_of
from adapters.cda.values import (
    REFERENCES,
    CdaElement,
    attribute_value,
    ending_value,
    says_something,
)
from adapters.cda.walking import Walk
from gateway.ports import CompiledPath, Scope, ValueState

Content = Callable[[Scope], Hashable]

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
    token = _of_attribute(path.attribute) if path.ending is Ending.ATTRIBUTE else None
    token = token or (_of_element if path.ending is Ending.ELEMENT else _of_ending(path))

    def content(scope: Scope) -> Hashable:
        start = cast("CdaElement", scope)
        found = walk(start.reading.root if path.absolute else start.element)
        if not found:
            return None
        reading = start.reading
        if len(found) == 1:
            return token(CdaElement(reading, found[0]))
        tokens = [token(CdaElement(reading, element)) for element in found]
        if any(tokens):
            return tuple(tokens)
        return None if all(one is None for one in tokens) else ""

    if not path.absolute:
        return content

    def once(scope: Scope) -> Hashable:
        known = cast("CdaElement", scope).reading.absolute
        if path.text not in known:
            known[path.text] = content(scope)
        return known[path.text]

    return once


def compile_contents(
    paths: Sequence[CompiledPath], parsed: Sequence[CdaPath]
) -> Callable[[Scope], Sequence[Hashable]]:
    """One look for several paths: what has no first step in the scope is not walked."""
    always: list[tuple[int, Content]] = []
    by_tag: dict[str, list[tuple[int, Content]]] = {}
    for place, (compiled, path) in enumerate(zip(paths, parsed, strict=True)):
        look = cast("Content", compiled.content)
        if path.absolute or not path.steps:
            always.append((place, look))
            continue
        name = path.steps[0].name
        for tag in {tag_of(name), tag_of(name if ":" in name else f"pharm:{name}")}:
            by_tag.setdefault(tag, []).append((place, look))
    count = len(paths)

    def contents(scope: Scope) -> Sequence[Hashable]:
        tokens: list[Hashable] = [None] * count
        for place, look in always:
            tokens[place] = look(scope)
        start = cast("CdaElement", scope)
        for tag in start.element.by_tag():
            for place, look in by_tag.get(tag, ()):
                tokens[place] = look(scope)
        return tokens

    return contents


def _of_attribute(name: str) -> Callable[[CdaElement], Hashable]:
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


def _of_ending(path: CdaPath) -> Callable[[CdaElement], Hashable]:
    def token(holder: CdaElement) -> Hashable:
        value = ending_value(holder, path)
        if value is None:
            return None
        return value.text if value.state is ValueState.PRESENT else ""

    return token

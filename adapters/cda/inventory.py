"""Everything that a CDA document says: its leaves, for the measure of retention."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import cast

from adapters.cda.nodes import Node
from adapters.cda.structure import V3, XSI, name_of
from adapters.cda.values import XSI_TYPE, CdaElement
from gateway.inventory import Leaf, LeafKey
from gateway.ports import Scope

NARRATIVE = f"{{{V3}}}text"
SECTIONS = frozenset({f"{{{V3}}}section"})

_STEP = re.compile(r"(?P<name>[^/@()]+)(?:\((?P<number>\d+)\))?\Z")
_SECTIONS_IN = re.compile(r"(?:/component/structuredBody)?(?:/component/section)+(?=/|\Z)")
_SPEAKING = ("value", "code", "extension", "root")
"""The attributes that stand for an element where a text is asked for, in this order."""
_FUNCTIONS = {
    "text()": ("text()",),
    "uri()": ("@root",),
    "scheme()": ("@value",),
    "address()": ("@value",),
}


class CdaInventory:
    """The leaves of a document (``gateway.inventory.Inventory``).

    A leaf is an attribute with a value, or the words of an element. The narrative block of
    a section (``section/text``, CDA R2 section 4.3.5) is no leaf: entries point into it,
    and the document itself is kept. Nor are name spaces and ``xsi:schemaLocation``.
    Keys are the elements' names and positions in turn, then ``@attribute`` or ``text()``.
    """

    def leaves(self, root: Scope) -> Iterator[Leaf]:
        """Every leaf, in document order."""
        top = cast("CdaElement", root)
        reading = top.reading
        for element in _outside_narrative(reading.root):
            place = reading.place(element)
            key = _steps(place)
            generic = _generic(key)
            for name, value in element.attributes.items():
                shown = _shown(name) if value.strip() else ""
                if shown:
                    speaking = next((n for n in _SPEAKING if element.get(n) is not None), "")
                    heard = len(key) if shown == speaking else len(key) + 1
                    at = f"@{shown}"
                    yield Leaf(f"{place}{at}", f"{generic}{at}", (*key, at), heard)
            if _says_words(element):
                yield Leaf(
                    f"{place}/text()", f"{generic}/text()", (*key, "text()"), _heard(element, key)
                )

    def places(self, path: str, root: Scope) -> Sequence[LeafKey]:  # noqa: ARG002
        """The places of ``…/id(2)@root``, ``…/title/text()``, ``…/code/ref()``."""
        return tuple(key for part in path.split(" + ") for key in _keys(part))

    def scope(self, leaf: Leaf, root: Scope) -> Scope:  # noqa: ARG002
        """The whole: what is ignored here says by its path where it stands."""
        return root

    def covers(self, path: str, root: Scope) -> Callable[[Leaf], bool]:
        """What the path finds in this document, and everything below it."""
        from adapters.cda.language import CdaLanguage

        language = CdaLanguage()
        compiled = language.path(path, versions=("R2",), within=language.root(("R2",)))
        keys = {key for value in compiled.read(root) for key in self.places(value.path, root)}
        lengths = sorted({len(key) for key in keys})
        return lambda leaf: any(leaf.key[:length] in keys for length in lengths)


def _generic(key: LeafKey) -> str:
    """A place without positions; sections in sections are told as sections."""
    return _SECTIONS_IN.sub("//section", "/".join(str(part) for part in key[::2]))


def _outside_narrative(root: Node) -> Iterator[Node]:
    """Every element but the narrative blocks of sections, without recursion."""
    at, every = root.number, root.all
    while at < root.end:
        element = every[at]
        parent = element.parent
        if element.tag == NARRATIVE and parent is not None and parent.tag in SECTIONS:
            at = element.end
            continue
        yield element
        at += 1


def _shown(name: str) -> str:
    """An attribute as paths name it; empty for one that is about the XML alone."""
    if name == XSI_TYPE:
        return "xsi:type"
    if name.startswith(f"{{{XSI}}}"):
        return ""
    return name_of(name) if name.startswith("{") else name


def _says_words(element: Node) -> bool:
    """Whether words stand directly in the element (between its elements, too)."""
    if element.text and not element.text.isspace():
        return True
    return any(child.tail and not child.tail.isspace() for child in element.children)


def _heard(element: Node, key: LeafKey) -> int:
    """How far out the words of an element are in the text of those around it."""
    length = len(key) + 1
    around: Node | None = element
    while around is not None and length > 2:
        if any(around.get(name) is not None for name in _SPEAKING):
            break
        length = length - 1 if length == len(key) + 1 else length - 2
        around = around.parent
    return max(length, 2)


@lru_cache(maxsize=65536)
def _steps(place: str) -> LeafKey:
    key: list[str | int] = []
    for step in place.split("/"):
        match = _STEP.fullmatch(step)
        if match is None:
            return ()
        key += [match["name"], int(match["number"] or 1)]
    return tuple(key)


@lru_cache(maxsize=65536)
def _keys(path: str) -> tuple[LeafKey, ...]:
    place, at, attribute = path.partition("@")
    place = place.removesuffix("/")
    if at:
        key = _steps(place)
        return ((*key, f"@{attribute}"),) if key else ()
    above, _, last = place.rpartition("/")
    if last == "ref()":
        key = _steps(above)
        pointer = (*key, "reference", 1, "@value")
        return (pointer, (*key, "@value"), (*key, "text()")) if key else ()
    if last in _FUNCTIONS:
        key = _steps(above)
        return tuple((*key, name) for name in _FUNCTIONS[last]) if key else ()
    key = _steps(place)
    return (key,) if key else ()

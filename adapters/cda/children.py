"""The elements below each element of a document, by name: looked up once, asked often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lxml import etree


class Children:
    """The elements below each element of one document, by tag, sorted out when first asked.

    As many as the document has (:class:`adapters.cda.document.Limits`). ``chosen`` are those
    that a walk with predicates has found from an element, by the walk's number.
    """

    __slots__ = ("_known", "_under", "chosen")

    def __init__(self) -> None:
        self._known: dict[etree._Element, dict[str, list[etree._Element]]] = {}
        self._under: dict[tuple[etree._Element, object], Sequence[etree._Element]] = {}
        self.chosen: dict[tuple[int, etree._Element], Sequence[etree._Element]] = {}

    def under(self, element: etree._Element, tag: Any) -> Sequence[etree._Element]:
        """All elements of a tag below an element, in document order. Not to be changed."""
        key = (element, tag)
        found = self._under.get(key)
        if found is None:
            found = [inner for inner in element.iter(tag) if inner is not element]
            self._under[key] = found
        return found

    def of(self, element: etree._Element) -> dict[str, list[etree._Element]]:
        """The children of an element, in document order. Not to be changed."""
        known = self._known.get(element)
        if known is None:
            known = {}
            for child in element:
                tag = child.tag
                if isinstance(tag, str):
                    if tag in known:
                        known[tag].append(child)
                    else:
                        known[tag] = [child]
            self._known[element] = known
        return known

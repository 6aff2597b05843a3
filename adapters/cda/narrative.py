"""The narrative block of CDA R2 as plain text, and what ``#id`` points to.

HL7 CDA R2 section 4.3.5: an entry says ``<reference value="#x"/>`` and the element of
the narrative whose ``ID`` is ``x`` holds the words that a person attested.
"""

from __future__ import annotations

import re

from adapters.cda.nodes import Node
from adapters.cda.structure import V3

_BLOCKS = frozenset(
    f"{{{V3}}}{name}"
    for name in ("paragraph", "list", "item", "table", "caption", "tr", "br", "thead", "tbody")
)
_CELLS = frozenset({f"{{{V3}}}td", f"{{{V3}}}th"})
_BLANKS = re.compile(r"[ \t\r\n\f\v]+")


def plain_text(element: Node) -> str:
    """The words of a narrative element: one line per paragraph, item, row or ``br``.

    Cells of a row are parted by a tab. Blanks are folded as XML writers mean them;
    the words themselves are not changed.
    """
    if not element.children:  # most often there is a text and nothing else
        text = element.text
        return _BLANKS.sub(" ", text).strip() if text else ""
    parts: list[str] = []
    _collect(element, parts)
    lines = "".join(parts).split("\n")
    cleaned = ("\t".join(cell.strip() for cell in line.strip("\t ").split("\t")) for line in lines)
    return "\n".join(line for line in cleaned if line)


def _collect(top: Node, parts: list[str]) -> None:
    """Walk without recursion, so that depth is bounded by the reader's limit alone."""
    inside: list[Node] = []
    for element in top.below():
        while inside and inside[-1].end <= element.number:
            _leave(inside.pop(), parts)
        if element is not top:
            if element.tag in _BLOCKS:
                parts.append("\n")
            inside.append(element)
        if element.text:
            parts.append(_BLANKS.sub(" ", element.text))
    while inside:
        _leave(inside.pop(), parts)


def _leave(element: Node, parts: list[str]) -> None:
    if element.tag in _BLOCKS:
        parts.append("\n")
    elif element.tag in _CELLS:
        parts.append("\t")
    if element.tail:
        parts.append(_BLANKS.sub(" ", element.tail))


def identified(root: Node) -> dict[str, Node]:
    """Every element with an ``ID`` attribute, by it; the first one where two share it."""
    found: dict[str, Node] = {}
    for element in root.below():
        name = element.attributes.get("ID")
        if name and name not in found:
            found[name] = element
    return found

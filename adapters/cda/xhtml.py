"""The narrative of CDA R2 as the narrative of FHIR R4: XHTML out of a closed list.

HL7 CDA R2 section 4.3.5 (narrative block) and FHIR R4 «Narrative» (txt-1, txt-2). What
the closed list of R4 does not have is left out with its words kept: a reader sees every
word that was attested. Identifiers stay, so that an entry's ``#id`` still finds them;
pictures become the words of their caption, for their bytes are entries of their own.
"""

from __future__ import annotations

import re
from html import escape

from adapters.cda.nodes import Node
from adapters.cda.structure import V3

XHTML_CHARACTERS_MAX = 1_000_000
"""Below FHIR's limit of 1 MiB for a string; a longer narrative is not taken over."""

_NAMES = {
    f"{{{V3}}}{name}": as_html
    for name, as_html in {
        "paragraph": "p", "content": "span", "list": "ul", "item": "li", "table": "table",
        "thead": "thead", "tbody": "tbody", "tfoot": "tfoot", "tr": "tr", "td": "td", "th": "th",
        "col": "col", "colgroup": "colgroup", "br": "br", "sub": "sub", "sup": "sup",
        "linkHtml": "a", "footnote": "span", "footnoteRef": "span",
    }.items()
}  # fmt: skip
_CAPTION = f"{{{V3}}}caption"
_TABLE = f"{{{V3}}}table"
_LIST = f"{{{V3}}}list"
_LINK = f"{{{V3}}}linkHtml"
_VOID = frozenset({"br", "col"})
_KEPT = ("colspan", "rowspan", "align", "valign", "span", "width", "border", "summary")
_SAFE_LINK = re.compile(r"(?:https?|mailto|tel):|#", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.\-]*", re.ASCII)


def narrative_div(element: Node) -> str:
    """The div of a section's text; empty when there is not a word in it, or too many."""
    if all(text.isspace() for text in element.words()):
        return ""
    parts = ['<div xmlns="http://www.w3.org/1999/xhtml">']
    _write(element, parts)
    parts.append("</div>")
    text = "".join(parts)
    return text if len(text) <= XHTML_CHARACTERS_MAX else ""


def _write(top: Node, parts: list[str]) -> None:
    """Walk without recursion, so that depth is bounded by the reader's limit alone."""
    inside: list[Node] = []
    closing: list[str] = []
    for element in top.below():
        while inside and inside[-1].end <= element.number:
            parts.append(closing.pop())
            tail = inside.pop().tail
            if tail:
                parts.append(_escaped(tail))
        if element is not top:
            inside.append(element)
            name = _name(element)
            if not name:
                closing.append("")
            elif name in _VOID:
                parts.append(f"<{name}{_attributes(element)}/>")
                closing.append("")
            else:
                parts.append(f"<{name}{_attributes(element)}>")
                closing.append(f"</{name}>")
        if element.text:
            parts.append(_escaped(element.text))
    while inside:
        parts.append(closing.pop())
        tail = inside.pop().tail
        if tail:
            parts.append(_escaped(tail))


def _escaped(text: str) -> str:
    """As ``html.escape``, which costs a narrative more than its words do."""
    if "&" in text:
        text = text.replace("&", "&amp;")
    if "<" in text:
        text = text.replace("<", "&lt;")
    return text.replace(">", "&gt;") if ">" in text else text


def _name(element: Node) -> str:
    """The XHTML element for an element of the narrative; empty keeps its words only."""
    if element.tag == _CAPTION:
        above = element.parent
        if above is not None and above.tag == _TABLE:
            return "caption"
        return "li" if above is not None and above.tag == _LIST else "b"
    if element.tag == _LIST and element.get("listType") == "ordered":
        return "ol"
    return _NAMES.get(element.tag, "")


def _attributes(element: Node) -> str:
    said = element.attributes
    if not said:
        return ""
    written = ""
    for name in _KEPT:
        value = said.get(name)
        if value is not None:
            written += f' {name}="{escape(value)}"'
    identifier = said.get("ID", "")
    if _IDENTIFIER.fullmatch(identifier):
        written += f' id="{escape(identifier)}"'
    link = said.get("href", "").strip() if element.tag == _LINK else ""
    if _SAFE_LINK.match(link):
        written += f' href="{escape(link)}"'
    return written

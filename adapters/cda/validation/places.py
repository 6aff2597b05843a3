"""Where an element stands: its positional path in the document's own names, and its line."""

from __future__ import annotations

import re

from lxml import etree

from adapters.cda.structure import name_of

_STEP = re.compile(r"/(?:Q\{([^}]*)\}([^\[/@]+)(?:\[([0-9]+)\])?|@(?:Q\{[^}]*\})?([^\[/]+))")
SIBLINGS_COUNTED = 10_000


def place(element: etree._Element, attribute: str = "") -> str:
    """``/ClinicalDocument/recordTarget/patientRole/id[2]/@extension``, counted where needed."""
    steps: list[str] = []
    at: etree._Element | None = element
    while at is not None:
        name = name_of(str(at.tag))
        above = at.getparent()
        if name == "ClinicalDocument":
            steps.append(name)
            break
        steps.append(name + _position(at, above))
        at = above
    path = "/" + "/".join(reversed(steps))
    return f"{path}/@{attribute}" if attribute else path


def _position(element: etree._Element, above: etree._Element | None) -> str:
    if above is None:
        return ""
    before = sum(1 for _ in element.itersiblings(element.tag, preceding=True))
    if before:
        return f"[{before + 1}]"
    following = next(element.itersiblings(element.tag), None)
    return "[1]" if following is not None else ""


def element_at(root: etree._Element, path: str) -> etree._Element | None:
    """The element of ``root``'s tree that XPath's ``path()`` names; None when there is none."""
    at: etree._Element | None = None
    for uri, name, position, attribute in _STEP.findall(path):
        if attribute:
            break
        tag = f"{{{uri}}}{name}" if uri else name
        if at is None:
            at = root if root.tag == tag else None
        else:
            found = at.iterchildren(tag)
            at = next((each for n, each in enumerate(found, 1) if n == int(position or 1)), None)
        if at is None:
            return None
    return at


def line_of(element: etree._Element) -> int:
    """The element's line, 0 when the parser does not know it."""
    line = element.sourceline
    return line if isinstance(line, int) else 0

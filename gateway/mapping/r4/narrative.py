"""The check of ``Narrative.div`` (R4 «Narrative», invariants txt-1 and txt-2).

A narrative is shown to a clinician in a browser, so that what may stand in it is a
closed list: the basic formatting elements of XHTML, and no script, form, object,
event handler or foreign namespace.
"""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from gateway.mapping.r4.primitives import Primitive
from gateway.mapping.r4.problems import Finding, ProblemCode

NARRATIVE_CHARACTERS_MAX = 1_048_576
_XHTML = "{http://www.w3.org/1999/xhtml}"
_ELEMENT_NAMES = """
    a abbr acronym b big blockquote br caption center cite code col colgroup dd dfn div dl dt em
    font h1 h2 h3 h4 h5 h6 hr i img li ol p pre q samp small span strong sub sup table tbody td
    tfoot th thead tr tt ul var
"""
_ATTRIBUTE_NAMES = """
    abbr accept accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing
    cellvalign char charoff charset class cite cols colspan compact coords dir frame headers
    height href hreflang hspace id lang longdesc name nowrap rel rev rowspan rules scope shape
    span src start style summary tabindex title type valign value vspace width
"""
_ELEMENTS = frozenset(_ELEMENT_NAMES.split())
_ATTRIBUTES = frozenset(_ATTRIBUTE_NAMES.split())
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")
_SCHEMES = ("http", "https", "ftp", "mailto", "tel", "urn")
_IMAGES = tuple(f"data:image/{kind};base64," for kind in ("png", "jpeg", "gif"))
_IGNORED = re.compile(r"[\x00-\x20]+")


class Xhtml(Primitive):
    """The primitive type xhtml, which only ``Narrative.div`` has."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("xhtml")

    def check(self, value: Any) -> list[Finding] | None:
        """See :class:`Primitive`."""
        return check_narrative(value)


def check_narrative(value: Any) -> list[Finding] | None:
    """Whether a value is a well-formed, safe and not empty XHTML div."""
    if type(value) is not str:
        return [("", ProblemCode.WRONG_TYPE, "not an XHTML text")]
    if len(value) > NARRATIVE_CHARACTERS_MAX:
        return [("", ProblemCode.TOO_LONG, f"over {NARRATIVE_CHARACTERS_MAX} characters")]
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root: Any = etree.fromstring(value.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return [("", ProblemCode.NARRATIVE, "not well-formed XHTML")]
    if root.getroottree().docinfo.doctype:
        return [("", ProblemCode.NARRATIVE, "a document type has no place in a narrative")]
    if root.tag != f"{_XHTML}div":
        return [("", ProblemCode.NARRATIVE, "the root is not a div of the XHTML namespace")]
    for element in root.iter():
        reason = _reason(element)
        if reason:
            return [("", ProblemCode.NARRATIVE, reason)]
    if not "".join(root.itertext()).strip() and root.find(f".//{_XHTML}img") is None:
        return [("", ProblemCode.NARRATIVE, "no text and no image (txt-2)")]
    return None


def _reason(element: Any) -> str:
    """Why an element may not stand in a narrative, or empty."""
    if element.tag is etree.Comment:
        return ""
    if not isinstance(element.tag, str):
        return "a processing instruction or entity (txt-1)"
    if not element.tag.startswith(_XHTML) or element.tag.removeprefix(_XHTML) not in _ELEMENTS:
        return "an element that a narrative may not have (txt-1)"
    for name, text in element.attrib.items():
        if str(name) == "{http://www.w3.org/XML/1998/namespace}lang":
            continue
        if name not in _ATTRIBUTES:
            return "an attribute that a narrative may not have (txt-1)"
        if name in ("href", "src", "cite", "longdesc") and not _is_safe_link(str(text)):
            return "a link to something else than a page, an image or a document (txt-1)"
    return ""


def _is_safe_link(text: str) -> bool:
    """A relative link, one to a page, or an image in the text itself.

    White space and control characters are taken out first: a browser does the same
    before it reads ``java script:``.
    """
    link = _IGNORED.sub("", text).lower()
    scheme = _SCHEME.match(link)
    return scheme is None or scheme.group(1) in _SCHEMES or link.startswith(_IMAGES)

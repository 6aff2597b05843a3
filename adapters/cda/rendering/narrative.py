"""The narrative of a section as HTML by a closed list (HL7 CDA R2 section 4.3.5).

Elements that are not in the list leave their words; attributes are made here, never
copied. An address to the outside becomes text beside its words: a page that shows a
patient's document leads nowhere and fetches nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from lxml import etree

from adapters.cda.structure import V3

IMAGE_CHARACTERS_MAX = 40 << 20
OUTPUT_CHARACTERS_MAX = 64 << 20
SPAN_MAX = 200
_NAMES = {
    "paragraph": "div", "content": "span", "list": "ul", "item": "li", "table": "table",
    "thead": "thead", "tbody": "tbody", "tfoot": "tfoot", "tr": "tr", "td": "td", "th": "th",
    "br": "br", "sub": "sub", "sup": "sup", "linkHtml": "span", "footnote": "small",
    "footnoteRef": "sup", "caption": "b",
}  # fmt: skip
_STYLES = {
    "bold": "bold", "italics": "italics", "underline": "underline", "emphasis": "bold",
    "xallcaps": "caps", "lrule": "lrule", "rrule": "rrule", "toprule": "toprule",
    "botrule": "botrule",
}  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.\-]{0,200}", re.ASCII)
_ADDRESS = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>\"']{1,500}", re.IGNORECASE)
_ALIGN = {"left": "left", "right": "right", "center": "center", "justify": "left"}
_IMAGES = {
    "image/png": (b"\x89PNG\r\n\x1a\n",), "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}  # fmt: skip

Multimedia = Callable[[str], "etree._Element | None"]
"""Gives the observationMedia or regionOfInterest of an ID."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that a browser shows as nothing else: its type is what its bytes say."""

    media_type: str
    base64: str


def image_of(value: etree._Element) -> Image | None:
    """A picture out of an ED in Base64; None for anything else, whatever it claims to be."""
    if value.get("representation") != "B64" or not value.text:
        return None
    if len(value.text) > IMAGE_CHARACTERS_MAX:
        return None
    text = "".join(value.text.split())
    try:
        head = base64.b64decode(text[:64], validate=True)
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    for media_type, beginnings in _IMAGES.items():
        if head.startswith(beginnings):
            return Image(media_type, text)
    return None


def narrative_html(text: etree._Element, multimedia: Multimedia) -> Iterator[str]:
    """The pieces of a section's ``text``. Depth costs no recursion."""
    closing: list[str] = []
    for event, element in etree.iterwalk(text, events=("start", "end")):
        if event == "start":
            opened, closed = ("", "") if element is text else _tags(element, multimedia)
            if opened:
                yield opened
            closing.append(closed)
            if element.text:
                yield escape(element.text)
            continue
        closed = closing.pop()
        if closed:
            yield closed
        if element is not text and element.tail:
            yield escape(element.tail)


def _tags(element: etree._Element, multimedia: Multimedia) -> tuple[str, str]:
    """What goes before and behind the words of an element."""
    tag = str(element.tag)
    name = tag.removeprefix(f"{{{V3}}}") if tag.startswith(f"{{{V3}}}") else ""
    if name == "renderMultiMedia":
        return _picture(element, multimedia), ""
    html = _NAMES.get(name)
    if html is None:
        return "", ""
    if name == "br":
        return "<br>", ""
    if name == "list" and element.get("listType") == "ordered":
        html = "ol"
    if name == "caption":
        html = _caption_in(element)
    opened = f"<{html}{_attributes(name, element)}>"
    closed = f"</{html}>"
    if name == "table":
        return f'<div class="wide">{opened}', f"{closed}</div>"
    if name == "linkHtml":
        return _link(element)
    return opened, closed


def _caption_in(element: etree._Element) -> str:
    above = element.getparent()
    tag = str(above.tag) if above is not None else ""
    if tag == f"{{{V3}}}table":
        return "caption"
    return "li" if tag == f"{{{V3}}}list" else "b"


def _attributes(name: str, element: etree._Element) -> str:
    kept: list[tuple[str, str]] = []
    classes = ["p"] if name == "paragraph" else []
    for code in (element.get("styleCode") or "").split()[:20]:
        style = _STYLES.get(code.lower())
        if style is not None and style not in classes:
            classes.append(style)
    align = _ALIGN.get((element.get("align") or "").lower())
    if align is not None and name in ("td", "th"):
        classes.append(f"to-{align}")
    if classes:
        kept.append(("class", " ".join(classes)))
    identifier = element.get("ID") or ""
    if _IDENTIFIER.fullmatch(identifier):
        kept.append(("id", f"n-{identifier}"))
    if name in ("td", "th"):
        for span in ("colspan", "rowspan"):
            value = element.get(span) or ""
            if value.isdecimal() and 1 < int(value[:6]) <= SPAN_MAX:
                kept.append((span, value[:6]))
    return "".join(f' {key}="{escape(value)}"' for key, value in kept)


def _link(element: etree._Element) -> tuple[str, str]:
    href = (element.get("href") or "").strip()
    if href.startswith("#") and _IDENTIFIER.fullmatch(href[1:]):
        return f'<a href="#n-{escape(href[1:])}">', "</a>"
    if _ADDRESS.fullmatch(href):
        return "<span>", f' <span class="address">{escape(href)}</span></span>'
    return "<span>", "</span>"


def _picture(element: etree._Element, multimedia: Multimedia) -> str:
    parts = []
    for reference in (element.get("referencedObject") or "").split()[:20]:
        found = multimedia(reference)
        value = found.find(f"{{{V3}}}value") if found is not None else None
        image = image_of(value) if value is not None else None
        if image is None:
            parts.append('<span class="missing">[contenu non affiché ici]</span>')
        else:
            parts.append(
                f'<img src="data:{image.media_type};base64,{image.base64}" alt="Image du document">'
            )
    return "".join(parts)

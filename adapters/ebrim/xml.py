"""XML of a stranger's, read without harm: no declaration, no entity, everything limited.

The limits hold while the tree is being built (XML 1.0; the bounds are ours).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lxml import etree

from adapters.ebrim.faults import hostile, metadata

_BLOCK_BYTES = 1 << 16
_HARMLESS = re.compile(rb"<!--.*?-->|<!\[CDATA\[", re.DOTALL)
_ENCODINGS = frozenset(
    {"", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252"}
)
"""In which a declaration cannot hide from a look at the bytes."""


@dataclass(frozen=True, slots=True)
class XmlLimits:
    """``bytes_max`` is the reader's own; a submission of 500 documents has 60,000 elements."""

    bytes_max: int
    depth_max: int = 30
    elements_max: int = 200_000
    element_attributes_max: int = 64


def parsed(data: bytes, what: str, location: str, limits: XmlLimits) -> etree._Element:
    """The root element. ``what`` names the bytes for people («METADATA.XML»).

    Raises Refused: HOSTILE_CONTENT for a declaration or beyond a limit, that of
    the metadata for what is not well-formed. No sentence repeats anything of the bytes.
    """
    if len(data) > limits.bytes_max:
        raise hostile(f"{what} is larger than {limits.bytes_max} bytes", location)
    if b"\0" in data or (b"<!" in data and b"<!" in _HARMLESS.sub(b"", data)):
        # Two bytes a character would hide a declaration from this look.
        raise hostile(f"{what} has a document type declaration, or is not UTF-8", location)
    parser = etree.XMLPullParser(
        events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False,
        dtd_validation=False, huge_tree=True, remove_comments=True, remove_pis=True,
    )  # fmt: skip
    count = _Count(limits, what, location)
    try:
        for start in range(0, len(data), _BLOCK_BYTES):
            parser.feed(data[start : start + _BLOCK_BYTES])
            count.take(parser)
        root = parser.close()
    except etree.XMLSyntaxError as error:
        raise metadata(f"{what} is not well-formed XML (line {error.lineno})", location) from None
    count.take(parser)
    if (root.getroottree().docinfo.encoding or "").lower() not in _ENCODINGS:
        raise hostile(f"{what} is in an encoding that is not taken", location)
    return root


class _Count:
    def __init__(self, limits: XmlLimits, what: str, location: str) -> None:
        self.limits, self.what, self.location = limits, what, location
        self.depth = self.elements = 0

    def take(self, parser: etree.XMLPullParser) -> None:
        for event, element in parser.read_events():
            if event == "end" or not isinstance(element, etree._Element):
                self.depth -= 1
                continue
            self.depth += 1
            self.elements += 1
            if self.depth > self.limits.depth_max:
                self._refuse(f"is nested deeper than {self.limits.depth_max}")
            if self.elements > self.limits.elements_max:
                self._refuse(f"has more than {self.limits.elements_max} elements")
            if len(element.attrib) > self.limits.element_attributes_max:
                self._refuse(
                    f"has an element with more than {self.limits.element_attributes_max} attributes"
                )

    def _refuse(self, said: str) -> None:
        raise hostile(f"{self.what} {said}", self.location)

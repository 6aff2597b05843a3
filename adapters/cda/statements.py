"""Which statement of a document is meant: a name for each that another version keeps.

An entry of the record gets its identifier from this name together with the document's
``setId``. So the name must tell every statement of a document from every other, and
must say the same in a corrected version of the document, whatever was inserted before
it. It is made of what CDA gives for that purpose: the statement's own ``id`` and
``code`` (HL7 CDA R2 section 4.3.6: Act.id). A statement without an ``id`` is named
within the statement or section around it. Where software copies one ``id`` to several
statements they are counted in document order.
"""

from __future__ import annotations

import hashlib

from lxml import etree

from adapters.cda.structure import tag_of

STATEMENTS = tuple(
    tag_of(name)
    for name in (
        "act", "encounter", "observation", "observationMedia", "organizer", "procedure",
        "regionOfInterest", "section", "substanceAdministration", "supply",
    )
)  # fmt: skip
_ID = tag_of("id")
_CODE = tag_of("code")
_TRANSLATION = tag_of("translation")


def identities(root: etree._Element) -> dict[etree._Element, str]:
    """For every section and statement below ``root`` its name, 40 hexadecimal digits."""
    found: dict[etree._Element, str] = {}
    seen: dict[str, int] = {}
    for element in root.iter(*STATEMENTS):
        own = _own_id(element)
        said = f"{element.tag}\x1f{own or _around(element, found)}\x1f{_own_code(element)}"
        number = seen.get(said, 0) + 1
        seen[said] = number
        if number > 1:
            said = f"{said}\x1f{number}"
        found[element] = hashlib.sha1(said.encode()).hexdigest()  # noqa: S324 - a name, no seal
    return found


def _own_id(element: etree._Element) -> str:
    """The first ``id`` that says something, as ``root^extension``; else empty."""
    for identifier in element.iterchildren(_ID):
        root = identifier.get("root", "").strip()
        if root and identifier.get("nullFlavor") is None:
            return f"{root.lower()}^{identifier.get('extension', '').strip()}"
    return ""


def _own_code(element: etree._Element) -> str:
    """The code with its system, else that of the first translation, else empty."""
    code = element.find(_CODE)
    if code is None:
        return ""
    if code.get("code") is None:
        translation = code.find(_TRANSLATION)
        code = code if translation is None else translation
    return f"{code.get('codeSystem', '')}|{code.get('code', '')}"


def _around(element: etree._Element, found: dict[etree._Element, str]) -> str:
    for above in element.iterancestors(*STATEMENTS):
        return found.get(above, "")
    return ""

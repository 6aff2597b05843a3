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

from adapters.cda.nodes import Node
from adapters.cda.structure import tag_of

STATEMENTS = frozenset(
    tag_of(name)
    for name in (
        "act", "encounter", "observation", "observationMedia", "organizer", "procedure",
        "regionOfInterest", "section", "substanceAdministration", "supply",
    )
)  # fmt: skip
_ID = tag_of("id")
_CODE = tag_of("code")
_TRANSLATION = tag_of("translation")


def identities(root: Node) -> dict[Node, str]:
    """For every section and statement in ``root`` its name, 40 hexadecimal digits."""
    found: dict[Node, str] = {}
    seen: dict[str, int] = {}
    for element in root.below():
        if element.tag not in STATEMENTS:
            continue
        own = _own_id(element)
        said = f"{element.tag}\x1f{own or _around(element, found)}\x1f{_own_code(element)}"
        number = seen.get(said, 0) + 1
        seen[said] = number
        if number > 1:
            said = f"{said}\x1f{number}"
        found[element] = hashlib.sha1(said.encode()).hexdigest()  # noqa: S324 - a name, no seal
    return found


def _own_id(element: Node) -> str:
    """The first ``id`` that says something, as ``root^extension``; else empty."""
    for identifier in element.by_tag().get(_ID, ()):
        said = identifier.attributes
        root = said.get("root", "").strip()
        if root and "nullFlavor" not in said:
            return f"{root.lower()}^{said.get('extension', '').strip()}"
    return ""


def _own_code(element: Node) -> str:
    """The code with its system, else that of the first translation, else empty."""
    codes = element.by_tag().get(_CODE)
    if not codes:
        return ""
    code = codes[0]
    if "code" not in code.attributes:
        translations = code.by_tag().get(_TRANSLATION)
        code = translations[0] if translations else code
    return f"{code.attributes.get('codeSystem', '')}|{code.attributes.get('code', '')}"


def _around(element: Node, found: dict[Node, str]) -> str:
    above = element.parent
    while above is not None:
        if above.tag in STATEMENTS:
            return found.get(above, "")
        above = above.parent
    return ""

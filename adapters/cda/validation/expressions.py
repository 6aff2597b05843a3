"""The XPath expressions of a schematron: what they would open, and where they can match.

They are read as text, outside their literals and comments; nothing is parsed as XPath.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_DOCUMENT = re.compile(r"(?:fn:)?(?:document|doc)(?=\s*\()")

_OPENING = re.compile(
    r"(?:[\w.-]+:)?(?:unparsed-text(?:-lines|-available)?|(?:uri-)?collection|json-doc|transform"
    r"|load-xquery-module|environment-variable|available-environment-variables|doc-available"
    r"|parse-xml(?:-fragment)?|function-lookup|evaluate|system-property)(?=\s*[(#])|(?:document|doc)#"
)

_NAMED = re.compile(r"""\b(?:document|doc)\s*\(\s*(?:"([^"]*)"|'([^']*)')""")

_COMMENT = re.compile(r"""("[^"]*"|'[^']*')|\(:.*?:\)""", re.DOTALL)

BELOW_HEADER = "self::*[not(self::*:structuredBody)]/*"
"""Where a walk goes that has nothing to look for in the sections and their entries."""

_HEADER_PATH = re.compile(
    r"(?://?)?[\w.-]+:ClinicalDocument(?:/[\w.-]+:[\w.-]+)*(?:/\*)?|/", re.ASCII
)


def of_header(context: str) -> bool:
    """Whether a rule's context cannot be a node below ``structuredBody``: it is a path of named
    children from the document down, without that name, and only its last step may be ``*``."""
    depth, plain = 0, []
    for character in _outside_literals(context, str, keep=False):
        depth += (character == "[") - (character == "]")
        if depth == 0 and character != "]" and not character.isspace():
            plain.append(character)
    paths = "".join(plain).split("|")
    return all(_HEADER_PATH.fullmatch(path) and "structuredBody" not in path for path in paths)


def documents_named(text: str) -> Iterator[str]:
    """The names of the documents that an expression opens by a literal name."""
    for found in _NAMED.finditer(text):
        yield found[1] or found[2]


def without_comments(text: str) -> str:
    """An expression with a space for each of its comments."""
    return _COMMENT.sub(lambda found: found[1] or " ", text)


def opening(text: str) -> str:
    """The first function called that could open a file or an address, other than ``doc()`` and
    ``document()``; empty without any. ``text`` is without comments."""
    opened = _OPENING.search(_outside_literals(text, str, keep=False))
    return opened[0].rstrip("#") if opened is not None else ""


def with_own_documents(text: str) -> str:
    """An expression whose ``doc()`` and ``document()`` look into what the stylesheet is given."""
    return _outside_literals(text, lambda code: _DOCUMENT.sub("ecluse:document", code))


def _outside_literals(text: str, change: Callable[[str], str], *, keep: bool = True) -> str:
    parts = re.split(r"""("[^"]*"|'[^']*')""", text)
    return "".join(
        (part if keep else '""') if place % 2 else change(part) for place, part in enumerate(parts)
    )

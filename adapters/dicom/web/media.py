"""Which media type an answer has: the Accept field against what can be given (PS3.18 8.7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapters.dicom.web.multipart import media_type

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
MULTIPART = "multipart/related"
ANY_SYNTAX = "*"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_ACCEPTS_MAX = 50


@dataclass(frozen=True, slots=True)
class Wish:
    """One media type that is accepted, with the type of its parts when it is a multipart one."""

    name: str
    root: str
    syntax: str
    weight: float


def wishes(accept: str) -> list[Wish]:
    """What an Accept field asks for, the most wanted first; everything when it is empty."""
    found = []
    for text in _split(accept or "*/*", ","):
        asked = media_type(text)
        try:
            weight = float(asked.parameters.get("q", "1"))
        except ValueError:
            weight = 0.0
        if weight > 0:
            root = asked.parameters.get("type", "").lower()
            syntax = asked.parameters.get("transfer-syntax", "")
            found.append(Wish(asked.name, root, syntax, weight))
        if len(found) >= _ACCEPTS_MAX:
            break
    return sorted(found, key=lambda wish: -wish.weight)


def chosen(accept: str, offered: Sequence[str]) -> str | None:
    """The first of what is ``offered`` that is wanted most; a multipart one is offered as the
    type of its parts after ``multipart/related;``. None when nothing fits (406)."""
    for wish in wishes(accept):
        for each in offered:
            name, _, root = each.partition(";")
            if wish.name in {"*/*", f"{name.split('/')[0]}/*"}:
                return each
            if wish.name == name and (not root or wish.root in {"", "*/*", root}):
                return each
            if wish.name == "application/json" and each == DICOM_JSON:
                return each
    return None


def syntaxes_wanted(accept: str) -> tuple[str, ...] | None:
    """The transfer syntaxes in which instances are accepted, the most wanted first; ``*`` is
    any. None when instances are not accepted at all.

    Without the parameter it is explicit VR little endian (PS3.18 8.7.3.5.2). Who accepts
    anything (``*/*``, or no Accept at all) takes what is stored.
    """
    found: list[str] = []
    for wish in wishes(accept):
        if wish.name == "*/*":
            found.append(ANY_SYNTAX)
        elif wish.name == DICOM or (wish.name == MULTIPART and wish.root in {"", "*/*", DICOM}):
            found.append(wish.syntax or EXPLICIT_LITTLE)
    return tuple(dict.fromkeys(found)) or None


def _split(text: str, separator: str) -> Iterator[str]:
    """The items of a list, whose quoted strings may hold the separator."""
    item, quoted, escaped = "", False, False
    for character in text[: 16 << 10]:
        if character == separator and not quoted:
            yield item.strip()
            item = ""
            continue
        if escaped:
            escaped = False
        elif character == "\\" and quoted:
            escaped = True
        elif character == '"':
            quoted = not quoted
        item += character
    if item.strip():
        yield item.strip()

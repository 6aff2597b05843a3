"""Text whose shape stays and whose content goes: for what leaves the house de-identified."""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from gateway.model import Format

_LETTER = re.compile(r"[^\W\d_]")
_DIGIT = re.compile(r"\d")
_DATE = re.compile(r"(\d{4})(\d*)(.*)", re.DOTALL)


class NotDeidentifiable(Exception):
    """The content cannot be read well enough to know what would have to go."""


class Deidentifier(Protocol):
    """De-identifies the messages of one format. Pure, but for the salt."""

    format: Format
    suffix: str
    """Of a file that holds such a message."""

    def deidentify(self, data: bytes, *, encoding: str, salt: bytes) -> bytes:
        """The message with what could name a person replaced. Raises NotDeidentifiable."""
        ...


def masked(text: str) -> str:
    """Every letter becomes x or X and every digit 9; length, spaces and punctuation stay."""
    return _LETTER.sub(
        lambda letter: "X" if letter.group().isupper() else "x", _DIGIT.sub("9", text)
    )


def year_only(text: str) -> str:
    """A date or time of HL7 (YYYYMMDDhhmmss…) with its year and the first of January; as long
    as it was. What is no such date is masked."""
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return masked(text)
    year, rest, zone = found.groups()
    return year + ("0101" + "0" * 20)[: len(rest)] + re.sub(r"\d", "0", zone)


def pseudonym(text: str, salt: bytes) -> str:
    """16 hex digits that are the same for the same text within one export, and only there."""
    return hashlib.sha256(salt + text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

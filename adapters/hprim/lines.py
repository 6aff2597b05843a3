"""Lines of a file, ended by CR LF, LF or CR alone, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TEXT_END = re.compile(r"\r\n|\n|\r")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|\Z)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its bytes without the end, and where it begins and ends in the file."""

    number: int
    data: bytes
    begin: int
    end: int


def lines(content: bytes) -> Iterator[Line]:
    """The lines in order. An end of line at the end of the file begins no further line."""
    for number, match in enumerate(_LINE.finditer(content), 1):
        if match.start() == len(content):
            return
        data = match[0].rstrip(b"\r\n")
        yield Line(number, data, match.start(), match.end())


def numbered(text: str) -> list[tuple[int, str]]:
    """The lines of a decoded text with their numbers from 1."""
    found = _TEXT_END.split(text)
    if found and not found[-1]:
        found.pop()
    return list(enumerate(found, 1))

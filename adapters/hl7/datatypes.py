"""The primitive data types of HL7 v2, checked (HL7 v2.5 chapter 2.A; NM, SI, DT, TM, DTM)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)\Z", re.ASCII)
_SEQUENCE = re.compile(r"\d{1,4}\Z", re.ASCII)
_DATE = re.compile(r"(\d{4})(?:(\d\d)(\d\d)?)?", re.ASCII)
_CLOCK = re.compile(
    r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,4})?)?)?(?:[+-](?:0\d|1[0-4])[0-5]\d)?\Z",
    re.ASCII,
)
_OFFSET = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d\Z", re.ASCII)


def is_date(text: str) -> bool:
    """``YYYY[MM[DD]]``, of the calendar."""
    match = _DATE.fullmatch(text)
    return match is not None and _in_calendar(match)


def is_time(text: str) -> bool:
    """``HH[MM[SS[.S[S[S[S]]]]]][+/-ZZZZ]``."""
    return _CLOCK.match(text) is not None


def is_date_time(text: str) -> bool:
    """``YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]``."""
    match = _DATE.match(text)
    if match is None or not _in_calendar(match):
        return False
    rest = text[match.end() :]
    if not rest or _OFFSET.match(rest):
        return True
    return match[3] is not None and is_time(rest)


def _in_calendar(match: re.Match[str]) -> bool:
    try:
        date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        return False
    return True


PRIMITIVES: dict[str, tuple[Callable[[str], bool], str]] = {
    "NM": (lambda text: _NUMBER.match(text) is not None, "a number"),
    "SI": (lambda text: _SEQUENCE.match(text) is not None, "a number of 1 to 4 digits"),
    "DT": (is_date, "a date YYYY[MM[DD]]"),
    "TM": (is_time, "a time HH[MM[SS[.SSSS]]][+/-ZZZZ]"),
    "DTM": (is_date_time, "a time YYYY[MM[DD[HH[MM[SS[.SSSS]]]]]][+/-ZZZZ]"),
}
"""How a text of the type is told, and what it is called."""

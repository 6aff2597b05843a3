"""FHIR dates as spans of microseconds since 1970 in UTC, so that they can be compared.

R4 «Search», 3.1.1.5.7: a date without a time is the whole of its day, month or year, and
one without an offset is read in the server's zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

_FORM = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?"
    r"(Z|[+-]\d{2}:\d{2})?)?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
FAR_PAST = -(1 << 62)
FAR_FUTURE = 1 << 62
"""The open ends of a Period."""
UNDATED = FAR_PAST - 1
"""Stands for no date at all; before every other, so that it can be sorted."""

Span = tuple[int, int]
"""First and last microsecond, both included."""


def micros(instant: datetime) -> int:
    """An aware instant as microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_text(value: int) -> str:
    """Microseconds since 1970 as a FHIR instant in UTC, to the millisecond."""
    moment = _EPOCH + timedelta(microseconds=value)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


@lru_cache(maxsize=4096)
def span(text: str, zone: tzinfo) -> Span | None:
    """What a FHIR date, dateTime or instant covers; None when it is none.

    Remembers the last few thousand: the results of one order all have the same time.

    A second of 60 is taken as the last of its minute. Minutes alone are allowed, as
    R4 allows them in a search parameter.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        start = datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            min(int(second or 0), 59),
            int((fraction or "0").ljust(6, "0")[:6]),
            tzinfo=_offset(offset) or zone,
        )
        low = micros(start.astimezone(UTC))
    except (ValueError, OverflowError):
        return None
    try:
        end = _following(start, (month, day, hour, second, fraction))
        return low, micros(end.astimezone(UTC)) - 1
    except (ValueError, OverflowError):
        # The last day that a calendar knows: «9999-12-31» is how senders say «for ever».
        return low, FAR_FUTURE


def _offset(text: str | None) -> tzinfo | None:
    return datetime.fromisoformat(f"2000-01-01T00:00:00{text}").tzinfo if text else None


def _following(start: datetime, written: tuple[str | None, ...]) -> datetime:
    """The first instant after what the text covers, in the zone that it was read in.

    ``written`` is month, day, hour, second and fraction as far as they are there.
    """
    month, day, hour, second, fraction = written
    if month is None:
        return start.replace(year=start.year + 1)
    if day is None:
        wraps = start.month == 12
        return start.replace(year=start.year + wraps, month=1 if wraps else start.month + 1)
    if hour is None:
        # Wall-clock arithmetic: a day is 23 or 25 hours long when the clocks change.
        return start + timedelta(days=1)
    if second is None:
        return start + timedelta(minutes=1)
    if fraction is None:
        return start + timedelta(seconds=1)
    return start + timedelta(microseconds=10 ** max(6 - len(fraction), 0))


def element_span(value: Any, zone: tzinfo) -> Span | None:
    """What an element covers: a date of any precision, a Period, or a Timing's events."""
    if isinstance(value, str):
        return span(value, zone)
    if not isinstance(value, dict):
        return None
    if "event" in value and isinstance(value["event"], list):
        spans = [found for item in value["event"] if (found := element_span(item, zone))]
        return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
    start, end = element_span(value.get("start"), zone), element_span(value.get("end"), zone)
    if start is None and end is None:
        return None
    return start[0] if start else FAR_PAST, end[1] if end else FAR_FUTURE

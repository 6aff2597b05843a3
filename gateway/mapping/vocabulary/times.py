"""Dates and times: HL7 v2 DTM, HL7 v3 TS, DICOM DA/TM/DT and ISO 8601 to FHIR R4.

Precision is kept. FHIR R4 (datatypes, dateTime): «if hours and minutes are
specified, a time zone SHALL be populated», and «seconds must be provided due to
schema type constraints but may be zero-filled». An hour without minutes cannot be
written in FHIR: it becomes the date, with a note.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.mapping.vocabulary.invalid import Invalid

TEXT_MAX = 40

_STAMP = re.compile(
    r"(?P<year>[0-9]{4})"
    r"(?:-?(?P<month>[0-9]{2})"
    r"(?:-?(?P<day>[0-9]{2})"
    r"(?:[T ]?(?P<hour>[0-9]{2})"
    r"(?::?(?P<minute>[0-9]{2})"
    r"(?::?(?P<second>[0-9]{2})(?P<fraction>\.[0-9]{1,9})?)?)?)?)?)?"
    r"(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_TIME = re.compile(
    r"(?P<hour>[0-9]{2})(?::?(?P<minute>[0-9]{2})"
    r"(?::?(?P<second>[0-9]{2})(?P<fraction>\.[0-9]{1,9})?)?)?"
    r"(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?"
)

Noted = tuple[str, str]
"""A converted text and the code of a note about it, or an empty note."""

Stamp = tuple[str | None, ...]
"""Year, month, day, hour, minute, second, fraction with its point, offset; None where a text
does not say it."""


@lru_cache(maxsize=8192)
def date(text: str) -> Noted:
    """FHIR ``date`` with the precision given; a time of day is left off. Raises Invalid."""
    parts = _parse(text)
    return _calendar(parts)


@lru_cache(maxsize=8192)
def date_time(text: str, zone: str) -> Noted:
    """FHIR ``dateTime``; ``zone`` (IANA name, or empty) is for a time without offset.

    Raises Invalid for what is no point in time.
    """
    parts = _parse(text)
    day, note = _calendar(parts)
    hour, minute, second, fraction, offset = parts[3:]
    if hour is None or len(day) < 10:
        return day, note
    clock = _check_clock(hour, minute, second, fraction)
    if minute is None:
        return day, "precision-reduced"
    if offset is not None:
        return f"{day}T{clock}{_offset(offset)}", note
    if not zone:
        return day, "no-zone"
    local = _steady_offset(f"{day}T{hour}", zone)
    if local:
        return f"{day}T{clock}{local}", ""
    local, note = _local_offset(f"{day}T{clock[:8]}", zone)
    return f"{day}T{clock}{local}", note


def instant(text: str, zone: str) -> Noted:
    """FHIR ``instant``: a time to the second with an offset. Raises Invalid.

    A time to the minute gets zero seconds and the note ``precision-filled``.
    """
    found, note = date_time(text, zone)
    if len(found) < 20:
        raise Invalid("an instant needs a date, a time and an offset")
    if not note and _parse(text)[5] is None:
        return found, "precision-filled"
    return found, note


def is_after(first: str, second: str) -> bool:
    """Whether a FHIR dateTime is certainly after another, at the precision both have."""
    if len(first) > 10 and len(second) > 10:
        try:
            return datetime.fromisoformat(_readable(first)) > datetime.fromisoformat(
                _readable(second)
            )
        except ValueError:
            return False
    shorter = min(len(first), len(second), 10)
    return first[:shorter] > second[:shorter]


def _readable(text: str) -> str:
    """A FHIR dateTime as Python reads it: no leap second, six decimals at most."""
    text = text.replace(":60", ":59").replace("Z", "+00:00")
    return re.sub(r"(\.\d{6})\d+", r"\1", text)


@lru_cache(maxsize=2048)
def time(text: str) -> Noted:
    """FHIR ``time`` (``hh:mm:ss``); an offset is left off with a note. Raises Invalid."""
    match = _TIME.fullmatch(text.strip())
    if match is None or match["minute"] is None:
        raise Invalid("a time is hhmm[ss[.ffff]]")
    hour, minute, second, fraction, offset = match.groups()
    return _check_clock(hour, minute, second, fraction), "offset-left-out" if offset else ""


def _parse(text: str) -> Stamp:
    if len(text) == 14 and text.isascii() and text.isdigit():  # as nearly all are written
        return (
            text[:4], text[4:6], text[6:8], text[8:10], text[10:12], text[12:], None, None
        )  # fmt: skip
    text = text.strip()
    match = _STAMP.fullmatch(text) if len(text) <= TEXT_MAX else None
    if match is None:
        raise Invalid("a date is YYYY[MM[DD[hh[mm[ss[.ffff]]]]]][±hhmm]")
    return match.groups()


def _calendar(parts: Stamp) -> Noted:
    year, month, day = parts[:3]
    if year is None or year == "0000":
        raise Invalid("a year is 0001 to 9999")
    if month is None:
        return year, ""
    if month == "00":
        return year, "precision-reduced"
    if not "01" <= month <= "12":
        raise Invalid("a month is 01 to 12")
    if day is None:
        return f"{year}-{month}", ""
    if day == "00":
        return f"{year}-{month}", "precision-reduced"
    if day > "28":  # each month has the others
        try:
            datetime(int(year), int(month), int(day))  # noqa: DTZ001 - a calendar check, no instant
        except ValueError:
            raise Invalid("the month has no such day") from None
    return f"{year}-{month}-{day}", ""


def _check_clock(hour: str, minute: str | None, second: str | None, fraction: str | None) -> str:
    minute, second = minute or "00", second or "00"
    if hour > "23" or minute > "59" or second > "60":
        raise Invalid("a time is 00:00:00 to 23:59:60")
    return f"{hour}:{minute}:{second}{fraction or ''}"


def _offset(text: str) -> str:
    if text == "Z":
        return "Z"
    hours, minutes = text[1:3], text[-2:]
    if hours > "14" or minutes > "59" or (hours == "14" and minutes != "00"):
        raise Invalid("an offset is -1400 to +1400")
    return f"{text[0]}{hours}:{minutes}"


@lru_cache(maxsize=8192)
def _steady_offset(hour: str, zone: str) -> str:
    """The offset of a wall clock hour (``2024-03-06T08``) that is the same from its first to
    its last second; empty when it is not, or cannot be told.

    No zone changes its offset and changes it back within an hour.
    """
    try:
        first, last = _local_offset(f"{hour}:00:00", zone), _local_offset(f"{hour}:59:59", zone)
    except (Invalid, ValueError, OverflowError):
        return ""
    return first[0] if first == last and not first[1] else ""


@lru_cache(maxsize=8192)
def _local_offset(local: str, zone: str) -> Noted:
    """The offset of a wall clock time in a zone, and whether that is certain."""
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise Invalid("the source's zone is not an IANA zone") from None
    moment = datetime.fromisoformat(local.replace(":60", ":59")).replace(tzinfo=where)
    first, second = moment.utcoffset(), moment.replace(fold=1).utcoffset()
    if first is None or second is None:
        raise Invalid("the source's zone has no offset")
    note = "" if first == second else "ambiguous-local-time"
    return _format(first), note


def _format(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"

"""How values are written for people: English for the interface, French for a patient's data.

French typography: a comma before decimals, a narrow no-break space (U+202F) between
thousands, a no-break space (U+00A0) before a unit. An exact value keeps its own
digits: ``1.10`` is written ``1,10``, never ``1,1``.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise

EXPONENT_MAX = 100
NARROW = "\u202f"
NO_BREAK = "\u00a0"
MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre",
    "octobre", "novembre", "décembre",
)  # fmt: skip

_FHIR_TIME = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})"
    r"(?:T(?P<hour>\d{2}):(?P<minute>\d{2})(?::\d{2}(?:\.\d+)?)?(?P<zone>Z|[+-]\d{2}:\d{2})?)?)?)?"
)


def ago(instant: datetime, now: datetime) -> str:
    """How long ago, coarsely: ``just now``, ``3 min ago``, ``5 h ago``, ``in 40 s``."""
    seconds = (now - _aware(instant)).total_seconds()
    amount = abs(seconds)
    if amount < 2:
        return "just now"
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if amount < limit:
            text = f"{int(amount // size)}{NO_BREAK}{unit}"
            break
    else:
        text = f"{int(amount // 86_400)}{NO_BREAK}days"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def clock(instant: datetime, now: datetime | None = None) -> str:
    """Local time of day, with the date when it is another day than today."""
    local = _aware(instant).astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    if local.date() == today:
        return f"{local:%H:%M:%S}"
    year = "" if local.year == today.year else f"{NO_BREAK}{local.year}"
    return f"{local.day}{NO_BREAK}{local:%b}{year}{NO_BREAK}{local:%H:%M}"


def exact(instant: datetime) -> str:
    """The instant to the millisecond with its offset, for a tooltip."""
    return _aware(instant).astimezone().isoformat(sep=" ", timespec="milliseconds")


def iso(instant: datetime) -> str:
    """RFC 3339 in UTC, for machines."""
    return _aware(instant).astimezone(UTC).isoformat(timespec="seconds")


def _aware(instant: datetime) -> datetime:
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def number(value: int) -> str:
    """A count with narrow spaces between thousands."""
    return f"{value:,}".replace(",", NARROW)


def size(octets: int) -> str:
    """An amount of bytes in decimal units."""
    if octets < 1000:
        return f"{octets}{NO_BREAK}bytes"
    amount = float(octets)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.5 or unit == "TB":
            break
    return f"{amount:.1f}{NO_BREAK}{unit}" if amount < 99.95 else f"{amount:.0f}{NO_BREAK}{unit}"


def duration(span: timedelta | None) -> str:
    """A span of time, from microseconds to hours; a dash when there is none."""
    if span is None:
        return "–"
    seconds = span.total_seconds()
    if seconds < 0.001:
        return f"{seconds * 1_000_000:.0f}{NO_BREAK}µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f}{NO_BREAK}ms"
    if seconds < 90:
        return f"{seconds:.1f}{NO_BREAK}s"
    return (
        f"{seconds / 60:.0f}{NO_BREAK}min" if seconds < 5400 else f"{seconds / 3600:.1f}{NO_BREAK}h"
    )


def middle(text: object, limit: int) -> str:
    """Text of at most ``limit`` characters: its beginning, an ellipsis, its end."""
    whole = str(text or "")
    if len(whole) <= limit:
        return whole
    tail = limit // 3
    return f"{whole[: limit - tail - 1]}…{whole[-tail:]}"


def authority(system: str) -> str:
    """An identifier's system without its URN prefix."""
    return system.removeprefix("urn:oid:").removeprefix("urn:ecluse:authority:")


# --- a patient's data, in French ----------------------------------------------------


def french_decimal(text: str) -> str:
    """A decimal's own digits with a comma and grouped thousands: ``12345.60`` is ``12 345,60``."""
    match = re.fullmatch(r"([+-]?)(\d+)(?:\.(\d+))?", text.strip())
    if match is None or len(text) > EXPONENT_MAX:
        return text
    sign, whole, fraction = match.groups()
    grouped = f"{int(whole):,}".replace(",", NARROW) if len(whole) > 4 else whole
    minus = "\u2212" if sign == "-" else ""
    return f"{minus}{grouped},{fraction}" if fraction else f"{minus}{grouped}"


def decimal(text: object) -> Decimal | None:
    """A finite number of a resource, or None; one that no axis could hold is none."""
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) < EXPONENT_MAX else None


def french_date(text: str, *, short: bool = False) -> str:
    """A FHIR date or dateTime, at its own precision and in its own offset.

    ``2024-03`` is ``mars 2024``; short gives ``05/03/2024``. Text that is no FHIR
    date is given back as it is.
    """
    match = _FHIR_TIME.fullmatch(text)
    if match is None:
        return text
    year, month, day, hour, minute = match.group("year", "month", "day", "hour", "minute")
    if month is None:
        return year
    if not 1 <= int(month) <= 12:
        return text
    if day is None:
        return f"{month}/{year}" if short else f"{MONTHS[int(month) - 1]}{NO_BREAK}{year}"
    first = "1er" if int(day) == 1 else str(int(day))
    written = (
        f"{day}/{month}/{year}"
        if short
        else f"{first}{NO_BREAK}{MONTHS[int(month) - 1]}{NO_BREAK}{year}"
    )
    if hour is None or (short and (hour, minute) == ("00", "00")):
        return written
    return (
        f"{written} {hour}:{minute}"
        if short
        else f"{written} à {hour}{NO_BREAK}h{NO_BREAK}{minute}"
    )


def instant_of(text: str) -> datetime | None:
    """The instant that a FHIR dateTime names, to place it on an axis; None when it names none.

    A dateTime without an offset is placed as if it were UTC: an axis of days
    does not show the difference.
    """
    match = _FHIR_TIME.fullmatch(text)
    if match is None:
        return None
    filled = text if len(text) >= 10 else text + "-01-01"[: 10 - len(text)]
    try:
        return _aware(datetime.fromisoformat(filled))
    except ValueError:
        return None


def age(birth: str, on: date) -> str:
    """A patient's age in French words; empty when the date of birth is not complete."""
    try:
        born = date.fromisoformat(birth)
    except ValueError:
        return ""
    if born > on:
        return ""
    years = on.year - born.year - ((on.month, on.day) < (born.month, born.day))
    if years >= 3:
        return f"{years}{NO_BREAK}ans"
    months = (on.year - born.year) * 12 + on.month - born.month - (on.day < born.day)
    return f"{months}{NO_BREAK}mois" if months >= 1 else f"{(on - born).days}{NO_BREAK}jours"


def ins(value: str) -> str:
    """An INS as its 15 characters are read aloud: ``2 69 05 49 588 157 80``."""
    if len(value) != 15:
        return value
    cuts = (0, 1, 3, 5, 7, 10, 13, 15)
    return NO_BREAK.join(value[a:b] for a, b in pairwise(cuts))


def masked(value: str) -> str:
    """The last three characters of an identifier, the others hidden."""
    return f"{'•' * min(max(len(value) - 3, 3), 6)}{value[-3:]}" if len(value) > 4 else "•••"

"""The end of what has a beginning and a length: ``START AMOUNT UNIT`` in one text.

Appointments (HL7 v2 chapter 10: AIS-4 with AIS-7 and AIS-8) and services (chapter 4: TQ1-7 with
TQ1-6) often say no end, and R4 wants both ends or none (Appointment, app-2).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from gateway.mapping.vocabulary import times
from gateway.mapping.vocabulary.invalid import Invalid

DAYS_MAX = 3_660
_SECONDS = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "mn": 60, "minute": 60, "minutes": 60,
    "h": 3_600, "hr": 3_600, "hour": 3_600, "hours": 3_600,
    "d": 86_400, "day": 86_400, "days": 86_400,
    "w": 604_800, "wk": 604_800, "week": 604_800, "weeks": 604_800,
}  # fmt: skip
"""Units of a fixed length by their names in UCUM, in HL7 v2 (chapter 2A, RI.2: ``M`` is a minute)
and in words. A month is none."""


def later(text: str, zone: str) -> tuple[str, str]:
    """The instant that is so much after the beginning, and a note of the beginning's conversion.

    ``text`` holds a time stamp, a number and a unit, parted by blanks. Raises Invalid when one
    is missing, when the beginning is no instant or the length more than ten years.
    """
    parts = text.split()
    if len(parts) != 3 or parts[2].casefold() not in _SECONDS:
        raise Invalid("a beginning, a number and a unit of fixed length are needed")
    begin, note = times.instant(parts[0], zone)
    try:
        amount = Decimal(parts[1]) * _SECONDS[parts[2].casefold()]
    except InvalidOperation as error:
        raise Invalid("the length is no number") from error
    if not amount.is_finite() or not 0 <= amount <= DAYS_MAX * 86_400:
        raise Invalid("the length is out of bounds")
    try:
        moment = datetime.fromisoformat(begin.replace("Z", "+00:00").replace(":60", ":59"))
        end = moment + timedelta(seconds=float(amount))
    except (OverflowError, ValueError) as error:
        raise Invalid("the end is out of bounds") from error
    return end.isoformat(timespec="milliseconds" if end.microsecond else "seconds"), note

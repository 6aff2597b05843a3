"""Numbers, quantities and ranges as laboratories write them, digits kept.

A decimal comma is read as a point only where it cannot be a thousands separator:
``5,0`` and ``0,125`` are decimals, ``1,234`` is refused, because a guess there is
wrong by a factor of a thousand.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

from gateway.mapping.serialise import DecimalText
from gateway.mapping.vocabulary.invalid import Invalid

TEXT_MAX = 200
DIGITS_MAX = 40

_BLANK = " \u00a0\u202f"
_NUMBER_TEXT = (
    rf"[+-]?(?:[0-9]{{1,3}}(?:[{_BLANK}][0-9]{{3}})+|[0-9]+)?"  # whole part, grouped or not
    r"(?:[.,][0-9]*)?(?:[eE][+-]?[0-9]{1,3})?"
)
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?P<whole>[0-9]{{1,3}}(?:[{_BLANK}][0-9]{{3}})+|[0-9]*)"
    r"(?:(?P<point>[.,])(?P<fraction>[0-9]*))?(?P<exponent>[eE][+-]?[0-9]{1,3})?"
)
_UNIT_WORD = r"(?![x×] ?10)[A-Za-zµμ%‰°][^\s<>=≤≥;]*"
_UNIT = rf"(?P<unit>{_UNIT_WORD}(?: [A-Za-zµμ][^\d\s<>=≤≥;]*)?)?"
_PLAIN = re.compile(r"(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?")
_COMPARATORS = {
    "<": "<", "<=": "<=", "=<": "<=", "≤": "<=", ">": ">", ">=": ">=", "=>": ">=", "≥": ">=",
    "=": "", "": "",
}  # fmt: skip
_QUANTITY = re.compile(
    rf"(?P<comparator>[<>]=?|=[<>]?|[≤≥])?\s*(?P<number>{_NUMBER_TEXT})\s*{_UNIT}"
)
_BETWEEN = re.compile(
    rf"(?:(?:de|entre|from|between)\s+)?(?P<low>{_NUMBER_TEXT})\s*(?P<lowunit>{_UNIT_WORD})?"
    r"\s*(?:-|–|—|_|\.\.|&|;|to|à|a|et|and)\s*"
    rf"(?P<high>{_NUMBER_TEXT})\s*{_UNIT}",
    re.IGNORECASE,
)
_BELOW = (
    r"<=|=<|≤|<|less than|up to|moins de|jusqu['’]à|au plus|maximum|max\.?"
    r"|inf(?:[ée]rieure?)?\.?(?: ou [ée]gale?)? à|inf\."
)
_ABOVE = (
    r">=|=>|≥|>|greater than|more than|plus de|au moins|at least|minimum|min\.?"
    r"|sup(?:[ée]rieure?)?\.?(?: ou [ée]gale?)? à|sup\."
)
_ONE_SIDED = re.compile(
    rf"(?:(?P<below>{_BELOW})|(?P<above>{_ABOVE}))\s*(?P<limit>{_NUMBER_TEXT})\s*{_UNIT}",
    re.IGNORECASE,
)


@lru_cache(maxsize=8192)
def decimal(text: str) -> tuple[DecimalText, str]:
    """A number and a note (``decimal-comma`` or empty). Raises Invalid.

    A leading plus, leading zeros and blanks between thousands are left off; all
    other digits stay, ``1.10`` among them.
    """
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= TEXT_MAX else None
    if match is None:
        raise Invalid("not a number")
    whole, fraction = match["whole"], match["fraction"] or ""
    if not whole and not fraction:
        raise Invalid("not a number")
    if len(whole) + len(fraction) > DIGITS_MAX:
        raise Invalid(f"a number has at most {DIGITS_MAX} digits")
    comma = match["point"] == ","
    grouped = any(blank in whole for blank in _BLANK)
    if comma and len(fraction) == 3 and not grouped and len(whole) <= 3 and whole not in ("", "0"):
        raise Invalid("a comma before three digits may be a decimal or a thousands comma")
    digits = whole.translate({ord(blank): None for blank in _BLANK}).lstrip("0") or "0"
    sign = "-" if match["sign"] == "-" else ""
    number = f"{sign}{digits}{f'.{fraction}' if fraction else ''}{match['exponent'] or ''}"
    return DecimalText(number), "decimal-comma" if comma else ""


@lru_cache(maxsize=8192)
def quantity(text: str) -> tuple[str, DecimalText, str, str]:
    """Comparator (FHIR quantity-comparator or empty), number, unit text, note.

    Raises Invalid for everything that is not one number with at most a comparator
    before it and a unit after it.
    """
    if _PLAIN.fullmatch(text) is not None:  # as nearly all are written
        return "", str.__new__(DecimalText, text), "", ""
    match = _QUANTITY.fullmatch(text.strip()) if len(text) <= TEXT_MAX else None
    if match is None:
        raise Invalid("not a number with at most a comparator and a unit")
    number, note = decimal(match["number"])
    return _COMPARATORS[match["comparator"] or ""], number, match["unit"] or "", note


@lru_cache(maxsize=4096)
def interval(text: str) -> tuple[DecimalText | None, DecimalText | None, str, str]:
    """Low, high, unit text and a note of a range written in one of the usual ways.

    ``3.5-5.1``, ``[ 0.04 - 0.40 ]``, ``[3,5;5,1]``, ``70 to 105``, ``5,0 à 7,2``, ``<5``,
    ``>= 60``, ``-3-3``, ``<0.50 IU/mL``. Raises Invalid for words, for an empty pair of
    brackets and for a low above the high.
    """
    if len(text) > TEXT_MAX:
        raise Invalid("too long for a range")
    inner = text.strip()
    if len(inner) > 1 and (inner[0], inner[-1]) in (("[", "]"), ("(", ")")):
        inner = inner[1:-1].strip()
    one = _ONE_SIDED.fullmatch(inner)
    if one is not None:
        limit, note = decimal(one["limit"])
        unit = one["unit"] or ""
        return (None, limit, unit, note) if one["below"] else (limit, None, unit, note)
    both = _BETWEEN.fullmatch(inner)
    if both is None:
        raise Invalid("not a range of numbers")
    low, first = decimal(both["low"])
    high, second = decimal(both["high"])
    if Decimal(low) > Decimal(high):
        raise Invalid("the low end is above the high end")
    units = {unit for unit in (both["lowunit"], both["unit"]) if unit}
    if len(units) > 1:
        raise Invalid("two different units in one range")
    return low, high, next(iter(units), ""), first or second

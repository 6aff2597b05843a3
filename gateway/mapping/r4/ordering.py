"""Comparisons that the invariants of FHIR R4 make: times, numbers, codes, choices.

They take elements whose structure is already right.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

Json = Mapping[str, Any]


def there(value: Json, name: str) -> bool:
    """Whether an element is there, be it by its extensions only."""
    return name in value or f"_{name}" in value


def chosen(value: Json, base: str) -> bool:
    """Whether a choice element is present in any type (``value`` for ``valueString``)."""
    beside, length = f"_{base}", len(base)
    for key in value:
        if key.startswith(base) and key[length : length + 1].isupper():
            return True
        if key.startswith(beside) and key[length + 1 : length + 2].isupper():
            return True
    return False


def codings(concept: Json | None) -> set[tuple[str, str]]:
    """System and code of each coding of a CodeableConcept that has a code."""
    return {
        (coding.get("system", ""), coding["code"])
        for coding in (concept or {}).get("coding", ())
        if "code" in coding
    }


def number(value: Any) -> Decimal | None:
    """A decimal as a number, None when its exponent is beyond all measure."""
    try:
        return Decimal(value)
    except InvalidOperation:
        return None


def not_after(earlier: str, later: str) -> bool:
    """Whether two FHIR dates or times are certainly in order.

    Where one is less precise and the rest is equal, FHIRPath's answer is empty («2024»
    against «2024-03»), and an invariant whose answer is empty is broken.
    """
    if len(earlier) > 10 and len(later) > 10:
        return _instant(earlier) <= _instant(later)
    shorter = min(len(earlier), len(later), 10)
    if len(earlier) == len(later):
        return earlier <= later
    return earlier[:shorter] < later[:shorter]


def ordered(value: Json, earlier: str, later: str) -> bool:
    """Whether one element's time is not after another's; True when one is not there."""
    first, last = value.get(earlier), value.get(later)
    return first is None or last is None or not_after(first, last)


def _instant(text: str) -> datetime:
    head, _, rest = text.partition(".")
    if rest:  # fractions beyond microseconds do not decide an order that matters here
        digits = rest.rstrip("Z").partition("+")[0].partition("-")[0]
        head = f"{head}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"
    return datetime.fromisoformat(head.replace(":60", ":59").replace("Z", "+00:00"))

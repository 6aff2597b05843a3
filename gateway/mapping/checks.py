"""Consistency checks that an entry may name: each looks, and at most flags."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

_SAYS = {
    **dict.fromkeys(("H", "HH", "HU"), "high"),
    **dict.fromkeys(("L", "LL", "LU"), "low"),
    "N": "normal",
}
"""What a code of ObservationInterpretation says of a number beside its range."""


def interpretation_agrees_with_range(observation: dict[str, Any]) -> str:
    """``interpretation-disagrees`` for a high, low or normal that the range contradicts.

    Looks only at a number without comparator, one reference range in the same unit
    and codes of ObservationInterpretation; everything else passes.
    """
    interpretations = observation.get("interpretation")
    ranges = observation.get("referenceRange")
    quantity = observation.get("valueQuantity")
    if not interpretations or quantity is None or not ranges or len(ranges) != 1:
        return ""
    said = ""
    for concept in interpretations:
        for coding in concept.get("coding", ()):
            said = _SAYS.get(coding.get("code"), said)
    if not said or "comparator" in quantity:
        return ""
    low, high = ranges[0].get("low"), ranges[0].get("high")
    unit = quantity.get("unit")
    if low is not None and low.get("unit") != unit:
        low = None
    if high is not None and high.get("unit") != unit:
        high = None
    if said == "high":
        wrong = high is not None and _more(high, quantity)
    elif said == "low":
        wrong = low is not None and _more(quantity, low)
    else:
        wrong = (high is not None and _more(quantity, high)) or (
            low is not None and _more(low, quantity)
        )
    return "interpretation-disagrees" if wrong else ""


def _more(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the first amount is above the second; false when one is no number.

    A float is the nearest to its decimal: of two that differ the greater has the greater
    decimal. Only where they are equal the digits must tell.
    """
    try:
        first, second = float(one["value"]), float(other["value"])
        if first != second:
            return first > second
    except (ValueError, KeyError):
        return False
    try:
        return Decimal(one["value"]) > Decimal(other["value"])
    except (InvalidOperation, KeyError):
        return False


CHECKS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "interpretation-agrees-with-range": ("Observation", interpretation_agrees_with_range),
}
"""By name: the resource type, and the check, which gives a flag's code or nothing."""

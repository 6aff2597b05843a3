"""What an entry's checks say of a number beside its range."""

from __future__ import annotations

import pytest

from gateway.mapping.checks import interpretation_agrees_with_range
from gateway.mapping.serialise import DecimalText


@pytest.mark.parametrize(
    ("said", "value", "low", "high", "disagrees"),
    [
        ("N", "5.0", "4.0", "6.0", False),
        ("N", "6.1", "4.0", "6.0", True),
        ("N", "6.00", "4.0", "6.0", False),
        ("N", "6.00000000000000000001", "4.0", "6.0", True),  # more than a float can tell
        ("N", "3.99999999999999999999", "4.0", "6.0", True),
        ("H", "6.0", "4.0", "6.0", False),
        ("H", "5.99999999999999999999", "4.0", "6.0", True),
        ("L", "4.00000000000000000001", "4.0", "6.0", True),
        ("N", "2e999", "1e999", "3e999", False),  # both are infinite to a float
        ("N", "4e999", "1e999", "3e999", True),
        ("N", "-5", "-6", "-4", False),
    ],
)
def test_every_digit_counts(said: str, value: str, low: str, high: str, disagrees: bool) -> None:
    observation = {
        "interpretation": [{"coding": [{"code": said}]}],
        "valueQuantity": {"value": DecimalText(value), "unit": "g/L"},
        "referenceRange": [
            {
                "low": {"value": DecimalText(low), "unit": "g/L"},
                "high": {"value": DecimalText(high), "unit": "g/L"},
            }
        ],
    }
    assert bool(interpretation_agrees_with_range(observation)) is disagrees

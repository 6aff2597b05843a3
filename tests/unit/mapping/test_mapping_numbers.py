"""Numbers and ranges as laboratories write them."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mapping.serialise import DecimalText
from gateway.mapping.vocabulary import numbers
from gateway.mapping.vocabulary.invalid import Invalid


@pytest.mark.parametrize(
    ("text", "number", "note"),
    [
        ("1.10", "1.10", ""),
        ("7.0", "7.0", ""),
        ("+5", "5", ""),
        ("-0.0", "-0.0", ""),
        ("007", "7", ""),
        (".5", "0.5", ""),
        ("5.", "5", ""),
        ("1,5", "1.5", "decimal-comma"),
        ("0,125", "0.125", "decimal-comma"),
        ("12345,678", "12345.678", "decimal-comma"),
        ("1 234,5", "1234.5", "decimal-comma"),
        ("1 000 000", "1000000", ""),
        ("1.2E5", "1.2E5", ""),
    ],
)
def test_decimal(text: str, number: str, note: str) -> None:
    assert numbers.decimal(text) == (number, note)


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "1,234", "123,456", "1,2,3", "1.2.3", "1 23", "--5", "5-", "9" * 41, "٣", "NaN",
     "1e9999"],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(Invalid):
        numbers.decimal(text)


def test_a_comma_that_could_be_a_thousands_comma_is_never_guessed() -> None:
    for text in ("1,234", "12,345", "999,000"):
        with pytest.raises(Invalid):
            numbers.decimal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.4", ("", "5.4", "", "")),
        ("<5", ("<", "5", "", "")),
        (">= 60", (">=", "60", "", "")),
        ("≤0,5", ("<=", "0.5", "", "decimal-comma")),
        ("=7", ("", "7", "", "")),
        ("12 mg/L", ("", "12", "mg/L", "")),
        ("<0.50 IU/mL", ("<", "0.50", "IU/mL", "")),
    ],
)
def test_quantity(text: str, expected: tuple[str, str, str, str]) -> None:
    assert numbers.quantity(text) == expected


@pytest.mark.parametrize("text", ["POS", "1/80", "1:80", "5x10", "5 x10", "2+", "+", "<", "3-5"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(Invalid):
        numbers.quantity(text)


@pytest.mark.parametrize(
    ("text", "low", "high", "unit"),
    [
        ("3.5-5.1", "3.5", "5.1", ""),
        ("[ 0.04 - 0.40 ]", "0.04", "0.40", ""),
        ("5-49", "5", "49", ""),
        ("49 - 92", "49", "92", ""),
        ("[ < 3.0]", None, "3.0", ""),
        ("[ > 1.5]", "1.5", None, ""),
        ("<4.3", None, "4.3", ""),
        (">=60", "60", None, ""),
        (">=2.079", "2.079", None, ""),
        ("≤ 5", None, "5", ""),
        ("3.5 -5.5", "3.5", "5.5", ""),
        ("-3-3", "-3", "3", ""),
        ("-5 - -2", "-5", "-2", ""),
        (".4-1.5", "0.4", "1.5", ""),
        ("4.50&5.90", "4.50", "5.90", ""),
        ("70_105", "70", "105", ""),
        ("70 to 105", "70", "105", ""),
        ("5,0 - 7,2", "5.0", "7.2", ""),
        ("5,0 à 7,2", "5.0", "7.2", ""),
        ("de 3 à 5", "3", "5", ""),
        ("entre 3 et 5", "3", "5", ""),
        ("inf à 5,1", None, "5.1", ""),
        ("inférieur à 5", None, "5", ""),
        ("supérieure ou égale à 60", "60", None, ""),
        ("jusqu'à 5", None, "5", ""),
        ("3,5 à 5,1 mmol/L", "3.5", "5.1", "mmol/L"),
        ("3.5 g/L - 5.1 g/L", "3.5", "5.1", "g/L"),
        ("<0.50 IU/mL", None, "0.50", "IU/mL"),
        ("(3-5)", "3", "5", ""),
        ("1 000 - 2 000", "1000", "2000", ""),
        ("3–5", "3", "5", ""),
        ("3.5..5.1", "3.5", "5.1", ""),
    ],
)
def test_interval(text: str, low: str | None, high: str | None, unit: str) -> None:
    assert numbers.interval(text)[:3] == (low, high, unit)


@pytest.mark.parametrize(
    "text",
    ["", "[ ]", "Negative", "range of a few", "Exon 7 Present", "5-3", "1,234 - 5,678",
     "3 g/L - 5 mg/L", "10*3/uL", "1-2-3", "2024-01-01", "a" * 300],
)  # fmt: skip
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(Invalid):
        numbers.interval(text)


@given(st.text(max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    for read in (numbers.decimal, numbers.quantity, numbers.interval):
        try:
            read(text)
        except Invalid:
            continue


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
    )
)
def test_digits_are_kept(number: Decimal) -> None:
    text = f"{number:f}"
    found, note = numbers.decimal(text)
    assert isinstance(found, DecimalText)
    assert found == text
    assert note == ""


def test_every_numeric_range_of_the_corpora_is_read(shared: Path) -> None:
    """Ranges with digits in OBX-7: all but words and impossible ones are understood."""
    written: set[str] = set()
    for path in (shared / "corpora" / "hl7v2").rglob("*"):
        if path.is_file():
            for line in re.split(r"[\r\n]+", path.read_bytes().decode("utf-8", "replace")):
                fields = line.split("|")
                if fields[0] == "OBX" and len(fields) > 7 and re.search(r"\d", fields[7]):
                    written.add(fields[7])
    not_read = set()
    for text in written:
        try:
            numbers.interval(text)
        except Invalid:
            not_read.add(text)
    assert len(written) > 60
    assert not_read <= {"Exon 7 Present", '""'}, not_read

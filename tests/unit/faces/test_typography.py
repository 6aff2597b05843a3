"""How values are written for people."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console import typography

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("1.10", "1,10"),
        ("0.010", "0,010"),
        ("-3.5", "\u22123,5"),
        ("1234", "1234"),
        ("12345.60", "12\u202f345,60"),
        ("+7", "7"),
        ("1e3", "1e3"),
        ("<5", "<5"),
        ("", ""),
    ],
)
def test_a_decimal_keeps_its_own_digits(written: str, shown: str) -> None:
    assert typography.french_decimal(written) == shown


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=0, max_value=9**12))
def test_every_digit_of_a_decimal_is_there(value: object) -> None:
    text = str(value)
    shown = typography.french_decimal(text)
    assert shown.replace("\u202f", "").replace(",", ".") == text


@pytest.mark.parametrize(
    ("written", "long", "short"),
    [
        ("2024", "2024", "2024"),
        ("2024-03", "mars\u00a02024", "03/2024"),
        ("2024-03-01", "1er\u00a0mars\u00a02024", "01/03/2024"),
        ("2024-08-12T08:05:00+02:00", "12\u00a0août\u00a02024 à 08\u00a0h\u00a005",
         "12/08/2024 08:05"),
        ("2024-08-12T00:00:00Z", "12\u00a0août\u00a02024 à 00\u00a0h\u00a000", "12/08/2024"),
        ("2024-13-01", "2024-13-01", "2024-13-01"),
        ("hier", "hier", "hier"),
    ],
)  # fmt: skip
def test_a_date_keeps_its_precision(written: str, long: str, short: str) -> None:
    assert typography.french_date(written) == long
    assert typography.french_date(written, short=True) == short


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2024", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-03", datetime(2024, 3, 1, tzinfo=UTC)),
        ("2024-03-05T10:00:00+02:00", datetime(2024, 3, 5, 8, tzinfo=UTC)),
        ("2024-02-30", None),
        ("soon", None),
    ],
)
def test_a_date_has_a_place_on_an_axis(written: str, instant: datetime | None) -> None:
    assert typography.instant_of(written) == instant


@pytest.mark.parametrize(
    ("birth", "age"),
    [
        ("1985-11-22", "41\u00a0ans"),
        ("1985-11-23", "40\u00a0ans"),
        ("2024-10-23", "24\u00a0mois"),
        ("2026-11-20", "2\u00a0jours"),
        ("2027-01-01", ""),
        ("1985", ""),
    ],
)
def test_an_age_is_that_of_the_day(birth: str, age: str) -> None:
    assert typography.age(birth, date(2026, 11, 22)) == age


def test_an_ins_is_grouped_as_it_is_read_and_another_length_is_left() -> None:
    assert typography.ins("269054958815780").replace("\u00a0", " ") == "2 69 05 49 588 157 80"
    assert typography.ins("123") == "123"


@given(st.text(max_size=40))
def test_a_masked_value_shows_three_characters_at_most(value: str) -> None:
    shown = typography.masked(value)
    assert len(shown.replace("•", "")) <= 3 or "•" in value
    assert value not in shown or len(value) <= 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "just now"), (45, "45 s ago"), (600, "10 min ago"), (7200, "2 h ago"), (-30, "in 30 s"),
     (86400 * 9, "9 days ago")],
)  # fmt: skip
def test_how_long_ago(seconds: int, text: str) -> None:
    shown = typography.ago(NOW - timedelta(seconds=seconds), NOW)
    assert shown.replace("\u00a0", " ") == text


def test_sizes_and_counts() -> None:
    assert typography.size(999).replace("\u00a0", " ") == "999 bytes"
    assert typography.size(1_536_000).replace("\u00a0", " ") == "1.5 MB"
    assert typography.number(1234567) == "1\u202f234\u202f567"
    assert typography.middle("a" * 50, 20) == "aaaaaaaaaaaaa…aaaaaa"
    assert len(typography.middle("b" * 500, 30)) == 30

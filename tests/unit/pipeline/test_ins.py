"""The INS: shape, key, Corsica, and what is deliberately not judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import ins
from gateway.model import Identifier

# The four published samples: continental, Corsica, NIA, and n mod 97 = 0.
PUBLISHED = ["279035121518989", "188102B17295264", "277076322082910", "207058575627097"]

numbers = st.one_of(
    st.from_regex(r"[0-9]{13}", fullmatch=True),
    st.builds(
        lambda a, d, b: a + d + b,
        st.from_regex(r"[0-9]{5}", fullmatch=True),
        st.sampled_from(["2A", "2B"]),
        st.from_regex(r"[0-9]{6}", fullmatch=True),
    ),
).filter(lambda n: set(n) != {"0"})


@pytest.mark.parametrize("value", PUBLISHED)
def test_the_published_samples_are_valid(value: str) -> None:
    assert ins.fault(value) is None


@given(numbers)
def test_a_number_with_its_own_key_is_valid(number: str) -> None:
    assert ins.fault(number + ins.key(number)) is None


@given(numbers, st.integers(0, 99))
def test_any_other_key_is_refused(number: str, other: int) -> None:
    given_key = f"{other:02d}"
    expected = None if given_key == ins.key(number) else ins.InsFault.KEY
    assert ins.fault(number + given_key) is expected


@given(numbers, st.integers(0, 12), st.characters(categories=["Nd"]))
def test_one_wrong_digit_is_always_seen(number: str, place: int, digit: str) -> None:
    """97 is a prime above 10, so a single changed digit never keeps the key."""
    wrong = number[:place] + digit + number[place + 1 :]
    if wrong != number and set(wrong) != {"0"}:
        assert ins.fault(wrong + ins.key(number)) in (ins.InsFault.KEY, ins.InsFault.CHARACTERS)


def test_corsica_is_not_replaced_by_zero() -> None:
    """A key computed with A = B = 0 (a common error) is not the key."""
    assert ins.key("188102B172952") == "64"
    assert ins.key("188102A172952") != ins.key("188102B172952")


@pytest.mark.parametrize("month", ["13", "20", "30", "42", "50", "99"])
def test_the_month_is_never_judged(month: str) -> None:
    number = f"279{month}35121518"[:13]
    assert ins.fault(number + ins.key(number)) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ins.InsFault.LENGTH),
        ("2790351215189", ins.InsFault.LENGTH),
        ("279035121518989 ", ins.InsFault.LENGTH),
        ("27903512151898X", ins.InsFault.CHARACTERS),
        ("188102C17295264", ins.InsFault.CHARACTERS),
        ("188102b17295264", ins.InsFault.CHARACTERS),
        ("1881022A7295264", ins.InsFault.CHARACTERS),
        ("٢79035121518989", ins.InsFault.CHARACTERS),
        ("000000000000097", ins.InsFault.ZERO),
        ("279035121518988", ins.InsFault.KEY),
    ],
)
def test_each_fault_has_its_name(value: str, expected: ins.InsFault) -> None:
    assert ins.fault(value) is expected


def test_only_the_four_roots_are_ins() -> None:
    def claims(root: str) -> bool:
        return ins.is_ins(Identifier(system=f"urn:oid:1.2.250.1.213.1.4.{root}", value="x"))

    assert [claims(root) for root in ("8", "9", "10", "11")] == [True] * 4
    assert [claims(root) for root in ("2", "13", "1", "80")] == [False] * 4


def test_the_key_of_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match="2A and 2B"):
        ins.key("12345")

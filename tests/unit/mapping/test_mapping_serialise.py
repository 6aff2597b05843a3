"""Decimals keep their text through JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mapping.serialise import DecimalText, dumps, loads

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**53), max_value=2**53)
    | st.text(st.characters(exclude_categories=("Cs",)))
    | st.decimals(allow_nan=False, allow_infinity=False).map(
        lambda number: DecimalText(f"{number:f}")
    ),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner)
    ),
)


def test_a_decimal_is_written_as_it_was() -> None:
    resource = {"value": DecimalText("1.10"), "low": DecimalText("7.0"), "text": "1.10"}
    assert dumps(resource) == b'{"value":1.10,"low":7.0,"text":"1.10"}'
    back = loads(dumps(resource))
    assert isinstance(back["value"], DecimalText)
    assert not isinstance(back["text"], DecimalText)
    assert loads(b"[-0, 0.00, 1E5]") == ["-0", "0.00", "1E5"]


@pytest.mark.parametrize("text", ["1,1", "01", ".5", "5.", "+1", "NaN", "", "1 ", "0x1"])
def test_only_json_numbers_are_decimals(text: str) -> None:
    with pytest.raises(ValueError, match="JSON number"):
        DecimalText(text)


def test_what_is_no_json_is_refused() -> None:
    for text in (b"NaN", b"[Infinity]", b"{", b"01"):
        with pytest.raises(ValueError):
            loads(text)
    with pytest.raises(TypeError):
        dumps({"a": object()})


def test_canonical_form_sorts_keys() -> None:
    assert dumps({"b": 1, "a": 2}, sort_keys=True) == b'{"a":2,"b":1}'


@given(JSON)
def test_writing_after_reading_gives_the_same_bytes(value: object) -> None:
    assert dumps(loads(dumps(value))) == dumps(value)

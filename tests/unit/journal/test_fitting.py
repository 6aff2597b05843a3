"""Text from outside, fitted to a column."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.fitting import fit


@given(st.text(max_size=40))
def test_text_that_fits_is_left_alone(text: str) -> None:
    clean = text.replace("\0", "")
    assert fit(clean, 40) == clean


@given(st.text(st.characters(codec=None), max_size=80), st.integers(20, 60))
def test_the_result_can_be_stored(text: str, limit: int) -> None:
    fitted = fit(text, limit)
    assert len(fitted) <= limit
    assert "\0" not in fitted
    fitted.encode("utf-8")
    assert fit(fitted, limit) == fitted


@given(st.text(min_size=31, max_size=60), st.text(min_size=31, max_size=60))
def test_different_long_texts_stay_different(one: str, other: str) -> None:
    assert (fit(one, 30) == fit(other, 30)) == (one == other)


def test_what_cannot_be_stored_is_said_in_words() -> None:
    assert fit("a\0b", 30) == "a\\x00b"
    assert fit("a\udcffb", 30) == "a\\udcffb"
    assert fit("Éléonore", 30) == "Éléonore"

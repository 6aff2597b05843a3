"""The end of what has a beginning and a length."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7.language import Hl7Language
from gateway.deployment.loading import checked_mappings
from gateway.mapping import Library, packaged_mappings
from gateway.mapping.vocabulary.durations import later
from gateway.mapping.vocabulary.invalid import Invalid
from gateway.model import Format

PARIS = "Europe/Paris"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240306140000 20 MIN", "2024-03-06T14:20:00+01:00"),
        ("202403061400 1.5 h", "2024-03-06T15:30:00+01:00"),
        ("20240306235959-0500 1 s", "2024-03-07T00:00:00-05:00"),
        ("2024-03-06T14:00:00Z 2 d", "2024-03-08T14:00:00+00:00"),
        ("20240306140000 0.5 S", "2024-03-06T14:00:00.500+01:00"),
    ],
)
def test_later(text: str, expected: str) -> None:
    assert later(text, PARIS)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "20240306 20 min", "20240306140000 20", "20240306140000 x min", "20240306140000 1 L",
        "20240306140000 -1 h", "20240306140000 1e9 d", "20240306140000 NaN s",
        "99991231235959 1 d", "",
    ],
)  # fmt: skip
def test_what_is_no_sum(text: str) -> None:
    with pytest.raises(Invalid):
        later(text, PARIS)


@given(st.text(max_size=40))
def test_any_text_is_a_sum_or_invalid(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert later(text, PARIS)[0]


def test_what_the_used_files_ignore_counts_for_the_mapping() -> None:
    library = Library.load(
        [packaged_mappings()], {Format.HL7V2: Hl7Language()}, checked=checked_mappings()
    )
    ignored = {each.path for each in library.program("hl7.siu").ignored}
    assert {"SCH-5", "PV1-20", "XCN.10", "PID-1"} <= ignored, "own, the visit's, a data type's"

"""``each: {beside: …}``: segments of elsewhere, read from a place that stays around them."""

from __future__ import annotations

import pytest

from adapters.hl7.language import Hl7Language
from gateway.ports import PathError
from tests.unit.hl7.reading import each, root, texts

LANGUAGE = Hl7Language()
VERSIONS = ("2.5",)
ORDER = r"""
MSH|^~\&|A|B|C|D|20240101||RDE^O11^RDE_O11|1|P|2.5
ORC|NW|M-1
TQ1|1||BID
TQ1|2||QD
RXO|Y
RXR|PO
RXE||X
TQ1|1||QOD
RXR|IV
ORC|NW|M-2
RXO|Z
RXE||Z
TQ1|1||TID
"""


def ordered() -> list[tuple[str, str]]:
    """Every timing of every RXO, with the route that is read beside it."""
    found = []
    for medicine in each(root(ORDER), segment="RXO")[0]:
        for timing in each(medicine, beside="TIMING/TQ1")[0]:
            found.append((texts(timing, "TQ1-3.1")[0], texts(timing, "RXR-1")[0]))
    return found


def test_the_place_around_stays() -> None:
    """The group of TQ1 would mean the RXR of RXE: from RXO it is the one of RXO."""
    assert ordered() == [("BID", "PO"), ("QD", "PO")]


def test_without_a_group_all_that_the_path_means_are_walked() -> None:
    [medicine, _] = each(root(ORDER), segment="RXO")[0]
    walked = each(medicine, beside="TQ1")[0]
    assert [texts(timing, "TQ1-3.1")[0] for timing in walked] == ["BID", "QD", "QOD"]
    assert [timing.path for timing in walked] == ["TQ1(1)", "TQ1(2)", "TQ1(3)"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("TQ1-3", "is not the name of a segment"),
        ("TIMING/TQ1(2)", "write TIMING/TQ1"),
        ("TIMINGS/TQ1", "no group 'TIMINGS'"),
        ("TIMING/TQ9", "TQ9"),
    ],
)
def test_what_cannot_be_walked_is_told_at_load(spec: str, says: str) -> None:
    within = LANGUAGE.root(VERSIONS)
    with pytest.raises(PathError) as told:
        LANGUAGE.scope({"beside": spec}, versions=VERSIONS, within=within)
    assert says in str(told.value)

"""Drawings: well formed, escaped, inside their frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console import plot

START = datetime(2024, 1, 1, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def parsed(drawing: str) -> ET.Element:
    return ET.fromstring(drawing)


def points(values: list[float]) -> list[plot.Point]:
    return [
        plot.Point(at=START + timedelta(days=place), value=value, label=f"jour {place} : {value}")
        for place, value in enumerate(values)
    ]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_a_trend_stays_in_its_frame(values: list[float]) -> None:
    root = parsed(plot.trend(points(values), low=None, high=10.0, title="x"))
    circle = root.find("circle")
    assert circle is not None
    assert 0 <= float(circle.get("cx", "-1")) <= 140
    assert 0 <= float(circle.get("cy", "-1")) <= 34


def test_one_result_has_no_course() -> None:
    assert plot.trend(points([4.1]), low=3.0, high=5.0, title="x") == ""


def test_texts_are_escaped() -> None:
    hostile = '"><script>alert(1)</script>'
    found = [plot.Point(at=START, value=1.0, label=hostile)]
    drawing = plot.course(
        found, low=None, high=None, ticks=[], days=[(START, hostile)], title=hostile
    )
    assert "<script>" not in drawing
    parsed(drawing)


def test_superseded_values_are_hollow_and_off_the_line() -> None:
    found = [
        plot.Point(at=START, value=1.0, label="a"),
        plot.Point(at=START + timedelta(days=1), value=9.0, label="b", superseded=True),
        plot.Point(at=START + timedelta(days=2), value=2.0, label="c", tone="out"),
    ]
    root = parsed(plot.course(found, low=0.5, high=1.5, ticks=[], days=[], title="x"))
    kinds = [circle.get("class") for circle in root.iter("circle")]
    assert kinds == ["plot-dot", "plot-old", "plot-dot plot-dot-out"]
    line = next(path for path in root.iter("path") if path.get("class") == "plot-line")
    assert line.get("d", "").count("L") == 1


def test_the_label_is_that_of_the_value_in_force() -> None:
    found = [
        plot.Point(at=START, value=6.1, label="d : 6,1"),
        plot.Point(at=START + timedelta(days=1), value=4.7, label="e : 4,7"),
        plot.Point(at=START + timedelta(days=1), value=5.0, label="e : 5,0", superseded=True),
    ]
    root = parsed(plot.course(found, low=None, high=None, ticks=[], days=[], title="x"))
    said = [each.text for each in root.iter("text") if each.get("class") == "plot-label"]
    assert said == ["4,7"]


def test_shares_fill_the_line_and_small_ones_stay_visible() -> None:
    root = parsed(
        plot.proportions([("done", 99_999, "a"), ("dead", 1, "b"), ("held", 0, "c")], "t")
    )
    widths = [float(rect.get("width", "0")) for rect in root.iter("rect")][1:]
    assert len(widths) == 2
    assert sum(widths) == pytest.approx(1000, abs=0.3)
    assert widths[1] >= 5


def test_nothing_to_share_is_an_empty_line() -> None:
    assert len(list(parsed(plot.proportions([("done", 0, "a")], "t")).iter("rect"))) == 1


def test_bars_are_as_many_as_there_are_counts_that_count() -> None:
    root = parsed(plot.spark_bars([0, 3, 0, 6], "t"))
    heights = [float(rect.get("height", "0")) for rect in root.iter("rect")]
    assert heights == [12.0, 24.0]
    assert not list(parsed(plot.spark_bars([], "t")).iter("rect"))


@given(st.floats(-1e5, 1e5), st.floats(0.001, 1e5))
def test_ticks_are_round_few_and_inside(low: float, span: float) -> None:
    ticks = plot.round_ticks(low, low + span)
    assert len(ticks) <= 9
    assert all(low - span * 0.2 <= tick <= low + span * 1.2 for tick in ticks)

"""Small inline SVG drawings, made on the server: no script, no inline style.

Every drawing has a title that says in words what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup, escape

POINTS_MAX = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One result on the plot. ``tone`` is empty, ``out`` (outside its range) or ``critical``."""

    at: datetime
    value: float
    label: str
    tone: str = ""
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def of(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def spark_bars(counts: Sequence[int], title: str) -> Markup:
    """Bars of equal width, one per count, the tallest as high as the drawing (132 by 26)."""
    top = max(counts, default=0)
    slot = 132 / max(len(counts), 1)
    bars = [
        f'<rect class="spark-bar" x="{index * slot:.2f}" y="{25 - 24 * count / top:.2f}" '
        f'width="{max(slot - 0.7, 0.8):.2f}" height="{24 * count / top:.2f}"/>'
        for index, count in enumerate(counts)
        if count
    ]
    return Markup(  # noqa: S704 -- numbers only, and the title is escaped
        f'<svg class="spark" viewBox="0 0 132 26" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
        f'<path class="spark-base" d="M0 25.5h132"/>{"".join(bars)}</svg>'
    )


def proportions(parts: Sequence[tuple[str, int, str]], title: str) -> Markup:
    """One line split by share; ``parts`` are (tone, count, name).

    What is there but small keeps six thousandths, so that it can be seen.
    """
    total = sum(count for _, count, _ in parts)
    shares = [max(1000 * n / total, 6.0) if n else 0.0 for _, n, _ in parts] if total else []
    scale = 1000 / sum(shares) if shares else 1.0
    drawn, x = [], 0.0
    for (tone, count, name), share in zip(parts, shares, strict=False):
        if count:
            drawn.append(
                f'<rect class="tone-{escape(tone)}" x="{x:.1f}" width="{share * scale:.1f}" '
                f'height="10"><title>{escape(name)}: {count}</title></rect>'
            )
            x += share * scale
    return Markup(  # noqa: S704 -- numbers only, and every text is escaped
        f'<svg class="bar-chart" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}"><rect class="tone-empty" width="1000" height="10"/>'
        f"{''.join(drawn)}</svg>"
    )


def _bounds(points: Sequence[Point], low: float | None, high: float | None) -> tuple[float, float]:
    values = [point.value for point in points]
    values += [bound for bound in (low, high) if bound is not None]
    bottom, top = min(values), max(values)
    margin = (top - bottom) * 0.12 or abs(top) * 0.1 or 1.0
    return bottom - margin, top + margin


def _latest(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: point.at)[-POINTS_MAX:]


def _dot(x: float, y: float, point: Point, radius: float) -> str:
    tone = f" plot-dot-{point.tone}" if point.tone in {"out", "critical"} else ""
    kind = "plot-old" if point.superseded else f"plot-dot{tone}"
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
        f"<title>{escape(point.label)}</title></circle>"
    )


def _line(places: Sequence[tuple[float, float]]) -> str:
    if len(places) < 2:
        return ""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="plot-line" d="M{steps}"/>'


def trend(points: Sequence[Point], *, low: float | None, high: float | None, title: str) -> Markup:
    """The course of one analyte in 140 by 34, with its reference range as a band.

    Empty when there are fewer than two results to compare.
    """
    current = _latest([point for point in points if not point.superseded])
    if len(current) < 2:
        return Markup("")
    bottom, top = _bounds(current, low, high)
    across = _Scale(current[0].at.timestamp(), current[-1].at.timestamp(), 5, 135)
    up = _Scale(bottom, top, 31, 3)
    places = [(across.of(p.at.timestamp()), up.of(p.value)) for p in current]
    band = _band(up, low, high, left=0, right=140)
    return Markup(  # noqa: S704 -- numbers only, and every text is escaped
        f'<svg viewBox="0 0 140 34" role="img" aria-label="{escape(title)}">{band}'
        f"{_line(places)}{_dot(*places[-1], current[-1], 2.6)}</svg>"
    )


def _band(up: _Scale, low: float | None, high: float | None, *, left: float, right: float) -> str:
    """The reference range; a bound that is not known reaches to the drawing's edge."""
    if low is None and high is None:
        return ""
    roof = up.of(up.high if high is None else high)
    floor = up.of(up.low if low is None else low)
    return (
        f'<rect class="plot-band" x="{left}" y="{roof:.1f}" width="{right - left}" '
        f'height="{max(floor - roof, 0):.1f}"/>'
    )


def course(
    points: Sequence[Point],
    *,
    low: float | None,
    high: float | None,
    ticks: Sequence[tuple[float, str]],
    days: Sequence[tuple[datetime, str]],
    title: str,
) -> Markup:
    """The large plot of one analyte over time (1000 by 320).

    ``ticks`` are the values that the left axis names, ``days`` the instants that
    the lower axis names. Values that a correction replaced are shown hollow; the label
    is that of the newest value that none replaced.
    """
    shown = _latest(points)
    if not shown:
        return Markup("")
    bottom, top = _bounds(shown, low, high)
    bottom, top = min([bottom, *(t for t, _ in ticks)]), max([top, *(t for t, _ in ticks)])
    across = _Scale(shown[0].at.timestamp(), shown[-1].at.timestamp(), 96, 964)
    up = _Scale(bottom, top, 278, 18)
    parts = [_band(up, low, high, left=64, right=996)]
    for value, label in ticks:
        y = up.of(value)
        parts.append(
            f'<path class="plot-grid" d="M64 {y:.1f}H996"/>'
            f'<text class="plot-axis" x="56" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(label)}</text>"
        )
    parts += [
        f'<text class="plot-axis" x="{across.of(at.timestamp()):.1f}" y="304" '
        f'text-anchor="middle">{escape(label)}</text>'
        for at, label in days
    ]
    places = [(across.of(p.at.timestamp()), up.of(p.value)) for p in shown]
    parts.append(_line([xy for xy, p in zip(places, shown, strict=True) if not p.superseded]))
    parts += [_dot(x, y, p, 4.2) for (x, y), p in zip(places, shown, strict=True)]
    in_force = [(xy, p) for xy, p in zip(places, shown, strict=True) if not p.superseded]
    (x, y), last = in_force[-1] if in_force else (places[-1], shown[-1])
    parts.append(
        f'<text class="plot-label" x="{min(x, 960):.1f}" y="{max(y - 10, 14):.1f}" '
        f'text-anchor="middle">{escape(last.label.split(" : ")[-1])}</text>'
    )
    return Markup(  # noqa: S704 -- numbers only, and every text is escaped
        f'<svg class="plot" viewBox="0 0 1000 320" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round values that span ``low`` to ``high``."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / max(count - 1, 1)
    magnitude = 10.0 ** _floor_log10(raw)
    step = next((m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw), 10 * magnitude)
    first = int(low // step)
    ticks = [round((first + i) * step, 10) for i in range(count + 4)]
    return [tick for tick in ticks if low - step * 0.01 <= tick <= high + step * 0.01]


def _floor_log10(value: float) -> int:
    exponent = 0
    while value >= 10:
        value, exponent = value / 10, exponent + 1
    while value < 1:
        value, exponent = value * 10, exponent - 1
    return exponent

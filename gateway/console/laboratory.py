"""Laboratory results as clinicians read them: by panel and analyte, newest first, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from markupsafe import Markup

from gateway.console import clinical, plot
from gateway.console.clinical import Json, items, text
from gateway.console.typography import decimal, french_date, french_decimal, instant_of

PREVIOUS = 3
OTHER = "Autres résultats"

_FLAGS = {
    "HH": ("HH", "valeur critique, au-dessus de la référence", "critical"),
    "LL": ("LL", "valeur critique, au-dessous de la référence", "critical"),
    "AA": ("!!", "valeur critique", "critical"),
    "H": ("H", "au-dessus de la valeur de référence", "high"),
    "HU": ("H", "nettement au-dessus de la valeur de référence", "high"),
    "L": ("L", "au-dessous de la valeur de référence", "low"),
    "LU": ("L", "nettement au-dessous de la valeur de référence", "low"),
    "A": ("!", "anormal", "abnormal"),
    ">": (">", "au-delà de la plage de mesure", "abnormal"),
    "<": ("<", "en deçà de la plage de mesure", "abnormal"),
    "POS": ("+", "positif", "abnormal"),
    "R": ("R", "résistant", "abnormal"),
}
"""Codes of the R4 value set of interpretations (HL7 v3 ObservationInterpretation) that a reader
must notice: what is shown, its meaning, its tone."""
_GRAVITY = ("critical", "high", "low", "abnormal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One version of one Observation; ``current`` is False for one that a later one replaced."""

    reference: str
    version: int
    resource: Json
    current: bool = True
    corrected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One result as the table shows it. ``at`` places it in time; ``number`` on the plot."""

    reference: str
    version: int
    value: str
    unit: str
    range: str
    flag: str
    flag_text: str
    tone: str
    date: str
    day: str
    status: str
    corrected: bool
    current: bool
    at: datetime | None
    number: float | None
    low: float | None
    high: float | None
    sort_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyte:
    """One analyte: its newest result, those before, and its course as a small drawing."""

    key: str
    name: str
    code: str
    latest: Line
    previous: tuple[Line, ...]
    trend: Markup
    lines: tuple[Line, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Panel:
    """The analytes of one kind of report, in the order of the newest report."""

    title: str
    analytes: tuple[Analyte, ...]


def panels(results: Sequence[Result], reports: Sequence[Json]) -> list[Panel]:
    """Group results by analyte, and analytes by the newest report that names one of them.

    ``reports`` are DiagnosticReports, newest first; what no report names comes last.
    """
    found_by = by_analyte(results)
    home: dict[str, str] = {}
    keys_of: dict[str, list[str]] = {}
    for key, found in found_by.items():
        for result in found:
            keys_of.setdefault(result.reference, []).append(key)
    order: list[str] = []
    for report in reports:
        title = clinical.concept(report.get("code")) or OTHER
        for item in items(report.get("result")):
            for key in keys_of.get(text(item.get("reference")), []):
                if key not in home:
                    home[key] = title
                    order.append(key)
    order += [key for key in found_by if key not in home]
    grouped: dict[str, list[Analyte]] = {}
    for key in order:
        grouped.setdefault(home.get(key, OTHER), []).append(analyte(key, found_by[key]))
    return [Panel(title, tuple(found)) for title, found in grouped.items()]


def by_analyte(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by the key of what they measure; a component counts as a result of its own."""
    found: dict[str, list[Result]] = {}
    for result in results:
        for key, each in _with_components(result):
            found.setdefault(key, []).append(each)
    return found


def _with_components(result: Result) -> list[tuple[str, Result]]:
    """The result itself, and each of its components as a result of its own name."""
    resource = result.resource
    own = clinical.concept_key(resource.get("code"))
    found = [(own, result)] if clinical.value_text(resource) else []
    for component in items(resource.get("component")):
        key = clinical.concept_key(component.get("code"))
        merged = {**component, **{n: resource[n] for n in ("status", *_TIMES) if n in resource}}
        found.append(
            (
                f"{own}>{key}",
                Result(
                    reference=result.reference, version=result.version, resource=merged,
                    current=result.current, corrected=result.corrected,
                ),
            )
        )  # fmt: skip
    return found


_TIMES = ("effectiveDateTime", "effectivePeriod", "effectiveInstant", "issued")


def analyte(key: str, results: Sequence[Result]) -> Analyte:
    """One analyte from its results in any order. ``results`` is not empty."""
    ordered = sorted((line(each) for each in results), key=lambda one: one.sort_key, reverse=True)
    current = [each for each in ordered if each.current]
    latest = current[0] if current else ordered[0]
    newest = next(each for each in results if each.reference == latest.reference)
    code = newest.resource.get("code")
    name = clinical.concept(code) or "Sans nom"
    previous = [each for each in current if each is not latest]
    return Analyte(
        key=key,
        name=name,
        code=clinical.code_label(code),
        latest=latest,
        previous=tuple(previous[:PREVIOUS]),
        trend=_trend(name, current, latest),
        lines=tuple(ordered),
    )


def line(result: Result) -> Line:
    """One result in words and numbers."""
    resource = result.resource
    flag, flag_text, tone = interpretation(resource)
    when = clinical.when(resource)
    measured = resource.get("valueQuantity")
    low, high = bounds(resource)
    exact = decimal(measured.get("value")) if isinstance(measured, Mapping) else None
    return Line(
        reference=result.reference,
        version=result.version,
        value=clinical.value_text(resource, with_unit=False) or "–",
        unit=clinical.unit(measured) if isinstance(measured, Mapping) else "",
        range=clinical.reference_range(resource),
        flag=flag,
        flag_text=flag_text,
        tone=tone,
        date=french_date(when, short=True) if when else "sans date",
        day=french_date(when[:10], short=True) if when else "sans date",
        status=clinical.status(resource),
        corrected=result.corrected,
        current=result.current,
        at=instant_of(when) if when else None,
        number=float(exact) if exact is not None else None,
        low=low,
        high=high,
        sort_key=_sort_key(when, result),
    )


def _sort_key(when: str, result: Result) -> str:
    at = instant_of(when)
    return f"{at.timestamp() if at else 0:020.3f} {result.version:06d}"


def interpretation(resource: Json) -> tuple[str, str, str]:
    """Flag, meaning and tone of the gravest interpretation; empty texts for a normal one."""
    found = []
    for each in items(resource.get("interpretation")):
        for coding in items(each.get("coding")):
            known = _FLAGS.get(text(coding.get("code")))
            if known:
                found.append(known)
    found.sort(key=lambda known: _GRAVITY.index(known[2]))
    return found[0] if found else ("", "", "")


def bounds(resource: Json) -> tuple[float | None, float | None]:
    """The first reference range's bounds, where it has some."""
    for each in items(resource.get("referenceRange")):
        ends = []
        for name in ("low", "high"):
            bound = each.get(name)
            exact = decimal(bound.get("value")) if isinstance(bound, Mapping) else None
            ends.append(float(exact) if exact is not None else None)
        if ends != [None, None]:
            return ends[0], ends[1]
    return None, None


def _points(lines: Sequence[Line], unit: str) -> list[plot.Point]:
    """Points with the unit of the newest result: other units do not go on the same axis."""
    return [
        plot.Point(
            at=each.at,
            value=each.number,
            label=f"{each.date} : {each.value} {each.unit}".strip(),
            tone={"critical": "critical", "": ""}.get(each.tone, "out"),
            superseded=not each.current,
        )
        for each in lines
        if each.at is not None and each.number is not None and each.unit == unit
    ]


def _trend(name: str, current: Sequence[Line], latest: Line) -> Markup:
    found = _points(current, latest.unit)
    title = f"{name} : {len(found)} résultats, dernier {latest.value} {latest.unit}".strip()
    return plot.trend(found, low=latest.low, high=latest.high, title=title)


def course(found: Analyte) -> Markup:
    """The large plot of an analyte; empty when nothing of it is a number at a time."""
    points = _points(found.lines, found.latest.unit)
    if not points:
        return Markup("")
    values = [each.value for each in points]
    ends = [b for b in (found.latest.low, found.latest.high) if b is not None]
    ticks = [
        (tick, french_decimal(f"{tick:.10g}"))
        for tick in plot.round_ticks(min(values + ends), max(values + ends))
    ]
    moments = sorted({each.at for each in points})
    shown = _spread(moments)
    days = [(at, french_date(at.date().isoformat(), short=True)) for at in shown]
    title = f"{found.name} : {len(points)} résultats"
    return plot.course(
        points, low=found.latest.low, high=found.latest.high, ticks=ticks, days=days, title=title
    )


def _spread(moments: Sequence[datetime]) -> list[datetime]:
    """The moments that the time axis names: the first, the last, and some in between that
    stand at least a seventh of the axis apart."""
    if not moments:
        return []
    whole = (moments[-1] - moments[0]) / 7
    shown = [moments[0]]
    for at in moments[1:-1]:
        if at - shown[-1] >= whole and moments[-1] - at >= whole:
            shown.append(at)
    return [*shown, moments[-1]] if len(moments) > 1 else shown

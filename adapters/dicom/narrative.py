"""A structured report as a page that a person can read: HTML in UTF-8, no script, no links.

The same report gives the same bytes. Everything that the content tree says stands in it;
of regions drawn on images only that there is one, because the drawing needs the image.
Labels are in French where the report says that it is French, else in English.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from html import escape

from adapters.dicom.content import CONCEPT_CODE, CONCEPT_NAME, ContentItem
from adapters.dicom.dataset import Level
from adapters.dicom.dictionary import uid_name
from adapters.dicom.paths import parse
from adapters.dicom.reading import READING_FAULTS, read
from adapters.dicom.values import Absent, Report
from gateway.ports import Value, ValueState

NARRATIVE_CHARACTERS_MAX = 16 << 20
"""More than this is cut, and the page says so."""

HEADINGS_MAX = 6

_LANGUAGE = "*[concept=DCM:121049].ConceptCodeSequence(1).CodeValue"

_CODE_MEANING = parse("CodeMeaning").steps
_CODE_VALUE = parse("CodeValue").steps

_FRENCH = {
    "Patient": "Patient", "PatientID": "Identifiant", "PatientBirthDate": "Naissance",
    "PatientSex": "Sexe", "StudyDate": "Examen du", "StudyDescription": "Examen",
    "AccessionNumber": "Numéro de demande", "InstitutionName": "Établissement",
    "ContentDate": "Compte rendu du", "CompletionFlag": "État", "VerificationFlag": "Validation",
    "verified": "Validé par", "region": "zone marquée sur l'image", "cut": "Suite non affichée.",
    "nothing": "sans valeur",
}  # fmt: skip
_ENGLISH = {
    "Patient": "Patient", "PatientID": "Identifier", "PatientBirthDate": "Born",
    "PatientSex": "Sex", "StudyDate": "Study of", "StudyDescription": "Study",
    "AccessionNumber": "Accession number", "InstitutionName": "Institution",
    "ContentDate": "Report of", "CompletionFlag": "State", "VerificationFlag": "Verification",
    "verified": "Verified by", "region": "region marked on the image",
    "cut": "The rest is not shown.", "nothing": "no value",
}  # fmt: skip
_HEADER = (
    "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyDescription",
    "AccessionNumber", "InstitutionName", "ContentDate", "CompletionFlag", "VerificationFlag",
)  # fmt: skip
_DATES = frozenset({"PatientBirthDate", "StudyDate", "ContentDate"})
_REGIONS = frozenset({"SCOORD", "SCOORD3D", "TCOORD"})
_REFERENCES = frozenset({"IMAGE", "COMPOSITE", "WAVEFORM"})

_STYLE = (
    "body{font-family:sans-serif;margin:1.5em;max-width:60em}"
    "h1{font-size:1.4em}h2,h3,h4,h5,h6{font-size:1.1em;margin:.8em 0 .2em}"
    "table{border-collapse:collapse}th{text-align:left;padding-right:1em;font-weight:normal;color:#555}"
    "ul{margin:.2em 0;padding-left:1.5em}.concept{color:#555}.text{white-space:pre-wrap}"
)


@dataclass(frozen=True, slots=True)
class Narrative:
    """The page as a value without a text: its bytes are made when they are asked for."""

    path: str
    make: Callable[[], bytes]
    datatype: str = "text/html"

    @property
    def state(self) -> ValueState:
        return ValueState.PRESENT

    @property
    def text(self) -> str:
        return ""

    def part(self, path: str) -> Value:
        return Absent(f"{self.path}.{path}")

    def parts(self, path: str) -> tuple[Value, ...]:  # noqa: ARG002
        return ()

    def raw(self) -> bytes:
        return self.make()


def narrative(item: ContentItem) -> Narrative:
    """The page of a report, from any of its content items; made once."""
    return Narrative(f"{item.root.prefix}narrative()", partial(_rendered, item.root))


def _rendered(root: ContentItem) -> bytes:
    if root.page is None:
        root.page = render(root)
    return root.page


def render(root: ContentItem) -> bytes:
    """The whole page. At most :data:`NARRATIVE_CHARACTERS_MAX` characters of content."""
    language = root.part(_LANGUAGE).text.lower()
    labels = _FRENCH if language.startswith("fr") else _ENGLISH
    title = _concept(root) or root.part("SeriesDescription").text or "SR"
    pieces = [
        "<!DOCTYPE html>\n"
        f'<html lang="{escape(language) or "en"}"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *_header(root, labels),
    ]
    left = NARRATIVE_CHARACTERS_MAX
    for piece in _children(root, 2, labels):
        left -= len(piece)
        if left < 0:
            pieces.append(f"<p><strong>{labels['cut']}</strong></p>")
            break
        pieces.append(piece)
    pieces.append("</body></html>\n")
    return "".join(pieces).encode()


def _header(root: ContentItem, labels: dict[str, str]) -> Iterator[str]:
    yield "<table>"
    name = _person(root.part("PatientName"))
    if name:
        yield _row(labels["Patient"], name)
    for keyword in _HEADER:
        text = root.part(keyword).text
        if text:
            yield _row(labels[keyword], _date(text) if keyword in _DATES else text)
    for observer in root.parts("VerifyingObserverSequence"):
        parts = (
            _person(observer.part("VerifyingObserverName")),
            observer.part("VerifyingOrganization").text,
            _date(observer.part("VerificationDateTime").text),
        )
        yield _row(labels["verified"], ", ".join(part for part in parts if part))
    yield "</table>"


def _row(label: str, text: str) -> str:
    return f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>"


def _children(item: ContentItem, heading: int, labels: dict[str, str]) -> Iterator[str]:
    """What stands below an item: containers as sections, the rest as lists."""
    listing = False
    for child in item.children:
        section = child.value_type == "CONTAINER"
        if listing and section:
            yield "</ul>"
        if not listing and not section:
            yield "<ul>"
        listing = not section
        if section:
            level = min(heading, HEADINGS_MAX)
            name = _concept(child)
            yield f"<section>{f'<h{level}>{escape(name)}</h{level}>' if name else ''}"
            yield from _children(child, heading + 1, labels)
            yield "</section>"
        else:
            yield f"<li>{_line(child, labels)}"
            if child.children:
                yield from _children(child, heading + 1, labels)
            yield "</li>"
    if listing:
        yield "</ul>"


def _line(item: ContentItem, labels: dict[str, str]) -> str:
    name = _concept(item)
    label = f'<span class="concept">{escape(name)}:</span> ' if name else ""
    value = _value(item, labels)
    if not value:
        return f"{label}<em>{escape(labels['nothing'])}</em>"
    css = "text" if item.value_type == "TEXT" else "value"
    return f'{label}<span class="{css}">{escape(value)}</span>'


def _value(item: ContentItem, labels: dict[str, str]) -> str:
    kind = item.value_type
    if kind == "NUM":
        return _number(item)
    if kind == "CODE":
        return _meaning(item.level, CONCEPT_CODE, item.report)
    if kind == "PNAME":
        return _person(item.part("PersonName"))
    if kind in ("DATE", "DATETIME", "TIME"):
        return _date(item.text) if kind != "TIME" else _time(item.text)
    if kind in _REGIONS:
        return f"{labels['region']} ({item.text})"
    if kind in _REFERENCES:
        return _reference(item)
    return item.text


def _number(item: ContentItem) -> str:
    unit = item.part("MeasuredValueSequence(1).MeasurementUnitsCodeSequence(1)")
    written = unit.part("CodeValue").text
    meaning = unit.part("CodeMeaning").text
    if written == "1" or written.startswith("{"):  # UCUM: no unit, or an annotation
        written = "" if written == "1" else meaning
    qualifier = item.part("NumericValueQualifierCodeSequence(1).CodeMeaning").text
    return " ".join(part for part in (item.text, written or "", qualifier) if part)


def _reference(item: ContentItem) -> str:
    reference = item.part("ReferencedSOPSequence(1)")
    kind = reference.part("ReferencedSOPClassUID").text
    name = uid_name(kind) if kind else ""
    frames = ", ".join(value.text for value in reference.parts("ReferencedFrameNumber"))
    shown = f"{name} {item.text}".strip()
    return f"{shown} [{frames}]" if frames else shown


def _concept(item: ContentItem) -> str:
    return _meaning(item.level, CONCEPT_NAME, item.report)


def _meaning(level: Level, tag: int, report: Report) -> str:
    """The meaning of a code, else the code. A report says few codes, and those many times."""
    try:
        found = level.items(tag)
        if not found:
            return ""
        values = read(found[0], _CODE_MEANING, "", report) or read(
            found[0], _CODE_VALUE, "", report
        )
    except READING_FAULTS:
        return ""
    return values[0].text if values else ""


def _person(name: Value) -> str:
    components = ("NamePrefix", "GivenName", "MiddleName", "FamilyName", "NameSuffix")
    return " ".join(text for part in components if (text := name.part(part).text))


def _date(text: str) -> str:
    """``20260301101530`` as ``2026-03-01 10:15:30``; anything else as it stands."""
    day, clock = text[:8], text[8:14]
    if len(day) < 8 or not day.isdecimal():
        return text
    shown = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return f"{shown} {_time(clock)}" if clock.isdecimal() else shown


def _time(text: str) -> str:
    digits = text[:6]
    if not digits.isdecimal() or len(digits) % 2:
        return text
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))

"""FHIR R4 resources in words: one line for each, in French typography, without inventing anything.

Each function takes a resource or an element as a plain dict and gives an empty text when
the element is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.console.typography import NO_BREAK, french_date, french_decimal

Json = Mapping[str, Any]

LOINC = "http://loinc.org"
CODE_SYSTEMS = {
    LOINC: "LOINC",
    "http://snomed.info/sct": "SNOMED CT",
    "http://unitsofmeasure.org": "UCUM",
}
SEXES = {"female": "Féminin", "male": "Masculin", "other": "Autre", "unknown": "Inconnu"}
STATUSES = {
    "registered": "enregistré", "partial": "partiel", "preliminary": "préliminaire",
    "amended": "modifié", "corrected": "corrigé", "appended": "complété", "cancelled": "annulé",
    "entered-in-error": "saisi par erreur", "unknown": "statut inconnu",
    "superseded": "remplacé",
}  # fmt: skip
"""Statuses that a reader must see; ``final`` and ``current`` go without saying."""


def items(value: Any) -> list[Json]:
    """The objects of a list element; nothing of anything else."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def text(value: Any) -> str:
    """A primitive as text."""
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


def concept(value: Any) -> str:
    """What a CodeableConcept says: its text, a display, or a bare code."""
    if not isinstance(value, Mapping):
        return ""
    codings = items(value.get("coding"))
    displays = [text(each.get("display")) for each in codings]
    codes = [text(each.get("code")) for each in codings]
    return next((each for each in (text(value.get("text")), *displays, *codes) if each), "")


def code_label(value: Any) -> str:
    """The code of a CodeableConcept with its system's name, LOINC first: ``LOINC 718-7``."""
    if not isinstance(value, Mapping):
        return ""
    codings = [each for each in items(value.get("coding")) if each.get("code")]
    codings.sort(key=lambda each: each.get("system") != LOINC)
    if not codings:
        return ""
    system = text(codings[0].get("system"))
    return f"{CODE_SYSTEMS.get(system, '')} {text(codings[0]['code'])}".strip()


def concept_key(value: Any) -> str:
    """What makes two results the same analyte: ``system|code`` (LOINC first), else the text."""
    if not isinstance(value, Mapping):
        return ""
    codings = [each for each in items(value.get("coding")) if each.get("code")]
    codings.sort(key=lambda each: (each.get("system") != LOINC, text(each.get("system"))))
    if codings:
        return f"{text(codings[0].get('system'))}|{text(codings[0]['code'])}"
    return f"text|{text(value.get('text')).casefold()}"


def human_name(name: Json) -> tuple[str, str]:
    """Family name in capitals and given names as they are written."""
    given = name.get("given")
    names = " ".join(str(each) for each in given) if isinstance(given, list) else ""
    family = text(name.get("family")).upper()
    return (family, names) if family or names else (text(name.get("text")), "")


def person(value: Json) -> str:
    """The first name of a Practitioner, Patient or RelatedPerson, prefix first."""
    for name in items(value.get("name")):
        family, given = human_name(name)
        prefix = name.get("prefix")
        parts = [str(prefix[0]) if isinstance(prefix, list) and prefix else "", given, family]
        return " ".join(part for part in parts if part)
    return text(value.get("name"))


def unit(value: Json) -> str:
    """The unit of a Quantity as a person reads it."""
    return text(value.get("unit")) or text(value.get("code"))


def quantity(value: Any, *, with_unit: bool = True) -> str:
    """A Quantity with its comparator: ``< 0,10 mg/L``."""
    if not isinstance(value, Mapping) or value.get("value") is None:
        return ""
    comparator = {"<=": "≤", ">=": "≥"}.get(text(value.get("comparator"))) or text(
        value.get("comparator")
    )
    number = french_decimal(text(value["value"]))
    written = f"{comparator}{NO_BREAK}{number}" if comparator else number
    return f"{written}{NO_BREAK}{unit(value)}" if with_unit and unit(value) else written


def value_text(observation: Json, *, with_unit: bool = True) -> str:
    """The value of an Observation or one of its components, whatever its type."""
    if "valueQuantity" in observation:
        return quantity(observation["valueQuantity"], with_unit=with_unit)
    if "valueCodeableConcept" in observation:
        return concept(observation["valueCodeableConcept"])
    for name in ("valueString", "valueInteger", "valueTime"):
        if name in observation:
            return text(observation[name])
    if "valueBoolean" in observation:
        return "oui" if observation["valueBoolean"] is True else "non"
    if "valueDateTime" in observation:
        return french_date(text(observation["valueDateTime"]))
    return _span_text(observation) or concept(observation.get("dataAbsentReason"))


def _span_text(observation: Json) -> str:
    ratio, span = observation.get("valueRatio"), observation.get("valueRange")
    if isinstance(ratio, Mapping):
        parts = [quantity(ratio.get(each)) for each in ("numerator", "denominator")]
        return ":".join(parts) if all(parts) else ""
    if isinstance(span, Mapping):
        return _between(span)
    return ""


def _between(span: Json) -> str:
    low = quantity(span.get("low"), with_unit=False)
    high = quantity(span.get("high"), with_unit=False)
    if low and high:
        return f"{low} – {high}"
    return f"≥{NO_BREAK}{low}" if low else (f"≤{NO_BREAK}{high}" if high else "")


def reference_range(observation: Json) -> str:
    """The reference ranges as written by the laboratory, else from their bounds."""
    written: list[str] = []
    for each in items(observation.get("referenceRange")):
        between = _between(each)
        said = between or text(each.get("text"))
        if said:
            kind = concept(each.get("type"))
            written.append(f"{said} ({kind})" if kind and written else said)
    return " ; ".join(written[:3])


def when(resource: Json) -> str:
    """The date that counts for a person, as FHIR text: of the observation, not of the sending."""
    for name in ("effectiveDateTime", "effectiveInstant", "started", "date", "occurrenceDateTime",
                 "recordedDate", "issued", "authoredOn", "dateTime"):  # fmt: skip
        if isinstance(resource.get(name), str):
            return str(resource[name])
    for name in ("effectivePeriod", "period", "occurrencePeriod"):
        period = resource.get(name)
        if isinstance(period, Mapping):
            return text(period.get("start")) or text(period.get("end"))
    return ""


def status(resource: Json) -> str:
    """A status that a reader must see, in French; empty for the ordinary ones."""
    return STATUSES.get(text(resource.get("status")), "")


def says(resource: Json, *, identity: bool = True) -> str:
    """One line on what a resource says.

    ``identity`` False leaves out the traits of a patient and every value, for pages that
    show no data of patients: only codes, types and statuses stay.
    """
    kind = text(resource.get("resourceType"))
    if kind == "Patient":
        return _patient_line(resource) if identity else _subject_line(resource)
    what = concept(resource.get("code")) or concept(resource.get("type"))
    if not what and isinstance(resource.get("type"), list):
        what = next((concept(each) for each in items(resource["type"])), "")
    if not identity:
        return ", ".join(p for p in (what, text(resource.get("status")), _members(resource)) if p)
    value = value_text(resource) if kind == "Observation" else ""
    named = (
        text(resource.get("description")) if kind in {"DocumentReference", "ImagingStudy"} else ""
    )
    if kind in {"Practitioner", "RelatedPerson", "Organization", "Location", "Device"}:
        named = person(resource)
    date = when(resource)
    parts = (what, named if named != what else "", value, french_date(date) if date else "",
             status(resource))  # fmt: skip
    return ", ".join(part for part in parts if part)


def _patient_line(resource: Json) -> str:
    names = items(resource.get("name"))
    family, given = human_name(names[0]) if names else ("", "")
    birth = text(resource.get("birthDate"))
    return " ".join(p for p in (family, given, french_date(birth) if birth else "") if p)


def _subject_line(resource: Json) -> str:
    linked = any(text(each.get("type")) == "replaced-by" for each in items(resource.get("link")))
    return "merged into another patient" if linked else "the patient of the message"


def _members(resource: Json) -> str:
    for name, noun in (("result", "result"), ("series", "series")):
        count = len(resource[name]) if isinstance(resource.get(name), list) else 0
        if count:
            return f"{count} {noun}{'s' if count > 1 and noun != 'series' else ''}"
    return ""


def first(values: Iterable[str]) -> str:
    """The first text that is not empty."""
    return next((each for each in values if each), "")

"""Invariants of FHIR R4 that this gateway's entries can break, by their official keys.

Each takes an element whose structure is already right and says whether the rule
holds. The wording is that of the R4 definitions. Rules of severity *warning* and
rules of resources that carry definitions rather than care are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

Json = Mapping[str, Any]
Holds = Callable[[Json], bool]

_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_UCUM = "http://unitsofmeasure.org"


def _any(value: Json, *names: str) -> bool:
    for name in names:  # noqa: SIM110 - by a third quicker, and every quantity comes by here
        if name in value or f"_{name}" in value:
            return True
    return False


def _choice(value: Json, base: str) -> bool:
    """Whether a choice element is present in any type."""
    for name in value:  # noqa: SIM110 - as in _any
        if name.startswith(base) and name[len(base) :][:1].isupper():
            return True
    return False


def _codings(concept: Json | None) -> set[tuple[str, str]]:
    codings = (concept or {}).get("coding", ())
    return {(coding.get("system", ""), coding.get("code", "")) for coding in codings}


def _not_after(earlier: str, later: str) -> bool:
    """Whether two FHIR instants are in order, as far as their precision tells.

    FHIRPath compares what both say; where the answer is open, the rule holds.
    """
    if len(earlier) > 10 and len(later) > 10:
        return _instant(earlier) <= _instant(later)
    shorter = min(len(earlier), len(later), 10)
    if len(earlier) > 10 or len(later) > 10:
        return True if shorter == 10 else earlier[:shorter] <= later[:shorter]
    return earlier[:shorter] <= later[:shorter]


def _instant(text: str) -> datetime:
    head, _, rest = text.partition(".")
    if rest:  # fractions beyond microseconds do not decide an order that matters here
        digits = rest.rstrip("Z").partition("+")[0].partition("-")[0]
        head = f"{head}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"
    return datetime.fromisoformat(head.replace(":60", ":59").replace("Z", "+00:00"))


def _ordered(value: Json, earlier: str, later: str) -> bool:
    first, last = value.get(earlier), value.get(later)
    return first is None or last is None or _not_after(first, last)


def _range(value: Json) -> bool:
    low, high = value.get("low"), value.get("high")
    if low is None or high is None or "value" not in low or "value" not in high:
        return True
    units = [(side.get("system"), side.get("code"), side.get("unit")) for side in (low, high)]
    return units[0] != units[1] or Decimal(low["value"]) <= Decimal(high["value"])


def _ratio(value: Json) -> bool:
    both = ("numerator" in value) == ("denominator" in value)
    return both and ("numerator" in value or "extension" in value)


def _extension(value: Json) -> bool:
    return ("extension" in value) != (_choice(value, "value") or _choice(value, "_value"))


def _age(value: Json) -> bool:
    if "value" in value and ("code" not in value or Decimal(value["value"]) <= 0):
        return False
    return bool(value.get("system", _UCUM) == _UCUM)


def _duration(value: Json) -> bool:
    return "code" not in value or (value.get("system") == _UCUM and "value" in value)


def _observation_value(value: Json) -> bool:
    """obs-7: a component with the observation's own code replaces its value."""
    if not _choice(value, "value"):
        return True
    own = _codings(value.get("code"))
    return all(own.isdisjoint(_codings(part.get("code"))) for part in value.get("component", ()))


def _wrong_record(value: Json, system: str) -> bool:
    return (system, "entered-in-error") in _codings(value.get("verificationStatus"))


def _abated(value: Json) -> bool:
    if not _choice(value, "abatement"):
        return True
    ended = {(_CLINICAL, code) for code in ("resolved", "remission", "inactive")}
    return not ended.isdisjoint(_codings(value.get("clinicalStatus")))


def _at_home(value: Json, name: str) -> bool:
    return any(item.get("use") == "home" for item in value.get(name, ()))


def _times(value: Json) -> bool:
    """app-2 and app-3: both ends or none, and both unless it is not agreed yet."""
    if _any(value, "start") != _any(value, "end"):
        return False
    return _any(value, "start") or value.get("status") in ("proposed", "cancelled", "waitlist")


INVARIANTS: Mapping[str, tuple[tuple[str, str, Holds], ...]] = {
    "Extension": (("ext-1", "has either extensions or a value, not both", _extension),),
    "Attachment": (
        (
            "att-1",
            "data needs a contentType",
            lambda v: not _any(v, "data") or _any(v, "contentType"),
        ),
    ),
    "ContactPoint": (
        ("cpt-2", "a value needs a system", lambda v: not _any(v, "value") or _any(v, "system")),
    ),
    "Period": (("per-1", "the start is not after the end", lambda v: _ordered(v, "start", "end")),),
    "Quantity": (
        ("qty-3", "a code needs a system", lambda v: not _any(v, "code") or _any(v, "system")),
    ),
    "Age": (("age-1", "is positive, with a UCUM code", _age),),
    "Duration": (("drt-1", "a code is of UCUM and has a value", _duration),),
    "Range": (("rng-2", "low is not above high", _range),),
    "Ratio": (("rat-1", "has both numerator and denominator, or an extension", _ratio),),
    "Timing.repeat": (
        ("tim-1", "a duration has a unit", lambda v: "duration" not in v or "durationUnit" in v),
        ("tim-2", "a period has a unit", lambda v: "period" not in v or "periodUnit" in v),
        ("tim-6", "periodMax needs a period", lambda v: "periodMax" not in v or "period" in v),
        (
            "tim-7",
            "durationMax needs a duration",
            lambda v: "durationMax" not in v or "duration" in v,
        ),
        ("tim-8", "countMax needs a count", lambda v: "countMax" not in v or "count" in v),
        (
            "tim-10",
            "timeOfDay or when, not both",
            lambda v: "timeOfDay" not in v or "when" not in v,
        ),
    ),
    "Observation": (
        (
            "obs-6",
            "dataAbsentReason stands only without a value",
            lambda v: "dataAbsentReason" not in v or not _choice(v, "value"),
        ),
        ("obs-7", "no value beside a component of the same code", _observation_value),
    ),
    "Observation.referenceRange": (
        ("obs-3", "has low, high or text", lambda v: _any(v, "low", "high", "text")),
    ),
    "AllergyIntolerance": (
        (
            "ait-1",
            "has a clinicalStatus unless entered in error",
            lambda v: _wrong_record(v, _ALLERGY) or "clinicalStatus" in v,
        ),
        (
            "ait-2",
            "has no clinicalStatus when entered in error",
            lambda v: not _wrong_record(v, _ALLERGY) or "clinicalStatus" not in v,
        ),
    ),
    "Condition": (
        ("con-4", "what abated is inactive, resolved or in remission", _abated),
        (
            "con-5",
            "has no clinicalStatus when entered in error",
            lambda v: not _wrong_record(v, _CONDITION) or "clinicalStatus" not in v,
        ),
    ),
    "Condition.stage": (
        ("con-1", "has a summary or an assessment", lambda v: _any(v, "summary", "assessment")),
    ),
    "Condition.evidence": (
        ("con-2", "has a code or a detail", lambda v: _any(v, "code", "detail")),
    ),
    "Consent": (
        ("ppc-1", "has a policy or a policyRule", lambda v: _any(v, "policy", "policyRule")),
    ),
    "Organization": (
        ("org-1", "has an identifier or a name", lambda v: _any(v, "identifier", "name")),
        ("org-2", "an address is never a home", lambda v: not _at_home(v, "address")),
        ("org-3", "a telecom is never of a home", lambda v: not _at_home(v, "telecom")),
    ),
    "Patient.contact": (
        (
            "pat-1",
            "has a name, telecom, address or organization",
            lambda v: _any(v, "name", "telecom", "address", "organization"),
        ),
    ),
    "Appointment": (
        ("app-2", "has both start and end, or neither while not agreed (app-3)", _times),
        (
            "app-4",
            "a reason of cancellation only when cancelled or missed",
            lambda v: "cancelationReason" not in v or v.get("status") in ("no-show", "cancelled"),
        ),
    ),
    "Appointment.participant": (
        ("app-1", "has a type or an actor", lambda v: _any(v, "type", "actor")),
    ),
    "Composition.section": (
        ("cmp-1", "has text, entries or sections", lambda v: _any(v, "text", "entry", "section")),
        (
            "cmp-2",
            "emptyReason only without entries",
            lambda v: "emptyReason" not in v or "entry" not in v,
        ),
    ),
    "Immunization.education": (
        (
            "imm-1",
            "has a documentType or a reference",
            lambda v: _any(v, "documentType", "reference"),
        ),
    ),
    "MedicationDispense": (
        (
            "mdd-1",
            "not handed over before it was prepared",
            lambda v: _ordered(v, "whenPrepared", "whenHandedOver"),
        ),
    ),
    "ServiceRequest": (
        ("prr-1", "orderDetail needs a code", lambda v: "orderDetail" not in v or "code" in v),
    ),
}
"""Per location in the definitions: key, what holds, and the rule."""

"""Invariants of FHIR R4 that this gateway's entries can break, by their official keys.

Each takes an element whose structure is already right and says whether the rule
holds; ``constraints`` has the forms. The wording is that of the R4 definitions.
``docs/r4-checker.md`` says which are not here: those of severity *warning*, those of
resources that carry definitions rather than care, and those that need another resource.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.mapping.r4.constraints import Counts, Excludes, Invariant, Needs, Rule
from gateway.mapping.r4.ordering import Json, chosen, codings, number, ordered, there

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_ALLERGY = f"{_TERMINOLOGY}allergyintolerance-verification"
_CONDITION = f"{_TERMINOLOGY}condition-ver-status"
_CLINICAL = f"{_TERMINOLOGY}condition-clinical"
_UCUM = "http://unitsofmeasure.org"


# --- datatypes -------------------------------------------------------------------------


def _range(value: Json) -> bool:
    low, high = value["low"], value.get("high")
    if high is None or "value" not in low or "value" not in high:
        return True
    units = [(side.get("system"), side.get("code"), side.get("unit")) for side in (low, high)]
    least, most = number(low["value"]), number(high["value"])
    return units[0] != units[1] or least is None or most is None or least <= most


def _ratio(value: Json) -> bool:
    both = ("numerator" in value) == ("denominator" in value)
    return both and ("numerator" in value or "extension" in value)


def _extension(value: Json) -> bool:
    return ("extension" in value) != chosen(value, "value")


def _measured(value: Json) -> bool:
    """The common part of age-1, cnt-3 and dis-1: a value has a code, of UCUM."""
    return ("code" in value or "value" not in value) and value.get("system", _UCUM) == _UCUM


def _positive(value: Json) -> bool:
    amount = number(value["value"]) if "value" in value else None
    return _measured(value) and (amount is None or amount > 0)


def _count(value: Json) -> bool:
    whole = "." not in str(value.get("value", ""))
    return _measured(value) and value.get("code", "1") == "1" and whole


def _duration(value: Json) -> bool:
    return value.get("system") == _UCUM and "value" in value


def _not_negative(value: Json, name: str) -> bool:
    amount = number(value[name])
    return amount is None or amount >= 0


def _offset(value: Json) -> bool:
    return "when" in value and set(value["when"]).isdisjoint(("C", "CM", "CD", "CV"))


# --- resources -------------------------------------------------------------------------


def _observation_value(value: Json) -> bool:
    """obs-7: a component with the observation's own code replaces its value."""
    if not chosen(value, "value"):
        return True
    own = codings(value.get("code"))
    return all(own.isdisjoint(codings(part.get("code"))) for part in value["component"])


def _wrong_record(value: Json, system: str) -> bool:
    return (system, "entered-in-error") in codings(value.get("verificationStatus"))


def _abated(value: Json) -> bool:
    if not chosen(value, "abatement"):
        return True
    ended = {(_CLINICAL, code) for code in ("resolved", "remission", "inactive")}
    return not ended.isdisjoint(codings(value.get("clinicalStatus")))


def _at_home(value: Json, name: str) -> bool:
    return any(item.get("use") == "home" for item in value[name])


def _times(value: Json) -> bool:
    """app-2 and app-3: both ends or none, and both unless it is not agreed yet."""
    if there(value, "start") != there(value, "end"):
        return False
    return there(value, "start") or value.get("status") in ("proposed", "cancelled", "waitlist")


def _entries_all(value: Json, name: str, kinds: tuple[str, ...]) -> bool:
    """bdl-3, bdl-4: each entry has what bundles of some types only have."""
    wanted = value.get("type") in kinds
    return all((name in entry) == wanted for entry in value["entry"])


def _distinct(value: Json) -> bool:
    """bdl-7: no full URL twice, unless of different versions."""
    if value.get("type") == "history":
        return True
    seen = [
        (entry["fullUrl"], entry.get("resource", {}).get("meta", {}).get("versionId"))
        for entry in value["entry"]
        if "fullUrl" in entry
    ]
    return len(set(seen)) == len(seen)


def _led_by(value: Json, kind: str, name: str) -> bool:
    """bdl-11, bdl-12: the first resource of a document or a message."""
    if value.get("type") != kind:
        return True
    for entry in value.get("entry", ()):
        return bool(entry.get("resource", {}).get("resourceType") == name)
    return False


def _document(value: Json) -> bool:
    """bdl-9 and bdl-10."""
    named = value.get("identifier", {})
    return value.get("type") != "document" or (
        "timestamp" in value and "system" in named and "value" in named
    )


_QTY_3 = Needs("qty-3", "a code needs a system", "code", "system")
_DETAILS = ("name", "telecom", "address", "organization")

INVARIANTS: Mapping[str, tuple[Invariant, ...]] = {
    "Extension": (Rule("ext-1", "has either extensions or a value, not both", _extension),),
    "Attachment": (Needs("att-1", "data needs a contentType", "data", "contentType"),),
    "ContactPoint": (Needs("cpt-2", "a value needs a system", "value", "system"),),
    "Period": (
        Rule(
            "per-1",
            "the start is not after the end, and as precise",
            lambda v: ordered(v, "start", "end"),
            trigger="start",
        ),
    ),
    "Quantity": (_QTY_3,),
    "Age": (_QTY_3, Rule("age-1", "is positive, with a UCUM code", _positive)),
    "Count": (_QTY_3, Rule("cnt-3", "is a whole number of the UCUM code 1", _count)),
    "Distance": (_QTY_3, Rule("dis-1", "has a UCUM code", _measured)),
    "Duration": (
        _QTY_3,
        Rule("drt-1", "a code is of UCUM and has a value", _duration, trigger="code"),
    ),
    "Range": (Rule("rng-2", "low is not above high", _range, trigger="low"),),
    "Ratio": (Rule("rat-1", "has both numerator and denominator, or an extension", _ratio),),
    "Expression": (Counts("exp-1", "has an expression or a reference", "expression", "reference"),),
    "Timing.repeat": (
        Needs("tim-1", "a duration has a unit", "duration", "durationUnit"),
        Needs("tim-2", "a period has a unit", "period", "periodUnit"),
        Rule("tim-4", "no negative duration", lambda v: _not_negative(v, "duration"), "duration"),
        Rule("tim-5", "no negative period", lambda v: _not_negative(v, "period"), "period"),
        Needs("tim-6", "periodMax needs a period", "periodMax", "period"),
        Needs("tim-7", "durationMax needs a duration", "durationMax", "duration"),
        Needs("tim-8", "countMax needs a count", "countMax", "count"),
        Rule("tim-9", "an offset is of an event that is no meal", _offset, trigger="offset"),
        Excludes("tim-10", "timeOfDay or when, not both", "timeOfDay", "when"),
    ),
    "Observation": (
        Rule(
            "obs-6",
            "dataAbsentReason stands only without a value",
            lambda v: not chosen(v, "value"),
            trigger="dataAbsentReason",
        ),
        Rule(
            "obs-7",
            "no value beside a component of the same code",
            _observation_value,
            trigger="component",
        ),
    ),
    "Observation.referenceRange": (
        Counts("obs-3", "has low, high or text", "low", "high", "text"),
    ),
    "AllergyIntolerance": (
        Rule(
            "ait-1",
            "has a clinicalStatus unless entered in error",
            lambda v: _wrong_record(v, _ALLERGY) or "clinicalStatus" in v,
        ),
        Rule(
            "ait-2",
            "has no clinicalStatus when entered in error",
            lambda v: not _wrong_record(v, _ALLERGY),
            trigger="clinicalStatus",
        ),
    ),
    "Appointment": (
        Rule("app-2", "has both start and end, or neither while not agreed (app-3)", _times),
        Rule(
            "app-4",
            "a reason of cancellation only when cancelled or missed",
            lambda v: v.get("status") in ("no-show", "cancelled"),
            trigger="cancelationReason",
        ),
    ),
    "Appointment.participant": (Counts("app-1", "has a type or an actor", "type", "actor"),),
    "AppointmentResponse": (
        Counts("apr-1", "has a participantType or an actor", "participantType", "actor"),
    ),
    "Bundle": (
        Rule(
            "bdl-1",
            "a total only in a search or history",
            lambda v: v.get("type") in ("searchset", "history"),
            trigger="total",
        ),
        Rule(
            "bdl-2",
            "entry.search only in a search",
            lambda v: v.get("type") == "searchset" or not any("search" in e for e in v["entry"]),
            trigger="entry",
        ),
        Rule(
            "bdl-3",
            "a request in each entry of a batch, transaction or history, and nowhere else",
            lambda v: _entries_all(v, "request", ("batch", "transaction", "history")),
            trigger="entry",
        ),
        Rule(
            "bdl-4",
            "a response in each entry of a batch or transaction response or history, "
            "and nowhere else",
            lambda v: _entries_all(
                v, "response", ("batch-response", "transaction-response", "history")
            ),
            trigger="entry",
        ),
        Rule("bdl-7", "no fullUrl twice", _distinct, trigger="entry"),
        Rule("bdl-9", "a document has an identifier and a timestamp (bdl-10)", _document),
        Rule(
            "bdl-11",
            "a document starts with a Composition",
            lambda v: _led_by(v, "document", "Composition"),
        ),
        Rule(
            "bdl-12",
            "a message starts with a MessageHeader",
            lambda v: _led_by(v, "message", "MessageHeader"),
        ),
    ),
    "Bundle.entry": (
        Counts("bdl-5", "has a resource, request or response", "resource", "request", "response"),
        Rule(
            "bdl-8",
            "a fullUrl names no version",
            lambda v: "/_history/" not in v["fullUrl"],
            trigger="fullUrl",
        ),
    ),
    "CarePlan.activity": (
        Excludes("cpl-3", "a reference or a detail, not both", "detail", "reference"),
    ),
    "Composition.section": (
        Counts("cmp-1", "has text, entries or sections", "text", "entry", "section"),
        Excludes("cmp-2", "emptyReason only without entries", "emptyReason", "entry"),
    ),
    "Condition": (
        Rule("con-4", "what abated is inactive, resolved or in remission", _abated),
        Rule(
            "con-5",
            "has no clinicalStatus when entered in error",
            lambda v: not _wrong_record(v, _CONDITION),
            trigger="clinicalStatus",
        ),
    ),
    "Condition.evidence": (Counts("con-2", "has a code or a detail", "code", "detail"),),
    "Condition.stage": (
        Counts("con-1", "has a summary or an assessment", "summary", "assessment"),
    ),
    "Consent": (Counts("ppc-1", "has a policy or a policyRule", "policy", "policyRule"),),
    "FamilyMemberHistory": (
        Rule(
            "fhs-1",
            "an age or a birth, not both",
            lambda v: not (chosen(v, "age") and chosen(v, "born")),
        ),
        Rule(
            "fhs-2",
            "estimatedAge needs an age",
            lambda v: chosen(v, "age"),
            trigger="estimatedAge",
        ),
    ),
    "Goal.target": (
        Rule(
            "gol-1",
            "a detail needs a measure",
            lambda v: not chosen(v, "detail") or "measure" in v,
        ),
    ),
    "Group": (
        Rule(
            "grp-1",
            "members only in an actual group",
            lambda v: v.get("actual") is True,
            trigger="member",
        ),
    ),
    "Immunization.education": (
        Counts("imm-1", "has a documentType or a reference", "documentType", "reference"),
    ),
    "ImmunizationRecommendation.recommendation": (
        Counts("imr-1", "has a vaccine or a disease", "vaccineCode", "targetDisease"),
    ),
    "Linkage": (Rule("lnk-1", "has two items or more", lambda v: len(v.get("item", ())) > 1),),
    "List": (
        Excludes("lst-1", "emptyReason only without entries", "emptyReason", "entry"),
        Rule(
            "lst-2",
            "deleted only in a list of changes",
            lambda v: v.get("mode") == "changes" or not any("deleted" in e for e in v["entry"]),
            trigger="entry",
        ),
        Rule(
            "lst-3",
            "an entry's date only in a working list",
            lambda v: v.get("mode") == "working" or not any("date" in e for e in v["entry"]),
            trigger="entry",
        ),
    ),
    "MedicationAdministration.dosage": (
        Rule(
            "mad-1",
            "has a dose or a rate",
            lambda v: "dose" in v or chosen(v, "rate"),
        ),
    ),
    "MedicationDispense": (
        Rule(
            "mdd-1",
            "not handed over before it was prepared",
            lambda v: ordered(v, "whenPrepared", "whenHandedOver"),
            trigger="whenPrepared",
        ),
    ),
    "Organization": (
        Counts("org-1", "has an identifier or a name", "identifier", "name"),
        Rule(
            "org-2",
            "an address is never a home",
            lambda v: not _at_home(v, "address"),
            trigger="address",
        ),
        Rule(
            "org-3",
            "a telecom is never of a home",
            lambda v: not _at_home(v, "telecom"),
            trigger="telecom",
        ),
    ),
    "Patient.contact": (
        Counts("pat-1", "has a name, telecom, address or organization", *_DETAILS),
    ),
    "ServiceRequest": (Needs("prr-1", "orderDetail needs a code", "orderDetail", "code"),),
}
"""Per location in the definitions: its rules."""

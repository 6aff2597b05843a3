"""Which search parameters each type has, and the elements that they look at.

Names and elements are those of the R4 search parameters. Beside them every type has
``_id``, ``_lastUpdated``, ``identifier`` where it has identifiers, and ``patient``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SearchParameters:
    """What can be searched in one type.

    ``tokens`` and ``names`` give for each parameter the JSON paths that it looks at;
    ``date`` is the one date parameter with its paths; ``patient`` the parameters that
    take a patient (none for what belongs to no patient).
    """

    tokens: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    date: tuple[str, tuple[str, ...]] | None = None
    patient: tuple[str, ...] = ("patient",)
    identifiers: tuple[str, ...] = ("identifier",)


def _choice(base: str, *types: str) -> tuple[str, ...]:
    return tuple(f"{base}{name}" for name in types)


_SUBJECT = ("patient", "subject")
_NAME = ("name.family", "name.given", "name.text", "name.prefix", "name.suffix")
_WHEN = ("DateTime", "Period", "Instant", "Timing")

GENERIC = SearchParameters(tokens={"status": ("status",), "code": ("code",)})
"""For a type of which the record knows no more."""

PARAMETERS: Mapping[str, SearchParameters] = {
    "Account": SearchParameters(
        tokens={"status": ("status",), "type": ("type",)}, patient=_SUBJECT
    ),
    "AllergyIntolerance": SearchParameters(
        tokens={
            "code": ("code", "reaction.substance"),
            "category": ("category",),
            "criticality": ("criticality",),
            "clinical-status": ("clinicalStatus",),
            "verification-status": ("verificationStatus",),
        },
        date=("date", ("recordedDate",)),
    ),
    "Appointment": SearchParameters(
        tokens={"status": ("status",), "service-type": ("serviceType",)},
        date=("date", ("start",)),
    ),
    "CarePlan": SearchParameters(
        tokens={"status": ("status",), "category": ("category",), "intent": ("intent",)},
        date=("date", ("period",)),
        patient=_SUBJECT,
    ),
    "Composition": SearchParameters(
        tokens={"status": ("status",), "type": ("type",), "category": ("category",)},
        date=("date", ("date",)),
        patient=_SUBJECT,
    ),
    "Condition": SearchParameters(
        tokens={
            "code": ("code",),
            "category": ("category",),
            "clinical-status": ("clinicalStatus",),
            "verification-status": ("verificationStatus",),
        },
        date=("onset-date", ("onsetDateTime", "onsetPeriod")),
        patient=_SUBJECT,
    ),
    "Consent": SearchParameters(
        tokens={"status": ("status",), "scope": ("scope",), "category": ("category",)},
        date=("date", ("dateTime",)),
    ),
    "Coverage": SearchParameters(tokens={"status": ("status",), "type": ("type",)}),
    "Device": SearchParameters(tokens={"status": ("status",), "type": ("type",)}),
    "DeviceRequest": SearchParameters(
        tokens={
            "code": ("codeCodeableConcept",),
            "status": ("status",),
            "intent": ("intent",),
        },
        date=("authored-on", ("authoredOn",)),
        patient=_SUBJECT,
    ),
    "DeviceUseStatement": SearchParameters(patient=_SUBJECT),
    "DiagnosticReport": SearchParameters(
        tokens={"code": ("code",), "category": ("category",), "status": ("status",)},
        date=("date", _choice("effective", *_WHEN)),
        patient=_SUBJECT,
    ),
    "DocumentReference": SearchParameters(
        tokens={
            "type": ("type",),
            "category": ("category",),
            "status": ("status",),
            "contenttype": ("content.attachment.contentType",),
            "format": ("content.format",),
            "security-label": ("securityLabel",),
        },
        date=("date", ("date",)),
        patient=_SUBJECT,
        identifiers=("identifier", "masterIdentifier"),
    ),
    "Encounter": SearchParameters(
        tokens={"status": ("status",), "class": ("class",), "type": ("type",)},
        date=("date", ("period",)),
        patient=_SUBJECT,
    ),
    "ExplanationOfBenefit": SearchParameters(
        tokens={"status": ("status",)}, date=("created", ("created",))
    ),
    "FamilyMemberHistory": SearchParameters(
        tokens={
            "code": ("condition.code",),
            "relationship": ("relationship",),
            "sex": ("sex",),
            "status": ("status",),
        },
        date=("date", ("date",)),
    ),
    "Goal": SearchParameters(
        tokens={"lifecycle-status": ("lifecycleStatus",), "category": ("category",)},
        date=("start-date", ("startDate",)),
        patient=_SUBJECT,
    ),
    "ImagingStudy": SearchParameters(
        tokens={"status": ("status",), "modality": ("series.modality",)},
        date=("started", ("started",)),
        patient=_SUBJECT,
    ),
    "Immunization": SearchParameters(
        tokens={"vaccine-code": ("vaccineCode",), "status": ("status",)},
        date=("date", ("occurrenceDateTime",)),
    ),
    "ImmunizationRecommendation": SearchParameters(
        tokens={
            "status": ("recommendation.forecastStatus",),
            "vaccine-type": ("recommendation.vaccineCode",),
        },
        date=("date", ("date",)),
    ),
    "Location": SearchParameters(
        tokens={"status": ("status",), "type": ("type",)},
        names={"name": ("name", "alias")},
        patient=(),
    ),
    "Media": SearchParameters(
        tokens={"status": ("status",), "type": ("type",)},
        date=("created", ("createdDateTime", "createdPeriod")),
        patient=_SUBJECT,
    ),
    "Medication": SearchParameters(tokens={"code": ("code",), "status": ("status",)}, patient=()),
    "MedicationAdministration": SearchParameters(
        tokens={"code": ("medicationCodeableConcept",), "status": ("status",)},
        date=("effective-time", _choice("effective", "DateTime", "Period")),
        patient=_SUBJECT,
    ),
    "MedicationDispense": SearchParameters(
        tokens={"code": ("medicationCodeableConcept",), "status": ("status",), "type": ("type",)},
        date=("whenhandedover", ("whenHandedOver",)),
        patient=_SUBJECT,
    ),
    "MedicationRequest": SearchParameters(
        tokens={
            "code": ("medicationCodeableConcept",),
            "status": ("status",),
            "category": ("category",),
            "intent": ("intent",),
        },
        date=("authoredon", ("authoredOn",)),
        patient=_SUBJECT,
    ),
    "MedicationStatement": SearchParameters(
        tokens={
            "code": ("medicationCodeableConcept",),
            "status": ("status",),
            "category": ("category",),
        },
        date=("effective", _choice("effective", "DateTime", "Period")),
        patient=_SUBJECT,
    ),
    "Observation": SearchParameters(
        tokens={
            "code": ("code",),
            "category": ("category",),
            "status": ("status",),
            "value-concept": ("valueCodeableConcept",),
        },
        date=("date", _choice("effective", *_WHEN)),
        patient=_SUBJECT,
    ),
    "Organization": SearchParameters(
        tokens={"active": ("active",), "type": ("type",)},
        names={"name": ("name", "alias")},
        patient=(),
    ),
    "Patient": SearchParameters(
        tokens={"active": ("active",), "gender": ("gender",)},
        names={"name": _NAME, "family": ("name.family",), "given": ("name.given",)},
        date=("birthdate", ("birthDate",)),
        patient=(),
    ),
    "Practitioner": SearchParameters(
        tokens={"active": ("active",)},
        names={"name": _NAME, "family": ("name.family",), "given": ("name.given",)},
        patient=(),
    ),
    "PractitionerRole": SearchParameters(
        tokens={"active": ("active",), "role": ("code",), "specialty": ("specialty",)},
        patient=(),
    ),
    "Procedure": SearchParameters(
        tokens={"code": ("code",), "category": ("category",), "status": ("status",)},
        date=("date", _choice("performed", "DateTime", "Period")),
        patient=_SUBJECT,
    ),
    "Provenance": SearchParameters(
        tokens={"agent-type": ("agent.type",)}, date=("recorded", ("recorded",)), identifiers=()
    ),
    "RelatedPerson": SearchParameters(
        tokens={"active": ("active",), "relationship": ("relationship",)}, names={"name": _NAME}
    ),
    "ServiceRequest": SearchParameters(
        tokens={
            "code": ("code",),
            "category": ("category",),
            "status": ("status",),
            "intent": ("intent",),
        },
        date=("authored", ("authoredOn",)),
        patient=_SUBJECT,
    ),
    "Specimen": SearchParameters(
        tokens={"type": ("type",), "status": ("status",)},
        date=("collected", ("collection.collectedDateTime", "collection.collectedPeriod")),
        patient=_SUBJECT,
    ),
}


def parameters_of(type_name: str) -> SearchParameters:
    """The parameters of a type, or the generic ones."""
    return PARAMETERS.get(type_name, GENERIC)

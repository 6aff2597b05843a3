"""Right R4 resources, made by hand, as the gateway's mappings produce them."""

from __future__ import annotations

from typing import Any

from gateway.mapping.serialise import DecimalText

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def patient() -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "7b1c7c5e-3b47-5a55-9f0e-000000000001",
        "identifier": [
            {
                "use": "official",
                "type": {"coding": [{"system": f"{TERMINOLOGY}/v2-0203", "code": "NH"}]},
                "system": "urn:oid:1.2.250.1.213.1.4.10",
                "value": "185017512345678",
            }
        ],
        "active": True,
        "name": [
            {
                "use": "official",
                "family": "D\u2019Été\u00a0Müller",
                "given": ["Anne", None],
                "_given": [None, {"extension": [{"url": "urn:x:absent", "valueCode": "unknown"}]}],
            }
        ],
        "telecom": [{"system": "phone", "value": "+33 1 23 45 67 89", "use": "home", "rank": 1}],
        "gender": "female",
        "birthDate": "1985-01",
        "_birthDate": {"extension": [{"url": "urn:x:original", "valueString": "198501"}]},
        "deceasedDateTime": "2024-02-29T23:59:59.5+01:00",
        "address": [{"line": ["1 rue de l\u2019Écluse"], "city": "Évry", "postalCode": "91000"}],
        "multipleBirthInteger": 2,
        "contact": [{"name": {"text": "Paul"}, "relationship": [{"text": "frère"}]}],
        "link": [{"other": {"reference": "Patient/other"}, "type": "replaces"}],
        "text": {
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>Anne &amp; <b>Paul</b></p></div>',
        },
    }


def observation() -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "hb",
        "meta": {"tag": [{"system": "urn:x", "code": "y"}]},
        "status": "final",
        "category": [
            {"coding": [{"system": f"{TERMINOLOGY}/observation-category", "code": "laboratory"}]}
        ],
        "code": {"coding": [{"system": LOINC, "code": "718-7"}], "text": "Hémoglobine"},
        "subject": {"reference": "Patient/7b1c7c5e-3b47-5a55-9f0e-000000000001"},
        "effectiveDateTime": "2024-03-01T08:30:00+01:00",
        "issued": "2024-03-01T09:00:00.000Z",
        "performer": [{"display": "Laboratoire"}],
        "valueQuantity": {
            "value": DecimalText("7.10"),
            "unit": "g/dL",
            "system": UCUM,
            "code": "g/dL",
            "comparator": "<",
        },
        "interpretation": [{"coding": [{"system": f"{TERMINOLOGY}/v3-ObservationInterpretation",
                                        "code": "L"}]}],
        "note": [{"text": "\u00a0prélèvement hémolysé\r\nà refaire"}],
        "referenceRange": [
            {"low": {"value": DecimalText("12.0")}, "high": {"value": 16}, "text": "12,0 - 16"}
        ],
    }  # fmt: skip


def report() -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": "report",
        "contained": [{"resourceType": "Organization", "id": "lab", "name": "Laboratoire"}],
        "status": "final",
        "code": {"text": "NFS"},
        "subject": {"reference": "Patient/7b1c7c5e-3b47-5a55-9f0e-000000000001"},
        "effectivePeriod": {"start": "2024-02-29", "end": "2024-03-01T10:00:00Z"},
        "performer": [{"reference": "#lab"}],
        "result": [{"reference": "Observation/hb"}],
    }


def document() -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": "letter",
        "status": "current",
        "type": {"coding": [{"system": LOINC, "code": "11490-0"}]},
        "subject": {"reference": "Patient/7b1c7c5e-3b47-5a55-9f0e-000000000001"},
        "date": "2024-03-01T10:00:00Z",
        "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/older"}}],
        "content": [
            {
                "attachment": {
                    "contentType": "application/pdf",
                    "url": "Binary/" + "a" * 64,
                    "size": 1234,
                    "hash": "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
                    "creation": "2024-03-01",
                }
            }
        ],
    }


def study() -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy",
        "id": "study",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.1"}],
        "status": "available",
        "subject": {"reference": "Patient/7b1c7c5e-3b47-5a55-9f0e-000000000001"},
        "started": "2024-03-01",
        "numberOfSeries": 1,
        "numberOfInstances": 0,
        "series": [
            {
                "uid": "1.2.840.1.1",
                "modality": {
                    "system": "http://dicom.nema.org/resources/ontology/DCM",
                    "code": "CT",
                },
                "instance": [
                    {
                        "uid": "1.2.840.1.1.1",
                        "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840"},
                    }
                ],
            }
        ],
    }


def consent() -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": "feeding",
        "status": "active",
        "scope": {"coding": [{"system": f"{TERMINOLOGY}/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "urn:ecluse:permission", "code": "feeding"}]}],
        "patient": {"reference": "Patient/7b1c7c5e-3b47-5a55-9f0e-000000000001"},
        "policyRule": {"text": "opposition"},
        "provision": {"type": "deny"},
    }


def condition() -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": "asthma",
        "clinicalStatus": {
            "coding": [
                {"system": "urn:local", "code": "en cours"},
                {"system": f"{TERMINOLOGY}/condition-clinical", "code": "active"},
            ]
        },
        "code": {"text": "Asthme"},
        "subject": {"reference": "Patient/7b1c7c5e-3b47-5a55-9f0e-000000000001"},
        "onsetAge": {"value": 12, "unit": "ans", "system": UCUM, "code": "a"},
    }


def everything() -> list[dict[str, Any]]:
    return [patient(), observation(), report(), document(), study(), consent(), condition()]

"""FHIR resources in words, and the laboratory table made of them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.console import clinical, laboratory
from gateway.console.identity import INS_KINDS
from gateway.ins import ROOTS

NAME = "DURAND"


def observation(code: str, value: str, date: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"{code}-{date}",
        "status": "final",
        "code": {
            "coding": [{"system": "http://loinc.org", "code": code, "display": f"Analyse {code}"}]
        },
        "effectiveDateTime": date,
        "valueQuantity": {"value": value, "unit": "mmol/L"},
        **more,
    }


def result(resource: dict[str, Any], version: int = 1, **more: Any) -> laboratory.Result:
    return laboratory.Result(
        reference=f"Observation/{resource['id']}", version=version, resource=resource, **more
    )


@pytest.mark.parametrize(
    ("element", "shown"),
    [
        ({"valueQuantity": {"value": "1.10", "unit": "g/L"}}, "1,10\u00a0g/L"),
        ({"valueQuantity": {"value": "5", "comparator": "<=", "code": "mg"}}, "≤\u00a05\u00a0mg"),
        ({"valueCodeableConcept": {"coding": [{"code": "POS"}]}}, "POS"),
        ({"valueString": "trouble"}, "trouble"),
        ({"valueBoolean": False}, "non"),
        ({"valueRange": {"low": {"value": "2"}, "high": {"value": "4"}}}, "2 – 4"),
        ({"valueRatio": {"numerator": {"value": "1"}, "denominator": {"value": "80"}}}, "1:80"),
        ({"dataAbsentReason": {"text": "non réalisé"}}, "non réalisé"),
        ({}, ""),
    ],
)
def test_a_value_of_any_type_is_written(element: dict[str, Any], shown: str) -> None:
    assert clinical.value_text(element) == shown


@pytest.mark.parametrize(
    ("ranges", "shown"),
    [
        ([{"low": {"value": "3.90"}, "high": {"value": "5.50"}}], "3,90 – 5,50"),
        ([{"high": {"value": "5"}}], "≤\u00a05"),
        ([{"low": {"value": "60"}}], "≥\u00a060"),
        ([{"text": "négatif"}], "négatif"),
        ([], ""),
        ("not a list", ""),
    ],
)
def test_a_reference_range_is_written(ranges: object, shown: str) -> None:
    assert clinical.reference_range({"referenceRange": ranges}) == shown


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "name": [{"family": NAME, "given": ["Zoé"]}],
         "birthDate": "1950-01-01"},
        observation("1", "77.7", "2024-01-01"),
        {"resourceType": "Observation", "valueString": NAME, "code": {"text": "Note"}},
        {"resourceType": "Practitioner", "name": [{"family": NAME}]},
        {"resourceType": "RelatedPerson", "name": [{"family": NAME}]},
        {"resourceType": "DocumentReference", "description": NAME, "type": {"text": "CR"}},
        {"resourceType": "Encounter", "type": [{"text": "Hospitalisation"}]},
    ],
)  # fmt: skip
def test_without_identity_no_value_is_said(resource: dict[str, Any]) -> None:
    said = clinical.says(resource, identity=False)
    assert NAME not in said
    assert "77" not in said
    assert "1950" not in said


def test_with_identity_it_is_said() -> None:
    patient = {"resourceType": "Patient", "name": [{"family": "Durand", "given": ["Zoé", "A."]}]}
    assert clinical.says(patient) == "DURAND Zoé A."


def test_odd_resources_raise_nothing() -> None:
    for odd in ({}, {"resourceType": "Observation", "code": "text"}, {"resourceType": 3},
                {"resourceType": "ImagingStudy", "series": {"a": 1}}):  # fmt: skip
        assert isinstance(clinical.says(odd), str)
        assert isinstance(clinical.says(odd, identity=False), str)


def test_results_come_by_panel_in_the_reports_order_newest_first() -> None:
    older, newer = (
        observation("2345-7", "5.10", "2024-01-05"), observation("2345-7", "6.20", "2024-03-05"),
    )  # fmt: skip
    other = observation("718-7", "13.0", "2024-02-01")
    report = {
        "resourceType": "DiagnosticReport",
        "code": {"text": "Bilan"},
        "result": [{"reference": "Observation/2345-7-2024-03-05"}],
    }
    panels = laboratory.panels([result(older), result(other), result(newer)], [report])
    assert [panel.title for panel in panels] == ["Bilan", laboratory.OTHER]
    glucose = panels[0].analytes[0]
    assert glucose.latest.value == "6,20"
    assert [line.value for line in glucose.previous] == ["5,10"]
    assert "<svg" in glucose.trend
    assert panels[1].analytes[0].trend == ""


def test_the_gravest_interpretation_is_shown() -> None:
    def coded(*codes: str) -> list[dict[str, Any]]:
        return [{"coding": [{"code": code}]} for code in codes]

    assert laboratory.interpretation({"interpretation": coded("A", "HH")})[2] == "critical"
    assert laboratory.interpretation({"interpretation": coded("N")}) == ("", "", "")
    assert laboratory.interpretation({"interpretation": "H"}) == ("", "", "")


def test_another_unit_does_not_go_on_the_same_axis() -> None:
    first = observation("1", "5.0", "2024-01-01")
    second = observation("1", "0.9", "2024-02-01", valueQuantity={"value": "0.9", "unit": "g/L"})
    third = observation("1", "6.0", "2024-03-01")
    found = laboratory.analyte("k", [result(first), result(second), result(third)])
    drawing = laboratory.course(found)
    assert drawing.count("<circle") == 2


def test_a_replaced_value_is_in_the_course_but_not_the_latest() -> None:
    now = result(observation("1", "4.7", "2024-03-01"), version=2, corrected=True)
    before = result(observation("1", "6.1", "2024-03-01"), version=1, current=False)
    found = laboratory.analyte("k", [before, now])
    assert found.latest.value == "4,7"
    assert not found.previous
    assert [line.current for line in found.lines] == [True, False]
    assert "plot-old" in laboratory.course(found)


def test_components_are_results_of_their_own() -> None:
    pressure = {
        "resourceType": "Observation", "id": "bp", "status": "final",
        "code": {"text": "Pression artérielle"}, "effectiveDateTime": "2024-01-01",
        "component": [
            {"code": {"text": "systolique"}, "valueQuantity": {"value": "132", "unit": "mmHg"}},
            {"code": {"text": "diastolique"}, "valueQuantity": {"value": "81", "unit": "mmHg"}},
        ],
    }  # fmt: skip
    (panel,) = laboratory.panels([result(pressure)], [])
    assert [(a.name, a.latest.value) for a in panel.analytes] == [
        ("systolique", "132"), ("diastolique", "81"),
    ]  # fmt: skip


def test_every_national_root_has_a_name_for_people() -> None:
    assert set(INS_KINDS) == set(ROOTS)

"""The R4 table: what its paths resolve to, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.mapping.r4.definitions import Definitions, UnknownPath


@pytest.fixture(scope="module")
def r4() -> Definitions:
    return Definitions.load()


def test_all_of_r4_is_there(r4: Definitions) -> None:
    assert r4.version == "4.0.1"
    # R4 4.0.1 publishes 148 resources; Resource and DomainResource among them are abstract,
    # and Parameters, Binary and Bundle are not DomainResources.
    assert len(r4.resources) == 146
    assert {"Patient", "Parameters", "Binary", "Bundle", "DocumentManifest"} <= r4.resources
    assert "SubscriptionStatus" not in r4.resources  # R4B
    assert {"Quantity", "HumanName", "Dosage", "Timing", "Element"} <= r4.datatypes


def test_nothing_of_other_versions_is_there(r4: Definitions) -> None:
    for path in ("ResearchStudy.label", "Meta.project", "Binary.url", "Encounter.actualPeriod"):
        with pytest.raises(UnknownPath):
            r4.resolve(path)
    assert "preliminary" in (r4.resolve("DetectedIssue.status").codes or ())


def test_every_element_can_be_resolved(r4: Definitions) -> None:
    walked = 0

    def walk(path: str, location: str, depth: int) -> None:
        nonlocal walked
        for name, element in r4.children(location).items():
            for type_name, key in element.keys().items():
                resolved = r4.resolve(f"{path}.{key}")
                assert resolved.types == (type_name,)
                assert resolved.repeats == element.repeats
                walked += 1
            if element.location == f"{path}.{name}" and depth:
                walk(f"{path}.{name}", element.location, depth - 1)

    for resource in sorted(r4.resources):
        walk(resource, resource, 6)
    assert walked > 7_000


def test_a_nested_path(r4: Definitions) -> None:
    low = r4.resolve("Observation.referenceRange.low")
    assert (low.types, low.repeats, low.required) == (("Quantity",), False, False)
    assert [(step.key, step.repeats) for step in low.steps] == [
        ("referenceRange", True),
        ("low", False),
    ]
    assert low.element.simple


def test_a_content_reference_leads_to_its_definition(r4: Definitions) -> None:
    path = "Observation.component.referenceRange.low.value"
    assert r4.resolve(path).types == ("decimal",)
    assert r4.resolve("Questionnaire.item.item.item.linkId").required


def test_choices_open_and_typed(r4: Definitions) -> None:
    opened = r4.resolve("Observation.value[x]")
    assert opened == r4.resolve("Observation.value[x]")
    assert opened.choice
    assert "Quantity" in opened.types
    assert r4.resolve("Observation.value").types == opened.types
    assert opened.key("dateTime") == "valueDateTime"
    with pytest.raises(UnknownPath, match="cannot be a Money"):
        opened.key("Money")
    typed = r4.resolve("Observation.valueQuantity.value")
    assert typed.types == ("decimal",)
    assert [step.key for step in typed.steps] == ["valueQuantity", "value"]
    assert not typed.choice


def test_bindings(r4: Definitions) -> None:
    assert r4.resolve("Patient.gender").codes == {"male", "female", "other", "unknown"}
    assert r4.resolve("Observation.interpretation").codes is None  # extensible
    assert r4.resolve("Attachment.contentType").codes is None  # not enumerated
    clinical = r4.resolve("Condition.clinicalStatus").systems
    assert clinical is not None
    system = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    assert clinical[system] == {
        "active", "recurrence", "relapse", "inactive", "remission", "resolved",
    }  # fmt: skip


def test_reference_targets(r4: Definitions) -> None:
    assert r4.resolve("Observation.subject").targets == ("Patient", "Group", "Device", "Location")
    assert r4.resolve("Observation.focus").targets == ()


def test_the_sibling_of_a_primitive(r4: Definitions) -> None:
    assert r4.resolve("Patient._birthDate").types == ("Element",)
    assert r4.resolve("Patient._birthDate.extension").types == ("Extension",)
    assert r4.resolve("Patient._gender").codes is None
    with pytest.raises(UnknownPath):
        r4.resolve("Patient._name")


def test_indexes_are_ignored(r4: Definitions) -> None:
    assert r4.resolve("Patient.name[0].given[1]").types == ("string",)


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        ("Observation.referenceRange.lov", "Observation.referenceRange.low"),
        ("Observation.valueQuantty", "Observation.valueQuantity"),
        ("Patient.brithDate", "Patient.birthDate"),
        ("Observaton.status", "Observation"),
        ("Patient.name.familly", "Patient.name.family"),
    ],
)
def test_a_misspelling_gets_a_suggestion(r4: Definitions, path: str, suggestion: str) -> None:
    with pytest.raises(UnknownPath) as failure:
        r4.resolve(path)
    assert failure.value.suggestion == suggestion


@pytest.mark.parametrize(
    "path",
    [
        "Observation",
        "Observation.",
        "Observation..code",
        "Observation.value.value",
        "Patient.birthDate.year",
        "Bundle.entry.resource.id",
        "Observation.code.coding[x].system",
        "http://hl7.org",
        "",
    ],
)
def test_what_is_no_path_is_refused(r4: Definitions, path: str) -> None:
    with pytest.raises(UnknownPath):
        r4.resolve(path)


def test_resource_and_element_lookups(r4: Definitions) -> None:
    assert r4.resource("Patient").elements["birthDate"].types == ("date",)
    assert r4.element("Patient", "deceasedBoolean").choice
    for abstract in ("Resource", "DomainResource", "Quantity"):
        with pytest.raises(UnknownPath):
            r4.resource(abstract)


def test_loading_is_quick() -> None:
    """In a process of its own, so that nothing is loaded yet."""
    program = (
        "import time\n"
        "from gateway.mapping.r4.definitions import Definitions\n"
        "start = time.process_time()\n"
        "Definitions.load().resolve('Observation.code')\n"
        "print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", program]
    best = min(
        float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(3)
    )
    assert best < 1.0  # some 10 ms on an idle machine; a loaded one must not fail
    assert Definitions.load() is Definitions.load()

"""The shipped CDA mappings on the corpus: every document, and the laboratory reports' truth.

The results are read a second time with the standard library's parser, in the plainest
way, and compared: what the laboratory wrote is what the record gets.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from adapters.cda.language import CdaLanguage, CdaReader
from gateway.deployment.loading import checked_mappings
from gateway.mapping.library import Library
from gateway.mapping.r4.checker import Checker
from gateway.mapping.running import MappingContext
from gateway.mapping.serialise import dumps
from gateway.mapping.twins import run_twins
from gateway.model import Format, Mapped, Payload

V3 = "{urn:hl7-org:v3}"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
CONTEXT = MappingContext(zone="Europe/Paris", source="cda")
LABORATORY = "cda.laboratory"


@pytest.fixture(scope="module")
def library(repository: Path) -> Library:
    return Library.load(
        [repository / "mappings"], {Format.CDA: CdaLanguage()}, checked=checked_mappings()
    )


def mapped(library: Library, path: Path) -> Mapped:
    root = CdaReader().read([Payload.from_file(path)])
    program = library.match(root, Format.CDA)
    assert program is not None, path.name
    return program.run(root, CONTEXT)


def resources(result: Mapped, kind: str) -> list[dict[str, Any]]:
    return [
        json.loads(dumps(entry.resource), parse_float=str)
        for entry in result.entries
        if entry.resource["resourceType"] == kind
    ]


def corpus(shared: Path) -> list[Path]:
    return sorted((shared / "corpora" / "cda").glob("*.xml"))


def test_twins(library: Library) -> None:
    results = run_twins(library, {Format.CDA: CdaReader()})
    assert len(results) >= 4
    assert [(result.name, result.differences) for result in results if not result.passed] == []


def test_every_document_becomes_a_patient_and_a_document_with_its_bytes(
    library: Library, shared: Path
) -> None:
    paths = corpus(shared)
    assert len(paths) == 36
    checker = Checker.load()
    documents = set()
    for path in paths:
        result = mapped(library, path)
        for entry in result.entries:
            assert checker.check(entry.resource) == [], (path.name, entry.reference)
        (patient,) = resources(result, "Patient")
        assert patient["identifier"]
        assert patient["name"][0]["family"]
        assert [
            e.create_only for e in result.entries if e.resource["resourceType"] == "Patient"
        ] == [True]
        (document,) = resources(result, "DocumentReference")
        data = path.read_bytes()
        attachment = document["content"][0]["attachment"]
        assert attachment["contentType"] == "text/xml"
        assert attachment["url"] == f"Binary/{hashlib.sha256(data).hexdigest()}"
        assert attachment["hash"] == base64.b64encode(hashlib.sha1(data).digest()).decode()
        assert attachment["title"]
        assert attachment["creation"]
        assert document["type"]["coding"][0]["code"]
        assert document["category"][0]["coding"][0]["code"], path.name
        assert document["author"]
        assert document["custodian"]["identifier"]
        assert {found.data for found in result.attachments} >= {data}
        documents.add(document["id"])
    assert len(documents) == 36


def test_pdfs_inside_are_contents_of_the_document(library: Library, shared: Path) -> None:
    with_pdf = 0
    for path in corpus(shared):
        result = mapped(library, path)
        (document,) = resources(result, "DocumentReference")
        if b"<nonXMLBody" in path.read_bytes():
            assert document["content"][1]["attachment"]["contentType"] == "application/pdf"
            assert document["content"][0]["format"]["code"] == "urn:ihe:iti:xds-sd:pdf:2008"
        for content in document["content"][1:]:
            sha256 = content["attachment"]["url"].removeprefix("Binary/")
            (kept,) = [found for found in result.attachments if found.sha256 == sha256]
            assert kept.data.startswith(b"%PDF-")
            with_pdf += 1
    assert with_pdf == 13


def test_mapping_is_pure_and_identifiers_stay(library: Library, shared: Path) -> None:
    path = shared / "corpora" / "cda" / "BIO-CR-BIO_2024.01_Electrophorese.xml"
    first, second = mapped(library, path), mapped(library, path)
    assert [dumps(e.resource) for e in first.entries] == [dumps(e.resource) for e in second.entries]
    ids = [entry.reference for entry in first.entries]
    assert len(set(ids)) == len(ids)


def test_a_new_version_of_a_report_keeps_the_identifiers(library: Library, shared: Path) -> None:
    folder = shared / "corpora" / "cda"
    one = mapped(library, folder / "BIO-CR-BIO_2024.01_Microbiologie_V1.xml")
    two = mapped(library, folder / "BIO-CR-BIO_2024.01_Microbiologie_V2.xml")
    for kind in ("DiagnosticReport", "Observation", "Specimen"):
        before = {resource["id"] for resource in resources(one, kind)}
        after = {resource["id"] for resource in resources(two, kind)}
        assert before == after, kind
    (old,), (new,) = (resources(each, "DocumentReference") for each in (one, two))
    assert old["id"] != new["id"]
    assert new["relatesTo"][0]["code"] == "replaces"
    assert new["relatesTo"][0]["target"]["identifier"]["value"].startswith("urn:oid:")
    counts = [
        {
            resource["id"]: resource["valueQuantity"]["value"]
            for resource in resources(each, "Observation")
            if resource["code"].get("coding", [{}])[0].get("code") == "51480-2"
        }
        for each in (one, two)
    ]
    assert counts[0].keys() == counts[1].keys()
    assert counts[0] != counts[1]


# --- the truth of laboratory results --------------------------------------------------


def laboratory_observations(path: Path) -> Iterator[ET.Element]:
    """Every result of the laboratory's entries, quoted ones that have a good date included."""
    for act in ET.parse(path).getroot().iter(f"{V3}act"):
        yield from act.iter(f"{V3}observation")


def plainly(observation: ET.Element) -> dict[str, Any]:
    """What one observation says, read by hand."""
    code = observation.find(f"{V3}code")
    assert code is not None
    value = observation.find(f"{V3}value")
    assert value is not None
    time = observation.find(f"{V3}effectiveTime")
    said: dict[str, Any] = {
        "code": code.get("code") or code.find(f"{V3}translation").get("code"),  # type: ignore[union-attr]
        "time": (time.get("value") if time is not None else None),
        "type": value.get(XSI_TYPE, "").rpartition(":")[2],
        "value": value.get("value"),
        "unit": value.get("unit"),
        "coded": value.get("code"),
        "flags": sorted(
            found.get("code", "") for found in observation.findall(f"{V3}interpretationCode")
        ),
        "ranges": [],
    }
    for end in ("low", "high"):
        found = value.find(f"{V3}{end}")
        if found is not None:
            said["value"], said["unit"] = found.get("value"), found.get("unit")
            inclusive = found.get("inclusive", "true") == "true"
            said["sign"] = (">" if end == "low" else "<") + ("=" if inclusive else "")
    for limits in observation.findall(f"{V3}referenceRange/{V3}observationRange/{V3}value"):
        said["ranges"].append(
            tuple(
                (found.get("value"), found.get("unit")) if found is not None else None
                for found in (limits.find(f"{V3}low"), limits.find(f"{V3}high"))
            )
        )
    return said


def from_fhir(resource: dict[str, Any]) -> dict[str, Any]:
    """What the mapped Observation says, in the same terms."""
    quantity = resource.get("valueQuantity", {})
    concept = resource.get("valueCodeableConcept", {})
    ranges = []
    for limits in resource.get("referenceRange", []):
        ends = (limits.get("low"), limits.get("high"))
        ranges.append(tuple((str(e["value"]), e.get("unit")) if e else None for e in ends))
    return {
        "code": resource["code"]["coding"][0]["code"],
        "time": resource.get("effectiveDateTime"),
        "value": str(quantity["value"]) if "value" in quantity else None,
        "unit": quantity.get("unit"),
        "sign": quantity.get("comparator"),
        "coded": concept.get("coding", [{}])[0].get("code"),
        "flags": sorted(c["coding"][0]["code"] for c in resource.get("interpretation", [])),
        "ranges": ranges,
        "text": concept.get("text") or resource.get("valueString"),
    }


def normal_time(stamp: str | None) -> str | None:
    """``20240104131933+0100`` as FHIR writes it; None for what is no time."""
    if stamp is None or len(stamp) not in (19, 17, 12, 8) or not "01" <= stamp[4:6] <= "12":
        return None
    day = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}"
    if len(stamp) in (8,):
        return day
    zone = stamp[-5:] if len(stamp) > 12 else "+0100"
    clock = stamp[8:].removesuffix(zone)
    seconds = clock[4:6] or "00"
    return f"{day}T{clock[:2]}:{clock[2:4]}:{seconds}{zone[:3]}:{zone[3:]}"


def test_results_are_what_the_laboratory_wrote(library: Library, shared: Path) -> None:
    compared = 0
    for path in corpus(shared):
        result = mapped(library, path)
        if result.mapping != LABORATORY:
            continue
        found = [
            from_fhir(resource)
            for resource in resources(result, "Observation")
            if "hasMember" not in resource
        ]
        for observation in laboratory_observations(path):
            wanted = plainly(observation)
            time = normal_time(wanted["time"])
            candidates = [
                each
                for each in found
                if each["code"] == wanted["code"]
                and each["time"] == time
                and each["value"] == wanted["value"]
                and each["unit"] == wanted["unit"]
                and each["coded"] == wanted["coded"]
                and each["sign"] == wanted.get("sign")
                and each["flags"] == wanted["flags"]
                and each["ranges"] == wanted["ranges"]
            ]
            if not candidates and observation.find(f"{V3}templateId") is None and time is None:
                continue  # a quoted result without a usable date is left out on purpose
            assert candidates, (path.name, wanted)
            if wanted["type"] in ("ED", "ST") or (wanted["type"] == "CD" and not wanted["coded"]):
                assert candidates[0]["text"], (path.name, wanted)
            found.remove(candidates[0])
            compared += 1
        assert found == [], path.name
    assert compared == 110


def test_level_one_reports_have_the_document_and_its_people_only(
    library: Library, shared: Path
) -> None:
    path = shared / "corpora" / "cda" / "BIO-CR-BIO_2021.01_CDA-R2-Niveau-1.xml"
    result = mapped(library, path)
    assert result.mapping == "cda.document"
    kinds = {entry.resource["resourceType"] for entry in result.entries}
    assert {"Patient", "DocumentReference", "Encounter", "Practitioner"} <= kinds
    assert not kinds & {"Composition", "Observation", "DiagnosticReport", "Condition"}


# --- every other type of document -------------------------------------------------------

MADE_BY_ANOTHER = {("DocumentReference", "DocumentReference")}
"""A replaced document is another message's entry."""


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_no_reference_leads_nowhere(library: Library, shared: Path) -> None:
    for path in corpus(shared):
        result = mapped(library, path)
        made = {entry.reference for entry in result.entries}
        for entry in result.entries:
            kind = entry.resource["resourceType"]
            for reference in references(entry.resource):
                if (kind, reference.partition("/")[0]) not in MADE_BY_ANOTHER:
                    assert reference in made, (path.name, entry.reference, reference)


def sections_of(element: ET.Element) -> Iterator[ET.Element]:
    """The sections in an element, without those that are empty (cmp-1 of R4)."""
    for component in element.findall(f"{V3}component"):
        for section in component.findall(f"{V3}section"):
            text = section.find(f"{V3}text")
            says = text is not None and "".join(text.itertext()).strip()
            if says or section.findall(f"{V3}entry") or section.findall(f"{V3}component"):
                yield section


def titles(section: ET.Element) -> Any:
    title = section.find(f"{V3}title")
    said = " ".join("".join(title.itertext()).split()) if title is not None else ""
    return said or None, [titles(inner) for inner in sections_of(section)]


def said_titles(section: dict[str, Any]) -> Any:
    title = section.get("title")
    return title and " ".join(title.split()), [said_titles(s) for s in section.get("section", ())]


def test_sections_stay_in_their_order_with_their_words(library: Library, shared: Path) -> None:
    compared = 0
    for path in corpus(shared):
        body = next(ET.parse(path).getroot().iter(f"{V3}structuredBody"), None)
        compositions = resources(mapped(library, path), "Composition")
        if body is None:
            assert compositions == []
            continue
        (composition,) = compositions
        assert [said_titles(each) for each in composition["section"]] == [
            titles(section) for section in sections_of(body)
        ], path.name
        words = "".join(div_words(composition["section"]))
        for text in body.iter(f"{V3}text"):
            for element in text.iter(f"{V3}td"):
                wanted = "".join("".join(element.itertext()).split())
                assert wanted in words, path.name
                compared += 1
    assert compared > 2500


def div_words(sections: list[dict[str, Any]]) -> Iterator[str]:
    for section in sections:
        if "text" in section:
            yield "".join("".join(ET.fromstring(section["text"]["div"]).itertext()).split())
        yield from div_words(section.get("section", []))


FAMILIES = {
    "VSM_1.4": {"Condition", "AllergyIntolerance", "MedicationStatement", "FamilyMemberHistory"},
    "IPS-FR": {
        "Condition", "AllergyIntolerance", "MedicationStatement", "Immunization", "Procedure",
        "DeviceUseStatement", "ImmunizationRecommendation", "Encounter", "FamilyMemberHistory",
    },
    "VAC_2023": {"Immunization"},
    "VAC-NOTE": {"Immunization"},
    "eP-MED-DM": {"MedicationRequest", "Medication", "DeviceRequest"},
    "eDISP-MED": {"MedicationDispense", "Medication"},
    "CNAM-HR": {"MedicationDispense", "MedicationStatement", "Procedure", "Encounter"},
    "IMG_CR_IMG_2024.01.xml": {"DiagnosticReport", "ImagingStudy", "MedicationAdministration"},
    "IMG-DA-IMG": {"ServiceRequest"},
    "LDL-SES": {"Encounter", "ServiceRequest", "DeviceUseStatement", "MedicationStatement"},
    "LDL-EES": {"Condition", "AllergyIntolerance"},
    "CSE-CS8": {"Observation", "Coverage", "Immunization", "RelatedPerson"},
    "OBP-SAP": {"Observation", "Condition", "Procedure"},
    "CANCER-FRCP": {"Condition", "Observation", "ServiceRequest"},
    "CANCER-PPS": {"Condition", "Procedure", "ServiceRequest"},
    "AVC-EUNV": {"Observation", "Procedure"},
    "OPH-BRE": {"Observation"},
    "DLU-EHPAD": {"Procedure", "MedicationStatement"},
    "CARD-F-PRC": {"Condition", "Goal"},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_documents_gives_its_kinds_of_entries(
    family: str, library: Library, shared: Path
) -> None:
    (path,) = (each for each in corpus(shared) if each.name.startswith(family))
    result = mapped(library, path)
    assert {entry.resource["resourceType"] for entry in result.entries} >= FAMILIES[family]


def test_a_statement_keeps_its_identity_when_others_come_before_it(
    library: Library, shared: Path
) -> None:
    (path,) = (each for each in corpus(shared) if each.name.startswith("VAC_2023"))
    text = path.read_text(encoding="utf-8")
    before = {entry.reference for entry in mapped(library, path).entries}
    first = text.index("<entry>")
    added = (
        '<entry><observation classCode="OBS" moodCode="EVN"><code code="8867-4"'
        ' codeSystem="2.16.840.1.113883.6.1"/><statusCode code="completed"/></observation></entry>'
    )
    changed = f"{text[:first]}{added}{text[first:]}"
    root = CdaReader().read([Payload.from_bytes(changed.encode())])
    program = library.match(root, Format.CDA)
    assert program is not None
    after = {entry.reference for entry in program.run(root, CONTEXT).entries}
    assert before < after
    assert len(after) == len(before) + 1

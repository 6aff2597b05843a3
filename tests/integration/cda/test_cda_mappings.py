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
    return Library.load([repository / "mappings"], {Format.CDA: CdaLanguage()})


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


def test_level_one_reports_have_the_document_only(library: Library, shared: Path) -> None:
    path = shared / "corpora" / "cda" / "BIO-CR-BIO_2021.01_CDA-R2-Niveau-1.xml"
    result = mapped(library, path)
    assert result.mapping == "cda.document"
    assert [entry.resource["resourceType"] for entry in result.entries] == [
        "Patient",
        "DocumentReference",
    ]

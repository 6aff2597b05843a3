"""Published reports, documents and key object selections: what is kept of them, and how."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pydicom.data
import pytest

from adapters.dicom.content import ContentItem
from adapters.dicom.language import DicomLanguage, DicomReader
from adapters.dicom.study import StudyScope
from gateway.deployment.loading import checked_mappings
from gateway.mapping import Library, MappingContext, packaged_mappings
from gateway.mapping.r4.checker import Checker
from gateway.mapping.serialise import dumps
from gateway.model import Format, Mapped, Payload

CONTEXT = MappingContext(zone="Europe/Paris", source="scanner", authorities={"": "1.2.250.1.999.1"})
PUBLISHED = Path(pydicom.data.__file__).parent / "test_files"
SHARED = Path(__file__).parents[4] / "shared" / "corpora" / "dicom"
OURS = ("test-SR.dcm", "reportsi.dcm", "reportsi_with_empty_number_tags.dcm")
DRAWN = ("SCOORD", "SCOORD3D", "TCOORD", "CONTAINER", "TABLE")
RETAINED_MIN = 0.95
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
OF_NO_USE_IN_A_SELECTION = {"DCM:121049", "DCM:121005"}


def reports() -> list[Path]:
    files = [PUBLISHED / name for name in OURS]
    return [*files, *sorted(SHARED.glob("*.dcm"))]


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load(
        [packaged_mappings()], {Format.DICOM: DicomLanguage()}, checked=checked_mappings()
    )


def mapped(library: Library, path: Path, *, trace: bool = False) -> tuple[StudyScope, Mapped]:
    root = DicomReader().read([Payload.from_file(path)])
    program = library.match(root, Format.DICOM)
    assert program is not None
    return root, program.run(root, CONTEXT, trace=trace)


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["reference"]] if isinstance(value.get("reference"), str) else []
        return own + [found for inner in value.values() for found in references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in references(inner)]
    return []


@pytest.mark.parametrize("path", reports(), ids=lambda path: path.name)
def test_entries_are_valid_refer_to_each_other_and_come_out_the_same(
    library: Library, path: Path
) -> None:
    _, made = mapped(library, path)
    resources = [entry.resource for entry in made.entries]
    assert not Checker.load().check_entries(resources)
    known = {entry.reference for entry in made.entries}
    assert set(references(resources)) <= known
    _, again = mapped(library, path)
    assert dumps([entry.resource for entry in again.entries]) == dumps(resources)


def leaves(root: ContentItem) -> list[ContentItem]:
    """Content items that say something and are not left out with a reason (study.yaml)."""
    selection = root.part("SOPClassUID").text == KEY_OBJECTS
    return [
        item
        for item in root.below()
        if item.value_type not in DRAWN
        and not (selection and item.concepts & OF_NO_USE_IN_A_SELECTION)
        and not item.by_reference
        and item.text
        and not any("DCM:111028" in around.concepts for around in item.ancestors())
    ]


@pytest.mark.parametrize("path", reports(), ids=lambda path: path.name)
def test_what_a_report_says_is_kept(library: Library, path: Path) -> None:
    root, made = mapped(library, path, trace=True)
    (instance,) = root.instances()
    content = instance.content()
    assert content is not None
    sources = " ".join(step.source for step in made.trace)
    found = set(re.findall(r"content\(([\d.]+)\)", sources))
    evidence = {
        reference["identifier"]["value"]
        for entry in made.entries
        for reference in entry.resource.get("context", {}).get("related", ())
        if "identifier" in reference
    }
    # A manifest's instances stand in the study that it tells of.
    evidence |= {
        f"urn:oid:{listed['uid']}"
        for entry in made.entries
        for series in entry.resource.get("series", ())
        for listed in series.get("instance", ())
    }
    said = leaves(content)
    kept = [i for i in said if i.position in found or f"urn:oid:{i.text}" in evidence]
    assert len(kept) >= RETAINED_MIN * len(said), [
        (item.position, item.value_type) for item in said if item not in kept
    ]


def test_every_attribute_that_is_left_out_has_a_reason(library: Library) -> None:
    (program,) = [program for program in library.programs if program.name == "dicom.study"]
    assert len(program.ignored) > 40
    assert all(len(ignored.reason.split()) > 3 for ignored in program.ignored)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared corpora are not here")
def test_a_manifest_lists_its_instances_and_says_where_to_get_them(library: Library) -> None:
    _, made = mapped(library, SHARED / "kos.dcm")
    by_type = {entry.resource["resourceType"]: entry.resource for entry in made.entries}
    (content,) = by_type["DocumentReference"]["content"]
    published = hashlib.sha256((SHARED / "kos.dcm").read_bytes()).hexdigest()
    assert content["attachment"]["url"] == f"Binary/{published}"
    assert len(by_type["ImagingStudy"]["series"][0]["instance"]) == 1
    endpoints = [e for e in made.entries if e.resource["resourceType"] == "Endpoint"]
    assert all(entry.resource["address"].startswith("http") for entry in endpoints)
    assert [each["reference"] for each in by_type["ImagingStudy"]["endpoint"]] == [
        entry.reference for entry in endpoints
    ]

"""The shipped mapping of a study: its twin, and that the order of arrival changes nothing."""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from pathlib import Path

import pydicom.data
import pytest

from adapters.dicom.dataset import Instance
from adapters.dicom.language import DicomLanguage, DicomReader
from adapters.dicom.notation import study_files
from adapters.dicom.study import READING_FAULTS
from gateway.deployment.loading import checked_mappings
from gateway.mapping import Library, MappingContext, packaged_mappings, run_twins
from gateway.mapping.r4.checker import Checker
from gateway.mapping.serialise import dumps
from gateway.model import Format, Mapped, Payload
from gateway.ports import Unreadable

CONTEXT = MappingContext(zone="Europe/Paris", source="scanner", authorities={"": "1.2.250.1.999.1"})


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load(
        [packaged_mappings()], {Format.DICOM: DicomLanguage()}, checked=checked_mappings()
    )


def mapped(library: Library, payloads: list[Payload]) -> Mapped:
    root = DicomReader().read(payloads)
    program = library.match(root, Format.DICOM)
    assert program is not None
    return program.run(root, CONTEXT)


def test_the_twin_passes(library: Library) -> None:
    results = run_twins(
        library, {Format.DICOM: DicomReader()}, encoders={Format.DICOM: study_files}
    )
    assert len(results) >= 5
    for result in results:
        assert result.passed, (result.name, result.differences)


def test_a_study_is_one_entry_whatever_the_order_and_keeps_its_id_when_it_grows(
    library: Library,
) -> None:
    text = "StudyInstanceUID = 2.999.1\nPatientID = 4711\nModality = CT\n" + "".join(
        f"---\nSOPClassUID = 1.2.840.10008.5.1.4.1.1.2\nSeriesInstanceUID = 2.999.1.{n % 3}\n"
        f"SOPInstanceUID = 2.999.1.9.{n}\nInstanceNumber = {n}\nSeriesNumber = {n % 3}\n"
        for n in range(1, 13)
    )
    files = list(study_files(text))
    expected = [entry.resource for entry in mapped(library, files).entries]
    for seed in range(4):
        random.Random(seed).shuffle(files)
        found = [entry.resource for entry in mapped(library, files).entries]
        assert dumps(found) == dumps(expected)
    smaller = mapped(library, list(study_files(text))[:5]).entries
    assert [entry.reference for entry in smaller] == [
        f"{resource['resourceType']}/{resource['id']}" for resource in expected
    ]
    assert smaller[1].resource["numberOfInstances"] == 5


def test_published_studies_become_entries_that_r4_accepts(library: Library) -> None:
    studies: dict[str, list[Payload]] = defaultdict(list)
    for path in sorted(Path(pydicom.data.__file__).parent.rglob("*")):
        if not path.is_file():
            continue
        try:
            payload = Payload.from_file(path)
            studies[Instance(payload).study].append(payload)
        except READING_FAULTS:
            continue
    checker = Checker.load()
    made = 0
    for payloads in studies.values():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                entries = mapped(library, payloads).entries
        except Unreadable:
            continue
        assert not checker.check_entries([entry.resource for entry in entries])
        (study,) = [e.resource for e in entries if e.resource["resourceType"] == "ImagingStudy"]
        assert study["numberOfSeries"] == len(study["series"])
        assert study["numberOfInstances"] == sum(len(s["instance"]) for s in study["series"])
        made += 1
    assert made >= 35

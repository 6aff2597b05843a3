"""Paths and scopes of the DICOM language: checked at load, read from a study."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from adapters.dicom.language import DicomLanguage, DicomReader, Place
from adapters.dicom.notation import study_files
from adapters.dicom.study import StudyScope
from gateway.ports import PathError, Scope, Unreadable, Value, ValueState

LANGUAGE = DicomLanguage()

STUDY = r"""
SOPClassUID = 1.2.840.10008.5.1.4.1.1.2
StudyInstanceUID = 2.999.1
PatientName = TESTARD^Zoé^Marie^MME^PhD=テスト^ゾエ=てすと
OtherPatientNames = A^B\C^D
ImageType = ORIGINAL\PRIMARY\AXIAL
StudyDate = 20260301
StudyTime = 101530
Modality = CT
ModalitiesInStudy = MR
NumberOfStudyRelatedInstances = 99
RequestAttributesSequence(1).ScheduledProcedureStepID = S1
RequestAttributesSequence(1).AccessionNumber = A1
RequestAttributesSequence(2).ScheduledProcedureStepID = S2
IssuerOfPatientIDQualifiersSequence(1).UniversalEntityID = 1.2.250.1.999.1
---
SeriesInstanceUID = 2.999.1.2
SeriesNumber = 10
SOPInstanceUID = 2.999.1.2.1
InstanceNumber = 1
StudyDescription = Thorax
BodyPartExamined =
---
SeriesInstanceUID = 2.999.1.1
SeriesNumber = 2
SOPInstanceUID = 2.999.1.1.11
InstanceNumber = 11
AccessionNumber =
---
SeriesInstanceUID = 2.999.1.1
SeriesNumber = 2
SOPInstanceUID = 2.999.1.1.9
InstanceNumber = 9
AccessionNumber =
"""


@pytest.fixture(scope="module")
def study() -> StudyScope:
    return DicomReader().read(study_files(STUDY))


def values(scope: Scope, path: str, within: object = Place.STUDY) -> Sequence[Value]:
    return LANGUAGE.path(path, versions=(), within=within).read(scope)


def read(scope: Scope, path: str, within: object = Place.STUDY) -> list[str]:
    return [value.text for value in values(scope, path, within)]


def scopes(scope: Scope, within: object = Place.STUDY, **spec: str) -> tuple[list[Scope], object]:
    compiled = LANGUAGE.scope(spec, versions=(), within=within)
    return list(compiled.walk(scope)), compiled.kind


# --- at load -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        ("PatietnName", "PatientName"),
        ("RequestAttributesSequence(1).ScheduledProcedureStepIDs",
         "RequestAttributesSequence(1).ScheduledProcedureStepID"),
        ("PatientName.Family", "PatientName.FamilyName"),
        ("PatientName.Ideografic.FamilyName", "PatientName.Ideographic.FamilyName"),
        ("StudyDate.FamilyName", ""),
        ("PatientName(0)", "PatientName(1)"),
        ("PID-3", ""),
        ("", ""),
        ("TransferSyntaxUID", ""),
        ("StudyDate+PatientName", ""),
        ("StudyTime+StudyDate", ""),
        ("ReferencedStudySequence.NumberOfStudyRelatedSeries", ""),
        ("NumberOfSeriesRelatedInstances", ""),
        ("A." * 40, ""),
        ("A" * 600, ""),
    ],
)  # fmt: skip
def test_a_wrong_path_is_refused_with_the_nearest_right_one(path: str, suggestion: str) -> None:
    with pytest.raises(PathError) as wrong:
        LANGUAGE.path(path, versions=(), within=Place.STUDY)
    assert wrong.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("path", "datatype", "repeats"),
    [
        ("StudyInstanceUID", "UI", False),
        ("ImageType", "CS", True),
        ("ImageType(3)", "CS", False),
        ("PatientName.FamilyName", "LO", False),
        ("ProcedureCodeSequence", "SQ", True),
        ("ProcedureCodeSequence(1)", "SQ", False),
        ("ProcedureCodeSequence(*).CodeValue", "SH", True),
        ("ProcedureCodeSequence(1).CodeValue", "SH", False),
        ("StudyDate+StudyTime", "DT", False),
        ("ModalitiesInStudy", "CS", True),
        ("NumberOfStudyRelatedSeries", "IS", False),
    ],
)
def test_what_a_path_gives_is_known_at_load(path: str, datatype: str, repeats: bool) -> None:
    compiled = LANGUAGE.path(path, versions=(), within=Place.STUDY)
    assert (compiled.text, compiled.datatype, compiled.repeats) == (path, datatype, repeats)


@pytest.mark.parametrize(
    ("spec", "within"),
    [
        ({"series": "*"}, Place.SERIES),
        ({"series": "*"}, Place.INSTANCE),
        ({"instance": "*"}, Place.INSTANCE),
        ({"instance": "1"}, Place.SERIES),
        ({"segment": "OBX"}, Place.STUDY),
        ({"path": "PatientName"}, Place.STUDY),
        ({"path": "PatientName.FamilyName"}, Place.STUDY),
        ({"series": "*", "path": "ProcedureCodeSequence"}, Place.STUDY),
        ({}, Place.STUDY),
    ],
)
def test_a_wrong_scope_is_refused(spec: dict[str, str], within: object) -> None:
    with pytest.raises(PathError):
        LANGUAGE.scope(spec, versions=(), within=within)


# --- reading -------------------------------------------------------------------------


def test_series_and_instances_stand_by_number_whatever_the_arrival(study: StudyScope) -> None:
    found, kind = scopes(study, series="*")
    assert [read(one, "SeriesInstanceUID", kind) for one in found] == [["2.999.1.1"], ["2.999.1.2"]]
    instances, inner = scopes(found[0], kind, instance="*")
    assert [read(one, "InstanceNumber", inner) for one in instances] == [["9"], ["11"]]
    every, _ = scopes(study, instance="*")
    assert [read(one, "SOPInstanceUID", inner)[0] for one in every] == [
        "2.999.1.1.9", "2.999.1.1.11", "2.999.1.2.1",
    ]  # fmt: skip
    assert values(every[1], "InstanceNumber", inner)[0].path == (
        "series(1)/instance(2)/InstanceNumber"
    )


def test_the_study_reads_from_its_first_instance_that_has_a_value(study: StudyScope) -> None:
    assert read(study, "StudyDescription") == ["Thorax"]
    assert values(study, "StudyDescription")[0].path == "StudyDescription"
    (empty,) = values(study, "AccessionNumber")
    assert empty.state is ValueState.EMPTY
    assert empty.text == ""
    assert values(study, "InstitutionName") == []


def test_counts_and_modalities_are_those_of_what_is_here(study: StudyScope) -> None:
    assert read(study, "NumberOfStudyRelatedSeries") == ["2"]
    assert read(study, "NumberOfStudyRelatedInstances") == ["3"]
    assert read(study, "ModalitiesInStudy") == ["CT"]
    assert read(study, "SOPClassesInStudy") == ["1.2.840.10008.5.1.4.1.1.2"]
    first = study.series[0]
    assert read(first, "NumberOfSeriesRelatedInstances", Place.SERIES) == ["2"]
    assert LANGUAGE.facts(study) == {
        "version": "", "kind": "study", "study": "2.999.1", "modalities": "CT", "series": "2",
        "instances": "3",
    }  # fmt: skip


def test_a_person_name_has_parts_and_its_text_is_alphabetic(study: StudyScope) -> None:
    (name,) = values(study, "PatientName")
    assert name.text == "TESTARD^Zoé^Marie^MME^PhD"
    assert name.datatype == "PN"
    parts = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
    assert [name.part(part).text for part in parts] == ["TESTARD", "Zoé", "Marie", "MME", "PhD"]
    assert read(study, "PatientName.Ideographic.FamilyName") == ["テスト"]
    assert read(study, "PatientName.Ideographic") == ["テスト^ゾエ"]
    assert read(study, "PatientName.Phonetic") == ["てすと"]
    assert read(study, "PatientName.Phonetic.GivenName") == []
    assert name.part("CodeValue").state is ValueState.ABSENT
    assert name.raw().decode().rstrip() == "TESTARD^Zoé^Marie^MME^PhD=テスト^ゾエ=てすと"
    assert read(study, "OtherPatientNames(2).FamilyName") == ["C"]


def test_values_are_counted_from_one(study: StudyScope) -> None:
    assert read(study, "ImageType") == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert read(study, "ImageType(3)") == ["AXIAL"]
    assert read(study, "ImageType(4)") == []
    assert values(study, "ImageType")[1].path == "ImageType(2)"


def test_sequence_items_are_paths_values_and_scopes(study: StudyScope) -> None:
    step = "RequestAttributesSequence(1).ScheduledProcedureStepID"
    assert read(study, step) == ["S1"]
    assert values(study, step)[0].path == step
    assert read(study, "RequestAttributesSequence.ScheduledProcedureStepID") == ["S1", "S2"]
    assert read(study, "RequestAttributesSequence(3).ScheduledProcedureStepID") == []
    first, second = values(study, "RequestAttributesSequence")
    assert first.part("AccessionNumber").text == "A1"
    assert second.part("AccessionNumber").state is ValueState.ABSENT
    assert first.part("NoKeyword").state is ValueState.ABSENT
    assert second.parts("ScheduledProcedureStepID")[0].path == (
        "RequestAttributesSequence(2).ScheduledProcedureStepID"
    )
    items, kind = scopes(study, path="RequestAttributesSequence")
    assert [read(item, "ScheduledProcedureStepID", kind) for item in items] == [["S1"], ["S2"]]
    assert items[1].path == "RequestAttributesSequence(2)"


def test_a_date_and_a_time_are_one_instant() -> None:
    def instant(*lines: str) -> list[str]:
        base = ["StudyInstanceUID = 1.2", "SeriesInstanceUID = 1.2.1", "SOPInstanceUID = 1.2.1.1"]
        root = DicomReader().read(study_files("\n".join([*base, *lines])))
        return read(root, "StudyDate+StudyTime")

    assert instant("StudyDate = 20260301", "StudyTime = 101530.25") == ["20260301101530.25"]
    assert instant("StudyDate = 20260301") == ["20260301"]
    assert instant("StudyTime = 1015") == []
    assert instant("StudyDate = 2026.03.01", "StudyTime = 10:15:30") == ["20260301101530"]
    with_offset = instant(
        "StudyDate = 20260301", "StudyTime = 1015", "TimezoneOffsetFromUTC = +0100"
    )
    assert with_offset == ["202603011015+0100"]
    assert instant("StudyDate = 20260301", "TimezoneOffsetFromUTC = +0100") == ["20260301"]
    assert instant("StudyDate =", "StudyTime = 1015") == [""]


def test_date_time_and_offset_come_from_one_instance() -> None:
    text = """
    StudyInstanceUID = 1.2
    SeriesInstanceUID = 1.2.1
    ---
    SOPInstanceUID = 1.2.1.1
    InstanceNumber = 1
    StudyTime = 2359
    ---
    SOPInstanceUID = 1.2.1.2
    InstanceNumber = 2
    StudyDate = 20260302
    StudyTime = 0001
    """
    root = DicomReader().read(study_files(text))
    assert read(root, "StudyDate+StudyTime") == ["202603020001"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("StudyInstanceUID = 1.2\nPatietnName = X", "line 2"),
        ("PatientName", "line 1"),
        ("# all\n\nProcedureCodeSequence(1) = 1", "line 3"),
        ("PatientName.FamilyName = X", "line 1"),
        ("Rows = many", "line 1"),
    ],
)
def test_an_example_study_says_which_line_is_wrong(text: str, line: str) -> None:
    with pytest.raises(Unreadable, match=line):
        study_files(text)


def test_an_example_study_is_read_by_another_reader() -> None:
    import io

    import pydicom

    files = study_files("PatientName = TESTARD^Zoé\nRows = 512\n---\nImageType = A\\B\n---\n")
    first, second = (pydicom.dcmread(io.BytesIO(one.read())) for one in files)
    assert first.PatientName.given_name == "Zoé"
    assert (first.Rows, list(first.ImageType)) == (512, ["A", "B"])
    assert "ImageType" not in second

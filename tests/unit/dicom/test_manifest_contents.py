"""Studies as manifests need them: rejection notes, requests, issuers that contradict."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from adapters.dicom.manifest import KEY_OBJECTS
from adapters.dicom.study_contents import StudyContents, read_study
from gateway.model import Payload

STUDY = "1.2.826.0.1.3680043.9.62"
CT = "1.2.840.10008.5.1.4.1.1.2"


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def stored(series: int, number: int, **attributes: Any) -> Payload:
    """An instance as the journal keeps it."""
    uid = f"{STUDY}.{series}.{number}"
    data = item(
        **{
            "SOPClassUID": CT, "SOPInstanceUID": uid, "StudyInstanceUID": STUDY,
            "SeriesInstanceUID": f"{STUDY}.{series}", "Modality": "CT", "PatientID": "4711",
            "StudyDate": "20260102", "StudyTime": "101500.5", "SeriesNumber": str(series),
            "InstanceNumber": str(number), "AccessionNumber": "A1", **attributes,
        }
    )  # fmt: skip
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return Payload.from_bytes(stream.getvalue())


def note(number: int, title: str, aimed: Sequence[tuple[int, Sequence[int]]], **more: Any) -> Any:
    """A key object selection on the study; ``aimed`` are series with their instances."""
    series = [
        item(
            SeriesInstanceUID=f"{STUDY}.{place}",
            **({"ReferencedSOPSequence": [named(place, each) for each in instances]}
               if instances else {}),
        )
        for place, instances in aimed
    ]  # fmt: skip
    evidence = item(StudyInstanceUID=STUDY)
    if series:
        evidence.ReferencedSeriesSequence = series
    scheme = "99DCM4CHEE" if title == "REVOKE_REJECTION" else "DCM"
    return stored(
        9, number, SOPClassUID=KEY_OBJECTS, Modality="KO", ValueType="CONTAINER",
        ConceptNameCodeSequence=[
            item(CodeValue=title, CodingSchemeDesignator=scheme, CodeMeaning="A title")
        ],
        CurrentRequestedProcedureEvidenceSequence=[evidence], ContentDate="20260103",
        ContentTime="080000", **more,
    )  # fmt: skip


def named(series: int, number: int) -> Dataset:
    sop_class = KEY_OBJECTS if series == 9 else CT
    uid = f"{STUDY}.{series}.{number}"
    return item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)


IMAGES = [stored(1, 1), stored(1, 2), stored(2, 1)]


def left(contents: StudyContents) -> list[str]:
    uids = (each.uid for series in contents.series for each in series.instances)
    return [uid.removeprefix(f"{STUDY}.") for uid in uids]


@pytest.mark.parametrize("title", ["113001", "113037", "113038", "113039"])
def test_a_rejection_note_takes_instances_out_and_is_no_content_itself(title: str) -> None:
    contents = read_study([*IMAGES, note(1, title, [(1, [1])])])
    assert left(contents) == ["1.2", "2.1"]
    assert (contents.rejected, contents.reason) == (1, title)
    assert "20260103080000" in contents.moments


def test_a_note_may_mean_a_whole_series_or_the_whole_study() -> None:
    assert left(read_study([*IMAGES, note(1, "113001", [(1, [])])])) == ["2.1"]
    contents = read_study([*IMAGES, note(1, "113037", [])])
    assert not contents.series
    assert contents.rejected == 3


def test_key_images_are_content_and_manifests_of_others_are_not() -> None:
    contents = read_study([*IMAGES, note(1, "113000", [(1, [1])]), note(2, "113030", [(1, [1])])])
    assert left(contents) == ["1.1", "1.2", "2.1", "9.1"]
    title = contents.series[-1].instances[0].title
    assert title is not None
    assert title.value == "113000"


def test_a_later_note_lifts_an_earlier_one_and_not_the_other_way_round() -> None:
    rejecting, lifting = note(1, "113001", [(1, [1])]), note(2, "113001", [(9, [1])])
    assert left(read_study([*IMAGES, rejecting, lifting])) == ["1.1", "1.2", "2.1"]
    assert left(read_study([*IMAGES, lifting, rejecting])) == ["1.2", "2.1"]
    revoking = note(3, "REVOKE_REJECTION", [(1, [1])])
    both = note(1, "113001", [(1, [1, 2])])
    assert left(read_study([*IMAGES, both, revoking])) == ["1.1", "2.1"]
    assert left(read_study([*IMAGES, revoking, both])) == ["2.1"]


def test_a_note_that_comes_before_its_images_holds_for_them() -> None:
    assert left(read_study([note(1, "113037", [(1, [1])]), *IMAGES])) == ["1.2", "2.1"]


def test_the_order_of_arrival_of_images_changes_nothing() -> None:
    assert read_study(IMAGES) == read_study(IMAGES[::-1])


def test_requests_are_put_together_and_each_keeps_its_own_order() -> None:
    def images(*issuers: str) -> list[Payload]:
        return [
            stored(
                1, place,
                **({"IssuerOfAccessionNumberSequence": [
                    item(UniversalEntityID=oid, UniversalEntityIDType="ISO")]} if oid else {}),
                RequestAttributesSequence=[
                    item(AccessionNumber="A2", RequestedProcedureDescription="Abdomen"),
                ],
            )
            for place, oid in enumerate(issuers, 1)
        ]  # fmt: skip

    contents = read_study(images("", "1.2.3"))
    assert [each.accession.value for each in contents.requests] == ["A1", "A2"]
    assert contents.requests[0].accession.issuer.universal == "1.2.3"
    assert contents.requests[1].description == "Abdomen"
    assert not contents.conflicts
    (conflict,) = read_study(images("1.2.4", "1.2.3")).conflicts
    assert conflict == "the study's instances name two issuers of one accession number"


def test_a_patient_id_of_two_issuers_is_a_conflict() -> None:
    contents = read_study(
        [stored(1, 1, IssuerOfPatientID="A"), stored(1, 2, IssuerOfPatientID="B")]
    )
    assert contents.conflicts == ("the study's instances name two issuers of the Patient ID",)


def test_old_and_wrong_dates_and_names_come_out_right() -> None:
    contents = read_study(
        [stored(1, 1, StudyDate="2026.01.02", StudyTime="10:15", SeriesDate="20260102",
                SeriesTime="noon", ReferringPhysicianName="LEROY^Paul")]
    )  # fmt: skip
    assert (contents.date, contents.time) == ("20260102", "1015")
    assert (contents.series[0].date, contents.series[0].time) == ("20260102", "")
    assert contents.moments == ("20260102101500", "20260102")
    assert contents.referrer == "LEROY^Paul"


def test_an_instance_with_a_broken_sequence_is_content_all_the_same() -> None:
    whole = stored(1, 1, RequestAttributesSequence=[item(AccessionNumber="A9")]).read()
    # The item says that it is longer than its sequence.
    place = whole.index(b"\xfe\xff\x00\xe0")
    broken = whole[: place + 4] + b"\xf0\xff\x00\x00" + whole[place + 8 :]
    contents = read_study([Payload.from_bytes(broken), stored(1, 2)])
    assert left(contents) == ["1.1", "1.2"]
    assert [each.accession.value for each in contents.requests] == ["A1"]

"""Private attributes that are known to be safe stay (PS3.15 E.3.10), and no others."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from adapters.dicom.changing import changes_of
from adapters.dicom.profile import BasicProfile
from adapters.dicom.rule_files import steps_of
from adapters.dicom.safe_private import SafeAttributes, SafePrivate

SECRET = b"0123456789abcdef0123"
KEEP = frozenset({"safe-private"})
OURS = SafePrivate("OURS 1.0", 0x0029, 0x05, "DS")


def profile(*of_site: SafePrivate, declared: bool = False, keep: frozenset[str] = KEEP) -> Any:
    return BasicProfile(SECRET, keep, safe=SafeAttributes(of_site, declared=declared))


def exam() -> Dataset:
    found = Dataset()
    found.PatientName, found.PatientID = "LHERMITTE^Zoé", "285036938201797"
    found.StudyInstanceUID, found.Modality = "1.2.3", "MR"
    return found


def put(level: Dataset, tag: int, vr: str, value: Any) -> None:
    level.add_new(tag, vr, value)


def private(level: Dataset) -> dict[int, Any]:
    return {int(each.tag): each.value for each in level if each.tag.is_private}


def through(found: Dataset, *, implicit: bool) -> Dataset:
    """As it comes off the wire: with representations, or without."""
    written = io.BytesIO()
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
    pydicom.dcmwrite(written, found, enforce_file_format=True)
    written.seek(0)
    return pydicom.dcmread(written)


@pytest.mark.parametrize("implicit", [False, True])
def test_an_attribute_is_known_by_its_creator_wherever_its_block_is(implicit: bool) -> None:
    found = exam()
    # Table E.3.10-1 has (0019,xx0C) of SIEMENS MR HEADER; another maker has 0x10 here.
    put(found, 0x00190010, "LO", "SOMEONE ELSE")
    put(found, 0x0019100C, "IS", "7")
    put(found, 0x00190011, "LO", "SIEMENS MR HEADER ")
    put(found, 0x0019110C, "IS", "1000")
    put(found, 0x0019110B, "IS", "9")
    put(found, 0x00290010, "LO", "OURS 1.0")
    put(found, 0x00291005, "DS", "1.5")
    put(found, 0x00291006, "LO", "unknown")
    put(found, 0x00310010, "LO", "SIEMENS MR HEADER")
    put(found, 0x0031100C, "IS", "8")
    item = Dataset()
    put(item, 0x001900F0, "LO", "SIEMENS MR HEADER")
    put(item, 0x0019F00C, "IS", "2000")
    # An item has creators of its own (PS3.5 7.8.1): the data set's do not hold in it.
    put(item, 0x0019110C, "IS", "3000")
    found.FrameContentSequence = [item]
    found = through(found, implicit=implicit)
    profile(OURS).apply(found)
    assert private(found) == {
        0x00190011: "SIEMENS MR HEADER", 0x0019110C: 1000,
        0x00290010: "OURS 1.0", 0x00291005: 1.5,
    }  # fmt: skip
    inner = found.FrameContentSequence[0]
    assert private(inner) == {0x001900F0: "SIEMENS MR HEADER", 0x0019F00C: 2000}
    codes = [each.CodeValue for each in found.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113111"]
    again = through(found, implicit=implicit)
    assert set(private(again)) == set(private(found))


def test_without_the_option_all_go() -> None:
    found = exam()
    put(found, 0x00190011, "LO", "SIEMENS MR HEADER")
    put(found, 0x0019110C, "IS", "1000")
    BasicProfile(SECRET, frozenset()).apply(found)
    assert private(found) == {}


@pytest.mark.parametrize("implicit", [False, True])
def test_what_is_in_a_private_sequence_is_cleaned_like_the_rest(implicit: bool) -> None:
    found = exam()
    item = Dataset()
    item.PatientName, item.PatientID = "LHERMITTE^Zoé", "285036938201797"
    item.ReferencedSOPInstanceUID, item.StudyDate = "1.2.3", "20260101"
    item.Rows = 3
    item.CodeMeaning, item.FilterType = "of Lhermitté", "WEDGE"
    put(item, 0x20010010, "LO", "Philips Imaging DD 001")
    put(item, 0x20011003, "FL", 800.0)
    put(item, 0x20011004, "FL", 800.0)  # the table has CS
    put(item, 0x20110010, "LO", "LHERMITTE")
    put(item, 0x20111001, "LO", "LHERMITTE")
    put(found, 0x20010010, "LO", "Philips Imaging DD 001")
    put(found, 0x20011068, "SQ", [item])
    found = through(found, implicit=implicit)
    profile().apply(found)
    (after,) = found[0x20011068].value
    # Without representations what is there is read as the table has it, whatever was meant.
    assert set(private(after)) - {0x20011004} == {0x20010010, 0x20011003}
    assert not after.get("PatientName")
    assert not after.get("StudyDate")
    assert after.ReferencedSOPInstanceUID == found.StudyInstanceUID != "1.2.3"
    assert after.Rows == 3
    assert "CodeMeaning" not in after
    assert after.FilterType == "WEDGE"
    written = io.BytesIO()
    pydicom.dcmwrite(written, found, enforce_file_format=True)
    for secret in (b"LHERMITTE", b"285036938201797", b"20260101"):
        assert secret not in written.getvalue()


def test_representations_of_the_table_and_of_a_site() -> None:
    found = exam()
    put(found, 0x00190010, "LO", "SIEMENS MR HEADER")
    put(found, 0x0019100C, "LO", "1000")  # the table has IS
    put(found, 0x7E010010, "LO", "HOLOGIC, Inc.")
    put(found, 0x7E011012, "OB", b"LHERMITTE ")  # in the table, and binary
    put(found, 0x00990010, "LO", "NQHeader")
    put(found, 0x00991002, "UI", "1.2.3")
    put(found, 0x00290010, "LO", "OURS 1.0")
    put(found, 0x00291005, "OB", b"\1\2")
    put(found, 0x00291006, "DT", "20260101120000")
    before = copy.deepcopy(found)
    profile().apply(found)
    assert private(found) == {0x00990010: "NQHeader", 0x00991002: found.StudyInstanceUID}
    assert found.StudyInstanceUID != "1.2.3"
    site = (
        SafePrivate("OURS 1.0", 0x0029, 0x05, "OB"), SafePrivate("OURS 1.0", 0x0029, 0x06, "DT"),
    )  # fmt: skip
    for dates, left in (((), None), (("dates",), "20260101120000"), (("modified-dates",), "moved")):
        again = copy.deepcopy(before)
        profile(*site, keep=KEEP | {"uids", *dates}).apply(again)
        assert again[0x00991002].value == "1.2.3"
        assert again[0x00291005].value == b"\1\2"
        kept = again.get(0x00291006)
        assert (kept is None) == (left is None)
        if kept is not None:
            assert (kept.value == left) or (left == "moved" and kept.value < "2026")


def test_a_private_value_that_names_the_patient_goes() -> None:
    found = exam()
    found.StudyID = "1"
    put(found, 0x00190010, "LO", "GEMS_ACQU_01")
    put(found, 0x0019109E, "LO", "fse lhérmitte")
    put(found, 0x00191023, "DS", "285036938201797")
    put(found, 0x00191027, "DS", "1")
    profile().apply(found)
    assert private(found) == {0x00190010: "GEMS_ACQU_01", 0x00191027: 1}


def declaring() -> Dataset:
    found = exam()
    put(found, 0x00290010, "LO", "OURS 1.0")
    put(found, 0x00291005, "DS", "1.5")
    put(found, 0x00310010, "LO", "THEIRS")
    put(found, 0x00311001, "LO", "kept")
    put(found, 0x00311002, "LO", "not listed")
    put(found, 0x00311003, "OB", b"\1\2")
    whole, mixed, broken = Dataset(), Dataset(), Dataset()
    whole.PrivateGroupReference, whole.PrivateCreatorReference = 0x0029, "OURS 1.0"
    whole.BlockIdentifyingInformationStatus = "SAFE"
    mixed.PrivateGroupReference, mixed.PrivateCreatorReference = 0x0031, "THEIRS"
    mixed.BlockIdentifyingInformationStatus = "MIXED"
    mixed.NonidentifyingPrivateElements = [0x01, 0x03]
    broken.BlockIdentifyingInformationStatus = "SAFE"
    found.PrivateDataElementCharacteristicsSequence = [whole, mixed, broken]
    return found


def test_what_an_object_declares_is_believed_where_a_site_says_so() -> None:
    found = declaring()
    profile().apply(found)
    assert private(found) == {}
    found = declaring()
    profile(declared=True).apply(found)
    assert private(found) == {
        0x00290010: "OURS 1.0", 0x00291005: 1.5, 0x00310010: "THEIRS", 0x00311001: "kept",
    }  # fmt: skip
    assert "PrivateDataElementCharacteristicsSequence" not in found


def test_a_rule_file_names_what_is_safe(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef", encoding="utf-8")
    path = tmp_path / "rules.yaml"
    path.write_text(
        """rules: trial
steps:
  - deidentify: basic
    keep: [safe-private]
    secret_file: secret
    safe_private:
      - {creator: OURS 1.0, group: "0029", element: "05", vr: DS}
    trust_declarations: true
    reason: The trial needs the dose rate.
""",
        encoding="utf-8",
    )
    (change,) = changes_of(steps_of((path,)))
    found = declaring()
    put(found, 0x00291106, "DS", "2")
    change(found)
    assert set(private(found)) == {0x00290010, 0x00291005, 0x00310010, 0x00311001}


CREATORS = ("SIEMENS MR HEADER", "GEMS_ACQU_01", "ELSCINT1", "DUPONT", "")


@settings(max_examples=60, deadline=None)
@given(
    blocks=st.dictionaries(st.integers(0x10, 0xFF), st.sampled_from(CREATORS), max_size=6),
    elements=st.sets(
        st.tuples(
            st.integers(0x0F, 0xFF), st.sampled_from([0x0C, 0x23, 0x24, 0x27, 0x50]),
            st.sampled_from(["DS", "IS", "FD"]),
        ),
        max_size=12,
    ),
    nested=st.booleans(),
)  # fmt: skip
def test_what_stays_is_what_is_known(
    blocks: dict[int, str], elements: set[tuple[int, int, str]], nested: bool
) -> None:
    known = {
        ("SIEMENS MR HEADER", 0x0C): "IS", ("SIEMENS MR HEADER", 0x27): "FD",
        ("GEMS_ACQU_01", 0x23): "DS", ("GEMS_ACQU_01", 0x24): "DS", ("GEMS_ACQU_01", 0x27): "DS",
    }  # fmt: skip
    level = Dataset()
    for block, creator in blocks.items():
        put(level, 0x00190000 | block, "LO", creator)
    given = {(block, element): vr for block, element, vr in elements}
    for (block, element), vr in given.items():
        put(level, 0x00190000 | block << 8 | element, vr, 1)
    found = exam()
    if nested:
        found.FrameContentSequence = [level]
    else:
        found.update(level)
    profile().apply(found)
    stay = {
        0x00190000 | block << 8 | element
        for (block, element), vr in given.items()
        if known.get((blocks.get(block, ""), element)) == vr
    }
    creators = {0x00190000 | (tag >> 8 & 0xFF) for tag in stay}
    after = found.FrameContentSequence[0] if nested else found
    assert set(private(after)) == stay | creators

"""Rule files: what is wrong in them is told with its place, and what they say is done."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from adapters.dicom.changing import changes_of
from adapters.dicom.part10 import read_file_meta
from adapters.dicom.rewriting import CannotRewrite, Rewriter
from adapters.dicom.rule_files import RuleError, read_rules, steps_of
from adapters.dicom.sender import Outgoing
from tests.integration.dicom.objects import PUBLISHED

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "archive-rules.yaml"
CT = PUBLISHED / "test_files" / "CT_small.dcm"


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("steps: [", "2:1: not YAML"),
        ("[1]", "1:1: a rule file is a map"),
        ("rules: x\n", "1:1: steps: a list is needed"),
        ("rules: x\nsteps:\n  - {set: PatientIdd, to: A, reason: r}\n",
         "3:11: the data dictionary has no PatientIdd (did you mean PatientID?)"),
        ("rules: x\nsteps:\n  - {set: PatientID, too: A, reason: r}\n", "3:22: there is no key too"),
        ("rules: x\nsteps:\n  - {set: PatientID, reason: r}\n", "3:5: set needs to"),
        ("rules: x\nsteps:\n  - {set: PatientID, to: A}\n", "3:5: a reason is needed"),
        ("rules: x\nsteps:\n  - {remove: SOPInstanceUID, reason: r}\n",
         "3:14: SOPInstanceUID is what makes the object"),
        ("rules: x\nsteps:\n  - {set: Rows, to: '1', reason: r}\n",
         "3:11: Rows is of representation US: it can be removed only"),
        ("rules: x\nsteps:\n  - {set: PatientID, to: A, remove: PatientName, reason: r}\n",
         "3:5: a step has one of"),
        ("rules: x\nsteps:\n  - {prefix: PatientID, with: A, keep: [dates], reason: r}\n",
         "keep does not go with prefix"),
        ("rules: x\nsteps:\n  - {deidentify: basic, keep: [names], secret_file: s, reason: r}\n",
         "3:32: what is kept is one of dates, descriptors, modified-dates"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [safe-private], safe_private: [{creator: A, group: \"0018\", element: \"01\", vr: DS}]}\n",
         "a private group is odd"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [safe-private], safe_private: [{creator: A, group: \"0019\", element: \"1001\", vr: DS}]}\n",
         "the element in its block: 2 digits"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [safe-private], safe_private: [{creator: A, group: \"0019\", element: \"01\", vr: PN}]}\n",
         "kept are AE, AS"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [safe-private], safe_private: [{creator: A, group: \"0019\", element: \"01\"}]}\n",
         "safe_private: which vr?"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [safe-private], safe_private: []}\n",
         "safe_private is a list of 1 to"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [dates], safe_private: [{creator: A, group: \"0019\", element: \"01\", vr: DS}]}\n",
         "safe_private goes with keep: [safe-private]"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [safe-private], trust_declarations: yes}\n",
         "trust_declarations is true or false"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [safe-private], vocabulary: [default]}\n",
         "vocabulary goes with keep: [descriptors]"),
        ("rules: x\nsteps:\n  - {deidentify: basic, secret_file: s, reason: r, keep: [descriptors], vocabulary: default}\n",
         "vocabulary is a list of 1 to"),
        ("rules: &a x\nsteps: [*a]\n", "1:8: anchors are not taken"),
    ],
)  # fmt: skip
def test_a_problem_has_its_place(tmp_path: Path, text: str, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RuleError) as caught:
        read_rules(path)
    assert any(each.startswith(f"{path}:") and problem in each for each in caught.value.problems), (
        caught.value.problems
    )


def test_all_problems_of_all_files_are_told(tmp_path: Path) -> None:
    wrong = written(tmp_path, "rules: x\nsteps:\n  - {set: A, to: x}\n  - {remove: B, reason: r}\n")
    with pytest.raises(RuleError) as caught:
        steps_of((wrong, tmp_path / "missing.yaml"))
    assert len(caught.value.problems) == 3


def changed(data: Dataset, path: Path) -> Dataset:
    for change in changes_of(steps_of((path,))):
        change(data)
    return data


def test_the_example_does_what_it_says() -> None:
    found = Dataset()
    found.PatientID, found.StationName, found.PatientComments = "12", "CT_OLD", "free text"
    item = Dataset()
    item.PatientID = "34"
    found.OtherPatientIDsSequence = [item]
    found.private_block(0x0009, "MAKER", create=True).add_new(1, "LO", "x")
    changed(found, EXAMPLE)
    assert (found.PatientID, found.OtherPatientIDsSequence[0].PatientID) == ("CHU-12", "CHU-34")
    assert (found.IssuerOfPatientID, found.StationName) == ("CHU", "CT1")
    assert "PatientComments" not in found
    assert not any(element.tag.is_private for element in found)
    # The same again changes nothing more.
    assert changed(found, EXAMPLE).PatientID == "CHU-12"


def test_what_does_not_fit_is_not_cut_off(tmp_path: Path) -> None:
    path = written(
        tmp_path, "rules: x\nsteps:\n  - {prefix: AccessionNumber, with: CHU-, reason: r}\n"
    )
    found = Dataset()
    found.AccessionNumber = "1234567890123"
    with pytest.raises(CannotRewrite) as caught:
        changed(found, path)
    assert "AccessionNumber" in str(caught.value)
    assert "123456" not in str(caught.value)


def profile(folder: Path, keep: str = "[]", secret: str = "0123456789abcdef0123") -> Path:
    (folder / "secret").write_text(secret, encoding="utf-8")
    return written(
        folder,
        f"rules: study\nsteps:\n  - {{deidentify: basic, keep: {keep}, secret_file: secret, reason: research}}\n",
    )


def test_the_basic_profile_leaves_nobody_to_be_known(tmp_path: Path) -> None:
    before = pydicom.dcmread(CT)
    item = Dataset()
    item.PatientID, item.StudyInstanceUID = before.PatientID, before.StudyInstanceUID
    before.RequestAttributesSequence = [item]
    source = Dataset()
    source.ReferencedSOPInstanceUID, source.ReferencedSOPClassUID = "1.2.3", before.SOPClassUID
    before.SourceImageSequence = [source]
    said = {str(before.PatientName), str(before.PatientID), before.StudyInstanceUID,
            before.SOPInstanceUID, before.StudyDate, before.InstitutionName}  # fmt: skip
    pixels = bytes(before.PixelData)
    after = changed(pydicom.Dataset(before), profile(tmp_path))
    text = str(after)
    assert not [each for each in said if each and str(each) in text]
    assert not any(element.tag.is_private for element in after)
    assert after.PatientIdentityRemoved == "YES"
    assert [each.CodeValue for each in after.DeidentificationMethodCodeSequence] == ["113100"]
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID != "1.2.3"
    assert bytes(after.PixelData) == pixels
    again = changed(pydicom.dcmread(CT), profile(tmp_path))
    assert again.SOPInstanceUID == after.SOPInstanceUID
    assert again.PatientID == after.PatientID
    other = changed(pydicom.dcmread(CT), profile(tmp_path, secret="another secret of this test"))
    assert other.PatientID != after.PatientID


def test_dates_and_uids_may_be_kept(tmp_path: Path) -> None:
    before = pydicom.dcmread(CT)
    after = changed(pydicom.dcmread(CT), profile(tmp_path, "[dates, uids]"))
    assert (after.StudyDate, after.StudyInstanceUID) == (before.StudyDate, before.StudyInstanceUID)
    codes = [each.CodeValue for each in after.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113106", "113110"]
    assert after.LongitudinalTemporalInformationModified == "UNMODIFIED"
    assert after.PatientID != before.PatientID


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")  # as ACR-NEMA wrote it
def test_dates_may_be_moved_and_the_patient_described(tmp_path: Path) -> None:
    def exam(date: str, patient: str = "P1") -> Dataset:
        before = pydicom.dcmread(CT)
        before.PatientID, before.StudyDate, before.AcquisitionDate = patient, date, "2004.01.20"
        before.PatientBirthDate, before.PatientBirthTime = "19700401", "0715"
        before.PatientSex, before.PatientAge, before.PatientWeight = "F", "033Y", "61"
        before.Allergies = "latex"
        before.DateOfSecondaryCapture = "20040121"  # which table E.1-1 has as well
        step = Dataset()
        step.ScheduledProcedureStepStartDateTime = "20040119120000.5+0100"
        step.ScheduledProcedureStepModificationDateTime = "2004"
        before.RequestAttributesSequence = [step]
        frame = Dataset()
        frame.FrameReferenceDateTime = "20040119120001"
        before.FrameContentSequence = [frame]
        return changed(before, profile(tmp_path, "[modified-dates, patient-characteristics]"))

    def day(text: str) -> datetime:
        return datetime.strptime(text[:8], "%Y%m%d")

    after, later = exam("20040119"), exam("20040219")
    gone = day("20040119") - day(after.StudyDate)
    assert 1 <= gone.days <= 3_650
    assert day(later.StudyDate) - day(after.StudyDate) == timedelta(days=31)
    assert day("20040120") - day(after.AcquisitionDate) == gone
    assert day("20040121") - day(after.DateOfSecondaryCapture) == gone
    assert day("20040119") - day(after.FrameContentSequence[0].FrameReferenceDateTime) == gone
    assert after.FrameContentSequence[0].FrameReferenceDateTime[8:] == "120001"
    assert after.StudyTime == pydicom.dcmread(CT).StudyTime
    assert exam("20040119", "P2").StudyDate != after.StudyDate
    assert not after.PatientBirthDate
    assert not after.get("PatientBirthTime")
    assert not [each.keyword for each in after.iterall() if str(each.value).startswith("2004")]
    assert (after.PatientSex, after.PatientAge, after.PatientWeight) == ("F", "033Y", 61)
    assert "Allergies" not in after
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [each.CodeValue for each in after.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108"]
    with pytest.raises(RuleError, match="not both"):
        read_rules(profile(tmp_path, "[dates, modified-dates]"))


def test_the_birth_date_goes_whatever_is_kept(tmp_path: Path) -> None:
    before = pydicom.dcmread(CT)
    before.PatientBirthDate = "19700401"
    assert not changed(before, profile(tmp_path, "[dates]")).PatientBirthDate


def test_what_is_burned_in_is_not_sent_and_a_secret_is_needed(tmp_path: Path) -> None:
    burned = pydicom.dcmread(CT)
    burned.BurnedInAnnotation = "YES"
    with pytest.raises(CannotRewrite, match="burned into"):
        changed(burned, profile(tmp_path))
    for secret in ("", "short"):
        with pytest.raises(RuleError, match="16 characters"):
            changes_of(steps_of((profile(tmp_path, secret=secret),)))
    (tmp_path / "secret").unlink()
    with pytest.raises(RuleError, match="cannot be read"):
        changes_of(read_rules(tmp_path / "rules.yaml").steps)


def test_a_changed_object_keeps_its_transfer_syntax_and_its_pixels(tmp_path: Path) -> None:
    compressed = PUBLISHED / "test_files" / "MR_small_RLE.dcm"
    with compressed.open("rb") as stream:
        meta = read_file_meta(stream, compressed.stat().st_size)
    rewriter = Rewriter(changes_of(steps_of((profile(tmp_path),))), 1 << 30)
    made: Any = rewriter.changed(Outgoing(compressed, meta))
    path = tmp_path / "made.dcm"
    path.write_bytes(made.data)
    read = pydicom.dcmread(path)
    assert read.file_meta.TransferSyntaxUID == meta.transfer_syntax
    assert (
        read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID == made.meta.sop_instance
    )
    assert read.PixelData == pydicom.dcmread(compressed).PixelData


def test_a_gateway_does_not_start_with_wrong_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gateway.cli.application import _known
    from gateway.cli.output import Code
    from gateway.delivery_settings import DicomDestinationSettings
    from gateway.dicom_destinations import make_dicom_destination

    path = written(tmp_path, "rules: x\nsteps:\n  - {remove: PatientNam, reason: r}\n")
    settings = DicomDestinationSettings.model_validate(
        {"type": "dicom", "name": "pacs", "connect": "h:104", "ae_title": "PACS", "rules": [path]}
    )
    with pytest.raises(RuleError) as caught:
        make_dicom_destination(settings, None)  # type: ignore[arg-type]
    assert _known(caught.value) is Code.USAGE
    assert f"{path}:3:14: the data dictionary has no PatientNam" in capsys.readouterr().err

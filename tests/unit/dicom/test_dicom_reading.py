"""Reading studies: what is damaged, contradictory, large or hostile."""

from __future__ import annotations

import gc
import random
import struct
import warnings
import zlib
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from adapters.dicom import reader as reader_module
from adapters.dicom.dataset import Level
from adapters.dicom.language import DicomLanguage, DicomReader, Place
from adapters.dicom.notation import study_files
from adapters.dicom.part10 import NotPart10, file_head, read_file_meta
from adapters.dicom.study import StudyScope
from gateway.model import Payload
from gateway.ports import PathError, Unreadable, ValueState

LANGUAGE = DicomLanguage()
PUBLISHED = Path(pydicom.data.__file__).parent
DEFLATED = "1.2.840.10008.1.2.1.99"
TWO = """
StudyInstanceUID = 2.999.1
SeriesInstanceUID = 2.999.1.1
PatientID = 4711
---
SOPInstanceUID = 2.999.1.1.1
InstanceNumber = 1
---
SOPInstanceUID = 2.999.1.1.2
InstanceNumber = 2
"""


def read(root: StudyScope, path: str) -> list[str]:
    found = LANGUAGE.path(path, versions=(), within=Place.STUDY).read(root)
    return [value.text for value in found]


def uids(root: StudyScope) -> list[str]:
    return [scope.instance.sop_instance for scope in root.instances()]


def body_of(payload: Payload) -> bytes:
    with payload.open() as stream:
        offset = read_file_meta(stream, payload.size).data_set_offset
    return payload.read()[offset:]


def published() -> list[Path]:
    found = []
    for folder in ("test_files", "charset_files"):
        for path in sorted((PUBLISHED / folder).rglob("*")):
            if not path.is_file():
                continue
            with path.open("rb") as stream:
                try:
                    read_file_meta(stream, path.stat().st_size)
                except NotPart10:
                    continue
            found.append(path)
    return found


@pytest.mark.parametrize("path", published(), ids=lambda path: path.name)
def test_published_files_read_as_another_reader_reads_them(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pydicom.dcmread(path)
        needed = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        if not all(expected.get(name) for name in needed):
            with pytest.raises(Unreadable, match="none of 1 instances"):
                DicomReader().read([Payload.from_file(path)])
            return
        root = DicomReader().read([Payload.from_file(path)])
        compared = 0
        for element in expected:
            if element.VR not in TEXTS or not element.keyword or element.tag.group >= 0x7FE0:
                continue
            theirs = element.value if element.VM > 1 else [element.value]
            shown = [str(one) for one in theirs if one is not None]
            texts = [t for one in shown if (t := one.split("=")[0].rstrip("^ ").strip())]
            try:
                ours = [text for text in read(root, element.keyword) if text]
            except PathError:
                continue  # a computed attribute that the file carries
            assert [_comparable(one) for one in ours] == [_comparable(one) for one in texts], (
                element.keyword
            )
            compared += 1
    assert compared > 3


TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "IS", "DS", "LO", "PN", "SH", "TM", "UI", "US",
                   "FD", "UL", "SL", "SS"})  # fmt: skip


def _comparable(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text.strip()


def test_one_bad_instance_is_reported_and_the_others_are_read() -> None:
    first, second = study_files(TWO)
    broken = Payload.from_bytes(first.read()[:200])
    root = DicomReader().read([broken, second, Payload.from_bytes(b"no DICOM")])
    assert uids(root) == ["2.999.1.1.2"]
    assert [(flag.code, flag.source) for flag in root.reading_flags()] == sorted(
        ("instance-unreadable", f"instance {bad.sha256[:12]}")
        for bad in (broken, Payload.from_bytes(b"no DICOM"))
    )


def test_nothing_readable_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="none of 1 instances"):
        DicomReader().read([Payload.from_bytes(b"no DICOM")])
    with pytest.raises(Unreadable, match="none of 0"):
        DicomReader().read([])


def test_two_studies_or_two_patients_are_refused() -> None:
    other = TWO.replace("2.999.1\n", "2.999.2\n").replace("4711", "")
    with pytest.raises(Unreadable, match="more than one study"):
        DicomReader().read([*study_files(TWO), *study_files(other)])
    another = TWO.replace("4711", "4712")
    with pytest.raises(Unreadable, match="more than one patient") as wrong:
        DicomReader().read([study_files(TWO)[0], study_files(another)[1]])
    assert wrong.value.location == "PatientID"
    assert "471" not in str(wrong.value)


def test_one_patient_id_of_two_authorities_is_of_two_patients() -> None:
    def issued(oid: str) -> list[Payload]:
        said = f"IssuerOfPatientIDQualifiersSequence(1).UniversalEntityID = {oid}\n" if oid else ""
        return study_files(TWO.replace("PatientID = 4711\n", f"PatientID = 4711\n{said}"))

    ours, others, silent = issued("2.999.71"), issued("2.999.72"), issued("")
    with pytest.raises(Unreadable, match="more than one issuer") as wrong:
        DicomReader().read([ours[0], others[1]])
    assert wrong.value.location == "IssuerOfPatientIDQualifiersSequence"
    assert "2.999.7" not in str(wrong.value)
    assert read(DicomReader().read([ours[0], silent[1]]), "PatientID") == ["4711"]


def test_a_patient_id_that_one_instance_lacks_is_no_contradiction() -> None:
    without = study_files(TWO.replace("4711", ""))
    root = DicomReader().read([study_files(TWO)[0], without[1]])
    assert read(root, "PatientID") == ["4711"]


def test_the_same_instance_twice_counts_once_and_another_object_under_its_uid_is_flagged() -> None:
    first, second = study_files(TWO)
    changed = study_files(TWO.replace("InstanceNumber = 1", "InstanceNumber = 7"))[0]
    root = DicomReader().read([first, second, first])
    assert uids(root) == ["2.999.1.1.1", "2.999.1.1.2"]
    assert not root.reading_flags()
    orders = [[first, second, changed], [changed, first, second], [second, first, changed]]
    found = [DicomReader().read(order) for order in orders]
    assert len({tuple(uids(root)) for root in found}) == 1
    (flags,) = {root.reading_flags() for root in found}
    assert [flag.code for flag in flags] == ["instance-conflict"]


def test_the_order_of_arrival_changes_nothing() -> None:
    text = "StudyInstanceUID = 2.999.1\n" + "".join(
        f"---\nSeriesInstanceUID = 2.999.1.{n % 3}\nSOPInstanceUID = 2.999.1.{n % 3}.{n}\n"
        f"{'' if n % 4 == 0 else f'InstanceNumber = {n}'}\nStudyDescription = D{n}\n"
        for n in range(1, 20)
    )
    files = list(study_files(text))
    expected = DicomReader().read(files)
    rng = random.Random(7)
    for _ in range(5):
        rng.shuffle(files)
        root = DicomReader().read(files)
        assert uids(root) == uids(expected)
        assert read(root, "StudyDescription") == read(expected, "StudyDescription")


def test_headers_beyond_the_budget_are_read_again_from_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader_module, "HEADER_BYTES_MAX", 0)
    root = DicomReader().read(study_files(TWO))
    assert uids(root) == ["2.999.1.1.1", "2.999.1.1.2"]
    assert read(root, "PatientID") == ["4711"]


def test_too_many_instances_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "INSTANCES_MAX", 1)
    with pytest.raises(Unreadable, match="2 instances; 1 are read at most"):
        DicomReader().read(study_files(TWO))


def test_a_deflated_data_set_is_read_and_a_bomb_is_not_inflated() -> None:
    import tracemalloc

    plain = body_of(study_files(TWO)[0])
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 200 << 20)
    raw = engine.compress(plain + bomb)
    raw += b"".join(engine.compress(bytes(1 << 20)) for _ in range(200)) + engine.flush()
    payload = Payload.from_bytes(file_head("1.2", "2.999.1.1.1", DEFLATED) + raw)
    tracemalloc.start()
    try:
        root = DicomReader().read([payload])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read(root, "PatientID") == ["4711"]
    assert peak < 24 << 20


def test_deep_nesting_is_reported_and_not_followed() -> None:
    first, second = study_files(TWO)
    body = body_of(first)
    head = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    at = body.index(struct.pack("<HH", 0x0010, 0x0020))
    hostile = body[:at] + (head + item) * 2_000 + body[at:]
    payload = Payload.from_bytes(file_head("1.2", "2.999.1.1.1", "1.2.840.10008.1.2.1") + hostile)
    root = DicomReader().read([payload, second])
    assert uids(root) == ["2.999.1.1.2"]
    (flag,) = root.reading_flags()
    assert "nested deeper" in flag.detail


def test_a_character_set_that_does_not_fit_is_flagged_once_and_the_raw_bytes_stay() -> None:
    files = [
        Payload.from_bytes(one.read().replace(b"ISO_IR 192", b"ISO_IR 6  ").replace(
            b"D\xc3\xa9j\xc3\xa0 ", "Déjà".encode("windows-1252") + b"   "))
        for one in study_files(TWO + "StudyDescription = Déjà\n---\nSOPInstanceUID = 2.999.9\n"
                               "StudyDescription = Déjà\n")
    ]  # fmt: skip
    root = DicomReader().read(files)
    assert not root.reading_flags()
    (value,) = LANGUAGE.path("StudyDescription", versions=(), within=Place.STUDY).read(root)
    assert value.text.startswith("D")
    assert value.raw()
    (flag,) = root.reading_flags()
    assert (flag.code, flag.source) == ("character-set", "StudyDescription")
    assert "Déjà" not in flag.detail


def test_a_study_cut_off_in_its_pixels_is_read() -> None:
    path = PUBLISHED / "test_files" / "MR_truncated.dcm"
    root = DicomReader().read([Payload.from_file(path)])
    assert read(root, "Modality") == ["MR"]


def test_bytes_are_fetched_when_asked_for_and_only_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from adapters.dicom import dataset

    root = DicomReader().read(list(study_files(
        "StudyInstanceUID = 2.999.1\nSeriesInstanceUID = 2.999.1.1\nSOPInstanceUID = 2.999.1.1.1\n"
        f"SOPClassUID = 1.2.840.10008.5.1.4.1.1.104.1\nEncapsulatedDocument = {'x' * 300_000}\n"
    )))  # fmt: skip
    compiled = LANGUAGE.path("EncapsulatedDocument", versions=(), within=Place.STUDY)
    (document,) = compiled.read(root)
    assert (document.state, document.text, document.datatype) == (ValueState.PRESENT, "", "OB")
    assert document.raw() == b"x" * 300_000
    monkeypatch.setattr(dataset, "VALUE_BYTES_MAX", 100)
    assert document.raw() == b""
    assert [flag.code for flag in root.reading_flags()] == ["unreadable-value"]


def visit(level: Level) -> int:
    """Ask for all sequences of a level, twice; how many items there are."""
    found = 0
    for tag in level.tags() * 2:
        if level.vr(tag) == "SQ":
            for item in level.items(tag):
                assert item.root is not item
                found += 1 + visit(item)
    return found


@pytest.mark.parametrize("name", ["reportsi.dcm", "rtplan.dcm", "CT_small.dcm"])
def test_what_was_read_goes_with_its_last_user(name: str) -> None:
    """Its bytes wait for no collector: that counts objects, and a header is few of them."""
    payload = Payload.from_file(Path(str(pydicom.data.get_testdata_file(name))))
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(each, Level) for each in gc.get_objects())
        study = DicomReader().read_all([payload])
        level = study.instances()[0].instance.level
        assert visit(level) > 0 or name == "CT_small.dcm"
        assert sum(isinstance(each, Level) for each in gc.get_objects()) > before
        del study, level
        assert sum(isinstance(each, Level) for each in gc.get_objects()) == before
    finally:
        gc.enable()

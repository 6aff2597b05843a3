"""Structured reports: the notation of content items, what they give, and hostile trees."""

from __future__ import annotations

import struct
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from adapters.dicom import content, content_tree, dataset
from adapters.dicom.content_notation import put_content
from adapters.dicom.content_paths import is_content_path, parse_content
from adapters.dicom.language import DicomLanguage, DicomReader, Place
from adapters.dicom.notation import study_files
from adapters.dicom.part10 import file_head
from adapters.dicom.study import StudyScope
from gateway.deployment.loading import checked_mappings
from gateway.mapping import Library, MappingContext, packaged_mappings
from gateway.mapping.r4.checker import Checker
from gateway.model import Format, Mapped, Payload
from gateway.ports import PathError, Unreadable, ValueState

LANGUAGE = DicomLanguage()
SR = "1.2.840.10008.5.1.4.1.1.88.33"
HEAD = f"""
SOPClassUID = {SR}
SOPInstanceUID = 2.999.1.1
StudyInstanceUID = 2.999.1
SeriesInstanceUID = 2.999.1.9
StudyDate = 20260301
Modality = SR
PatientID = 4711
CompletionFlag = COMPLETE
VerificationFlag = UNVERIFIED
ValueType = CONTAINER
ConceptNameCodeSequence(1).CodeValue = 126000
ConceptNameCodeSequence(1).CodingSchemeDesignator = DCM
ConceptNameCodeSequence(1).CodeMeaning = Report
"""
TREE = f"""{HEAD}
ContentDate = 20260302
ContentTime = 0800
TimezoneOffsetFromUTC = +0100
> HAS CONCEPT MOD | CODE | DCM 121049 Language | RFC5646 fr-FR French
> CONTAINS | CONTAINER | DCM 121070 Findings
>> CONTAINS | TEXT | DCM 121071 Finding | première <ligne>
>>> INFERRED FROM | NUM | SCT 410668003 Length | 12.50 | UCUM mm millimeter
>>>> SELECTED FROM | REFERENCE | - | 1.3
>> CONTAINS | CONTAINER | DCM 125007 Measurement Group
>>> CONTAINS | NUM | SCT 410668003 Length | 7 | UCUM mm millimeter
>>> CONTAINS | DATETIME | DCM 111526 Started | 20260301101500
> CONTAINS | IMAGE | DCM 121112 Source | 1.2.840.10008.5.1.4.1.1.2 2.999.1.2.1
> CONTAINS | PNAME | DCM 121008 Observer | LEROY^Paul=山田^太郎
"""


def study(text: str) -> StudyScope:
    return DicomReader().read(list(study_files(text)))


def texts(path: str, text: str = TREE) -> list[str]:
    compiled = LANGUAGE.path(path, versions=(), within=Place.STUDY)
    return [value.text for value in compiled.read(study(text))]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("CONTAINER", [""]),
        ("CONTAINER/CODE", ["French"]),
        ("CONTAINER/CONTAINER[concept=DCM:121070]/TEXT", ["première <ligne>"]),
        ("//NUM", ["12.50", "7"]),
        ("//NUM(2)", ["7"]),
        ("//CONTAINER[concept=DCM:121070]//NUM[relationship=INFERRED FROM]", ["12.50"]),
        ("//CONTAINER[concept=DCM:125007]/NUM[!relationship=INFERRED FROM]", ["7"]),
        ("//CODE[value=RFC5646:fr-FR].ConceptCodeSequence(1).CodeValue", ["fr-FR"]),
        ("//NUM.MeasuredValueSequence(1).MeasurementUnitsCodeSequence(1).CodeValue", ["mm", "mm"]),
        ("//NUM.position()", ["1.2.1.1", "1.2.2.1"]),
        ("/CONTAINER.ContentDate+ContentTime", ["202603020800+0100"]),
        ("//DATETIME", ["20260301101500+0100"]),
        ("//PNAME.PersonName.FamilyName", ["LEROY"]),
        ("//PNAME.PersonName.Ideographic", ["山田^太郎"]),
        ("//IMAGE[!reference]", ["2.999.1.2.1"]),
        ("//NUM/IMAGE", ["2.999.1.2.1"]),
        ("//*[concept=DCM:1|SCT:410668003]", ["12.50", "7"]),
        ("//TEXT//NUM[template]", []),
    ],
)
def test_content_is_found_by_type_concept_relationship_and_place(
    path: str, expected: list[str]
) -> None:
    assert texts(path) == expected


def test_axes_go_from_a_content_item() -> None:
    root = study(TREE)
    (number,) = parse_content("//CONTAINER[concept=DCM:125007]/NUM").items(
        root.instances()[0].content() or pytest.fail("no content")
    )
    assert [item.position for item in parse_content("ancestor::CONTAINER").items(number)] == [
        "1.2.2", "1.2", "1",
    ]  # fmt: skip
    for path, positions in (
        ("ancestor::CONTAINER(1)/*", ["1.2.2.1", "1.2.2.2"]),
        ("ancestor::CONTAINER(2)/*(1)", ["1.2.1"]),
        ("ancestor::CONTAINER(9)/*", []),
    ):
        assert [i.position for i in parse_content(path).items(number)] == positions
    assert [i.position for i in parse_content("parent::*").items(number)] == ["1.2.2"]
    assert [i.position for i in parse_content("self::NUM").items(number)] == ["1.2.2.1"]
    findings = number.root.children[1]
    assert [i.position for i in parse_content("own::*").items(findings)] == [
        "1.2.1", "1.2.1.1", "1.3",
    ]  # fmt: skip
    assert [i.position for i in parse_content("//*[same]").items(findings)] == []
    assert number.part("self::NUM.NumericValue").state is ValueState.ABSENT
    assert number.part("MeasuredValueSequence(1).NumericValue").text == "7"


@pytest.mark.parametrize(
    ("path", "says", "suggestion"),
    [
        ("//NUMM", "no value type", "//NUM"),
        ("//NUM[concpt=DCM:1]", "no predicate", "//NUM[concept=DCM:1]"),
        ("//NUM[concept=121071]", "SCHEME:CODE", ""),
        ("//NUM[relationship=CONTAIN]", "no relationship", "//NUM[relationship=CONTAINS]"),
        ("//NUM(0)", "count from 1", "//NUM(1)"),
        ("//CONTAINER(0)/NUM", "count from 1", "//CONTAINER(1)/NUM"),
        ("//NUM.Txt", "no keyword Txt", ""),
        ("//NUM[", "does not continue", ""),
        ("//", "a value type or *", ""),
        ("PixelData", "never loaded", ""),
        ("(0027,xxxx)", "even", "(private)"),
    ],
)
def test_a_wrong_path_says_what_is_wrong(path: str, says: str, suggestion: str) -> None:
    with pytest.raises(PathError, match=says.replace("*", r"\*")) as wrong:
        LANGUAGE.path(path, versions=(), within=Place.STUDY)
    assert wrong.value.suggestion == suggestion


def test_content_is_walked_in_instances_and_content_items_only() -> None:
    for within in (Place.STUDY, Place.SERIES, Place.ITEM):
        with pytest.raises(PathError, match="instance or a content item"):
            LANGUAGE.scope({"content": "//NUM"}, versions=(), within=within)
    with pytest.raises(PathError, match="is a value"):
        LANGUAGE.scope({"content": "//NUM.Date"}, versions=(), within=Place.CONTENT)
    with pytest.raises(PathError, match="not in an item"):
        LANGUAGE.path("//NUM", versions=(), within=Place.ITEM)


@given(st.text(alphabet="/*[]()=|!:.NUMCODEancestorself 12", max_size=40))
def test_any_text_is_a_path_or_says_why_not(text: str) -> None:
    if is_content_path(text):
        try:
            path = parse_content(text)
        except PathError:
            return
        list(path.items(_TREE_ROOT))


_TREE_ROOT = study(TREE).instances()[0].content()


def test_the_page_holds_what_the_report_says_and_nothing_that_runs() -> None:
    root = study(TREE + "> CONTAINS | TEXT | DCM 1 <script>x</script> | <img onerror=1>\n")
    (page,) = LANGUAGE.path("CONTAINER.narrative()", versions=(), within=Place.STUDY).read(root)
    html = page.raw().decode()
    assert html == page.raw().decode()
    for text in ("12.50 mm", "première &lt;ligne&gt;", "&lt;img", "Compte rendu du", "Paul LEROY"):
        assert text in html
    assert "<script" not in html
    assert "<img" not in html


def test_ranges_and_groups_of_attributes() -> None:
    text = HEAD + "AcquisitionDateTime = 20260101-20260131\nSeriesDate = 20260105-\n"
    assert texts("AcquisitionDateTime.From", text) == ["20260101"]
    assert texts("AcquisitionDateTime.To", text) == ["20260131"]
    assert texts("SeriesDate.From", text) == ["20260105"]
    assert texts("SeriesDate.To", text) == []
    assert texts("AcquisitionDateTime.From", HEAD + "AcquisitionDateTime = 2026-0500\n") == []
    assert texts("(0010,xxxx)", text) == ["4711"]
    assert texts("(private)", text) == []


def test_a_wrong_line_of_content_says_which() -> None:
    for line in (
        ">> CONTAINS | TEXT | - | x", "> CONTAINS | TEXT", "> CONTAINS | NOTHING | - | x",
        "> CONTAINS | NUM | - | x", "> CONTAINS | CODE | - | x", "> CONTAINS | IMAGE | - | x",
        "> CONTAINS | SCOORD | - | POINT a",
    ):  # fmt: skip
        with pytest.raises(Unreadable, match="line 1"):
            put_content(Dataset(), [(1, line)])


# --- hostile ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load([packaged_mappings()], {Format.DICOM: LANGUAGE}, checked=checked_mappings())


def mapped(library: Library, root: StudyScope) -> tuple[Mapped, list[str]]:
    program = library.match(root, Format.DICOM)
    assert program is not None
    made = program.run(root, MappingContext(zone="Europe/Paris", source="scanner"))
    assert not Checker.load().check_entries([entry.resource for entry in made.entries])
    return made, [flag.code for flag in (*made.flags, *root.reading_flags())]


def element(tag: int, vr: str, value: bytes) -> bytes:
    value += b" " * (len(value) % 2) if vr != "SQ" else b""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr == "SQ":
        return head + struct.pack("<HL", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def item(body: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body


def container(children: bytes) -> bytes:
    return item(
        element(content.RELATIONSHIP_TYPE, "CS", b"CONTAINS")
        + element(content.VALUE_TYPE, "CS", b"CONTAINER")
        + (element(content.CONTENT_SEQUENCE, "SQ", children) if children else b"")
    )


def report_of(children: bytes) -> StudyScope:
    body = (
        element(0x00080016, "UI", SR.encode())
        + element(0x00080018, "UI", b"2.999.2.1")
        + element(0x00080060, "CS", b"SR")
        + element(0x00100020, "LO", b"4711")
        + element(0x0020000D, "UI", b"2.999.2")
        + element(0x0020000E, "UI", b"2.999.2.9")
        + element(content.VALUE_TYPE, "CS", b"CONTAINER")
        + element(content.CONTENT_SEQUENCE, "SQ", children)
    )
    head = file_head(SR, "2.999.2.1", "1.2.840.10008.1.2.1")
    return DicomReader().read([Payload.from_bytes(head + body)])


def kinds(made: Mapped) -> list[str]:
    return [entry.resource["resourceType"] for entry in made.entries]


def test_a_report_nested_four_hundred_deep_is_not_read_in_part(library: Library) -> None:
    children = b""
    for _ in range(400):
        children = container(children)
    made, flags = mapped(library, report_of(children))
    assert kinds(made) == ["Patient", "ImagingStudy"]
    assert "content-not-read" in flags


def test_a_report_of_fifty_thousand_items_ends_soon_and_is_not_read_in_part(
    library: Library,
) -> None:
    number = item(
        element(content.RELATIONSHIP_TYPE, "CS", b"CONTAINS")
        + element(content.VALUE_TYPE, "CS", b"NUM")
    )
    root = report_of(number * 50_000)
    tracemalloc.start()
    began = time.process_time()
    made, flags = mapped(library, root)
    spent = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kinds(made) == ["Patient", "ImagingStudy"]
    assert "content-not-read" in flags
    assert spent < 20
    assert peak < 200 << 20


def test_contexts_that_thousands_inherit_are_not_written_out_for_each(library: Library) -> None:
    def leaf(relationship: bytes) -> bytes:
        return item(
            element(content.RELATIONSHIP_TYPE, "CS", relationship)
            + element(content.VALUE_TYPE, "CS", b"NUM")
        )

    inside = leaf(b"HAS CONCEPT MOD") * 400 + leaf(b"CONTAINS") * 2_000
    group = item(
        element(content.RELATIONSHIP_TYPE, "CS", b"CONTAINS")
        + element(content.VALUE_TYPE, "CS", b"CONTAINER")
        + element(content.CONTENT_SEQUENCE, "SQ", inside)
    )
    made, flags = mapped(library, report_of(group))
    assert kinds(made) == ["Patient", "ImagingStudy"]
    assert "content-not-read" in flags


def test_a_section_of_thousands_is_read_in_time_that_grows_with_it(library: Library) -> None:
    number = item(
        element(content.RELATIONSHIP_TYPE, "CS", b"CONTAINS")
        + element(content.VALUE_TYPE, "CS", b"NUM")
    )

    def seconds(count: int) -> float:
        root = report_of(number * count)
        program = library.match(root, Format.DICOM)
        assert program is not None
        began = time.process_time()
        program.run(root, MappingContext(source="scanner"))
        return time.process_time() - began

    seconds(50)
    assert seconds(1_600) < 12 * seconds(400)


def test_the_reports_of_one_study_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_tree, "STUDY_ITEMS_MAX", 15)
    second = TREE.replace("SOPInstanceUID = 2.999.1.1", "SOPInstanceUID = 2.999.1.2")
    root = study("---\n" + TREE + "---\n" + second)
    assert [scope.content() is not None for scope in root.instances()] == [True, False]
    assert [flag.code for flag in root.reading_flags()] == ["content-not-read"]


@pytest.mark.parametrize(
    "children",
    [
        item(element(content.VALUE_TYPE, "CS", b"NUM"))[:-3],
        element(content.VALUE_TYPE, "CS", b"NUM"),
        item(element(content.VALUE_TYPE, "CS", b"NUM")) + b"\0" * 9,
    ],
)
def test_a_broken_tree_is_not_read_in_part(library: Library, children: bytes) -> None:
    made, flags = mapped(library, report_of(children))
    assert kinds(made) == ["Patient", "ImagingStudy"]
    assert "content-not-read" in flags


def test_references_in_a_circle_and_into_nothing_end(library: Library) -> None:
    text = HEAD + (
        "> CONTAINS | TEXT | DCM 1 One | a\n>> INFERRED FROM | REFERENCE | - | 1.2\n"
        "> CONTAINS | TEXT | DCM 2 Two | b\n>> INFERRED FROM | REFERENCE | - | 1.1\n"
        ">> INFERRED FROM | REFERENCE | - | 1.9\n>> INFERRED FROM | REFERENCE | - | 1.2.1\n"
    )
    made, flags = mapped(library, study(text))
    values = [e.resource.get("valueString") for e in made.entries]
    assert [value for value in values if value] == ["a", "b"]
    assert "reference-to-nothing" in flags


def test_a_number_without_a_unit_and_a_name_without_a_code_are_flagged(library: Library) -> None:
    text = HEAD + "> CONTAINS | NUM | - | 12\n> CONTAINS | CODE | DCM 1 Finding | -\n"
    made, flags = mapped(library, study(text))
    found = [e.resource for e in made.entries if e.resource["resourceType"] == "Observation"]
    assert found[0]["valueQuantity"] == {"value": "12"}
    assert {"unit-missing", "missing-value"} <= set(flags)


def test_a_document_larger_than_is_read_is_flagged_and_never_loaded(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "VALUE_BYTES_MAX", 1_000)
    monkeypatch.setattr(dataset, "HEADER_BYTES_KEPT", 4_000)
    text = (
        "SOPClassUID = 1.2.840.10008.5.1.4.1.1.104.1\nSOPInstanceUID = 2.999.3.1\n"
        "StudyInstanceUID = 2.999.3\nSeriesInstanceUID = 2.999.3.9\nPatientID = 4711\n"
        f"EncapsulatedDocument = %PDF-1.4 {'x' * 10_000}\n"
    )
    made, flags = mapped(library, study(text))
    assert "DocumentReference" not in kinds(made)
    assert "unreadable-value" in flags


@pytest.mark.parametrize(
    ("length", "size", "flagged"),
    [("", 11, False), ("11", 11, False), ("12", 12, False), ("7", 11, True)],
)
def test_a_document_ends_where_it_says(
    library: Library, length: str, size: int, flagged: bool
) -> None:
    text = (
        "SOPClassUID = 1.2.840.10008.5.1.4.1.1.104.1\nSOPInstanceUID = 2.999.3.1\n"
        "StudyInstanceUID = 2.999.3\nSeriesInstanceUID = 2.999.3.9\nPatientID = 4711\n"
        "EncapsulatedDocument = %PDF-1.4 od\n"  # eleven bytes: one of padding
        + (f"EncapsulatedDocumentLength = {length}\n" if length else "")
    )
    made, flags = mapped(library, study(text))
    (attachment,) = made.attachments
    assert len(attachment.data) == size
    assert ("document-length" in flags) is flagged

"""HPRIM Médecin: what senders make of the twelve lines, the marks and the block."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hprim import medecin
from adapters.hprim.faults import NotReadable
from adapters.hprim.segments import Message
from gateway.model import CauseCode
from tests.unit.hprim import samples


def read(data: bytes, encoding: str = "windows-1252") -> Message:
    return medecin.read(data, encoding)


def fields(message: Message, name: str) -> list[list[str]]:
    return [segment.fields[1:] for segment in message.root.below(name)]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_a_whole_file(end: str) -> None:
    data = samples.medecin(end=end)
    assert medecin.is_medecin(data)
    assert medecin.split(data, 10) == [data]
    message = read(data)
    assert message.root.fields[2] == "ESSAI"
    assert fields(message, "RES") == [
        ["Hémoglobine", "hb", "N", "13.3", "g/dl", "12.5", "15.5", "N", "F"]
    ]
    assert fields(message, "TXT") == [["Texte libre"]]
    assert fields(message, "LAB") == [["Hémoglobine   13,3 g/dl"]]
    assert message.root.derived == {
        (7, 1): "1979-03-28", (8, 1): "2790328123456", (8, 2): "76", (10, 1): "2024-03-06",
        (11, 1): "labo.fake", (11, 2): "Institut d'essai", (11, 3): "L",
        (12, 1): "MED", (12, 2): "Dr",
    }  # fmt: skip
    assert message.flags == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("A", "B", "62580 C D"), ["A", "B", "62580", "C D"]),
        (("A", "62580 C", ""), ["A", "", "62580", "C"]),
        (("62580 C", "", ""), ["", "", "62580", "C"]),
        (("", "A", "C"), ["A", "", "", "C"]),
        (("A", "B", ""), ["A", "B", "", ""]),
    ],
)
def test_the_city_is_where_it_can_be_told(lines: tuple[str, ...], expected: list[str]) -> None:
    header = (*samples.MEDECIN_HEADER[:3], *lines, *samples.MEDECIN_HEADER[6:])
    assert fields(read(samples.medecin(header=header)), "ADR") == [expected]


def test_no_address_at_all() -> None:
    header = (*samples.MEDECIN_HEADER[:3], "", " ", "", *samples.MEDECIN_HEADER[6:])
    assert fields(read(samples.medecin(header=header)), "ADR") == []


@pytest.mark.parametrize(
    ("born", "written", "expected"),
    [
        ("10/03/1959", "06/03/2024", "1959-03-10"),
        ("10/03/59", "06/03/2024", "1959-03-10"),
        ("10/03/59", "06/03/24", "1959-03-10"),
        ("10/03/05", "06/03/2024", None),
        ("10/03/59", "", None),
        ("31/02/1959", "06/03/2024", None),
        ("1959", "06/03/2024", None),
        ("", "06/03/2024", None),
    ],
)
def test_a_date_of_birth_is_never_guessed(born: str, written: str, expected: str | None) -> None:
    header = list(samples.MEDECIN_HEADER)
    header[6], header[9] = born, written
    message = read(samples.medecin(header=tuple(header)))
    assert message.root.derived.get((7, 1)) == expected
    assert bool(message.flags) == (expected is None and bool(born))
    assert message.component(message.root, 7, born, 1) == expected


def test_results_with_few_fields_and_with_many() -> None:
    message = read(
        samples.medecin(
            " ****LAB****", "", "RES||IGET 005|A", "res | CRP | c |A|    < 0.12  mg/l |||||F",
            "RES|a|b|N|1|u|2|3|N|F|4|v|5|6", "RES|a|b|N|1|u|2|3|N|F|4|v|5|6|more", "TEX", "stray",
        )
    )  # fmt: skip
    assert [len(found) for found in fields(message, "RES")] == [3, 9, 13, 13]
    assert fields(message, "RES")[1][:4] == ["CRP", "c", "A", "< 0.12  mg/l"]
    assert sorted(flag.code for flag in message.flags) == ["text-left-out", "text-left-out"]


def test_end_marks_once_twice_with_blanks_and_with_text_behind() -> None:
    once = read(samples.medecin("text", marks=(" ****FIN**** ",)))
    assert fields(once, "TXT") == [["text"]]
    twice = read(
        samples.medecin("text", marks=("****FIN****", "****FIN****", "****FINFICHIER****"))
    )
    assert [flag.code for flag in twice.flags] == ["repeated-end-mark"]
    behind = read(samples.medecin("text", marks=("****FINFICHIER****", "signed by nobody")))
    assert [flag.code for flag in behind.flags] == ["text-left-out"]
    assert medecin.split(behind.raw, 5) == [behind.raw]


def test_several_messages_of_a_file() -> None:
    one = samples.medecin("first", marks=("****FIN****",))
    two = samples.medecin(
        "second", header=("", *samples.MEDECIN_HEADER[1:]), marks=("****FIN****",)
    )
    data = one + b"\r\n" + two + b"****FINFICHIER****\r\n"
    first, second = medecin.split(data, 5)
    assert first == one
    assert second == b"\r\n" + two + b"****FINFICHIER****\r\n"
    # The blank line belongs to nobody; the blank code is the first line of the second.
    assert read(second).root.fields[2] == "ESSAI"
    assert fields(read(second), "TXT") == [["second"]]
    with pytest.raises(NotReadable) as refused:
        medecin.split(data, 1)
    assert refused.value.code is CauseCode.HOSTILE_CONTENT


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (samples.medecin(marks=()), CauseCode.FRAME_TRUNCATED),
        (samples.medecin() + samples.medecin(marks=()), CauseCode.FRAME_TRUNCATED),
        (b"a\r\nb\r\n****FIN****\r\n", CauseCode.NOT_THE_FORMAT),
    ],
)
def test_files_that_are_refused(data: bytes, code: CauseCode) -> None:
    with pytest.raises(NotReadable) as refused:
        medecin.split(data, 5)
    assert refused.value.code is code


def test_a_patient_without_a_name_is_refused() -> None:
    header = ("1", "", *samples.MEDECIN_HEADER[2:])
    with pytest.raises(NotReadable) as refused:
        read(samples.medecin(header=header))
    assert (refused.value.code, refused.value.location) == (
        CauseCode.REQUIRED_FIELD_MISSING,
        "line 2",
    )


def test_wrong_bytes_are_told_by_their_offset() -> None:
    with pytest.raises(NotReadable) as refused:
        read(b"a\r\n\x81" + samples.medecin())
    assert refused.value.location == "byte 3"


LINE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=20)


@given(st.lists(LINE, max_size=30), st.booleans())
def test_no_lines_raise_anything_else(lines: list[str], marked: bool) -> None:
    data = "\n".join([*lines, "****FIN****"] if marked else lines).encode()
    try:
        for message in medecin.split(data, 50):
            read(message, "utf-8")
    except NotReadable:
        pass  # the only way in which a file may be refused


@given(st.lists(LINE.filter(lambda line: not medecin.mark_of(line)), max_size=10))
def test_the_text_is_kept_line_by_line(lines: list[str]) -> None:
    message = read(samples.medecin(*(lines or [""]), encoding="utf-8"), "utf-8")
    kept = "\n".join(found[0] for found in fields(message, "TXT"))
    assert kept.split() == " ".join(lines).split()

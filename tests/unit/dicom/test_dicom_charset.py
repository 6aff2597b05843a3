"""Character sets: the standard's examples, and what sites send instead."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.dicom.charset import character_sets, declared, decode
from adapters.dicom.language import DicomLanguage, DicomReader, Place
from gateway.model import Payload
from gateway.ports import Value

PERSON = b"\r\n\f\t\\^="
FOLDER = Path(pydicom.data.__file__).parent / "charset_files"


def patient_name(path: Path) -> list[Value]:
    root = DicomReader().read([Payload.from_file(path)])
    found = DicomLanguage().path("PatientName", versions=(), within=Place.STUDY).read(root)
    assert not root.reading_flags()
    return list(found)


@pytest.mark.parametrize(
    "name",
    [
        "chrArab", "chrFren", "chrFrenMulti", "chrGerm", "chrGreek", "chrH31", "chrH32", "chrHbrw",
        "chrI2", "chrJapMulti", "chrJapMultiExplicitIR6", "chrKoreanMulti", "chrRuss", "chrX1",
        "chrX2",
    ],
)  # fmt: skip
def test_the_published_examples_read_as_another_reader_reads_them(name: str) -> None:
    path = FOLDER / f"{name}.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pydicom.dcmread(path).PatientName
    (found,) = patient_name(path)
    groups = (found.part("Alphabetic"), found.part("Ideographic"), found.part("Phonetic"))
    theirs = (expected.alphabetic, expected.ideographic, expected.phonetic)
    assert tuple(group.text for group in groups) == tuple(t.rstrip("^ ") for t in theirs)


@pytest.mark.parametrize(
    ("raw", "sets", "text", "fallback"),
    [
        (b"H\xe9l\xe8ne", ("ISO_IR 100",), "Hélène", ""),
        ("Hélène".encode(), ("ISO_IR 192",), "Hélène", ""),
        ("Œuvre €".encode("iso8859_15"), ("ISO_IR 203",), "Œuvre €", ""),
        # Undeclared, as French sites send it.
        (b"H\xe9l\xe8ne", ("",), "Hélène", "windows-1252"),
        ("Hélène".encode(), ("",), "Hélène", "utf-8"),
        (b"H\xe9l\xe8ne", ("ISO_IR 192",), "Hélène", "windows-1252"),
        (b"\x81\x8d", ("",), "\x81\x8d", "iso8859-1"),
        (b"H\xe9l\xe8ne", ("ISO 8859-1",), "Hélène", "windows-1252"),
        # Two-byte Shift JIS is not JIS X 0201.
        (b"\x8e\x52", ("ISO_IR 13",), "ŽR", "windows-1252"),
        (b"\xd4\xcf", ("ISO_IR 13",), "ﾔﾏ", ""),
        # The delimiter brings the first set back (PS3.5 6.1.2.5.3).
        (b"\x1b-F\xc4^\xc4", ("", "ISO 2022 IR 126"), "\x1b-FÄ^Ä", "windows-1252"),
        (b"\x1b-F\xc4^A", ("", "ISO 2022 IR 126"), "Δ^A", ""),
        (b"\x1b-F\xc4\x1b-L\xbf", ("", "ISO 2022 IR 126", "ISO 2022 IR 144"), "ΔП", ""),
    ],
)
def test_what_is_declared_is_strict_and_a_fallback_is_said(
    raw: bytes, sets: tuple[str, ...], text: str, fallback: str
) -> None:
    assert decode(raw, sets, delimiters=PERSON) == (text, fallback)


def test_a_two_byte_character_may_hold_the_byte_of_a_delimiter() -> None:
    # In JIS X 0208 the second byte of this character is 5C, the backslash.
    raw = b"\x1b$B" + "曙".encode("iso2022_jp")[3:5] + b"\x1b(B"
    found = decode(raw, ("", "ISO 2022 IR 87"), delimiters=PERSON)
    assert found == ("曙", "")
    gbk = "\u8c5e".encode("gbk")
    assert decode(gbk, ("GBK",)).text == "\u8c5e"


def test_defined_terms() -> None:
    assert character_sets(None) == ("",)
    assert character_sets(b" ") == ("",)
    assert character_sets(b"ISO_IR 100") == ("ISO_IR 100",)
    assert character_sets(b"\\ISO 2022 IR 87 ") == ("", "ISO 2022 IR 87")


def test_what_is_told_of_a_declaration_holds_no_text_from_the_wire() -> None:
    assert declared(("",)) == "the default character set"
    assert declared(("", "ISO 2022 IR 87")) == "\\ISO 2022 IR 87"
    assert declared(("TESTARD^PAUL",)) == "unknown"


@given(
    st.binary(max_size=80),
    st.lists(
        st.sampled_from(["", "ISO_IR 100", "ISO 2022 IR 87", "ISO 2022 IR 149", "ISO_IR 192", "?"]),
        min_size=1,
        max_size=3,
    ),
)
def test_no_bytes_are_beyond_decoding(raw: bytes, sets: list[str]) -> None:
    found = decode(raw, tuple(sets), delimiters=PERSON)
    assert isinstance(found.text, str)


@given(st.text(alphabet="abcdéèçÀÿß ^=", max_size=40))
def test_latin_1_comes_back(text: str) -> None:
    assert decode(text.encode("iso8859_1"), ("ISO_IR 100",), delimiters=PERSON) == (text, "")

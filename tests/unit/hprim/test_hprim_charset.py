"""Strict decoding by a list, and the offset at which a file fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hprim.charset import DEFAULT, Undecodable, choose, decode

TEXT = "Hémoglobine à jeûn œ µ\r\n"


def test_the_first_that_fits_is_taken() -> None:
    assert choose(TEXT.encode(), DEFAULT) == "utf-8"
    assert choose(TEXT.encode("cp1252"), DEFAULT) == "windows-1252"
    assert choose(b"plain", ("cp850", "utf-8")) == "cp850"
    assert decode(TEXT.encode("cp1252"), "windows-1252") == TEXT
    assert decode("é".encode("cp850"), "cp850") == "é"
    assert decode("é".encode("mac-roman"), "mac-roman") == "é"
    assert decode(b"\xef\xbb\xbfa", "utf-8") == "a"


@pytest.mark.parametrize(
    ("data", "names", "offset"),
    [
        (b"abc\x81d", DEFAULT, 3),  # undefined in Windows-1252, no UTF-8
        (b"ab\x00", ("utf-8",), 2),
        (b"ab\x93cd", ("iso-8859-1",), 2),  # a C1 control: these bytes are Windows-1252
        ("é\x07".encode(), ("utf-8",), 2),
        (b"\xe9abc\x8f", ("utf-8", "windows-1252"), 4),  # of the two the better one's
    ],
)
def test_what_fits_nowhere_is_refused_with_its_offset(
    data: bytes, names: tuple[str, ...], offset: int
) -> None:
    with pytest.raises(Undecodable) as refused:
        choose(data, names)
    assert refused.value.offset == offset
    assert str(offset) in str(refused.value)


def test_the_end_of_file_of_dos_is_no_text() -> None:
    assert decode(b"L|1\r\n\x1a", "cp850") == "L|1\r\n"
    with pytest.raises(Undecodable):
        decode(b"a\x1ab", "cp850")


@given(st.binary(max_size=200))
def test_whatever_is_chosen_decodes_to_the_same_bytes(data: bytes) -> None:
    offset = 0
    try:
        name = choose(data, ("utf-8", "windows-1252", "iso-8859-1", "cp850"))
    except Undecodable as wrong:
        name, offset = "", wrong.offset
    if not name:
        assert 0 <= offset < len(data)
        return
    text = decode(data, name)
    codec = {"windows-1252": "cp1252"}.get(name, name)
    assert text.encode(codec) in {data.rstrip(b"\x1a"), data.rstrip(b"\x1a")[3:]}

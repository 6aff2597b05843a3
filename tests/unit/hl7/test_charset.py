"""Character sets: every name, strict decoding, the offset of the first wrong byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7 import charset as charsets
from adapters.hl7.charset import ASCII, UTF_8, Charset, Undecodable, charset_named, choose, decode

FRENCH = "Noël à Œuvre, 12 € — naïveté"


@pytest.mark.parametrize(
    ("names", "codec"),
    [
        (["ASCII", "US-ASCII", "ISO IR6", "ISO_IR 6", "ascii"], "ascii"),
        (["UNICODE UTF-8", "UTF-8", "utf8", "UNICODE", "Unicode UTF8", "UNICODE_UTF-8"], "utf-8"),
        (["8859/1", "8859-1", "ISO-8859-1", "ISO8859-1", "iso 8859/1", "LATIN1"], "latin-1"),
        (["8859/15", "ISO-8859-15", "8859-15", "Latin-9"], "iso8859-15"),
        (["WINDOWS-1252", "windows 1252", "CP1252"], "cp1252"),
        (["8859/2", "ISO-8859-2"], "iso8859-2"),
        (["EBCDIC", "UNICODE UTF-16", "ISO IR87", "", "x"], None),
    ],
)
def test_names(names: list[str], codec: str | None) -> None:
    for name in names:
        found = charset_named(name)
        assert (found.codec if found else None) == codec, name


def test_what_decides() -> None:
    accents = "é".encode()
    assert choose(b"plain", "8859/1", "UTF-8") is ASCII
    assert choose(accents, "8859/1", "UTF-8").codec == "latin-1"
    assert choose(accents, "", "8859/15").codec == "iso8859-15"
    assert choose(accents, "", "") is ASCII
    assert choose(accents, " UNICODE UTF-8 ", "") is UTF_8
    assert choose(b"\xef\xbb\xbfMSH", "", "8859/1") is UTF_8
    with pytest.raises(Undecodable) as unknown:
        choose(accents, "EBCDIC", "UTF-8")
    assert not unknown.value.charset_known


def test_an_escape_byte_is_not_plain_ascii() -> None:
    with pytest.raises(Undecodable):
        choose(b"\x1b$B", "ISO IR87", "")


@pytest.mark.parametrize("name", ["UNICODE UTF-8", "8859/15", "WINDOWS-1252"])
def test_french_round_trips(name: str) -> None:
    charset = charset_named(name)
    assert charset is not None
    text = FRENCH if name != "8859/15" else FRENCH.replace("—", "-")
    assert decode(text.encode(charset.codec), charset) == text


@given(st.text(), st.binary(min_size=1, max_size=4), st.text())
def test_the_first_wrong_byte_is_found(before: str, middle: bytes, after: str) -> None:
    payload = before.encode() + middle + after.encode()
    expected: int | None = None
    nul = payload.find(0)
    try:
        payload[: nul if nul >= 0 else None].decode()
    except UnicodeDecodeError as error:
        expected = error.start
    if expected is None and nul >= 0:
        expected = nul
    assert charsets.first_undecodable(payload, UTF_8) == expected


@pytest.mark.parametrize("offset", [0, 1000, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 600_000])
def test_offsets_in_large_messages(offset: int) -> None:
    payload = bytearray("aé".encode() * 250_000)
    payload[offset] = 0xFF
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        expected = error.start
    assert charsets.first_undecodable(bytes(payload), UTF_8) == expected


def test_a_message_that_ends_within_a_character() -> None:
    assert charsets.first_undecodable(b"ok\xc3", UTF_8) == 2
    assert charsets.first_undecodable(b"a" * (1 << 19) + b"\xc3", UTF_8) == 1 << 19


def test_undefined_windows_bytes_and_nul_are_refused() -> None:
    windows = charset_named("CP1252")
    assert windows is not None
    with pytest.raises(Undecodable) as wrong:
        decode(b"ab\x81", windows)
    assert wrong.value.offset == 2
    with pytest.raises(Undecodable) as nul:
        decode("é\0".encode(), UTF_8)
    assert nul.value.offset == 2


def test_no_bytes_of_the_message_stay_in_the_error() -> None:
    with pytest.raises(Undecodable) as wrong:
        decode(b"SECRET\xff", UTF_8)
    assert "SECRET" not in repr(wrong.value)
    assert wrong.value.__cause__ is None
    assert wrong.value.__context__ is None


def test_decoding_from_an_offset_counts_from_the_start() -> None:
    with pytest.raises(Undecodable) as wrong:
        decode(b"\xef\xbb\xbfab\xff", UTF_8, 3)
    assert wrong.value.offset == 5


def test_a_charset_is_a_value() -> None:
    assert charset_named("8859/1") == Charset("8859/1", "latin-1")

"""Character sets: every name, strict decoding, the offset of the first wrong byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7 import charset as charsets
from adapters.hl7 import cns11643
from adapters.hl7.charset import (
    ASCII,
    UTF_8,
    Charset,
    Undecodable,
    charset_named,
    choose,
    decide,
    decode,
)
from adapters.hl7.header import read_header
from adapters.hl7.message import Message
from gateway.ports import Unreadable

FRENCH = "Noël à Œuvre, 12 € — naïveté"


@pytest.mark.parametrize(
    ("names", "codec"),
    [
        (["ASCII", "US-ASCII", "ISO IR6", "ISO_IR 6", "ascii"], "ascii"),
        (["UNICODE UTF-8", "UTF-8", "utf8", "UNICODE", "Unicode UTF8", "UNICODE_UTF-8"], "utf-8"),
        (["8859/1", "8859-1", "ISO-8859-1", "ISO8859-1", "iso 8859/1", "LATIN1"], "latin-1"),
        (["8859/15", "ISO-8859-15", "8859-15", "Latin-9"], "iso8859-15"),
        (["WINDOWS-1252", "windows 1252", "CP1252"], "cp1252"),
        (["8859/2", "ISO-8859-2", "iso8859_2", "ISO_8859-2:1987", "latin2"], "iso8859-2"),
        (["8859/9", "Latin-5", "ISO-IR-148"], "iso8859-9"),
        (["WINDOWS-1250", "cp1250"], "cp1250"),
        (["CP850", "IBM850"], "cp850"),
        (["UNICODE UTF-16", "UTF-16", "UCS-2"], "utf-16"),
        (["UNICODE UTF-32", "utf32"], "utf-32"),
        (["ISO IR87", "ISO IR159", "ISO IR14", "JIS X 0202", "JAS2020", "ISO-2022-JP"], "ascii"),
        (["GB 18030-2000", "GB18030", "GBK", "GB2312"], "gb18030"),
        (["KS X 1001", "KSX1001", "EUC-KR"], "cp949"),
        (["BIG-5", "Big5"], "cp950"),
        (["CNS 11643-1992", "EUC-TW"], "ecluse_euc_tw"),
        (["Shift_JIS", "SJIS"], "cp932"),
        (["EBCDIC", "8859/12", "8859/99", "", "x", "code1", "ANSI"], None),
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


def test_a_name_is_the_same_however_it_is_written() -> None:
    for part in (*range(1, 12), 13, 14, 15, 16):
        forms = ("8859/{}", "8859-{}", "ISO-8859-{}", "ISO 8859-{}", "iso8859_{}", "ISO_8859-{}")
        assert len({charset_named(form.format(part)) for form in forms}) == 1


@pytest.mark.parametrize("name", ["UNICODE UTF-16", "UTF-32"])
def test_a_wide_character_set_is_refused_where_msh_is_not_in_it(name: str) -> None:
    with pytest.raises(Undecodable) as wrong:
        choose("MSH|é".encode(), name, "")
    assert not wrong.value.charset_known
    assert choose(b"MSH|plain", name, "") is ASCII


def test_declared_fallbacks_come_after_the_declared_set() -> None:
    latin = "MSH|café".encode("latin-1")
    assert decide(latin, "UTF-8", "").fault is not None
    assert decide(latin, "UTF-8", "").fell_back is False
    fallen = decide(latin, "UTF-8", "", ("BIG-5", "8859/15"))
    assert (fallen.charset, fallen.fault, fallen.fell_back) == (
        charset_named("8859/15"),
        None,
        True,
    )
    utf_8 = decide("MSH|café".encode(), "UTF-8", "", ("8859/15",))
    assert (utf_8.charset, utf_8.fell_back) == (UTF_8, False)
    unknown = decide(latin, "EBCDIC", "", ("WINDOWS-1252",))
    assert unknown.charset == charset_named("CP1252")
    nothing = decide(b"MSH|\x81", "UTF-8", "", ("WINDOWS-1252",))
    assert nothing.fault is not None
    assert nothing.fault.offset == 4
    nul = decide(b"MSH|\xe9\0", "UTF-8", "", ("WINDOWS-1252", "8859/1"))
    assert nul.fault is not None


def test_every_character_of_cns_11643_comes_back() -> None:
    characters = sorted(cns11643._characters().values())
    assert len(characters) == len(set(characters)) == 13_517
    text = "".join(characters)
    assert text.encode(cns11643.CODEC).decode(cns11643.CODEC) == text
    # 中文 and 張, as the C library's EUC-TW has them; plane 1 may be written in full.
    assert b"\xc4\xe3\xc5\xc6".decode(cns11643.CODEC) == "中文"
    assert b"\x8e\xa1\xc4\xe3".decode(cns11643.CODEC) == "中"
    with pytest.raises(UnicodeDecodeError) as wrong:
        b"ok\xc4\xe3\x8e\xa3\xa1\xa1".decode(cns11643.CODEC)
    assert wrong.value.start == 4


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BIG-5", "功能許蓋"),  # second bytes are those of \\ and |
        ("GB 18030-2000", "李𠀀鎄"),
        ("KS X 1001", "김철수"),
        ("CNS 11643-1992", "張三"),
        ("Shift_JIS", "表ソ"),
    ],
)
def test_double_bytes_are_not_taken_for_delimiters(name: str, text: str) -> None:
    charset = charset_named(name)
    assert charset is not None
    head = f"MSH|^~\\&|{text}|{text}|B|C|1||ADT^A01|{text}|P|2.5||||||{name}"
    data = f"{head}\rPID|||1||{text}^X\r".encode(charset.codec)
    message = Message.read(data)
    assert message.fields(1)[5] == f"{text}^X"
    _, header = read_header(data)
    assert header.whole(10).encode(header.codec) == text.encode(charset.codec)
    assert header.field(18) == name
    assert message.bytes_of(text) in data


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_files_in_wide_character_sets(codec: str) -> None:
    data = "MSH|^~\\&|A||||||ADT^A01|1|P|2.5\rPID|||1||Éric\r".encode(codec)
    message = Message.read(data)
    assert message.fields(1)[5] == "Éric"
    assert message.bytes_of("Éric") in data
    with pytest.raises(Unreadable, match="MLLP cannot carry"):
        read_header(data)


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


def test_windows_bytes_under_the_name_of_iso_8859_are_refused() -> None:
    """Table 0211: the *printable* characters of ISO 8859."""
    payload = b"MSH|caf\xe9 5 \x80"
    for name in ("8859/1", "8859/15"):
        charset = charset_named(name)
        assert charset is not None
        assert charsets.first_undecodable(payload, charset) == 11
        assert charsets.first_undecodable(payload[:-1], charset) is None
        assert charsets.first_undecodable(b"\0" + payload, charset) == 0
        with pytest.raises(Undecodable) as wrong:
            decode(payload, charset, 3)
        assert wrong.value.offset == 11
    fallen = decide(payload, "8859/1", "", ("WINDOWS-1252",))
    assert fallen.charset == charset_named("CP1252")
    assert fallen.fell_back


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

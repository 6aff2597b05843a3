"""Messages that switch between character sets: ISO 2022 and HL7's own sequences."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7 import charset as charsets
from adapters.hl7 import switching
from adapters.hl7.charset import charset_named, first_undecodable
from adapters.hl7.compiling import compile_path
from adapters.hl7.header import read_header
from adapters.hl7.message import Message
from adapters.hl7.paths import parse
from adapters.hl7.repertoires import designation
from adapters.hl7.scopes import MessageScope
from adapters.hl7.switching import codec_name
from gateway.ports import Unreadable

SWITCHING = codec_name("latin-1", "\\", "|", "~")


def message(name: bytes, msh_18: str, msh_20: str = "") -> bytes:
    head = f"MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5||||||{msh_18}||{msh_20}\r"
    return head.encode() + b"PID|||1||" + name + b"|x\rPV1||I\r"


def text(data: bytes, path: str, **how: str) -> str:
    read = Message.read(data, **how)
    assert [read.name(index) for index in range(3)] == ["MSH", "PID", "PV1"]
    return compile_path(parse(path))(MessageScope(read))[0].text


YAMADA = b"\x1b$B;3ED\x1b(B"
TARO = b"\x1b$BB@O:\x1b(B"


@pytest.mark.parametrize(
    ("name", "msh_18", "msh_20", "path", "expected"),
    [
        # What Japanese senders write: kanji between ESC $ B and ESC ( B (table 0211, ISO IR87).
        (YAMADA + b"^" + TARO, "~ISO IR87", "ISO 2022-1994", "PID-5.2", "太郎"),
        (YAMADA + b"^" + TARO, "ASCII~ISO IR87~ISO IR159", "", "PID-5.1", "山田"),
        (YAMADA, "ISO IR87", "", "PID-5.1", "山田"),
        (b"\x1b)I\xd4\xcf\xc0\xde^X", "~ISO IR13", "ISO 2022-1994", "PID-5.1", "ﾔﾏﾀﾞ"),
        (b"\x1b(JY\x5c\x1b(B^X", "~ISO IR14", "ISO 2022-1994", "PID-5.1", "Y¥"),
        (b"\x1b$(D0!\x1b(B", "~ISO IR159", "ISO 2022-1994", "PID-5.1", "丂"),
        (b"\x1b-F\xe1\xe2^X", "8859/1~8859/7", "ISO 2022-1994", "PID-5.1", "αβ"),
        (b"\x1b$)C\xb1\xe8\xc3\xb6", "~KS X 1001", "ISO 2022-1994", "PID-5.1", "김철"),
        # HL7 2.3, section 2.9.2: the same sequences as HL7 escapes.
        (rb"\M2442\;3ED\C2842\^TARO", "ASCII~ISO IR87", "2.3", "PID-5.1", "山田"),
        (rb"\M2442\;3ED\C2842\^TARO", "ASCII~ISO IR87", "2.3", "PID-5.2", "TARO"),
        (b"\\C2D46\\\xe1\xe2\\C2D41\\\xe9", "8859/1~8859/7", "2.3", "PID-5.1", "αβé"),
        (b"\\M242844\\0!\\C2842\\", "ASCII~ISO IR159", "2.3", "PID-5.1", "丂"),
        # "Each repetition … is assumed to begin with the default character set."
        (b"\\C2D46\\\xe1~\xe9", "8859/1~8859/7", "2.3", "PID-5(2).1", "é"),
        (b"\\M2442\\;3ED~ADA", "ASCII~ISO IR87", "2.3", "PID-5(2).1", "ADA"),
        # Repeating MSH-18 without any switch is its first repetition.
        ("é".encode(), "UTF-8~UNICODE", "", "PID-5.1", "é"),
        (b"\xe9", "8859/1~code2", "", "PID-5.1", "é"),
    ],
)
def test_switches(name: bytes, msh_18: str, msh_20: str, path: str, expected: str) -> None:
    data = message(name, msh_18, msh_20)
    assert text(data, path) == expected
    # What intake records as the character set reads the message in the same way.
    decided = charsets.decide(data, msh_18, "", scheme=msh_20)
    assert decided.fault is None
    assert decided.charset is not None
    assert text(data, path, encoding=decided.charset.name) == expected


def test_the_bytes_of_a_value_are_those_that_arrived() -> None:
    for name in (YAMADA, rb"\M2442\;3ED\C2842\ ", b"\\C2D46\\\xe1\xe2"):
        read = Message.read(message(name, "8859/1~ISO IR87", "2.3"))
        assert read.bytes_of(read.fields(1)[5]) == name


def test_without_a_declared_switch_nothing_is_switched() -> None:
    data = message(rb"\C2842\x", "8859/1")
    assert text(data, "PID-5.1") == r"\C2842\x"
    assert Message.read(message(b"\x1b[0m", "8859/1")).charset.codec == "latin-1"


@pytest.mark.parametrize(
    ("name", "offset_of"),
    [
        (b"\x1b%G", b"\x1b%G"),  # a sequence that is none of those
        (b"\x1b$B;3;\x7f\x1b(B", b";\x7f"),  # half a character
        (b"\x1b$B;3)!\x1b(B", b")!"),  # a row without characters
        (rb"\M2429\x", rb"\M2429"),
        (b"\\C2D46\\\xe1\\C2842\\\xff\xff", b"\xff\xff"),  # not in the default set
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(name: bytes, offset_of: bytes) -> None:
    data = message(name, "ASCII~8859/7", "2.3")
    with pytest.raises(Unreadable) as wrong:
        Message.read(data)
    assert wrong.value.location == f"byte {data.index(offset_of)}"
    decided = charsets.decide(data, "ASCII~8859/7", "", scheme="2.3")
    assert decided.fault is not None
    assert decided.fault.offset == data.index(offset_of)


def test_kanji_in_the_header_hide_no_separator() -> None:
    # The second byte of 日 is that of |, in 7 bits as well.
    hospital = "日本病院".encode("iso2022_jp")
    assert b"|" in hospital
    data = b"MSH|^~\\&|A|" + hospital + b"|C|D|1||ADT^A01|77|P|2.5||||||~ISO IR87||ISO 2022-1994\r"
    _, header = read_header(data)
    assert header.whole(10) == "77"
    assert header.encode(header.whole(4)) == hospital
    assert Message.read(data).text(0, 4) == "日本病院"


SETS = ["", "αβγ", "привет", "éàü€", "山田太郎", "ｱｲｳ", "¥", "丂丄", "김철수", "שלום"]


@settings(max_examples=200)
@given(st.lists(st.one_of(st.sampled_from(SETS), st.text("abc ^|~\r\x00é", max_size=5))))
def test_what_is_encoded_comes_back(pieces: list[str]) -> None:
    written = "".join(pieces).replace("\\", "")
    data = written.encode(SWITCHING)
    assert data.decode(SWITCHING) == written
    # No separator hides in what is written, and each line begins anew.
    for line, expected in zip(data.split(b"\r"), written.split("\r"), strict=True):
        assert line.decode(SWITCHING) == expected


@settings(max_examples=300)
@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_bytes_decode_or_say_where_they_do_not(data: bytes, more: bytes) -> None:
    data = data.replace(b"a", b"\x1b$B").replace(b"b", b"\x1b(B").replace(b"c", b"\\C2D46\\") + more
    offset: int | None = None
    try:
        data[: data.find(0) if 0 in data else None].decode(SWITCHING)
    except UnicodeDecodeError as error:
        offset = error.start
    if offset is None and 0 in data:
        offset = data.index(0)
    charset = charsets.Charset("8859/1~ISO IR87", SWITCHING)
    assert first_undecodable(data, charset) == offset
    shown = data.decode(SWITCHING, charsets.VISIBLE)
    assert isinstance(shown, str)


def test_a_large_message_is_decoded_line_by_line() -> None:
    charset = charsets.Charset("ASCII~ISO IR87", SWITCHING)
    data = (b"OBX|1|" + YAMADA + b"\r") * 40_000
    assert first_undecodable(data, charset) is None
    wrong = len(data) + 6
    assert first_undecodable(data + b"OBX|1|\x1b%G\r", charset) == wrong


def test_the_codec_is_like_any_other() -> None:
    assert codecs.lookup(SWITCHING).name == SWITCHING
    with pytest.raises(LookupError):
        codecs.lookup("ecluse2022_nothing_5c7c7e")
    with pytest.raises(UnicodeEncodeError):
        "☃".encode(SWITCHING)
    assert "☃".encode(SWITCHING, "replace") == b"?"
    assert designation("C2842") == b"(B"
    assert [designation(wrong) for wrong in ("C2", "Cxxxx", "M2429", "X2842")] == [None] * 4


def test_names_of_switched_sets_alone_are_ascii_until_something_switches() -> None:
    jis = charset_named("ISO IR87")
    assert jis is not None
    assert jis.switched
    decided = charsets.decide("MSH|é".encode(), "ISO IR87", "")
    assert decided.fault is not None


def test_codecs_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "_MADE", {f"made {n}" for n in range(switching.CODECS_MAX)})
    assert codec_name("latin-1", "%", "#", "!") == ""
    assert codec_name("latin-1", "\\", "|", "~") == SWITCHING
    data = message(YAMADA, "ASCII!ISO IR87").replace(b"|", b"#").replace(b"^~\\&", b"^!%&")
    with pytest.raises(Unreadable, match="too many"):
        Message.read(data)

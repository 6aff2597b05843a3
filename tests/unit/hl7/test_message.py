"""The lossless reader: every byte, every segment, any delimiters, any line ends."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7.language import Hl7Reader
from adapters.hl7.message import Message
from adapters.hl7.scopes import MessageScope
from gateway.model import Payload
from gateway.ports import Unreadable

HEADER = "MSH|^~\\&|APP|FAC|||20240101||ADT^A01^ADT_A01|1|P|2.5"


def read(text: str, **how: str) -> Message:
    return Message.read(text.encode(), **how)


@pytest.mark.parametrize(
    ("end", "names"),
    [
        ("\r", ["MSH", "PID", "ZZ1"]),
        ("\n", ["MSH", "PID", "ZZ1"]),
        ("\r\n", ["MSH", "PID", "ZZ1"]),
        ("\r\r", ["MSH", "PID", "ZZ1"]),
    ],
)
@pytest.mark.parametrize("final", [True, False])
def test_segment_terminators(end: str, names: list[str], final: bool) -> None:
    message = read(end.join([HEADER, "PID|1", "ZZ1|x"]) + (end if final else ""))
    assert [message.name(i) for i in range(len(message.segments))] == names
    assert message.fields(2) == ["ZZ1", "x"]


def test_a_line_feed_between_carriage_returns_is_data() -> None:
    message = read(HEADER + "\rOBX|1|TX|||first\nsecond line\rPID|1\r")
    assert message.text(1, 5) == "first\nsecond line"
    assert [message.name(i) for i in range(3)] == ["MSH", "OBX", "PID"]


def test_mixed_terminators_never_lose_a_segment() -> None:
    message = read(HEADER + "\rPID|1\nPV1|1|I\r\nOBX|1|TX|||a\nb\nZFA|x\r")
    assert [message.name(i) for i in range(len(message.segments))] == [
        "MSH",
        "PID",
        "PV1",
        "OBX",
        "ZFA",
    ]
    assert message.text(3, 5) == "a\nb"


def test_header_fields_are_numbered_as_the_standard_says() -> None:
    message = read(HEADER)
    fields = message.fields(0)
    assert (fields[1], fields[2], fields[3], fields[12]) == ("|", "^~\\&", "APP", "2.5")
    assert message.repetitions(0, 2) == ["^~\\&"]
    assert message.is_delimiter_field(0, 2)
    assert not message.is_delimiter_field(0, 3)


def test_the_version_is_the_first_component() -> None:
    assert read(HEADER + "^FRA^2.11").version == "2.5"
    assert read(HEADER + "^FRA^2.11").grammar_version == "2.5"
    assert read("MSH|^~\\&|||||||||P|2.9").grammar_version == "2.8.2"


@pytest.mark.parametrize("characters", ["^~\\&", "^~\\&#", "^~", "^~\\", "~!\\&", "$r?@", "^˜\\&"])
def test_any_delimiters(characters: str) -> None:
    component, repetition = characters[:2]
    text = f"MSH|{characters}|A{component}B{repetition}C\rPID|1\r"
    message = read(text)
    assert message.repetitions(0, 3) == [f"A{component}B", "C"]
    assert message.text(0, 3, 2) == "B"
    assert message.delimiters.encoding_characters == characters


def test_a_byte_order_mark_and_blanks_before_the_header() -> None:
    message = Message.read(b"\xef\xbb\xbf\r\n " + (HEADER + "\rPID|1||é").encode())
    assert message.segments[0] == HEADER
    assert message.text(1, 3) == "é"


@pytest.mark.parametrize(
    ("data", "location"),
    [
        (b"", "MSH"),
        (b"PID|1", "MSH"),
        (b"MSH", "MSH-1"),
        (b"MSHA^~\\&A", "MSH-1"),
        (b"MSH|", "MSH-2"),
        (b"MSH|^|", "MSH-2"),
        (b"MSH|^~\\&#?|", "MSH-2"),
        (b"MSH|^~~&|", "MSH-2"),
        (b"MSH|^~\t|", "MSH-2"),
        ((HEADER + "\rPID|1||\xe9").encode("latin-1"), "byte 60"),
        ((HEADER + "||||||EBCDIC\rPID|1||\xe9").encode("latin-1"), "MSH-18"),
        (b"MSH|^~\\&|" + b"x" * 70_000, "MSH"),
    ],
)
def test_unreadable(data: bytes, location: str) -> None:
    with pytest.raises(Unreadable) as refused:
        Message.read(data)
    assert refused.value.location == location


def test_the_character_set_of_intake_wins() -> None:
    data = (HEADER + "\rPID|1||\xa4").encode("latin-1")
    assert Message.read(data, encoding="8859/15").text(1, 3) == "€"
    assert Message.read(data, charset_default="8859/1").text(1, 3) == "¤"


# The printable characters of ISO 8859-1 (table 0211): 80 to 9F are none.
alphabet = st.characters(
    codec="latin-1", exclude_characters="|^~\\&\r\n\x00", exclude_categories=["Cc"]
)
words = st.text(alphabet, max_size=6)
components = st.lists(words, min_size=1, max_size=3).map("^".join)
fields = st.lists(components, min_size=1, max_size=2).map("~".join)
names = st.sampled_from(["PID", "OBX", "ZZZ", "PV1", "NTE", "AB1"])
segments = st.tuples(names, st.lists(fields, min_size=1, max_size=3))


@settings(max_examples=100)
@given(st.lists(segments, max_size=5), st.sampled_from(["\r", "\n", "\r\n"]), st.booleans())
def test_every_part_is_what_was_written(
    written: list[tuple[str, list[str]]], end: str, utf8: bool
) -> None:
    charset, codec = ("UNICODE UTF-8", "utf-8") if utf8 else ("8859/1", "latin-1")
    lines = [f"{HEADER}||||||{charset}"]
    lines += ["|".join([name, *values]) for name, values in written]
    data = end.join(lines).encode(codec)
    message = Message.read(data)
    assert message.raw == data
    assert end.join(message.segments).encode(codec) == data
    for index, (name, values) in enumerate(written, start=1):
        assert message.name(index) == name
        assert index in message.positions(name)
        for number, value in enumerate(values, start=1):
            assert message.fields(index)[number] == value
            repetitions = value.split("~")
            assert message.repetitions(index, number) == repetitions
            for part, expected in enumerate(repetitions[0].split("^"), start=1):
                assert message.text(index, number, part) == expected
            assert message.bytes_of(value) == value.encode(codec)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for start in (b"", b"MSH", b"MSH|^~\\&|"):
        with contextlib.suppress(Unreadable):
            assert Message.read(start + data).segments


def test_separators_by_the_million_take_no_time() -> None:
    message = read(HEADER + "\rOBX|1|TX|||" + "^&~" * 333_333 + "|\r")
    assert message.text(1, 5, 2) == "&"
    assert len(message.fields(1)) == 7


def test_a_hundred_thousand_segments() -> None:
    message = read(HEADER + "\r" + "OBX|1|NM|A||1|\r" * 100_000)
    assert len(message.positions("OBX")) == 100_000


def test_a_line_that_is_no_segment_is_flagged_without_its_text() -> None:
    scope = MessageScope(read(HEADER + "\rOBX|1|TX|||a\rSecret text\rPID|1\rZZ1|x\rOBX|2\r"))
    [flag] = scope.reading_flags()
    assert flag.code == "not-a-segment"
    assert "line 3" in flag.detail
    assert "Secret" not in repr(flag)
    assert scope.source_bytes().startswith(b"MSH")


def test_a_document_that_a_line_end_cuts_is_not_read_as_half_of_it() -> None:
    good = "OBX|1|TX|||a\rMore text\r"
    wrapped = "OBX|2|ED|||^AP^^Base64^JVBERi0x\rLjQKJVBE\rRi0x||||||F\r"
    payload = Payload.from_bytes(f"{HEADER}\r{good}{wrapped}".encode())
    with pytest.raises(Unreadable, match="inside the document") as fault:
        Hl7Reader().read([payload])
    assert fault.value.location == "OBX(2)-5"
    # Line feeds within the lines of a message of carriage returns are its own: Base64 takes them.
    for text in (good, wrapped.replace("x\rL", "x\nL").replace("E\rR", "E\nR")):
        Hl7Reader().read([Payload.from_bytes(f"{HEADER}\r{text}".encode())])


@pytest.mark.parametrize("accent", ["é", "€"])
def test_memory_is_bounded_by_the_size_of_the_message(accent: str) -> None:
    document = "QUJD" * (1 << 19)
    data = f"{HEADER}\rPID|1||{accent}\rOBX|1|ED|X||^^^Base64^{document}||||||F\r".encode()
    tracemalloc.start()
    try:
        message = Message.read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message.text(2, 5, 5) == document
    assert peak < 3.1 * len(data)  # beside the bytes themselves


def test_a_character_set_that_msh_18_does_not_name_is_flagged() -> None:
    data = (HEADER + "||||||UNICODE UTF-8\rPID|1||caf\xe9").encode("latin-1")
    with pytest.raises(Unreadable):
        Message.read(data)
    [flag] = MessageScope(Message.read(data, encoding="WINDOWS-1252")).reading_flags()
    assert (flag.code, flag.source) == ("character-set", "MSH-18")
    assert "WINDOWS-1252" in flag.detail
    right = (HEADER + "||||||UTF8\rPID|1||caf\xe9").encode()
    assert not MessageScope(Message.read(right, encoding="UNICODE UTF-8")).reading_flags()


def test_a_message_is_shown_whatever_its_bytes_are() -> None:
    data = (HEADER + "||||||UNICODE UTF-8\rPID|1||caf\xe9|x").encode("latin-1")
    shown = Message.show(data)
    assert shown.fields(1)[3] == "caf\udce9"
    assert shown.bytes_of(shown.fields(1)[3]) == b"caf\xe9"
    with pytest.raises(Unreadable):
        Message.show(b"PID|1")

"""Walking a data set: every encoding, every kind of damage, within bounds."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.dicom.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    PIXEL_GROUP,
    UNDEFINED,
    DataSetError,
    Element,
    Encoding,
    TooDeep,
    TooMany,
    Truncated,
    Walk,
    Window,
    encoding_of,
)

ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def walk(raw: bytes, encoding: Encoding = EXPLICIT_LITTLE, **options: int) -> list[Element]:
    return list(Walk(Window(io.BytesIO(raw), len(raw))).level(0, len(raw), encoding, **options))


def short(tag: int, vr: bytes, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, size) + value


def item(content: bytes, *, closed: bool = True) -> bytes:
    if closed:
        return struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED) + content + ITEM_END
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def test_explicit_little_endian_has_short_and_long_lengths() -> None:
    raw = short(0x00100020, b"LO", b"4711") + long(0x00420011, b"OB", b"\1" * 70_000)
    first, second = walk(raw)
    assert first == Element(0x00100020, "LO", 8, 4, False)
    assert second == Element(0x00420011, "OB", 24, 70_000, False)


def test_implicit_little_endian_has_no_vr() -> None:
    raw = struct.pack("<HHL", 0x0010, 0x0020, 4) + b"4711"
    assert walk(raw, IMPLICIT_LITTLE) == [Element(0x00100020, "", 8, 4, False)]


def test_explicit_big_endian() -> None:
    raw = short(0x00280010, b"US", b"\x02\x00", ">")
    assert walk(raw, EXPLICIT_BIG) == [Element(0x00280010, "US", 8, 2, False)]


def test_a_vr_of_a_later_edition_has_the_long_form() -> None:
    assert walk(long(0x00420011, b"ZZ", b"abcd"))[0] == Element(0x00420011, "ZZ", 12, 4, False)


def test_an_element_without_vr_in_an_explicit_data_set_is_stepped_over_and_noted() -> None:
    raw = struct.pack("<HHL", 0x0009, 0x1001, 4) + b"abcd" + short(0x00100020, b"LO", b"47")
    steps = Walk(Window(io.BytesIO(raw), len(raw)))
    assert [e.tag for e in steps.level(0, len(raw), EXPLICIT_LITTLE)] == [0x00091001, 0x00100020]
    assert steps.irregular == "an element has no VR in an explicit data set"


@pytest.mark.parametrize("closed", [True, False])
def test_sequences_of_undefined_length_are_followed_to_their_delimiter(closed: bool) -> None:
    inner = short(0x00080100, b"SH", b"AB") + long(
        0x00081199, b"SQ", item(b"", closed=closed) + SEQUENCE_END, UNDEFINED
    )
    content = item(inner, closed=closed) * 2
    raw = long(0x00081032, b"SQ", content + SEQUENCE_END, UNDEFINED) + short(
        0x00100020, b"LO", b"47"
    )
    first, second = walk(raw)
    assert (first.tag, first.length, first.undefined) == (0x00081032, len(content), True)
    assert second.tag == 0x00100020
    steps = Walk(Window(io.BytesIO(raw), len(raw)))
    found = list(steps.items(first.offset, first.offset + first.length, EXPLICIT_LITTLE))
    assert [raw[start:end] for start, end in found] == [inner, inner]


def test_an_items_length_that_spells_a_vr_is_a_length() -> None:
    (size,) = struct.unpack("<H", b"PN")
    content = short(0x00080100, b"SH", b"AB") + long(0x00091001, b"OB", bytes(size - 22))
    raw = long(0x00081032, b"SQ", item(content, closed=False) + SEQUENCE_END, UNDEFINED)
    assert len(content) == size
    assert [e.tag for e in walk(raw + short(0x00100020, b"LO", b"47"))] == [0x00081032, 0x00100020]


def test_an_unknown_vr_of_undefined_length_is_implicit_inside() -> None:
    inner = struct.pack("<HHL", 0x0008, 0x0100, 2) + b"AB"
    raw = long(0x00091002, b"UN", item(inner) + SEQUENCE_END, UNDEFINED) + short(
        0x00100020, b"LO", b"47"
    )
    assert [e.tag for e in walk(raw)] == [0x00091002, 0x00100020]


def test_encapsulated_pixels_are_stepped_over_or_stopped_at() -> None:
    fragments = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    fragments += struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"\xff\xd8\xff\xd9"
    raw = short(0x00100020, b"LO", b"47")
    raw += long(0x7FE00010, b"OB", fragments + SEQUENCE_END, UNDEFINED)
    whole = walk(raw)[-1]
    assert whole.length == len(fragments)
    stopped = walk(raw, stop=PIXEL_GROUP)[-1]
    assert (stopped.tag, stopped.length) == (0x7FE00010, len(fragments) + 8)


@pytest.mark.parametrize(
    "raw",
    [
        short(0x00100020, b"LO", b"4711")[:-1],
        short(0x00100020, b"LO", b"4711")[:5],
        long(0x00420011, b"OB", b"abcd", 0xFFFFFFF0),
        long(0x00081032, b"SQ", item(b"abcdef", closed=False)[:-1], UNDEFINED),
    ],
)
def test_missing_bytes_are_noticed(raw: bytes) -> None:
    with pytest.raises(Truncated):
        walk(raw)


def test_a_sequence_that_holds_something_else() -> None:
    with pytest.raises(DataSetError, match="no item"):
        walk(long(0x00081032, b"SQ", short(0x00100020, b"LO", b"4711"), UNDEFINED))


def test_a_missing_delimiter_at_the_end_is_noted() -> None:
    raw = long(0x00081032, b"SQ", item(b""), UNDEFINED)
    steps = Walk(Window(io.BytesIO(raw), len(raw)))
    (found,) = steps.level(0, len(raw), EXPLICIT_LITTLE)
    assert found.length == len(raw) - 12
    assert steps.irregular == "a sequence delimiter is missing"


def nested(depth: int) -> bytes:
    raw = b""
    for _ in range(depth):
        raw = long(0x00081032, b"SQ", item(raw) + SEQUENCE_END, UNDEFINED)
    return raw


def test_depth_is_bounded_without_recursion() -> None:
    assert len(walk(nested(99))) == 1
    with pytest.raises(TooDeep):
        walk(nested(400))


def test_the_number_of_elements_is_bounded() -> None:
    raw = short(0x00091001, b"LO", b"") * 50
    steps = Walk(Window(io.BytesIO(raw), len(raw)), elements_max=49)
    with pytest.raises(TooMany):
        list(steps.level(0, len(raw), EXPLICIT_LITTLE))


def test_a_walk_reads_windows_and_not_the_whole() -> None:
    class Counting(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.largest = max(self.largest, size or 0)
            return super().read(size)

    raw = long(0x00091001, b"OB", bytes(1 << 20)) * 4
    stream = Counting(raw)
    assert len(list(Walk(Window(stream, len(raw))).level(0, len(raw), EXPLICIT_LITTLE))) == 4
    assert stream.largest == 1 << 16


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("1.2.840.10008.1.2", (False, True, False)),
        ("1.2.840.10008.1.2.1", (True, True, False)),
        ("1.2.840.10008.1.2.2", (True, False, False)),
        ("1.2.840.10008.1.2.1.99", (True, True, True)),
        ("1.2.840.10008.1.2.4.90", (True, True, False)),
    ],
)
def test_transfer_syntaxes(syntax: str, expected: tuple[bool, bool, bool]) -> None:
    found = encoding_of(syntax)
    assert (found.explicit, found.little, found.deflated) == expected


@given(st.binary(max_size=600), st.sampled_from([EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG]))
def test_any_bytes_are_walked_or_refused(raw: bytes, encoding: Encoding) -> None:
    try:
        found = walk(raw, encoding)
    except DataSetError:
        return
    assert all(0 <= e.offset <= e.offset + e.length <= len(raw) for e in found)

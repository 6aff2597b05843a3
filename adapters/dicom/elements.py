"""The elements of an encoded data set, found without decoding it (PS3.5 section 7).

A data set is walked element by element by its own lengths: values are stepped
over, sequences of undefined length are followed to their delimiter with a list
instead of recursion, and nothing longer than one window is read. Time is bounded
by an element budget, depth by :data:`DEPTH_MAX`.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, NamedTuple

UNDEFINED = 0xFFFFFFFF
"""The value length that means "until the delimiter" (PS3.5 7.1.3)."""

DEPTH_MAX = 100
"""Nested sequences deeper than this are hostile: real structured reports stay under thirty."""

ELEMENTS_MAX = 2_000_000
"""The most elements, nested ones included, that one walk looks at."""

WINDOW_BYTES = 1 << 16

ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
PIXEL_GROUP = 0x7FE00000
"""Pixel data of all kinds have tags from here on (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25)."""

NO_TAG = 1 << 32
"""Above every tag: a walk that stops here goes to the end."""

_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS = {
    vr: vr.decode("ascii")
    for vr in (
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT",
        b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
    )
}  # fmt: skip

_IMPLICIT_HEAD = struct.Struct("<HHL")
_LITTLE_HEAD = struct.Struct("<HH2sH")
_BIG_HEAD = struct.Struct(">HH2sH")
_LENGTH = struct.Struct("<L")


class DataSetError(Exception):
    """The bytes do not form a data set. ``offset`` is where; no value is named."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (byte {offset})")
        self.offset = offset


class Truncated(DataSetError):
    """A value is longer than what is left: bytes are missing."""


class TooDeep(DataSetError):
    """Sequences are nested deeper than :data:`DEPTH_MAX`."""


class TooMany(DataSetError):
    """The element budget is used up."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is encoded: with VRs or without, which byte comes first, deflated or not."""

    explicit: bool
    little: bool = True
    deflated: bool = False

    @property
    def implicit(self) -> Encoding:
        """The same without VRs: what an UN of undefined length holds (PS3.5 6.2.2 note 4)."""
        return Encoding(explicit=False, little=True)


IMPLICIT_LITTLE = Encoding(explicit=False)
EXPLICIT_LITTLE = Encoding(explicit=True)
EXPLICIT_BIG = Encoding(explicit=True, little=False)
DEFLATED = Encoding(explicit=True, deflated=True)

_DEFLATED_SYNTAXES = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)


def encoding_of(transfer_syntax: str) -> Encoding:
    """How a transfer syntax encodes the data set (PS3.5 annex A).

    Every syntax but the two named uncompressed ones and the deflated ones is
    explicit VR little endian outside its pixel data.
    """
    if transfer_syntax == "1.2.840.10008.1.2":
        return IMPLICIT_LITTLE
    if transfer_syntax == "1.2.840.10008.1.2.2":
        return EXPLICIT_BIG
    return DEFLATED if transfer_syntax in _DEFLATED_SYNTAXES else EXPLICIT_LITTLE


class Element(NamedTuple):
    """One element of a level: its tag, its VR (empty when implicit) and where its value is."""

    tag: int
    vr: str
    offset: int
    length: int
    undefined: bool


class Window:
    """A sliding view of a seekable stream, so that a walk never holds the whole of it."""

    __slots__ = ("_base", "_bytes", "_stream", "end")

    def __init__(self, stream: BinaryIO, end: int) -> None:
        self._stream = stream
        self._base = 0
        self._bytes = b""
        self.end = end

    @classmethod
    def of(cls, data: bytes) -> Window:
        """A view of bytes that are in memory anyway: nothing is copied or read again."""
        window = cls(BytesIO(), len(data))
        window._bytes = data
        return window

    def take(self, offset: int, count: int) -> tuple[bytes, int]:
        """A buffer and the index in it at which ``count`` bytes from ``offset`` begin.

        ``count`` is at most :data:`WINDOW_BYTES`. Raises Truncated at the end.
        """
        index = offset - self._base
        if index < 0 or index + count > len(self._bytes):
            if offset + count > self.end:
                raise Truncated("the data set ends inside an element", offset)
            self._stream.seek(offset)
            self._bytes = self._stream.read(min(WINDOW_BYTES, self.end - offset))
            self._base, index = offset, 0
            if len(self._bytes) < count:
                raise Truncated("the data set ends inside an element", offset)
        return self._bytes, index

    def held(self, offset: int) -> tuple[bytes, int]:
        """What is in memory, and the index in it of an offset; no bytes when it is not there."""
        index = offset - self._base
        return (self._bytes, index) if 0 <= index < len(self._bytes) else (b"", 0)

    def value(self, offset: int, length: int) -> bytes:
        """The bytes of one value. The caller has checked ``length`` against its own limit."""
        if offset + length > self.end:
            raise Truncated("a value is longer than the data set", offset)
        if length <= WINDOW_BYTES:
            buffer, index = self.take(offset, length)
            return buffer[index : index + length]
        self._stream.seek(offset)
        found = self._stream.read(length)
        if len(found) < length:
            raise Truncated("a value is longer than the data set", offset)
        return found


class Walk:
    """One bounded walk over a data set; the budget of elements is shared by all its levels.

    ``irregular`` says, once walked, what was odd but could be stepped over: a VR
    that is none, or a sequence without its delimiter at the end of the data set.
    """

    def __init__(self, window: Window, *, elements_max: int = ELEMENTS_MAX) -> None:
        self._window = window
        self._left = elements_max
        self.irregular = ""

    def level(
        self,
        start: int,
        end: int,
        encoding: Encoding,
        *,
        stop: int = NO_TAG,
        wanted: Container[int] | None = None,
    ) -> Iterator[Element]:
        """The elements between two offsets, in file order; nested ones are stepped over.

        With ``wanted`` others may be left out, which is quicker.

        The first element whose tag is ``stop`` or above is the last one given, and its
        value is not looked at: of undefined length it is said to reach to the end.
        Raises Truncated, TooDeep, TooMany or DataSetError.
        """
        position = start
        while position < end:
            if wanted is not None:
                position = self._skim(position, end, encoding, wanted)
                if position >= end:
                    return
            tag, vr, length, offset = self.head(position, encoding)
            if tag >= stop:
                undefined = length == UNDEFINED
                yield Element(tag, vr, offset, min(length, end - offset), undefined)
                return
            if length == UNDEFINED:
                inside = encoding.implicit if vr == "UN" else encoding
                after, closed = self.past_undefined(offset, end, inside)
                yield Element(tag, vr, offset, after - offset - (8 if closed else 0), True)
            else:
                after = offset + length
                if after > end:
                    raise Truncated("a value is longer than the data set", position)
                yield Element(tag, vr, offset, length, False)
            position = after

    def _skim(self, position: int, end: int, encoding: Encoding, wanted: Container[int]) -> int:
        """Step over plain elements that nobody wants, as far as the window's bytes go: the
        offset of the first that needs a closer look, or ``end``."""
        buffer, index = self._window.held(position)
        first, last = index, len(buffer) - 12
        most = index + end - position
        left = self._left
        while index <= last and left > 0:
            if encoding.explicit:
                if not encoding.little:
                    break
                group, number, vr, length = _LITTLE_HEAD.unpack_from(buffer, index)
                after = index + 8
                if vr in _LONG_VRS:
                    (length,) = _LENGTH.unpack_from(buffer, after)
                    after = index + 12
                elif vr not in _SHORT_VRS:
                    break
            else:
                group, number, length = _IMPLICIT_HEAD.unpack_from(buffer, index)
                after = index + 8
            after += length
            if length == UNDEFINED or after > most or (group << 16 | number) in wanted:
                break
            index = after
            left -= 1
        self._left = left
        return position + index - first

    def items(self, start: int, end: int, encoding: Encoding) -> Iterator[tuple[int, int]]:
        """Start and end of each item of a sequence's value. Raises as :meth:`level` does."""
        position = start
        while position < end:
            tag, _, length, offset = self.head(position, encoding)
            if tag == SEQUENCE_END:
                return
            if tag != ITEM:
                raise DataSetError("a sequence holds something that is no item", position)
            if length == UNDEFINED:
                after, closed = self._past_item(offset, end, encoding)
                yield offset, after - (8 if closed else 0)
            else:
                after = offset + length
                if after > end:
                    raise Truncated("an item is longer than its sequence", position)
                yield offset, after
            position = after

    def head(self, position: int, encoding: Encoding) -> tuple[int, str, int, int]:
        """Tag, VR, length and value offset of the element at a position."""
        self._left -= 1
        if self._left < 0:
            raise TooMany("more elements than one walk looks at", position)
        buffer, index = self._window.take(position, 8)
        if not encoding.explicit:
            group, number, length = _IMPLICIT_HEAD.unpack_from(buffer, index)
            return group << 16 | number, "", length, position + 8
        head = _LITTLE_HEAD if encoding.little else _BIG_HEAD
        group, number, raw_vr, length = head.unpack_from(buffer, index)
        order = "<" if encoding.little else ">"
        if group != 0xFFFE:  # items and delimiters have a length where the others have a VR
            vr = _SHORT_VRS.get(raw_vr)
            if vr is not None:
                return group << 16 | number, vr, length, position + 8
            if raw_vr in _LONG_VRS or (raw_vr.isalpha() and raw_vr.isupper()):
                # A VR of a later edition has the long form (PS3.5 6.2).
                buffer, index = self._window.take(position, 12)
                (length,) = struct.unpack_from(order + "L", buffer, index + 8)
                return group << 16 | number, raw_vr.decode("ascii"), length, position + 12
            # Some writers switch to implicit in the middle; the length tells whether they did.
            self.irregular = self.irregular or "an element has no VR in an explicit data set"
        (length,) = struct.unpack_from(order + "L", buffer, index + 4)
        return group << 16 | number, "", length, position + 8

    def past_undefined(self, position: int, end: int, encoding: Encoding) -> tuple[int, bool]:
        """The offset after a value of undefined length, and whether its delimiter was there."""
        return self._past(position, end, [(False, encoding)])

    def _past_item(self, position: int, end: int, encoding: Encoding) -> tuple[int, bool]:
        """The offset after an item of undefined length, and whether its delimiter was there."""
        return self._past(position, end, [(True, encoding)])

    def _past(
        self, position: int, end: int, open_levels: list[tuple[bool, Encoding]]
    ) -> tuple[int, bool]:
        """Follow open items (True) and sequences (False) until the first one is closed."""
        while open_levels:
            if position >= end:
                # Pixel data without its last delimiter is common enough to be stored as it is.
                self.irregular = self.irregular or "a sequence delimiter is missing"
                return end, False
            in_item, encoding = open_levels[-1]
            tag, vr, length, offset = self.head(position, encoding)
            if tag == (ITEM_END if in_item else SEQUENCE_END):
                open_levels.pop()
                position = offset
                continue
            if not in_item and tag != ITEM:
                raise DataSetError("a sequence holds something that is no item", position)
            if length == UNDEFINED:
                if len(open_levels) >= 2 * DEPTH_MAX:
                    raise TooDeep(f"sequences are nested deeper than {DEPTH_MAX}", position)
                inside = encoding.implicit if vr == "UN" else encoding
                open_levels.append((not in_item, inside))
                position = offset
            else:
                position = offset + length
                if position > end:
                    raise Truncated("a value is longer than the data set", offset)
        return position, True

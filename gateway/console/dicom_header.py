"""The header of a DICOM file as rows: tag, VR, keyword, value. No pixel is ever read."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from adapters.dicom.charset import DEFAULT, character_sets, decode
from adapters.dicom.dictionary import keyword_of, vr_of
from adapters.dicom.elements import (
    PIXEL_GROUP,
    DataSetError,
    Element,
    Encoding,
    Walk,
    Window,
    encoding_of,
)
from adapters.dicom.part10 import NotPart10, inflate, read_file_meta
from gateway.model import Payload

ROWS_MAX = 600
DEPTH_MAX = 3
INFLATED_BYTES_MAX = 4 << 20
SEQUENCE_BYTES_MAX = 1 << 20
VALUE_BYTES_SHOWN = 256

_TEXT = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM",
                   "UC", "UI", "UR", "UT"})  # fmt: skip
_BINARY_NUMBERS = {"US": 2, "SS": 2, "UL": 4, "SL": 4}


@dataclass(frozen=True, slots=True)
class HeaderElement:
    """One row; ``depth`` counts the sequences around it (at most 3)."""

    tag: str
    vr: str
    keyword: str
    value: str
    depth: int


@dataclass(frozen=True, slots=True)
class Header:
    """The rows, and whether there were more than :data:`ROWS_MAX`."""

    note: str
    elements: tuple[HeaderElement, ...]
    cut: bool


def read_header(payload: Payload) -> Header | None:
    """The header's rows up to the pixel data; None when the bytes are no DICOM file.

    A data set that breaks off is shown as far as it goes, and the note says so.
    """
    with payload.open() as stream:
        try:
            meta = read_file_meta(stream, payload.size)
        except NotPart10:
            return None
        encoding = encoding_of(meta.transfer_syntax)
        start, end = meta.data_set_offset, payload.size
        try:
            if encoding.deflated:
                plain = inflate(stream, start, INFLATED_BYTES_MAX)
                window, start, end = Window(BytesIO(plain), len(plain)), 0, len(plain)
            else:
                window = Window(stream, end)
            rows = _Rows(window)
            broken = rows.level(start, end, encoding, DEFAULT, 0)
        except DataSetError as fault:
            return Header(f"Not readable: {fault}.", (), cut=False)
    note = f"Transfer syntax {meta.transfer_syntax}"
    return Header(f"{note}. {broken}" if broken else note, tuple(rows.found), rows.cut)


class _Rows:
    def __init__(self, window: Window) -> None:
        self.window = window
        self.walk = Walk(window, elements_max=200_000)
        self.found: list[HeaderElement] = []
        self.cut = False

    def level(
        self, start: int, end: int, encoding: Encoding, sets: tuple[str, ...], depth: int
    ) -> str:
        """Add the rows of one level; what broke it off, or an empty text."""
        try:
            for element in self.walk.level(start, end, encoding, stop=PIXEL_GROUP):
                if len(self.found) >= ROWS_MAX:
                    self.cut = True
                    return ""
                if element.tag == 0x00080005 and element.length <= 1024:
                    sets = character_sets(self.window.value(element.offset, element.length))
                self._row(element, encoding, sets, depth)
        except DataSetError as fault:
            return f"It breaks off: {fault}."
        return ""

    def _row(self, element: Element, encoding: Encoding, sets: tuple[str, ...], depth: int) -> None:
        vr = _vr(element)
        keyword = keyword_of(element.tag) or ("Private" if element.tag >> 16 & 1 else "")
        tag = f"{element.tag >> 16:04X},{element.tag & 0xFFFF:04X}"
        nested = vr == "SQ" and element.tag < PIXEL_GROUP
        value = "" if nested else self._value(element, vr, encoding, sets)
        self.found.append(HeaderElement(tag, vr, keyword, value, depth))
        if nested and depth < DEPTH_MAX and element.length <= SEQUENCE_BYTES_MAX:
            inside = encoding.implicit if element.vr == "UN" else encoding
            ends = element.offset + element.length
            for place, (first, last) in enumerate(self.walk.items(element.offset, ends, inside), 1):
                if len(self.found) >= ROWS_MAX:
                    break
                self.found.append(HeaderElement("", "", f"item {place}", "", depth + 1))
                self.level(first, last, inside, sets, depth + 1)

    def _value(self, element: Element, vr: str, encoding: Encoding, sets: tuple[str, ...]) -> str:
        if element.tag >= PIXEL_GROUP:
            return "pixel data"
        if vr in _TEXT:
            raw = self.window.value(element.offset, min(element.length, VALUE_BYTES_SHOWN))
            more = "…" if element.length > VALUE_BYTES_SHOWN else ""
            return decode(raw, sets).text.strip(" \0") + more
        size = _BINARY_NUMBERS.get(vr)
        if size and 0 < element.length <= 16 * size:
            raw = self.window.value(element.offset, element.length)
            order: Literal["little", "big"] = "little" if encoding.little else "big"
            return "\\".join(
                str(int.from_bytes(raw[i : i + size], order, signed=vr in {"SS", "SL"}))
                for i in range(0, len(raw) - size + 1, size)
            )
        return f"{element.length} bytes" if element.length else ""


def _vr(element: Element) -> str:
    if element.vr and element.vr != "UN":
        return element.vr
    try:
        return str(vr_of(element.tag)).split(" or ", maxsplit=1)[0]
    except KeyError:
        return "UN"

"""One instance's data set, indexed by one bounded walk and read on demand.

The header (everything before the pixel data) stays in memory when it is small;
values that are larger, pixel data among them, are fetched from the file when a
path asks for them, within a limit.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Sequence
from copy import copy
from io import BytesIO

from adapters.dicom.charset import DEFAULT, character_sets
from adapters.dicom.dictionary import vr_of
from adapters.dicom.elements import (
    PIXEL_GROUP,
    DataSetError,
    Element,
    Encoding,
    Walk,
    Window,
    encoding_of,
)
from adapters.dicom.part10 import FileMeta, inflate, read_file_meta
from gateway.model import Payload

HEADER_BYTES_KEPT = 256 << 10
"""The part of a header that stays in memory per instance."""

INFLATED_BYTES_MAX = 4 << 20
"""As much of a deflated data set as is ever inflated."""

VALUE_BYTES_MAX = 64 << 20
"""The largest value that is read whole (an encapsulated document, a frame)."""

REPEATED_BYTES_MAX = 1 << 10
REPEATED_MAX = 2_000
"""Short sequences that one data set remembers by their bytes: a report says the same codes
over and over."""

SPECIFIC_CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
MODALITY = 0x00080060
PATIENT_ID = 0x00100020
ISSUER_OF_PATIENT_ID = 0x00100021
ISSUER_QUALIFIERS = 0x00100024
UNIVERSAL_ENTITY_ID = 0x00400032
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SERIES_NUMBER = 0x00200011
INSTANCE_NUMBER = 0x00200013
PIXEL_REPRESENTATION = 0x00280103


class TooLarge(Exception):
    """A value is larger than :data:`VALUE_BYTES_MAX`, or outside what was inflated."""


class Content:
    """Where the bytes of one instance's data set are. Offsets count from the file's start."""

    __slots__ = ("_base", "_kept", "_payload", "end")

    def __init__(self, kept: bytes, base: int, end: int, payload: Payload | None) -> None:
        self._kept = kept
        self._base = base
        self._payload = payload
        self.end = end

    def value(self, offset: int, length: int) -> bytes:
        """The bytes of one value. Raises TooLarge."""
        start = offset - self._base
        if start + length <= len(self._kept):
            return self._kept[start : start + length]
        if length > VALUE_BYTES_MAX or self._payload is None:
            raise TooLarge(f"a value of {length} bytes is not read")
        with self._payload.open() as stream:
            stream.seek(offset)
            return stream.read(length)


class Level:
    """The elements of one data set or of one sequence item, found by tag."""

    __slots__ = (
        "_above", "_bare", "_known", "_lengths", "_offsets", "_tags", "_vrs", "content", "encoding",
        "sets", "signed",
    )  # fmt: skip

    def __init__(
        self, content: Content, encoding: Encoding, found: Sequence[Element],
        parent: Level | None, *, remembers: bool = True,
    ) -> None:  # fmt: skip
        ordered = sorted(found, key=lambda element: element.tag)
        self._tags = array("I", [element.tag for element in ordered])
        self._offsets = array("Q", [element.offset for element in ordered])
        self._lengths = array("Q", [element.length for element in ordered])
        self._vrs = "".join(element.vr or "  " for element in ordered)
        self.content = content
        self.encoding = encoding
        # Nothing here is reached from itself, so that it goes with its last user: the bytes of
        # thousands of data sets would wait for Python's garbage collector, which counts objects.
        self._above: Level | None = parent._whole() if parent else None
        self._bare: Level | None = None
        self._known: dict[Hashable, list[Level]] | None = None
        if remembers:
            self._known = parent._known if parent else {}
        self.sets: tuple[str, ...] = parent.sets if parent else DEFAULT
        self.signed: bool = parent.signed if parent else False
        declared = self.length(SPECIFIC_CHARACTER_SET)
        if declared is not None and declared <= 1 << 10:
            self.sets = character_sets(self.raw(SPECIFIC_CHARACTER_SET))
        if self.length(PIXEL_REPRESENTATION) == 2:
            self.signed = (self.raw(PIXEL_REPRESENTATION) or b"").strip(b"\0") == b"\x01"

    @property
    def root(self) -> Level:
        """The level of the whole data set."""
        return self if self._above is None else self._above

    def _whole(self) -> Level:
        """What items know of their data set: the same elements, and none of the items that it
        remembers."""
        if self._above is not None:
            return self._above
        if self._known is None:
            return self
        if self._bare is None:
            self._bare = copy(self)
            self._bare._known = None
        return self._bare

    def _index(self, tag: int) -> int:
        place = bisect_left(self._tags, tag)
        return place if place < len(self._tags) and self._tags[place] == tag else -1

    def length(self, tag: int) -> int | None:
        """Bytes of the element's value, or None when there is no such element."""
        place = self._index(tag)
        return None if place < 0 else self._lengths[place]

    def raw(self, tag: int) -> bytes | None:
        """The undecoded value, or None. Raises TooLarge."""
        place = self._index(tag)
        if place < 0:
            return None
        return self.content.value(self._offsets[place], self._lengths[place])

    def vr(self, tag: int) -> str:
        """The VR that stands there, or the dictionary's when none or UN does."""
        place = self._index(tag)
        written = self._vrs[2 * place : 2 * place + 2] if place >= 0 else "  "
        if written not in ("  ", "UN"):
            return written
        try:
            known = str(vr_of(tag))
        except KeyError:
            return "UN"
        if " or " in known:
            alternatives = known.split(" or ")
            if "SS" in alternatives and self.signed:
                return "SS"
            return "US" if "US" in alternatives else "OW"
        return known

    def text(self, tag: int) -> str:
        """A short ASCII value (a UID, a code, a number) as it stands, trimmed; empty if absent."""
        length = self.length(tag)
        if not length or length > 1 << 10:
            return ""
        return (self.raw(tag) or b"").decode("ascii", "replace").strip(" \0")

    def tags(self) -> list[int]:
        """The tags of all elements, in their order."""
        return self._tags.tolist()

    def encoding_in(self, tag: int) -> Encoding:
        """How the items of a sequence are encoded."""
        place = self._index(tag)
        # Whoever wrote UN did not know the VR, so had it from an implicit data set.
        unknown = place >= 0 and self._vrs[2 * place : 2 * place + 2] == "UN"
        return self.encoding.implicit if unknown else self.encoding

    def items(self, tag: int) -> list[Level]:
        """The items of a sequence, indexed. Raises DataSetError or TooLarge."""
        raw = self.raw(tag)
        if not raw:
            return []
        encoding = self.encoding_in(tag)
        known = self._known
        key = (raw, encoding, self.sets, self.signed) if len(raw) <= REPEATED_BYTES_MAX else None
        if known is None or key is None:
            return self._items(raw, encoding, remember=True)
        if key in known:
            return known[key]
        found = self._items(raw, encoding, remember=False)
        if len(known) >= REPEATED_MAX:
            known.clear()
        known[key] = found
        return found

    def _items(self, raw: bytes, encoding: Encoding, *, remember: bool) -> list[Level]:
        content = Content(raw, 0, len(raw), None)
        walk = Walk(Window.of(raw))
        return [
            Level(content, encoding, list(walk.level(*span, encoding)), self, remembers=remember)
            for span in walk.items(0, len(raw), encoding)
        ]


class Instance:
    """One SOP instance: who it is, and its header when it is kept in memory."""

    __slots__ = (
        "_level", "_payload", "authority", "meta", "modality", "number", "patient", "series",
        "series_number", "sha256", "sop_class", "sop_instance", "study", "weight",
    )  # fmt: skip

    def __init__(self, payload: Payload) -> None:
        """Read a DICOM file's header. Raises NotPart10, DataSetError or OSError."""
        self._payload = payload
        self.sha256 = payload.sha256
        level, self.meta, self.weight = _read(payload)
        self._level: Level | None = level
        self.sop_class = level.text(SOP_CLASS_UID)
        self.sop_instance = level.text(SOP_INSTANCE_UID)
        self.study = level.text(STUDY_INSTANCE_UID)
        self.series = level.text(SERIES_INSTANCE_UID)
        self.modality = level.text(MODALITY)
        self.series_number = _number(level.text(SERIES_NUMBER))
        self.number = _number(level.text(INSTANCE_NUMBER))
        self.patient = (level.raw(PATIENT_ID) or b"")[:256].strip(b" \0")
        self.authority = _authority(level)

    @property
    def level(self) -> Level:
        """The data set; read again from the file when it was let go. Raises as the constructor."""
        return self._level if self._level is not None else _read(self._payload)[0]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._payload.size

    def file_bytes(self) -> bytes:
        """The whole file. Whoever calls this has checked ``size`` against a limit."""
        return self._payload.read()

    def let_go(self) -> None:
        """Free the header's memory; later readings go to the file."""
        self._level = None


def _authority(level: Level) -> str:
    """The Universal Entity ID of who issued the Patient ID (PS3.3 10.14); empty when the header
    does not say it, or not so that it can be read."""
    try:
        items = level.items(ISSUER_QUALIFIERS)[:1]
        return "".join(item.text(UNIVERSAL_ENTITY_ID) for item in items)
    except (DataSetError, TooLarge):
        return ""


def _number(text: str) -> int:
    """A sortable number; what is none comes last."""
    try:
        return int(text)
    except ValueError:
        return 1 << 62


def _read(payload: Payload) -> tuple[Level, FileMeta, int]:
    """The level, the file meta and the bytes of memory that the level takes."""
    with payload.open() as stream:
        meta = read_file_meta(stream, payload.size)
        encoding = encoding_of(meta.transfer_syntax)
        start, end, base = meta.data_set_offset, payload.size, meta.data_set_offset
        source: Payload | None = payload
        if encoding.deflated:
            plain = inflate(stream, start, INFLATED_BYTES_MAX)
            start, end, base, source = 0, len(plain), 0, None
            window = Window(BytesIO(plain), end)
        else:
            window = Window(stream, end)
        found, pixels = _header(window, start, end, encoding)
        if encoding.deflated:
            kept = plain[:pixels]
        else:
            stream.seek(base)
            kept = stream.read(min(pixels - base, HEADER_BYTES_KEPT))
    level = Level(Content(kept, base, end, source), encoding, found, None)
    return level, meta, len(kept) + 28 * len(found)


def _header(window: Window, start: int, end: int, encoding: Encoding) -> tuple[list[Element], int]:
    """The elements up to and with the pixel data, and where the pixel data's value begins.

    A data set that breaks off after its Series Instance UID is read as far as it goes.
    """
    found: list[Element] = []
    try:
        for element in Walk(window).level(start, end, encoding, stop=PIXEL_GROUP):
            found.append(element)
    except DataSetError:
        if not found or found[-1].tag < SERIES_INSTANCE_UID:
            raise
    return found, found[-1].offset if found and found[-1].tag >= PIXEL_GROUP else end

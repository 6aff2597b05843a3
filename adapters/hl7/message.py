"""A lossless, lazy reader of HL7 v2 messages in ER7 (vertical bar) encoding.

The exact bytes are kept; the text is decoded once, strictly, and split only as
far as someone looks: segments when the message is read, fields, repetitions,
components and subcomponents when they are touched. Every segment is kept and
reachable, known or not (HL7 v2.9.1 chapter 2, section 2.5 and 2.6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from adapters.hl7 import charset as charsets
from adapters.hl7.charset import Charset, Undecodable
from adapters.hl7.delimiters import Delimiters
from adapters.hl7.grammar import nearest_version
from adapters.hl7.header import component, first_repetition, read_header
from gateway.ports import Unreadable

HEADERS = frozenset({"MSH", "FHS", "BHS"})
PADDED_FIELDS = 64
"""More than any segment of the standard has."""
_PADDING: list[str | None] = [None] * PADDED_FIELDS
_BLANK = " \t\r\n"
# Where a message mixes terminators, a line feed ends a segment only before what
# can only be the start of one: a field's data cannot hold an unescaped separator.
_SEGMENT_START = r"\n(?=[A-Z][A-Z0-9]{2}%s)"
_TERMINATORS: dict[str, re.Pattern[str]] = {}


class Message:
    """One message: its bytes, its character set, its delimiters and its segments."""

    __slots__ = (
        "_positions",
        "charset",
        "delimiters",
        "padded",
        "profile",
        "raw",
        "segments",
        "split",
        "version",
    )

    def __init__(
        self, raw: bytes, charset: Charset, delimiters: Delimiters, segments: list[str]
    ) -> None:
        self.raw = raw
        self.charset = charset
        self.delimiters = delimiters
        self.segments = segments
        # Fields of each segment, once they are touched: see fields().
        self.split: list[list[str] | None] = [None] * len(segments)
        # The same with None for what a segment ends before: see pad().
        self.padded: list[list[str | None] | None] = [None] * len(segments)
        self._positions: dict[str, list[int]] | None = None
        self.version = self.text(0, 12, 1).strip()
        # Equal texts of messages of one profile have equal parts, types and characters.
        self.profile = _profile(delimiters, charset.codec, self.version)

    @classmethod
    def read(cls, raw: bytes, *, encoding: str = "", charset_default: str = "UTF-8") -> Message:
        """Read the bytes of one message.

        ``encoding`` is a character set decided before (at intake); without it
        MSH-18 (and MSH-20) decides, and ``charset_default`` for a message that declares
        none but is not ASCII. Raises Unreadable, whose location is ``MSH``, ``MSH-1``,
        ``MSH-2``, ``MSH-18`` or ``byte <offset>``.
        """
        try:
            wide = None if raw.startswith(b"MSH") else charsets.wide_charset(raw)
            if wide is not None:
                return cls._read_wide(raw, wide)
            head, header = read_header(raw)
            delimiters = header.delimiters
            declared, scheme = header.whole(18), header.whole(20)
            if encoding:  # decided before, whatever the header says of switching
                declared, scheme = encoding.replace("~", delimiters.repetition), ""
            charset = charsets.choose(
                raw, declared, charset_default, scheme=scheme, delimiters=delimiters
            )
            text = charsets.decode(raw, charset, head)
        except Undecodable as error:
            location = f"byte {error.offset}" if error.charset_known else "MSH-18"
            raise Unreadable(str(error), location) from None
        return cls(raw, charset, delimiters, split_segments(text, delimiters))

    @classmethod
    def show(cls, raw: bytes, *, charset_default: str = "UTF-8") -> Message:
        """Read a message for showing it: what does not decode stands in it as VISIBLE.

        For the eyes of a person only. Raises Unreadable where there is no header.
        """
        try:
            return cls.read(raw, charset_default=charset_default)
        except Unreadable as fault:
            if fault.location != "MSH-18" and not fault.location.startswith("byte "):
                raise
        head, header = read_header(raw)
        try:
            charset = charsets.choose(
                raw, header.whole(18), charset_default,
                scheme=header.whole(20), delimiters=header.delimiters,
            )  # fmt: skip
        except Undecodable:
            charset = charsets.UTF_8 if header.codec == "utf-8" else charsets.ASCII
        text = raw[head:].decode(charset.codec, charsets.VISIBLE)
        return cls(raw, charset, header.delimiters, split_segments(text, header.delimiters))

    @classmethod
    def _read_wide(cls, raw: bytes, charset: Charset) -> Message:
        """A file in UTF-16 or UTF-32, whose bytes say so whatever MSH-18 says."""
        text = charsets.decode(raw, charset).removeprefix("\ufeff")
        _, header = read_header(text.encode())
        return cls(
            raw, charset, header.delimiters, split_segments(text.lstrip(), header.delimiters)
        )

    # --- segments and fields ----------------------------------------------------

    def name(self, index: int) -> str:
        """The name of segment ``index`` (from 0): what stands before its first separator."""
        line = self.segments[index]
        if len(line) <= 3 or line[3] == self.delimiters.field:
            return line[:3]
        return line.partition(self.delimiters.field)[0]

    def positions(self, name: str) -> Sequence[int]:
        """Indexes of the segments of that name, in message order."""
        return (self._positions or self._index()).get(name, ())

    def names(self) -> Iterable[str]:
        """The names of the segments, each once."""
        return self._positions or self._index()

    def _index(self) -> dict[str, list[int]]:
        positions: dict[str, list[int]] = {}
        ends = (self.delimiters.field, "")
        for index, line in enumerate(self.segments):
            name = line[:3] if line[3:4] in ends else self.name(index)
            if name in positions:
                positions[name].append(index)
            else:
                positions[name] = [index]
        self._positions = positions
        return positions

    def fields(self, index: int) -> list[str]:
        """Fields of segment ``index``, so that ``fields(i)[5]`` is field 5; 0 is the name.

        In a header segment field 1 is the separator and field 2 the encoding
        characters (section 2.5.4).
        """
        found = self.split[index]
        if found is None:
            found = self.segments[index].split(self.delimiters.field)
            if found[0] in HEADERS:
                found.insert(1, self.delimiters.field)
            self.split[index] = found
        return found

    def pad(self, index: int) -> list[str | None]:
        """:meth:`fields`, continued with None to at least :data:`PADDED_FIELDS`."""
        found: list[str | None] = list(self.split[index] or self.fields(index))
        if len(found) < PADDED_FIELDS:
            found += _PADDING[len(found) :]
        self.padded[index] = found
        return found

    def repetitions(self, index: int, field: int) -> list[str]:
        """Repetitions of a field, as written; empty when the field is absent."""
        fields = self.fields(index)
        if field >= len(fields):
            return []
        text = fields[field]
        if self.is_delimiter_field(index, field):
            return [text]
        return text.split(self.delimiters.repetition)

    def is_delimiter_field(self, index: int, field: int) -> bool:
        """True for MSH-1 and MSH-2 (and of FHS, BHS), which are never split or unescaped."""
        return field <= 2 and self.fields(index)[0] in HEADERS

    def text(self, index: int, field: int, component_number: int = 0) -> str:
        """First repetition of a field, or a component of it, as written; "" when absent."""
        fields = self.fields(index)
        if field >= len(fields):
            return ""
        text = first_repetition(fields[field], self.delimiters)
        if component_number:
            return component(text, self.delimiters.component, component_number) or ""
        return text

    def bytes_of(self, text: str) -> bytes:
        """The bytes that ``text``, a piece of this message, had when it arrived.

        In a message that switches between character sets by ISO 2022, bytes that mean
        the same: where such a sequence stood is not part of the text.
        """
        return text.encode(self.charset.codec, charsets.VISIBLE)

    def text_of(self, data: bytes) -> str:
        """The text of bytes of this message; undecodable ones as VISIBLE shows them."""
        return data.decode(self.charset.codec, charsets.VISIBLE)

    @property
    def grammar_version(self) -> str:
        """The version of the grammar that reads this message."""
        return nearest_version(self.version)


def split_segments(text: str, delimiters: Delimiters) -> list[str]:
    """The segments of a message's text, without terminators and blank lines.

    A carriage return ends a segment (section 2.5.3). Line feeds do in a file that
    has no carriage return, and after one (CRLF). A line feed elsewhere is data,
    unless a segment name and a separator follow it.
    """
    if "\n" not in text:
        lines = text.split("\r")
    elif "\r" not in text:
        lines = text.split("\n")
    else:
        text = text.replace("\r\n", "\r")
        if "\n" in text:
            text = _terminators(delimiters.field).sub("\r", text)
        lines = text.split("\r")
    if lines[-1] == "":
        lines.pop()
    if all(lines) and "\n" not in text:
        return lines
    stripped = (line.strip("\n") for line in lines)
    return [line for line in stripped if line.strip(_BLANK)]


@lru_cache(maxsize=1024)
def _profile(_delimiters: Delimiters, _codec: str, _version: str) -> object:
    """One object for all messages that are read alike."""
    return object()


def _terminators(separator: str) -> re.Pattern[str]:
    pattern = _TERMINATORS.get(separator)
    if pattern is None:
        pattern = re.compile(_SEGMENT_START % re.escape(separator))
        if len(_TERMINATORS) < 64:
            _TERMINATORS[separator] = pattern
    return pattern

"""The bytes of a message as a person reads them: segments, XML lines, a header, or hexadecimal.

Nothing here changes or repairs anything: what cannot be read as its format is shown in
hexadecimal. Every view has a limit and says when it was cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from adapters.hl7.message import Message as Er7Message
from adapters.hprim.charset import DEFAULT, Undecodable, decode
from gateway.console.dicom_header import HeaderElement, read_header
from gateway.console.typography import number
from gateway.model import Format, Payload
from gateway.ports import Unreadable

READ_BYTES_MAX = 8 << 20
"""The largest message of text that is read for a view."""
SEGMENTS_MAX = 400
LINES_MAX = 4000
LONG_VALUE = 600
"""Characters of one field or one XML text; longer ones (a document in Base64) are cut."""
HEX_ROWS = 64

# Written so that no text takes more than one look at each character: what is never closed ends
# with the text, and a name or a run is only begun at its beginning.
_XML_PART = re.compile(
    r"(?P<comment><!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z)|<!\[CDATA\[.*?(?:\]\]>|\Z))"
    r"|(?P<tag></?[^<>]*+>)|(?P<text>[^<]+|<)",
    re.DOTALL,
)
_XML_ATTRIBUTE = re.compile(r"(?<![^\s=\"'/<>])([^\s=\"'/<>]++)(\s*+=\s*+)(\"[^\"<]*+\"|'[^'<]*+')")
_BASE64_RUN = re.compile(
    r"(?<![A-Za-z0-9+/=])(?:[A-Za-z0-9+/=]{400,}+|(?:[A-Za-z0-9+/=]{60,}+\s++){2,}+"
    r"[A-Za-z0-9+/=]*+)"
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a segment: the separator before it, its text, its place (``PID-3``)."""

    separator: str
    text: str
    path: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: its name and its fields."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows. ``kind`` is ``segments``, ``xml``, ``dicom`` or ``hex``."""

    kind: str
    note: str
    cut: str = ""
    segments: tuple[Segment, ...] = ()
    lines: tuple[tuple[tuple[str, str], ...], ...] = ()
    elements: tuple[HeaderElement, ...] = ()
    rows: tuple[tuple[str, str, str], ...] = field(default=())


class Readable(Protocol):
    """What of a message says how its bytes are read."""

    @property
    def format(self) -> Format:
        """Its format."""
        ...

    @property
    def encoding(self) -> str:
        """Its character set, as intake found it; empty: what it declares."""
        ...


def view_of(message: Readable, payload: Payload) -> View:
    """The readable view of a message's bytes in its own format, else hexadecimal."""
    if message.format is Format.DICOM:
        header = read_header(payload)
        if header is None:
            return _hexadecimal(payload, "These bytes are no DICOM file.")
        cut = "The header is longer than what is shown." if header.cut else ""
        return View("dicom", header.note, cut, elements=header.elements)
    if payload.size > READ_BYTES_MAX:
        return _hexadecimal(payload, f"{number(payload.size)} bytes are too many to lay out.")
    data = payload.read()
    if message.format is Format.HL7V2:
        try:
            return _segments(Er7Message.read(data, encoding=message.encoding))
        except Unreadable as fault:
            where = f" ({fault.location})" if fault.location else ""
            return _hexadecimal(payload, f"Not readable as HL7 v2: {fault}{where}.")
    if message.format is Format.HPRIM:
        return _plain(payload, data, message.encoding)
    return _xml(payload, data)


def field_anchor(path: str) -> str:
    """The page anchor of the field that a source path lies in: ``PID-3(1).1`` is ``f-PID-1-3``.

    Empty when the path is no HL7 v2 path. A segment's repetition is counted from 1;
    ``OBX(2)-5`` and the grouped ``ORDER_OBSERVATION(1).OBX(2)-5`` name the second OBX.
    """
    match = re.search(r"\b([A-Z][A-Z0-9]{2})(?:\[(\d+)\]|\((\d+)\))?-(\d+)", path)
    if match is None:
        return ""
    name, index, other, position = match.groups()
    return f"f-{name}-{index or other or 1}-{position}"


def _segments(message: Er7Message) -> View:
    seen: dict[str, int] = {}
    rows = []
    for index in range(min(len(message.segments), SEGMENTS_MAX)):
        name = message.name(index)
        seen[name] = seen.get(name, 0) + 1
        fields = message.fields(index)
        header = message.is_delimiter_field(index, 1)
        # In a header segment field 1 is the separator itself and stands before field 2.
        first = 2 if header else 1
        rows.append(
            Segment(
                name,
                tuple(
                    Field(
                        message.delimiters.field,
                        _short(fields[position]),
                        f"{name}-{position}",
                        f"f-{name}-{seen[name]}-{position}",
                    )
                    for position in range(first, len(fields))
                ),
            )
        )
    left_out = len(message.segments) - len(rows)
    note = f"{number(len(message.segments))} segments, version {message.version or 'not said'}, "
    return View(
        "segments",
        f"{note}{message.charset.name}",
        f"{number(left_out)} more segments are not shown." if left_out else "",
        segments=tuple(rows),
    )


def _short(text: str) -> str:
    if len(text) <= LONG_VALUE:
        return text
    return f"{text[:240]} … {number(len(text) - 300)} characters … {text[-60:]}"


def _plain(payload: Payload, data: bytes, encoding: str) -> View:
    """HPRIM: lines of text in the character set that intake found."""
    try:
        text = decode(data, encoding or DEFAULT[-1])
    except Undecodable as wrong:
        return _hexadecimal(payload, f"Not readable as {encoding or DEFAULT[-1]}: {wrong}.")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    cut = f"Only the first {number(LINES_MAX)} lines are shown." if len(lines) > LINES_MAX else ""
    shown = tuple((("", _short(line)),) if line else () for line in lines[:LINES_MAX])
    return View("xml", f"{encoding or DEFAULT[-1]}, {number(len(lines))} lines", cut, lines=shown)


def _xml(payload: Payload, data: bytes) -> View:
    declared = re.match(rb"\s*(?:\xef\xbb\xbf)?<\?xml[^>]*encoding=[\"']([A-Za-z0-9._-]+)", data)
    encoding = declared.group(1).decode("ascii") if declared else "utf-8"
    try:
        text = data.decode(encoding)
    except (LookupError, UnicodeError):
        return _hexadecimal(payload, f"Not readable as {encoding}.")
    lines: list[tuple[tuple[str, str], ...]] = []
    current: list[tuple[str, str]] = []
    for tone, piece in _tokens(text):
        first, *others = piece.split("\n")
        if first:
            current.append((tone, first))
        for other in others:
            lines.append(tuple(current))
            current = [(tone, other)] if other else []
        if len(lines) > LINES_MAX:
            break
    lines.append(tuple(current))
    cut = f"Only the first {number(LINES_MAX)} lines are shown." if len(lines) > LINES_MAX else ""
    return View("xml", f"{encoding.upper()}, {number(len(text))} characters", cut,
                lines=tuple(lines[:LINES_MAX]))  # fmt: skip


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = _BASE64_RUN.sub(
        lambda run: f"{run.group()[:48]} … {number(len(run.group()) - 48)} characters …", text
    )
    if "\n" not in text.strip():
        # One line for a whole document is no reading: break between elements.
        text = re.sub(r">\s*<", ">\n<", text)
    for part in _XML_PART.finditer(text):
        yield from _part(part)


def _part(part: re.Match[str]) -> list[tuple[str, str]]:
    """One piece of XML as (tone, text): a tag is split into its name and its attributes."""
    if part.lastgroup != "tag":
        return [("comment" if part.lastgroup == "comment" else "", part.group())]
    tag, at = part.group(), 0
    found: list[tuple[str, str]] = []
    for attribute in _XML_ATTRIBUTE.finditer(tag):
        found += [
            ("tag", tag[at : attribute.start()]),
            ("name", attribute.group(1)),
            ("", attribute.group(2)),
            ("value", attribute.group(3)),
        ]
        at = attribute.end()
    return [*found, ("tag", tag[at:])]


def _hexadecimal(payload: Payload, note: str) -> View:
    with payload.open() as stream:
        data = stream.read(HEX_ROWS * 16)
    rows = []
    for offset in range(0, len(data), 16):
        piece = data[offset : offset + 16]
        printable = "".join(chr(b) if 32 <= b < 127 else "·" for b in piece)
        rows.append((f"{offset:08x}", piece.hex(" ").ljust(47), printable))
    cut = f"Only the first {number(len(data))} bytes are shown." if payload.size > len(data) else ""
    return View("hex", note, cut, rows=tuple(rows))

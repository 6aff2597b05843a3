"""The parts of a mail, found without copying it: MIME (RFC 2045, RFC 2046) with limits.

Python's own parser holds every line of a mail as an object of its own and asks each line of a
nested part once for every level; here each part is a place in the bytes, found by its boundary.
Headers are parsed by Python, a block at a time.
"""

from __future__ import annotations

import binascii
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser

from gateway.model import Cause, CauseCode

HEADER_BYTES_MAX = 64 << 10
"""Of one header block."""
NAME_CHARACTERS_MAX = 255
_BOUNDARY_MAX = 70  # RFC 2046, section 5.1.1
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_UNPRINTABLE = re.compile(r"[^\S ]|[\x00-\x1f\x7f]")

Bytes = bytes | mmap.mmap


class Refused(Exception):
    """The mail is not taken; ``cause`` has no value of a patient."""

    def __init__(self, code: CauseCode, detail: str, location: str = "") -> None:
        super().__init__(detail)
        self.cause = Cause(code=code, detail=detail, location=location)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has no parts: its header and where its content stands in the mail."""

    number: int
    header: Message
    start: int
    end: int

    @property
    def media_type(self) -> str:
        """Lower case, without parameters; ``text/plain`` where nothing is said."""
        return self.header.get_content_type()

    @property
    def name(self) -> str:
        """The file name that its writer gave it, for people; empty without one."""
        found = self.header.get_filename()
        return _decoded(found) if found else ""

    @property
    def attached(self) -> bool:
        """Whether it is more than text to read: it has a name, or is no text of the mail."""
        disposition = self.header.get_content_disposition()
        return (
            disposition == "attachment"
            or self.header.get_filename() is not None
            or self.media_type not in ("text/plain", "text/html")
        )

    def content(self, data: Bytes) -> bytes:
        """Its bytes, out of their transfer encoding (RFC 2045, section 6). Raises Refused."""
        encoded = data[self.start : self.end]
        encoding = str(self.header.get("Content-Transfer-Encoding", "")).strip().lower()
        if encoding in ("", "7bit", "8bit", "binary"):
            return encoded
        try:
            if encoding == "base64":
                return binascii.a2b_base64(encoded)
            if encoding == "quoted-printable":
                return binascii.a2b_qp(encoded)
        except binascii.Error:
            raise Refused(
                CauseCode.UNREADABLE, "an attachment is damaged (Base64)", f"part {self.number}"
            ) from None
        raise Refused(
            CauseCode.UNREADABLE, "an attachment has an unknown transfer encoding",
            f"part {self.number}",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MimeLimits:
    """How much structure a mail may have."""

    parts_max: int = 200
    depth_max: int = 10


def read_header(data: Bytes, start: int = 0, end: int | None = None) -> tuple[Message, int]:
    """The header block at ``start``, and where the content begins behind it. Raises Refused."""
    end = len(data) if end is None else end
    limit = min(end, start + HEADER_BYTES_MAX)
    if data[start : start + 2] == b"\r\n":
        return Message(), start + 2
    if data[start : start + 1] == b"\n":
        return Message(), start + 1
    found = _BLANK_LINE.search(data, start, limit)
    if found is None and limit < end:
        raise Refused(
            CauseCode.HOSTILE_CONTENT, f"a header is longer than {HEADER_BYTES_MAX} bytes"
        )
    stop, content = (found.start(), found.end()) if found else (end, end)
    return BytesHeaderParser().parsebytes(data[start:stop]), content


def parts_of(data: Bytes, limits: MimeLimits) -> Iterator[Part]:
    """The parts without parts of a whole mail, in their order. Raises Refused.

    Attached mails are looked into. Reports on other mails (RFC 6522: delivery and disposition
    notifications) are one part: the mail that they return is not sent anew.
    """
    walk = _Walk(data, limits)
    header, start = read_header(data)
    yield from walk.part(header, start, len(data), 1)


class _Walk:
    def __init__(self, data: Bytes, limits: MimeLimits) -> None:
        self.data, self.limits, self.count = data, limits, 0

    def part(self, header: Message, start: int, end: int, depth: int) -> Iterator[Part]:
        self.count += 1
        if self.count > self.limits.parts_max:
            raise Refused(
                CauseCode.HOSTILE_CONTENT, f"the mail has more than {self.limits.parts_max} parts"
            )
        if depth > self.limits.depth_max:
            raise Refused(
                CauseCode.HOSTILE_CONTENT,
                f"the parts of the mail are nested deeper than {self.limits.depth_max}",
            )
        kind = header.get_content_type()
        encoding = str(header.get("Content-Transfer-Encoding", "")).strip().lower()
        if kind.startswith("multipart/") and kind != "multipart/report":
            for inner_start, inner_end in self._between(header, start, end):
                inner, content = read_header(self.data, inner_start, inner_end)
                yield from self.part(inner, content, inner_end, depth + 1)
        elif kind == "message/rfc822" and encoding in ("", "7bit", "8bit", "binary"):
            inner, content = read_header(self.data, start, end)
            yield from self.part(inner, content, end, depth + 1)
        else:
            yield Part(self.count, header, start, end)

    def _between(self, header: Message, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What stands between the delimiter lines (RFC 2046, section 5.1.1)."""
        boundary = header.get_boundary()
        if not boundary or len(boundary) > _BOUNDARY_MAX or not boundary.isascii():
            raise Refused(CauseCode.UNREADABLE, "a multipart has no usable boundary")
        delimiter = re.compile(
            rb"\r?\n--" + re.escape(boundary.encode("ascii")) + rb"(--)?[ \t]*(?=\r?\n|\Z)"
        )
        # A content that begins with its delimiter: the line end before it is the header's.
        begins = start - 2 if self.data[start - 2 : start] == b"\r\n" else start - 1
        at, inside = max(begins, 0), -1
        while found := delimiter.search(self.data, at, end):
            if inside >= 0:
                yield inside, max(inside, found.start())
            if found[1]:
                return
            line_end = self.data.find(b"\n", found.end(), end)
            inside = at = end if line_end < 0 else line_end + 1
            # The delimiter of an empty part follows at once.
            at = max(at - 2 if self.data[at - 2 : at] == b"\r\n" else at - 1, 0)
        raise Refused(CauseCode.UNREADABLE, "the mail is cut: the end of a multipart is missing")


def _decoded(name: str) -> str:
    """A file name in whatever way it is written: RFC 2231, or RFC 2047 as many do."""
    try:
        text = str(make_header(decode_header(name)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        text = name
    text = text.encode("utf-8", "replace").decode()
    return _UNPRINTABLE.sub("", text)[:NAME_CHARACTERS_MAX]

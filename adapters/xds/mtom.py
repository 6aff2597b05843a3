"""MIME multipart/related as MTOM uses it, read as it arrives and written as it is sent.

RFC 2046 section 5.1.1 (delimiters), RFC 2387 (multipart/related), RFC 2392 (``cid:``), XOP 1.0
section 4 (packages). Without I/O: blocks go in, each part's bytes go to the sink that its headers
were given. Nothing larger than a block and one part's headers is held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from enum import Enum
from typing import Protocol
from urllib.parse import unquote

from adapters.xds.faults import SoapFault, hostile
from gateway.model import CauseCode

HEADERS_BYTES_MAX = 8 << 10
PREAMBLE_BYTES_MAX = 64 << 10
PADDING_BYTES_MAX = 256
CONTENT_ID_MAX = 512
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]\Z")
_AS_IT_IS = frozenset({"", "binary", "8bit", "7bit"})


class Sink(Protocol):
    """Takes the bytes of one part."""

    def write(self, block: bytes) -> None:
        """Take one block, in order."""
        ...


@dataclass(frozen=True, slots=True)
class PartHeaders:
    """What stands above one part. ``content_id`` is without its angle brackets."""

    number: int
    content_id: str
    media_type: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Related:
    """The parameters of a ``multipart/related`` (RFC 2387 section 3). ``start`` may be empty:
    the first part is then the root."""

    boundary: str
    start: str
    type: str
    start_info: str


def media_type_of(header: str) -> tuple[str, dict[str, str]]:
    """A Content-Type in lower case, and its parameters. Never fails on odd text."""
    message = Message()
    message["content-type"] = header
    given = message.get_params(failobj=[], unquote=True)
    parameters = {name.lower(): value for name, value in given[1:] if isinstance(value, str)}
    return message.get_content_type(), parameters


def related(parameters: Mapping[str, str]) -> Related:
    """Read the parameters. Raises SoapFault without a usable boundary."""
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.match(boundary):
        raise SoapFault("the Content-Type multipart/related has no boundary, or none of RFC 2046")
    return Related(
        boundary=boundary,
        start=bare_id(parameters.get("start", "")),
        type=parameters.get("type", "").lower(),
        start_info=parameters.get("start-info", "").lower(),
    )


def bare_id(text: str) -> str:
    """A Content-ID without blanks and angle brackets."""
    return text.strip().removeprefix("<").removesuffix(">")


def part_named(href: str) -> str:
    """The Content-ID that an ``xop:Include`` points to (RFC 2392 section 2).

    Raises SoapFault for any other kind of address: nothing is ever fetched from anywhere.
    """
    scheme, colon, rest = href.strip().partition(":")
    if not colon or scheme.lower() != "cid" or not rest:
        raise hostile("an xop:Include points to something that is no part of the message (cid:)")
    return unquote(rest)


class _State(Enum):
    PREAMBLE = 1
    DELIMITER = 2
    HEADERS = 3
    BODY = 4
    EPILOGUE = 5


class MultipartReader:
    """Takes blocks; ``open_part`` gives the sink of each part once its headers are there.

    Raises SoapFault, and whatever a sink raises. After an exception it takes nothing more.
    """

    def __init__(
        self, boundary: str, open_part: Callable[[PartHeaders], Sink], *, parts_max: int
    ) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._open = open_part
        self._parts_max = parts_max
        self._state = _State.PREAMBLE
        # The first delimiter may stand at the very beginning, without a line end before it.
        self._buffer = bytearray(b"\r\n")
        self._preamble = self._parts = self._blank = 0
        self._sink: Sink | None = None

    def feed(self, block: bytes) -> None:
        """Take one block."""
        if self._state is _State.EPILOGUE:
            return
        self._buffer += block
        while self._step():
            pass

    def finish(self) -> None:
        """The body has ended. Raises SoapFault when its last delimiter never came."""
        if self._state is _State.PREAMBLE:
            raise SoapFault("the boundary of the Content-Type is nowhere in the body")
        if self._state is not _State.EPILOGUE:
            raise SoapFault(
                "the body ends before its closing delimiter", cause=CauseCode.FRAME_TRUNCATED
            )

    def _step(self) -> bool:
        """Do what the buffer allows; whether there may be more to do."""
        if self._state in (_State.PREAMBLE, _State.BODY):
            return self._to_delimiter()
        if self._state is _State.DELIMITER:
            return self._after_delimiter()
        if self._state is _State.HEADERS:
            return self._headers()
        self._buffer.clear()
        return False

    def _to_delimiter(self) -> bool:
        at = self._buffer.find(self._delimiter)
        end = at if at >= 0 else len(self._buffer) - len(self._delimiter) + 1
        if end > 0:
            if self._sink is not None:
                skipped = min(self._blank, end)
                self._blank -= skipped
                self._sink.write(bytes(self._buffer[skipped:end]))
            else:
                self._preamble += end
                if self._preamble > PREAMBLE_BYTES_MAX:
                    raise SoapFault("the boundary of the Content-Type is nowhere in the body")
            del self._buffer[:end]
        if at < 0:
            return False
        del self._buffer[: len(self._delimiter)]
        self._sink, self._state = None, _State.DELIMITER
        return True

    def _after_delimiter(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] == b"--":
            self._state = _State.EPILOGUE
            return True
        end = self._buffer.find(b"\r\n")
        if end < 0 and len(self._buffer) <= PADDING_BYTES_MAX:
            return False
        if end < 0 or self._buffer[:end].strip(b" \t"):
            raise SoapFault("a delimiter of the body is followed by something on its line")
        # The line end stays: headers that are not there begin with their closing blank line.
        del self._buffer[:end]
        self._state = _State.HEADERS
        return True

    def _headers(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end > HEADERS_BYTES_MAX or (end < 0 and len(self._buffer) > HEADERS_BYTES_MAX):
            raise hostile(f"the headers of a part are larger than {HEADERS_BYTES_MAX} bytes")
        if end < 0:
            return False
        text = bytes(self._buffer[2:end]).decode("utf-8", "replace") if end else ""
        # The end of the blank line is left: where a part has no bytes, it begins the delimiter.
        del self._buffer[: end + 2]
        self._blank = 2
        self._parts += 1
        if self._parts > self._parts_max:
            raise hostile(f"the body has more than {self._parts_max} parts")
        self._sink = self._open(_read_headers(text, self._parts))
        self._state = _State.BODY
        return True


def _read_headers(text: str, number: int) -> PartHeaders:
    read = HeaderParser().parsestr(text)
    place = f"part {number}"
    for name in ("Content-ID", "Content-Type", "Content-Transfer-Encoding"):
        if len(read.get_all(name, [])) > 1:
            raise hostile(f"a part has two {name} headers", place)
    encoding = str(read.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding not in _AS_IT_IS or read.get("Content-Encoding"):
        raise SoapFault(
            "a part is encoded or packed; MTOM sends parts as they are "
            "(Content-Transfer-Encoding: binary)",
            cause=CauseCode.UNSUPPORTED_TYPE,
            location=place,
        )
    media_type, parameters = media_type_of(str(read.get("Content-Type", "")))
    if media_type.startswith("multipart/"):
        raise hostile("a part is a multipart itself", place)
    content_id = bare_id(str(read.get("Content-ID", "")))
    if len(content_id) > CONTENT_ID_MAX or not content_id.isprintable():
        raise hostile("a part has a Content-ID that is none", place)
    return PartHeaders(number, content_id, media_type, parameters)


ROOT_ID = "envelope@ecluse"


def content_type(boundary: str, action: str) -> str:
    """The Content-Type of a package (XOP 1.0 section 4.1, MTOM section 3.2)."""
    return (
        f'multipart/related; type="application/xop+xml"; boundary="{boundary}"; '
        f'start="<{ROOT_ID}>"; start-info="application/soap+xml"; action="{action}"'
    )


def root_part(boundary: str, action: str, envelope: bytes) -> bytes:
    """The delimiter and the first part, without the line end behind it."""
    head = (
        f"--{boundary}\r\n"
        f'Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"; '
        f'action="{action}"\r\n'
        f"Content-Transfer-Encoding: binary\r\nContent-ID: <{ROOT_ID}>\r\n\r\n"
    )
    return head.encode("ascii") + envelope


def part_head(boundary: str, content_id: str, media_type: str) -> bytes:
    """What stands before one document's bytes."""
    return (
        f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\n"
        f"Content-Transfer-Encoding: binary\r\nContent-ID: <{content_id}>\r\n\r\n"
    ).encode("ascii")


def closing(boundary: str) -> bytes:
    """What stands behind the last part."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")

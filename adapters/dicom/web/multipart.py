"""The parts of a multipart body as it comes in (RFC 2046 section 5.1.1, RFC 2387).

Fed with blocks of any length, it holds one block and a delimiter's length at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from enum import Enum, auto

HEAD_BYTES_MAX = 8 << 10
"""The header fields of one part."""
PREAMBLE_BYTES_MAX = 64 << 10
"""What may stand before the first delimiter."""
_PADDING_MAX = 256
_ENDS_DELIMITER = re.compile(rb"--|\r\n|[ \t]")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,199}[0-9A-Za-z'()+_,\-./:=?]", re.ASCII)
"""RFC 2046 allows 70 characters; Orthanc has 73."""


class MalformedBody(Exception):
    """The body is no multipart body of this boundary. The message is for its sender."""


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part: its header fields by lower-case name."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Some of the part's content."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The part is whole."""


Event = PartBegins | PartData | PartEnds


class _State(Enum):
    PREAMBLE = auto()
    DELIMITER = auto()
    HEAD = auto()
    CONTENT = auto()
    EPILOGUE = auto()


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type in lower case and its parameters, whose names are in lower case."""

    name: str
    parameters: Mapping[str, str]


def media_type(header: str) -> MediaType:
    """Read a Content-Type field. Never raises; what is none is ``text/plain``."""
    message = Message()
    message["content-type"] = header
    found = message.get_params(failobj=[("text/plain", "")])
    parameters: dict[str, str] = {}
    for name, value in found[1:]:
        parameters.setdefault(name.lower(), value if isinstance(value, str) else "")
    return MediaType(message.get_content_type(), parameters)


class PartReader:
    """Cuts a body into its parts. ``whole`` is true once the closing delimiter was there."""

    def __init__(self, boundary: str) -> None:
        """Raises MalformedBody for what is no boundary (RFC 2046 5.1.1)."""
        if _BOUNDARY.fullmatch(boundary) is None:
            raise MalformedBody("the boundary of the Content-Type is missing or no boundary")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # The first delimiter has no line end of its own before it.
        self._rest = b"\r\n"
        self._state = _State.PREAMBLE
        self._skipped = 0

    @property
    def whole(self) -> bool:
        """Whether the closing delimiter was there."""
        return self._state is _State.EPILOGUE

    @property
    def inside(self) -> bool:
        """Whether a part has begun and not ended."""
        return self._state in {_State.HEAD, _State.CONTENT}

    def feed(self, block: bytes) -> Iterator[Event]:
        """What follows from the next block; to be gone through to its end. Raises
        MalformedBody."""
        if self._rest and self._state is _State.CONTENT and self._goes_on(block):
            yield PartData(memoryview(self._rest))
            self._rest = b""
        self._rest = self._rest + block if self._rest else block
        steps = {
            _State.PREAMBLE: self._preamble,
            _State.DELIMITER: self._after_delimiter,
            _State.HEAD: self._head,
            _State.CONTENT: self._content,
        }
        while (step := steps.get(self._state)) is not None:
            before = self._state, len(self._rest)
            yield from step()
            if before == (self._state, len(self._rest)) or not self._rest:
                return
        self._rest = b""

    def _goes_on(self, block: bytes) -> bool:
        """Whether no delimiter begins in what was held back: then it need not be put before the
        block, all of which would be copied for a few bytes."""
        length = len(self._delimiter)
        return len(block) >= length and self._delimiter not in self._rest + block[:length]

    def _preamble(self) -> Iterator[Event]:
        end = self._rest.find(self._delimiter)
        if end >= 0:
            self._rest = self._rest[end + len(self._delimiter) :]
            self._state = _State.DELIMITER
            return
        sure = max(0, len(self._rest) - len(self._delimiter) + 1)
        self._skipped += sure
        if self._skipped > PREAMBLE_BYTES_MAX:
            raise MalformedBody("the body does not begin with its boundary")
        self._rest = self._rest[sure:]
        yield from ()

    def _after_delimiter(self) -> Iterator[Event]:
        """Past the line of a delimiter, once it is whole."""
        if len(self._rest) < 2:
            return
        if self._rest.startswith(b"--"):
            self._state = _State.EPILOGUE
            return
        end = self._rest.find(b"\r\n")
        line = self._rest[: end if end >= 0 else len(self._rest)].rstrip(b"\r")
        if line.strip(b" \t") or len(line) > _PADDING_MAX:
            raise MalformedBody("a delimiter's line has more than the delimiter")
        if end >= 0:
            self._rest = self._rest[end + 2 :]
            self._state = _State.HEAD
        yield from ()

    def _head(self) -> Iterator[Event]:
        # A part without header fields begins with the empty line itself.
        bare = self._rest.startswith(b"\r\n")
        end = 0 if bare else self._rest.find(b"\r\n\r\n")
        if end > HEAD_BYTES_MAX or (end < 0 and len(self._rest) > HEAD_BYTES_MAX):
            raise MalformedBody(f"a part's head is longer than {HEAD_BYTES_MAX} bytes")
        if end < 0:
            return
        yield PartBegins(_fields(self._rest[:end]))
        self._rest = self._rest[2:] if bare else self._rest[end + 4 :]
        self._state = _State.CONTENT

    def _content(self) -> Iterator[Event]:
        buffer, length = self._rest, len(self._delimiter)
        end = buffer.find(self._delimiter)
        sure = end if end >= 0 else max(0, len(buffer) - length + 1)
        after = buffer[end + length : end + length + 2]
        if end >= 0 and len(after) == 2 and not _ENDS_DELIMITER.match(after):
            # Content that looks like the delimiter and goes on otherwise.
            sure, end = end + length, -1
        if sure:
            yield PartData(memoryview(buffer)[:sure])
        if end >= 0 and len(after) == 2:
            yield PartEnds()
            sure += length
            self._state = _State.DELIMITER
        self._rest = buffer[sure:]


def _fields(head: bytes) -> dict[str, str]:
    """The header fields of a part; a line that is none is passed over."""
    found: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return found

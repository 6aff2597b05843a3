"""One request as it arrives: the envelope and the parts, each in a spool of its own.

Small parts stay in memory while all of them together are small; what is larger goes to files at
once, so that a request takes no more memory than ``memory_bytes_max``, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.doors.spool import BodyTooLarge, Spool
from adapters.xds.faults import SoapFault, hostile, too_large
from adapters.xds.mtom import (
    MultipartReader,
    PartHeaders,
    Related,
    media_type_of,
    related,
)
from adapters.xds.soap import MEDIA_TYPE
from gateway.model import CauseCode, Payload

HEAD_BYTES_MAX = 64 << 10
"""How much is kept as evidence of a body in which no part was found."""
_ROOT_TYPES = frozenset({"application/xop+xml", MEDIA_TYPE})
_PLAIN_TYPES = frozenset({MEDIA_TYPE, "text/xml"})
_CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """In bytes, but for the number of parts."""

    request: int
    envelope: int
    document: int
    memory: int
    parts: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What the Content-Type of a request announces. ``package`` is None for a bare envelope."""

    package: Related | None
    action: str

    @classmethod
    def by(cls, content_type: str) -> Expected:
        """Read a Content-Type. Raises SoapFault."""
        media_type, parameters = media_type_of(content_type)
        package = None
        if media_type == "multipart/related":
            package = related(parameters)
            if package.type not in _ROOT_TYPES:
                raise _not_taken("the type of the multipart/related is not application/xop+xml")
        elif media_type not in _PLAIN_TYPES:
            raise _not_taken(f"a request is multipart/related (MTOM) or {MEDIA_TYPE}")
        elif parameters.get("charset", "").lower() not in _CHARSETS:
            raise _not_taken("the envelope must be UTF-8")
        return cls(package, parameters.get("action", ""))


class Incoming:
    """Takes the blocks of one body. Raises SoapFault; OSError when the disk takes no more.

    Where nothing is ``expected``, because what the Content-Type says is not taken, only the
    beginning is kept.
    """

    def __init__(self, folder: Path, expected: Expected | None, bounds: Bounds) -> None:
        self._folder = folder
        self._bounds = bounds
        self._head = bytearray()
        self._size = 0
        self._spools: list[Spool] = []
        self._root: Spool | None = None
        self.parts: dict[str, Spool] = {}
        self.action = expected.action if expected is not None else ""
        self._related = expected.package if expected is not None else None
        self.packed = self._related is not None
        self._reader: MultipartReader | None = None
        if self._related is not None:
            self._reader = MultipartReader(
                self._related.boundary, self._open, parts_max=bounds.parts
            )
        elif expected is not None:
            self._root = self._spool(bounds.envelope)

    def feed(self, block: bytes) -> None:
        """Take one block."""
        if len(self._head) < HEAD_BYTES_MAX:
            self._head += block[: HEAD_BYTES_MAX - len(self._head)]
        self._size += len(block)
        if self._size > self._bounds.request:
            raise too_large("the request", self._bounds.request)
        if self._reader is not None:
            self._reader.feed(block)
        elif self._root is not None:
            self._sink(self._root, "the envelope", self._bounds.envelope).write(block)

    def finish(self) -> None:
        """The body has ended."""
        if self._reader is not None:
            self._reader.finish()
        if self._root is None:
            raise SoapFault("the part that start names, the envelope, is not there")

    def envelope(self) -> Payload | None:
        """The envelope as far as it came; take no block after it."""
        return self._root.payload() if self._root is not None and self._root.size else None

    def head(self) -> bytes:
        """The beginning of the body."""
        return bytes(self._head)

    def discard(self) -> None:
        """Remove what lies in files. Idempotent."""
        for each in self._spools:
            each.discard()

    # --- parts ---------------------------------------------------------------------

    def _open(self, headers: PartHeaders) -> _BoundedSink:
        assert self._related is not None
        place = f"part {headers.number}"
        if headers.content_id and headers.content_id in self.parts:
            raise hostile("two parts have one Content-ID", place)
        start = self._related.start
        mine = headers.content_id == start if start else headers.number == 1
        if mine:
            if self._root is not None:
                raise hostile("two parts have one Content-ID", place)
            if headers.media_type not in _ROOT_TYPES:
                raise _not_taken("the first part, the envelope, is not application/xop+xml")
            if headers.parameters.get("charset", "").lower() not in _CHARSETS:
                raise _not_taken("the envelope must be UTF-8")
            self._root = self._spool(self._bounds.envelope)
            return self._sink(self._root, "the envelope", self._bounds.envelope)
        if not headers.content_id:
            raise SoapFault("a part has no Content-ID, so that nothing can refer to it",
                            cause=CauseCode.REQUIRED_FIELD_MISSING, location=place)  # fmt: skip
        spool = self.parts[headers.content_id] = self._spool(self._bounds.document)
        return self._sink(spool, "a document", self._bounds.document)

    def _spool(self, bytes_max: int) -> Spool:
        held = sum(each.size for each in self._spools if each.size <= each.memory_bytes_max)
        spool = Spool(
            self._folder,
            memory_bytes_max=max(0, self._bounds.memory - held),
            bytes_max=bytes_max,
        )
        self._spools.append(spool)
        return spool

    def _sink(self, spool: Spool, what: str, bytes_max: int) -> _BoundedSink:
        return _BoundedSink(spool.write, what, bytes_max)


@dataclass(frozen=True, slots=True)
class _BoundedSink:
    take: Callable[[bytes], None]
    what: str
    bytes_max: int

    def write(self, block: bytes) -> None:
        try:
            self.take(block)
        except BodyTooLarge:
            raise too_large(self.what, self.bytes_max) from None


def _not_taken(reason: str) -> SoapFault:
    return SoapFault(reason, status=415, cause=CauseCode.UNSUPPORTED_TYPE)

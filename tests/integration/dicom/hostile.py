"""Bad objects: each with its number in the list of hostile inputs, the status that it gets, and
the cause under which it is kept. The tests read this table; so does whoever adds a case.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from gateway.model import CauseCode
from tests.integration.dicom.objects import CT, DEFLATED, EXPLICIT, STUDY, data_set, element

JPEG = "1.2.840.10008.1.2.4.50"
ONE = f"{STUDY}.1.1"


@dataclass(frozen=True)
class BadObject:
    """``cause`` None: it is taken. ``irregular`` is what is noted of it then."""

    case: int
    name: str
    body: Callable[[], bytes]
    status: int
    cause: CauseCode | None
    instance: str = ONE
    sop_class: str = CT
    syntax: str = EXPLICIT
    irregular: str = ""


def nested(depth: int, *, defined: bool = False) -> bytes:
    """Sequences inside each other, in group 0008, of undefined or of defined length."""
    if defined:
        body = b""
        for _ in range(depth):
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body
            body = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, len(item)) + item
        return body
    head = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    item_end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return (head + item) * depth + (item_end + end) * depth


def with_sequence(depth: int, *, defined: bool = False) -> bytes:
    """A data set with such sequences."""
    body = data_set()
    at = body.index(struct.pack("<HH2s", 0x0010, 0x0020, b"LO"))
    return body[:at] + nested(depth, defined=defined) + body[at:]


def bomb(*, first: bool) -> bytes:
    """100 MB of zeros, deflated to some 100 kB: before the identifiers or behind them."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = 100 << 20
    head, pixels = data_set().split(struct.pack("<HH2s", 0x0010, 0x0020, b"LO"))
    rest = struct.pack("<HH2s", 0x0010, 0x0020, b"LO") + pixels
    pieces = [engine.compress(head)]
    if first:
        filler = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, size)
    else:
        pieces.append(engine.compress(rest[: rest.index(struct.pack("<HH", 0x7FE0, 0x10))]))
        filler = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, size)
    pieces.append(engine.compress(filler))
    pieces += [engine.compress(bytes(1 << 20)) for _ in range(100)]
    if first:
        pieces.append(engine.compress(rest))
    return b"".join([*pieces, engine.flush()])


def without_delimiter() -> bytes:
    """Encapsulated pixels whose last delimiter is missing."""
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"\xff\xd8\xff\xd9"
    body = data_set()
    at = body.index(struct.pack("<HH", 0x7FE0, 0x0010))
    return body[:at] + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + item


def huge(tag: int = 0x00281201) -> bytes:
    """An element that says it has four gigabytes."""
    return data_set(extra=struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"OW", 0, 0xFFFFFFF0))


UNREADABLE, MISSING = CauseCode.UNREADABLE, CauseCode.REQUIRED_FIELD_MISSING
MISMATCH, HOSTILE = CauseCode.CONTENT_MISMATCH, CauseCode.HOSTILE_CONTENT
MR = "1.2.840.10008.5.1.4.1.1.4"
PATH = "../../../../tmp/ecluse-was-here"

BAD_OBJECTS = (
    BadObject(35, "another instance", lambda: data_set(f"{STUDY}.1.2"), 0xA900, MISMATCH),
    BadObject(35, "another class", lambda: data_set(sop_class=MR), 0xA900, MISMATCH),
    BadObject(
        35, "another class than its context", lambda: data_set(sop_class=MR), 0x0122,
        CauseCode.UNSUPPORTED_TYPE, sop_class=MR,
    ),
    BadObject(36, "a path as study", lambda: data_set(study="../../etc/x"), 0xC000, UNREADABLE),
    BadObject(36, "a path as instance", lambda: data_set(PATH), 0xC000, UNREADABLE, instance=PATH),
    BadObject(36, "a study that is too long", lambda: data_set(study="1." * 40 + "1"), 0xC000, UNREADABLE),
    BadObject(36, "an empty study", lambda: data_set(study=""), 0xC001, MISSING),
    BadObject(36, "no study", lambda: data_set(study=None), 0xC001, MISSING),
    BadObject(37, "one byte less", lambda: data_set()[:-1], 0xC000, UNREADABLE),
    BadObject(37, "pixels cut off", lambda: data_set()[:-100], 0xC000, UNREADABLE),
    BadObject(37, "4 GB of length", huge, 0xC000, UNREADABLE),
    BadObject(37, "4 GB of length at the end", lambda: huge(0x7FDF0010)[:-140], 0xC000, UNREADABLE),
    BadObject(37, "nothing", lambda: b"", 0xC001, MISSING),
    BadObject(37, "text", lambda: b"no data set at all, only text", 0xC000, UNREADABLE),
    BadObject(37, "zeros", lambda: bytes(5_000), 0xC001, MISSING),
    BadObject(
        38, "a deflated bomb before the study", lambda: bomb(first=True), 0xC000, UNREADABLE,
        syntax=DEFLATED,
    ),
    BadObject(
        38, "a deflated bomb as pixels", lambda: bomb(first=False), 0x0000, None, syntax=DEFLATED
    ),
    BadObject(39, "nested 400 deep", lambda: with_sequence(400), 0xC000, HOSTILE),
    BadObject(39, "nested 30 deep", lambda: with_sequence(30), 0x0000, None),
    BadObject(
        39, "nested 400 deep with lengths", lambda: with_sequence(400, defined=True), 0x0000, None
    ),
    BadObject(
        40, "no last delimiter", without_delimiter, 0x0000, None, syntax=JPEG,
        irregular="a sequence delimiter is missing",
    ),
    BadObject(43, "no patient", lambda: data_set(patient=element(0x00100020, "LO", "")), 0x0000, None),
    BadObject(
        47, "private garbage", lambda: data_set(extra=element(0x00291010, "UN", bytes(range(256)))),
        0x0000, None,
    ),
    BadObject(
        47, "an odd length", lambda: data_set(extra=struct.pack("<HH2sH", 0x21, 0x10, b"LO", 3) + b"abc"),
        0x0000, None,
    ),
    BadObject(
        47, "an unknown character set",
        lambda: element(0x00080005, "CS", "ISO_IR 999") + data_set(), 0x0000, None,
    ),
)  # fmt: skip

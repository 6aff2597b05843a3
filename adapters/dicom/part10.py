"""The DICOM file format: preamble and file meta information (PS3.10 section 7).

What is written here depends on the SOP class, the SOP instance and the transfer
syntax alone, so that the same data set sent twice gives the same file.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from adapters.dicom.elements import EXPLICIT_LITTLE, DataSetError, Walk, Window

PREAMBLE = bytes(128)
"""Zero, so that a stored file is never also an executable (a polyglot)."""

PREFIX = b"DICM"
META_BYTES_MAX = 1 << 16

IMPLEMENTATION_CLASS_UID = "2.25.29247783297468599774715076091625399571"
"""Identifies this gateway as the writer of a file; never changes, not with a release either."""

_TRANSFER_SYNTAX = 0x00020010
_SOP_CLASS = 0x00020002
_SOP_INSTANCE = 0x00020003


class NotPart10(Exception):
    """The bytes are no DICOM file."""


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the file meta group says, and the offset at which the data set begins."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    data_set_offset: int


def file_head(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Preamble, prefix and file meta information: everything before the data set.

    UIDs are text of at most 64 characters. No time, address or AE title goes in.
    """
    group = b"".join(
        [
            _explicit(0x0001, b"OB", b"\x00\x01"),
            _explicit(0x0002, b"UI", _uid(sop_class)),
            _explicit(0x0003, b"UI", _uid(sop_instance)),
            _explicit(0x0010, b"UI", _uid(transfer_syntax)),
            _explicit(0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
        ]
    )
    return PREAMBLE + PREFIX + _explicit(0x0000, b"UL", struct.pack("<L", len(group))) + group


def _uid(text: str) -> bytes:
    raw = text.encode("ascii")
    return raw + b"\0" * (len(raw) % 2)


def _explicit(number: int, vr: bytes, value: bytes) -> bytes:
    if vr == b"OB":
        return struct.pack("<HH2sHL", 0x0002, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value


def read_file_meta(stream: BinaryIO, size: int) -> FileMeta:
    """Read the head of a DICOM file of ``size`` bytes. Raises NotPart10.

    The group's length is not trusted: the group ends where group 0002 ends.
    """
    stream.seek(0)
    if stream.read(132)[128:] != PREFIX:
        raise NotPart10("there is no DICM after the preamble")
    found: dict[int, str] = {}
    position = 132
    window = Window(stream, min(size, META_BYTES_MAX))
    try:
        for element in Walk(window).level(132, window.end, EXPLICIT_LITTLE):
            if element.tag >> 16 != 0x0002:
                break
            if element.vr == "UI":
                value = window.value(element.offset, element.length)
                found[element.tag] = value.decode("ascii", "replace").strip(" \0")
            position = element.offset + element.length
    except DataSetError as error:
        # A long first element of the data set also ends the walk; the group is whole by then.
        if _TRANSFER_SYNTAX not in found:
            raise NotPart10(f"the file meta information is damaged: {error}") from None
    if not found.get(_TRANSFER_SYNTAX):
        raise NotPart10("the file meta information names no transfer syntax")
    return FileMeta(
        found.get(_SOP_CLASS, ""), found.get(_SOP_INSTANCE, ""), found[_TRANSFER_SYNTAX], position
    )


def inflate(stream: BinaryIO, offset: int, limit: int) -> bytes:
    """At most ``limit`` bytes of a deflated data set (PS3.5 A.5), whatever it would become.

    Memory is bounded by ``limit`` and one input block. A damaged stream gives what
    came before the damage.
    """
    stream.seek(offset)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    pieces: list[bytes] = []
    left = limit
    while left > 0 and not engine.eof:
        block = engine.unconsumed_tail or stream.read(1 << 16)
        if not block:
            break
        try:
            piece = engine.decompress(block, left)
        except zlib.error:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)

"""The commands of C-STORE, decoded and encoded by hand (PS3.7 6.3, 9.3.1, annex E).

Command sets are implicit VR little endian. C-STORE is the one command that comes
thousands of times per association; the others are left to pynetdicom.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from adapters.dicom.elements import IMPLICIT_LITTLE, DataSetError, Walk, Window
from adapters.dicom.storage import Incoming, Status

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
NO_DATA_SET = 0x0101
UID_CHARACTERS_MAX = 64
ELEMENTS_MAX = 100

_SOP_CLASS = 0x00000002
_COMMAND_FIELD = 0x00000100
_MESSAGE_ID = 0x00000110
_DATA_SET_TYPE = 0x00000800
_SOP_INSTANCE = 0x00001000
_READ = {_SOP_CLASS, _COMMAND_FIELD, _MESSAGE_ID, _DATA_SET_TYPE, _SOP_INSTANCE}


class CommandError(Exception):
    """The bytes are no command, or a command that cannot be. No value is named."""


@dataclass(slots=True)
class StoreRequest:
    """A C-STORE request. ``incoming`` is the object that comes with it."""

    message_id: int
    sop_class: str
    sop_instance: str
    has_data_set: bool
    incoming: Incoming | None = None


def read_store_request(raw: bytes | bytearray) -> StoreRequest | None:
    """The request of a command set, or None when it is another command. Raises CommandError."""
    window = Window(BytesIO(raw), len(raw))
    found: dict[int, bytes] = {}
    try:
        for element in Walk(window, elements_max=ELEMENTS_MAX).level(0, len(raw), IMPLICIT_LITTLE):
            if element.tag in _READ:
                found[element.tag] = window.value(element.offset, element.length)
    except DataSetError as error:
        raise CommandError(str(error)) from None
    if _number(found, _COMMAND_FIELD) != C_STORE_RQ:
        return None
    return StoreRequest(
        _number(found, _MESSAGE_ID),
        _uid(found, _SOP_CLASS),
        _uid(found, _SOP_INSTANCE),
        _number(found, _DATA_SET_TYPE) != NO_DATA_SET,
    )


def _number(found: dict[int, bytes], tag: int) -> int:
    raw = found.get(tag, b"")
    if len(raw) != 2:
        raise CommandError(f"a command without (0000,{tag:04X})")
    return int.from_bytes(raw, "little")


def _uid(found: dict[int, bytes], tag: int) -> str:
    try:
        uid = found.get(tag, b"").decode("ascii").strip(" \0")
    except UnicodeDecodeError:
        raise CommandError(f"(0000,{tag:04X}) is no UID") from None
    if not uid or len(uid) > UID_CHARACTERS_MAX:
        raise CommandError(f"(0000,{tag:04X}) is no UID")
    return uid


def store_response(request: StoreRequest, status: Status) -> bytes:
    """The command set of a C-STORE response (PS3.7 table 9.3-2)."""
    elements = [
        _element(_SOP_CLASS, _padded(request.sop_class)),
        _element(_COMMAND_FIELD, struct.pack("<H", C_STORE_RSP)),
        _element(0x00000120, struct.pack("<H", request.message_id)),
        _element(_DATA_SET_TYPE, struct.pack("<H", NO_DATA_SET)),
        _element(0x00000900, struct.pack("<H", status.code)),
    ]
    if status.comment:
        comment = status.comment.encode("ascii", "replace")[:64]
        elements.append(_element(0x00000902, comment + b" " * (len(comment) % 2)))
    elements.append(_element(_SOP_INSTANCE, _padded(request.sop_instance)))
    body = b"".join(elements)
    return _element(0x00000000, struct.pack("<L", len(body))) + body


def command_fragments(command: bytes, pdu_bytes_max: int) -> Iterator[bytes]:
    """The command as presentation data values with their control header (PS3.8 annex E).

    ``pdu_bytes_max`` is what the peer announced; 0 is no limit.
    """
    room = max(pdu_bytes_max - 6, 1) if pdu_bytes_max else len(command)
    for start in range(0, len(command), room):
        last = start + room >= len(command)
        yield (b"\x03" if last else b"\x01") + command[start : start + room]


def _padded(uid: str) -> bytes:
    raw = uid.encode("ascii")
    return raw + b"\0" * (len(raw) % 2)


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value

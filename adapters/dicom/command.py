"""Command sets, decoded and encoded by hand (PS3.7 6.3, 9.3, 10.3, annex E).

Command sets are implicit VR little endian. The values are of six kinds only, and none of the
commands has a sequence.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

C_STORE_RQ, C_GET_RQ, C_FIND_RQ, C_MOVE_RQ, C_ECHO_RQ = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030
N_EVENT_REPORT_RQ, N_GET_RQ, N_SET_RQ = 0x0100, 0x0110, 0x0120
N_ACTION_RQ, N_CREATE_RQ, N_DELETE_RQ = 0x0130, 0x0140, 0x0150
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000
"""The bit that makes a command field a response's."""

REQUESTS = frozenset(
    {
        C_STORE_RQ, C_GET_RQ, C_FIND_RQ, C_MOVE_RQ, C_ECHO_RQ, N_EVENT_REPORT_RQ, N_GET_RQ,
        N_SET_RQ, N_ACTION_RQ, N_CREATE_RQ, N_DELETE_RQ, C_CANCEL_RQ,
    }
)  # fmt: skip

NO_DATA_SET = 0x0101
"""The Command Data Set Type that says that none follows; any other value: one does."""

UID_CHARACTERS_MAX = 64
ELEMENTS_MAX = 100

AFFECTED_CLASS, REQUESTED_CLASS = 0x0002, 0x0003
COMMAND_FIELD, MESSAGE_ID, RESPONDED_ID = 0x0100, 0x0110, 0x0120
MOVE_DESTINATION, PRIORITY, DATA_SET_TYPE = 0x0600, 0x0700, 0x0800
STATUS, OFFENDING_ELEMENT, ERROR_COMMENT, ERROR_ID = 0x0900, 0x0901, 0x0902, 0x0903
AFFECTED_INSTANCE, REQUESTED_INSTANCE = 0x1000, 0x1001
EVENT_TYPE, ACTION_TYPE = 0x1002, 0x1008
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023
MOVE_ORIGINATOR, MOVE_ORIGINATOR_MESSAGE = 0x1030, 0x1031
"""Elements of group 0000 (PS3.7 annex E)."""

_UIDS = frozenset({AFFECTED_CLASS, REQUESTED_CLASS, AFFECTED_INSTANCE, REQUESTED_INSTANCE})
_TEXTS = frozenset({MOVE_DESTINATION, ERROR_COMMENT, MOVE_ORIGINATOR})
_HEAD = struct.Struct("<HHL")
COMMENT_CHARACTERS_MAX = 64
"""Error Comment (0000,0902) is an LO."""


class CommandError(Exception):
    """The bytes are no command, or a command that cannot be. No value is named."""


@dataclass(frozen=True, slots=True)
class Status:
    """A DIMSE status and a comment without patient data."""

    code: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command set: its elements of group 0000 by their number, undecoded."""

    field: int
    message_id: int
    has_data_set: bool
    elements: dict[int, bytes]

    @property
    def sop_class(self) -> str:
        """The affected SOP class, or the requested one. Raises CommandError."""
        return self._uid(AFFECTED_CLASS if AFFECTED_CLASS in self.elements else REQUESTED_CLASS)

    @property
    def sop_instance(self) -> str:
        """The affected SOP instance, or the requested one. Raises CommandError."""
        affected = AFFECTED_INSTANCE in self.elements
        return self._uid(AFFECTED_INSTANCE if affected else REQUESTED_INSTANCE)

    def names_instance(self) -> bool:
        """Whether an SOP instance is named at all."""
        return any(
            self.elements.get(each, b"").strip(b" \0")
            for each in (AFFECTED_INSTANCE, REQUESTED_INSTANCE)
        )

    def number(self, element: int, default: int | None = None) -> int:
        """An US value. Raises CommandError when there is none, and no default."""
        raw = self.elements.get(element, b"")
        if len(raw) == 2:
            return int.from_bytes(raw, "little")
        if default is None or raw:
            raise CommandError(f"a command without (0000,{element:04X})")
        return default

    def text(self, element: int) -> str:
        """An AE or LO value; empty when there is none."""
        raw = self.elements.get(element, b"")[:COMMENT_CHARACTERS_MAX]
        return raw.decode("ascii", "replace").strip(" \0")

    def _uid(self, element: int) -> str:
        try:
            uid = self.elements.get(element, b"").decode("ascii").strip(" \0")
        except UnicodeDecodeError:
            raise CommandError(f"(0000,{element:04X}) is no UID") from None
        if not uid or len(uid) > UID_CHARACTERS_MAX:
            raise CommandError(f"(0000,{element:04X}) is no UID")
        return uid


def read_command(raw: bytes | bytearray) -> Command:
    """A command set. Raises CommandError for what is none."""
    elements: dict[int, bytes] = {}
    position, end = 0, len(raw)
    while position < end:
        if position + 8 > end:
            raise CommandError("a command set that is cut off")
        group, number, length = _HEAD.unpack_from(raw, position)
        position += 8
        if group or position + length > end or len(elements) >= ELEMENTS_MAX:
            raise CommandError("no command set")
        elements[number] = bytes(raw[position : position + length])
        position += length
    found = Command(0, 0, has_data_set=False, elements=elements)
    field = found.number(COMMAND_FIELD)
    # A response and a cancellation tell which message they belong to.
    responds = field & RESPONSE or field == C_CANCEL_RQ
    message_id = found.number(RESPONDED_ID if responds else MESSAGE_ID)
    has_data_set = found.number(DATA_SET_TYPE) != NO_DATA_SET
    return Command(field, message_id, has_data_set, elements)


def write_command(field: int, values: dict[int, int | str], *, has_data_set: bool) -> bytes:
    """A command set of the given elements (numbers, UIDs, texts) with its group length."""
    every: dict[int, int | str] = {
        **values,
        COMMAND_FIELD: field,
        DATA_SET_TYPE: 0x0001 if has_data_set else NO_DATA_SET,
    }
    body = b"".join(_element(number, every[number]) for number in sorted(every))
    return _HEAD.pack(0, 0, 4) + struct.pack("<L", len(body)) + body


def response(
    request: Command,
    status: Status,
    values: dict[int, int | str] | None = None,
    *,
    has_data_set: bool = False,
) -> bytes:
    """The response to a request, with what it says of itself (PS3.7 9.3 and 10.3)."""
    every: dict[int, int | str] = {RESPONDED_ID: request.message_id, STATUS: status.code}
    for requested, affected in (
        (REQUESTED_CLASS, AFFECTED_CLASS), (AFFECTED_CLASS, AFFECTED_CLASS),
        (REQUESTED_INSTANCE, AFFECTED_INSTANCE), (AFFECTED_INSTANCE, AFFECTED_INSTANCE),
    ):  # fmt: skip
        raw = request.elements.get(requested, b"").strip(b" \0")
        if raw:
            every[affected] = raw.decode("ascii", "replace")
    for number in (EVENT_TYPE, ACTION_TYPE):
        if number in request.elements:
            every[number] = request.number(number)
    if status.comment:
        every[ERROR_COMMENT] = status.comment
    every |= values or {}
    return write_command(request.field | RESPONSE, every, has_data_set=has_data_set)


def _element(number: int, value: int | str) -> bytes:
    if isinstance(value, int):
        raw = struct.pack("<H", value)
    else:
        raw = value.encode("ascii", "replace")
        if number in _TEXTS:
            raw = raw[:COMMENT_CHARACTERS_MAX]
        if len(raw) % 2:
            raw += b"\0" if number in _UIDS else b" "
    return _HEAD.pack(0, number, len(raw)) + raw

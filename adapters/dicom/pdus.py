"""Protocol data units of the upper layer, read and written by hand (PS3.8 section 9.3).

Everything here works on bytes and does no input or output.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF = 1, 2, 3, 4
RELEASE_RQ, RELEASE_RP, ABORT = 5, 6, 7

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
CONTEXTS_MAX = 128
"""Presentation contexts of one association: odd numbers from 1 to 255 (PS3.8 9.3.2.2)."""

_HEAD = struct.Struct(">BxL")
_ITEM = struct.Struct(">BxH")
_PDV = struct.Struct(">LBB")

BY_PROVIDER = 2
UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 1, 2, 6
"""Reasons of an A-ABORT by the service provider (PS3.8 table 9-26)."""


class ProtocolError(Exception):
    """The peer does what the protocol does not allow; the association is aborted.

    ``reason`` is that of PS3.8 table 9-26.
    """

    def __init__(self, message: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context that the requestor asks for (PS3.8 9.3.2.2)."""

    number: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Roles:
    """What the requestor of an association may be for one SOP class (PS3.7 D.3.3.4)."""

    user: bool
    provider: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ. ``window`` is the asynchronous operations window that it asks for."""

    called: str
    calling: str
    contexts: tuple[ProposedContext, ...]
    application_context: bytes = APPLICATION_CONTEXT
    version: int = 1
    pdu_bytes_max: int = 0
    window: tuple[int, int] | None = None
    roles: dict[str, Roles] = field(default_factory=dict)
    implementation: str = ""


@dataclass(frozen=True, slots=True)
class ContextAnswer:
    """One presentation context in the answer: result 0 is acceptance (PS3.8 table 9-18)."""

    number: int
    result: int
    transfer_syntax: str


# --- reading -------------------------------------------------------------------------


def read_associate_request(body: bytes | memoryview) -> AssociateRequest:
    """The body of an A-ASSOCIATE-RQ PDU (PS3.8 9.3.2). Raises ProtocolError."""
    body = bytes(body)
    if len(body) < 68:
        raise ProtocolError("an association request that is cut off")
    version, called, calling = struct.unpack_from(">H2x16s16s", body)
    found: dict[int, list[bytes]] = {0x10: [], 0x20: [], 0x50: []}
    for kind, value in _items(body[68:]):
        found.get(kind, []).append(value)
    contexts = tuple(_proposed(value) for value in found[0x20])
    if not contexts or len(contexts) > CONTEXTS_MAX:
        raise ProtocolError("an association request without presentation contexts, or too many")
    if len({context.number for context in contexts}) != len(contexts):
        raise ProtocolError("two presentation contexts of one number")
    pdu_bytes_max, window, roles, implementation = _user_information(b"".join(found[0x50]))
    return AssociateRequest(
        called=_title(called),
        calling=_title(calling),
        contexts=contexts,
        application_context=b"".join(found[0x10]).rstrip(b"\0 "),
        version=version,
        pdu_bytes_max=pdu_bytes_max,
        window=window,
        roles=roles,
        implementation=implementation,
    )


def _items(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The items or sub-items that fill some bytes. Raises ProtocolError."""
    position = 0
    while position < len(raw):
        if position + 4 > len(raw):
            raise ProtocolError("an item of an association request is cut off")
        kind, length = _ITEM.unpack_from(raw, position)
        position += 4
        if position + length > len(raw):
            raise ProtocolError("an item of an association request is cut off")
        yield kind, raw[position : position + length]
        position += length


def _proposed(raw: bytes) -> ProposedContext:
    if len(raw) < 4 or raw[0] % 2 == 0:
        raise ProtocolError("a presentation context without an odd number")
    abstract, syntaxes = "", []
    for kind, value in _items(raw[4:]):
        if kind == 0x30:
            abstract = _uid(value)
        elif kind == 0x40:
            syntaxes.append(_uid(value))
    return ProposedContext(raw[0], abstract, tuple(syntaxes))


def _user_information(
    raw: bytes,
) -> tuple[int, tuple[int, int] | None, dict[str, Roles], str]:
    """Maximum length, window, roles and implementation class (PS3.7 annex D.3.3)."""
    pdu_bytes_max, window, implementation = 0, None, ""
    roles: dict[str, Roles] = {}
    try:
        for kind, value in _items(raw):
            if kind == 0x51:
                (pdu_bytes_max,) = struct.unpack(">L", value)
            elif kind == 0x52:
                implementation = _uid(value)
            elif kind == 0x53:
                window = struct.unpack(">HH", value)
            elif kind == 0x54:
                (length,) = struct.unpack_from(">H", value)
                user, provider = struct.unpack_from(">BB", value, 2 + length)
                roles[_uid(value[2 : 2 + length])] = Roles(bool(user), bool(provider))
    except struct.error:
        raise ProtocolError("user information of an association is cut off") from None
    return pdu_bytes_max, window, roles, implementation


def _uid(raw: bytes) -> str:
    """A UID as it stands: one that is none matches nothing and is refused for that."""
    return raw[:64].rstrip(b"\0 ").decode("ascii", "replace")


def _title(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0")


def values_of(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Context, control header and fragment of each value of a P-DATA-TF (PS3.8 9.3.5, annex E).

    Raises ProtocolError.
    """
    position, end = 0, len(body)
    while position < end:
        if position + 6 > end:
            raise ProtocolError("a presentation data value without its head")
        length, context, control = _PDV.unpack_from(body, position)
        following: int = position + 4 + length
        if length < 2 or following > end:
            raise ProtocolError("a presentation data value longer than its PDU")
        yield context, control, body[position + 6 : following]
        position = following


# --- writing -------------------------------------------------------------------------


def associate_accept(
    request: AssociateRequest,
    contexts: Sequence[ContextAnswer],
    roles: dict[str, Roles],
    *,
    pdu_bytes_max: int,
    implementation: str,
    version_name: str,
) -> bytes:
    """An A-ASSOCIATE-AC (PS3.8 9.3.3). A window that is asked for is answered with (1, 1):
    one operation after the other (PS3.7 D.3.3.3)."""
    items = [_item(0x10, APPLICATION_CONTEXT)]
    for context in contexts:
        syntax = _item(0x40, context.transfer_syntax.encode("ascii"))
        items.append(_item(0x21, bytes([context.number, 0, context.result, 0]) + syntax))
    user = _item(0x51, struct.pack(">L", pdu_bytes_max)) + _item(0x52, implementation.encode())
    if request.window is not None:
        user += _item(0x53, struct.pack(">HH", 1, 1))
    for uid, role in roles.items():
        raw = uid.encode("ascii")
        chosen = bytes([role.user, role.provider])
        user += _item(0x54, struct.pack(">H", len(raw)) + raw + chosen)
    user += _item(0x55, version_name.encode("ascii"))
    items.append(_item(0x50, user))
    head = struct.pack(
        ">H2x16s16s32x", 1, request.called.encode("ascii", "replace").ljust(16)[:16],
        request.calling.encode("ascii", "replace").ljust(16)[:16],
    )  # fmt: skip
    return pdu(ASSOCIATE_AC, head + b"".join(items))


def associate_reject(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return pdu(ASSOCIATE_RJ, bytes([0, result, source, reason]))


def release_response() -> bytes:
    """An A-RELEASE-RP (PS3.8 9.3.7)."""
    return pdu(RELEASE_RP, bytes(4))


def abort(source: int, reason: int) -> bytes:
    """An A-ABORT (PS3.8 9.3.8)."""
    return pdu(ABORT, bytes([0, 0, source, reason]))


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU of a kind around its body."""
    return _HEAD.pack(kind, len(body)) + body


def data_pdus(
    context: int, message: bytes, *, is_command: bool, pdu_bytes_max: int
) -> Iterator[bytes]:
    """A command set or a data set in P-DATA-TF PDUs of one value each (PS3.8 annex E).

    ``pdu_bytes_max`` is what the receiver announced; 0 is no limit.
    """
    room = max(pdu_bytes_max - 6, 1) if pdu_bytes_max else len(message) or 1
    for start in range(0, len(message) or 1, room):
        piece = message[start : start + room]
        control = int(is_command) | (2 if start + room >= len(message) else 0)
        value = _PDV.pack(len(piece) + 2, context, control) + piece
        yield _HEAD.pack(P_DATA_TF, len(value)) + value


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value

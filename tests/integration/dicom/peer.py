"""A DICOM peer that can do wrong: PDUs and commands put together by hand over a socket."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Protocol

from adapters.dicom.elements import IMPLICIT_LITTLE, Walk, Window
from tests.integration.dicom.objects import CT, EXPLICIT, STUDY, data_set

ONE, TWO = f"{STUDY}.1.1", f"{STUDY}.1.2"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, ABORT = 2, 3, 4, 6, 7


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def associate_request(
    contexts: list[tuple[str, str]], *, called: str = "ECLUSE", calling: str = "PEER",
    window: tuple[int, int] | None = None, provides: tuple[str, ...] = (),
) -> bytes:  # fmt: skip
    """An A-ASSOCIATE-RQ PDU (PS3.8 9.3.2) with one transfer syntax per context; of the SOP classes
    that it ``provides`` the requestor is the SCP."""
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    for number, (abstract, syntax) in enumerate(contexts):
        inner = _item(0x30, abstract.encode()) + _item(0x40, syntax.encode())
        items.append(_item(0x20, bytes([2 * number + 1, 0, 0, 0]) + inner))
    user = _item(0x51, struct.pack(">L", 0)) + _item(0x52, b"1.2.3.4")
    if window is not None:
        user += _item(0x53, struct.pack(">HH", *window))
    for uid in provides:
        user += _item(0x54, struct.pack(">H", len(uid)) + uid.encode() + b"\0\1")
    items.append(_item(0x50, user))
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += b"".join(items)
    return struct.pack(">BxL", 1, len(body)) + body


def command(field: int, *, message_id: int = 1, data_set: bool = True, **uids: str) -> bytes:
    """A command set in implicit VR little endian (PS3.7 6.3.1)."""

    def element(number: int, raw: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(raw)) + raw

    def uid(text: str) -> bytes:
        raw = text.encode("latin-1")
        return raw + b"\0" * (len(raw) % 2)

    parts = []
    if "sop_class" in uids:
        parts.append(element(0x0002, uid(uids["sop_class"])))
    parts.append(element(0x0100, struct.pack("<H", field)))
    parts.append(element(0x0110, struct.pack("<H", message_id)))
    parts.append(element(0x0700, struct.pack("<H", 0)))
    parts.append(element(0x0800, struct.pack("<H", 1 if data_set else 0x0101)))
    if "sop_instance" in uids:
        parts.append(element(0x1000, uid(uids["sop_instance"])))
    body = b"".join(parts)
    return element(0x0000, struct.pack("<L", len(body))) + body


def p_data(*values: tuple[int, int, bytes]) -> bytes:
    """A P-DATA-TF PDU of (context id, control header, fragment)."""
    body = b"".join(
        struct.pack(">LBB", len(data) + 2, context, control) + data
        for context, control, data in values
    )
    return struct.pack(">BxL", P_DATA, len(body)) + body


class Listening(Protocol):
    """Where a peer connects to."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Peer:
    """One connection. ``accepted`` maps context ids to their result (0 is accepted)."""

    def __init__(self, running: Listening) -> None:
        self.socket = socket.create_connection((running.host, running.port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted: dict[int, int] = {}
        self.answer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU from the other side; kind 0 when it closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            try:
                piece = self.socket.recv(count - len(found))
            except ConnectionError:
                return b""
            if not piece:
                return b""
            found += piece
        return found

    def associate(
        self, sop_class: str = CT, syntax: str = EXPLICIT, **options: object
    ) -> tuple[int, bytes]:
        """Ask for one context; the kind and body of the answer."""
        self.send(associate_request([(sop_class, syntax)], **options))  # type: ignore[arg-type]
        kind, self.answer = self.pdu()
        position = 68
        while kind == ASSOCIATE_AC and position + 4 <= len(self.answer):
            item, length = struct.unpack_from(">BxH", self.answer, position)
            if item == 0x21:
                self.accepted[self.answer[position + 4]] = self.answer[position + 6]
            position += 4 + length
        return kind, self.answer

    def store(
        self, body: bytes, instance: str, *, sop_class: str = CT, fragment: int = 16_000,
        message_id: int = 1,
    ) -> None:  # fmt: skip
        """A whole C-STORE request."""
        request = command(1, message_id=message_id, sop_class=sop_class, sop_instance=instance)
        self.send(p_data((1, 3, request)))
        pieces = [body[at : at + fragment] for at in range(0, len(body), fragment)] or [b""]
        for number, piece in enumerate(pieces, 1):
            self.send(p_data((1, 2 if number == len(pieces) else 0, piece)))

    def status(self) -> int:
        """The status of the next C-STORE or C-ECHO response; -1 for anything else."""
        kind, body = self.pdu()
        if kind != P_DATA:
            return -1
        import io

        raw = body[6:]
        window = Window(io.BytesIO(raw), len(raw))
        for element in Walk(window).level(0, len(raw), IMPLICIT_LITTLE):
            if element.tag == 0x00000900:
                (status,) = struct.unpack("<H", window.value(element.offset, 2))
                return int(status)
        return -1

    def abort(self) -> None:
        self.send(struct.pack(">BxL4x", ABORT, 4))

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def connected(running: Listening) -> Iterator[Peer]:
    """A connection that is closed at the end of the block."""
    peer = Peer(running)
    try:
        yield peer
    finally:
        peer.close()


@contextlib.contextmanager
def associated(running: Listening, sop_class: str = CT, syntax: str = EXPLICIT) -> Iterator[Peer]:
    """An association with one accepted context."""
    with connected(running) as peer:
        kind, _ = peer.associate(sop_class, syntax)
        assert kind == ASSOCIATE_AC
        assert peer.accepted == {1: 0}
        yield peer


def store(peer: Peer, body: bytes, instance: str = ONE) -> int:
    """Send one object; its status."""
    peer.store(body, instance)
    return peer.status()


def served(running: Listening) -> bool:
    """Whether a neighbour's object is taken now."""
    with associated(running) as neighbour:
        return store(neighbour, data_set(TWO), TWO) == 0x0000

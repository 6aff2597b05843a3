"""A C-STORE and C-ECHO client: sends files as they are, in their own transfer syntax.

Data sets are not decoded: what the file holds behind its file meta information is
what goes over the wire, some PDUs at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from adapters.dicom.dataset import SOP_CLASS_UID, SOP_INSTANCE_UID
from adapters.dicom.elements import WINDOW_BYTES, DataSetError, Walk, Window, encoding_of
from adapters.dicom.loading import load_pynetdicom
from adapters.dicom.outgoing import answers_are_ours, takes_nothing, why_not
from adapters.dicom.part10 import (
    IMPLEMENTATION_CLASS_UID,
    FileMeta,
    NotPart10,
    inflate,
    read_file_meta,
)
from adapters.dicom.pdus import P_DATA_TF
from adapters.dicom.syntaxes import VERIFICATION

BATCH_FILES = 1_000
"""Files that are looked at before an association is asked for what they need."""

CONTEXTS_MAX = 128
"""Presentation contexts of one association (PS3.8 9.3.2.2: odd IDs up to 255)."""

PDU_BYTES_MAX = 131_072
QUEUED_PDUS_MAX = 16
UID_BYTES_MAX = 66

ACCEPTED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
"""Success, and the warnings with which an object is stored all the same (PS3.4 B.2.3)."""


_NOT_TAKEN = "the peer does not take this class and syntax"


class TakesNothing(ConnectionError):
    """The peer takes the association and no presentation context of it."""


class Sent(NamedTuple):
    """What became of one file: the DIMSE status, or None when none came and ``reason`` says why.

    ``reason`` is the peer's Error Comment when there is a status.
    """

    path: Path
    status: int | None
    reason: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the peer has stored the object."""
        return self.status in ACCEPTED


class Originator(NamedTuple):
    """Who asked for an object to be moved: its AE title and the message ID of its C-MOVE."""

    title: str
    message_id: int


class _Peer(NamedTuple):
    host: str
    port: int
    called_aet: str
    calling_aet: str
    timeout_seconds: float


class Outgoing(NamedTuple):
    """A DICOM file to be sent; ``data`` has its bytes when it lies in memory, not at ``path``."""

    path: Path
    meta: FileMeta
    data: bytes | None = None


def echo(
    host: str,
    port: int,
    called_aet: str = "ECLUSE",
    calling_aet: str = "ECLUSE",
    *,
    timeout_seconds: float = 30.0,
) -> int:
    """C-ECHO; the DIMSE status. Raises ConnectionError when no association or answer comes."""
    peer = _Peer(host, port, called_aet, calling_aet, timeout_seconds)
    ae = _entity(peer)
    ae.add_requested_context(VERIFICATION)
    association = _associate(ae, peer)
    try:
        status = association.send_c_echo()
        if "Status" not in status:
            raise ConnectionError(f"{host}:{port}: no answer to C-ECHO")
        return int(status.Status)
    finally:
        _end(association)


def send_files(
    host: str,
    port: int,
    called_aet: str,
    calling_aet: str,
    paths: Iterable[Path],
    *,
    timeout_seconds: float = 30.0,
) -> Iterator[Sent]:
    """Send DICOM files one after the other; one :class:`Sent` per path, in order.

    A file that is none, or that the peer does not take, costs only itself. Raises
    ConnectionError before the first result when the peer cannot be reached or rejects the
    association; when that happens later, the files that are left say so.
    """
    peer = _Peer(host, port, called_aet, calling_aet, timeout_seconds)
    remaining = iter(paths)
    first = True
    while batch := list(itertools.islice(remaining, BATCH_FILES)):
        for part in _by_contexts(batch):
            try:
                yield from _send_part(peer, part)
            except ConnectionError as error:
                if first:
                    raise
                yield from (Sent(_path(each), None, str(error)) for each in part)
            first = False


def _path(each: Outgoing | Sent) -> Path:
    return each.path


def _by_contexts(paths: list[Path]) -> Iterator[list[Outgoing | Sent]]:
    """The files in order, in runs that need no more contexts than one association has."""
    part: list[Outgoing | Sent] = []
    contexts: set[tuple[str, str]] = set()
    for path in paths:
        outgoing = _outgoing(path)
        if isinstance(outgoing, Outgoing):
            wanted = (outgoing.meta.sop_class, outgoing.meta.transfer_syntax)
            if wanted not in contexts and len(contexts) == CONTEXTS_MAX:
                yield part
                part, contexts = [], set()
            contexts.add(wanted)
        part.append(outgoing)
    if part:
        yield part


def _outgoing(path: Path) -> Outgoing | Sent:
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            meta = read_file_meta(stream, size)
            # The command names what the data set says; the file's head may be an older copy's.
            sop_class, sop_instance = _own_uids(stream, size, meta)
    except (NotPart10, OSError) as error:
        reason = str(error) if isinstance(error, NotPart10) else type(error).__name__
        return Sent(path, None, f"not sent: {reason}")
    sop_class, sop_instance = sop_class or meta.sop_class, sop_instance or meta.sop_instance
    if not (sop_class and sop_instance):
        return Sent(path, None, "not sent: no SOP class or instance UID")
    return Outgoing(
        path, FileMeta(sop_class, sop_instance, meta.transfer_syntax, meta.data_set_offset)
    )


def _own_uids(stream: BinaryIO, size: int, meta: FileMeta) -> tuple[str, str]:
    """SOP class and instance UID of the data set, each empty when it has none."""
    start, end, encoding = meta.data_set_offset, size, encoding_of(meta.transfer_syntax)
    if encoding.deflated:
        plain = inflate(stream, start, WINDOW_BYTES)
        stream, start, end = BytesIO(plain), 0, len(plain)
    window = Window(stream, end)
    found = dict.fromkeys((SOP_CLASS_UID, SOP_INSTANCE_UID), "")
    try:
        for element in Walk(window).level(start, end, encoding, stop=SOP_INSTANCE_UID + 1):
            if element.tag in found and element.length <= UID_BYTES_MAX:
                value = window.value(element.offset, element.length)
                found[element.tag] = value.decode("ascii", "replace").strip(" \0")
    except DataSetError:
        # It is sent as it is; what is wrong with it is the receiver's to say.
        return found[SOP_CLASS_UID], found[SOP_INSTANCE_UID]
    return found[SOP_CLASS_UID], found[SOP_INSTANCE_UID]


def _send_part(peer: _Peer, part: list[Outgoing | Sent]) -> Iterator[Sent]:
    wanted = {
        (each.meta.sop_class, each.meta.transfer_syntax)
        for each in part
        if isinstance(each, Outgoing)
    }
    if not wanted:
        yield from (each for each in part if isinstance(each, Sent))
        return
    load_pynetdicom()
    from pynetdicom.presentation import build_context

    ae = _entity(peer)
    # A requested context of its own for each pair: a peer takes one syntax of each context.
    contexts = [build_context(*pair) for pair in sorted(wanted)]
    ae.requested_contexts = contexts
    try:
        association = _associate(ae, peer)
    except TakesNothing:
        for each in part:
            yield each if isinstance(each, Sent) else Sent(each.path, None, _NOT_TAKEN)
        return
    try:
        accepted = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])): context.context_id
            for context in association.accepted_contexts
        }
        for number, each in enumerate(part, 1):
            if isinstance(each, Sent):
                yield each
                continue
            context_id = accepted.get((each.meta.sop_class, each.meta.transfer_syntax))
            if context_id is None:
                yield Sent(each.path, None, _NOT_TAKEN)
            elif not association.is_established:
                yield Sent(each.path, None, "the association ended before it was sent")
            else:
                yield store(association, each, context_id, number)
    finally:
        _end(association)


def store(
    association: Any,
    outgoing: Outgoing,
    context_id: int,
    number: int,
    *,
    seconds: float = float("inf"),
    originator: Originator | None = None,
) -> Sent:
    """C-STORE of one file on an association that stands, within ``seconds``; afterwards the
    association stands no more when no answer came."""
    load_pynetdicom()
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID = number % 0xFFFF + 1
    request.Priority = 2
    if originator is not None:
        request.MoveOriginatorApplicationEntityTitle = originator.title
        request.MoveOriginatorMessageID = originator.message_id
    message = C_STORE_RQ()
    try:
        request.AffectedSOPClassUID = outgoing.meta.sop_class
        request.AffectedSOPInstanceUID = outgoing.meta.sop_instance
        if outgoing.data is None:
            # The message then reads the file piece by piece, from the data set on.
            request._dataset_path = (outgoing.path, outgoing.meta.data_set_offset)
        else:
            request.DataSet = BytesIO(outgoing.data[outgoing.meta.data_set_offset :])
        message.primitive_to_message(request)
    except (TypeError, ValueError):
        return Sent(outgoing.path, None, "not sent: a UID is none")
    with answers_are_ours(association):
        try:
            deadline = time.monotonic() + seconds
            return _exchanged(association, outgoing, message, context_id, deadline)
        except OSError as error:
            _abort(association)
            return Sent(outgoing.path, None, f"the file cannot be read ({type(error).__name__})")


def _exchanged(
    association: Any, outgoing: Outgoing, message: Any, context_id: int, deadline: float
) -> Sent:
    """Send the message and wait for its answer. Raises OSError when the file cannot be read."""
    pdu_bytes = association.dimse.maximum_pdu_size or PDU_BYTES_MAX
    queue = association.dul.to_provider_queue
    for primitive in message.encode_msg(context_id, min(pdu_bytes, PDU_BYTES_MAX)):
        while queue.qsize() >= QUEUED_PDUS_MAX and association.dul.is_alive():
            if time.monotonic() > deadline:
                cut(association)
                return Sent(outgoing.path, None, "the peer does not read")
            time.sleep(0.0005)
        association.dul.send_pdu(primitive)
    if deadline < float("inf"):
        association.dimse_timeout = max(deadline - time.monotonic(), 0.001)
    _, answer = association.dimse.get_msg(block=True)
    if answer is None or getattr(answer, "Status", None) is None:
        if time.monotonic() > deadline:
            # What it has not read would keep an abort waiting for ever.
            cut(association)
        _abort(association)
        return Sent(outgoing.path, None, "no answer")
    return Sent(outgoing.path, int(answer.Status), str(answer.ErrorComment or ""))


def file_pdus(context: int, outgoing: Outgoing, pdu_bytes_max: int) -> Iterator[bytes]:
    """The data set of a file in P-DATA-TF PDUs of one value each; read piece by piece.

    Raises OSError when the file cannot be read.
    """
    room = max(pdu_bytes_max - 6, 1)
    offset = outgoing.meta.data_set_offset
    stream = outgoing.path.open("rb") if outgoing.data is None else BytesIO(outgoing.data)
    with stream:
        stream.seek(offset)
        piece = stream.read(room)
        while True:
            following = stream.read(room)
            control = 0 if following else 2
            value = struct.pack(">LBB", len(piece) + 2, context, control) + piece
            yield struct.pack(">BxL", P_DATA_TF, len(value)) + value
            if not following:
                return
            piece = following


def cut(association: Any) -> None:
    """End an association whose peer does not read any more, at once and without a word."""
    held = association.dul.socket
    if held is not None and held.socket is not None:
        with contextlib.suppress(OSError):
            held.socket.shutdown(socket.SHUT_RDWR)
    association.is_established = False


def _entity(peer: _Peer) -> Any:
    # pynetdicom takes a quarter of a second to load: only where something is sent.
    load_pynetdicom()
    from pynetdicom import AE, _config

    _config.LOG_HANDLER_LEVEL = "none"
    ae = AE(ae_title=peer.calling_aet)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.maximum_pdu_size = PDU_BYTES_MAX
    ae.connection_timeout = peer.timeout_seconds
    ae.acse_timeout = peer.timeout_seconds
    ae.dimse_timeout = peer.timeout_seconds
    ae.network_timeout = peer.timeout_seconds
    return ae


def _associate(ae: Any, peer: _Peer) -> Any:
    load_pynetdicom()
    from pynetdicom import evt

    association = ae.associate(
        peer.host,
        peer.port,
        ae_title=peer.called_aet,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
    )
    if association.is_established:
        return association
    kind = TakesNothing if takes_nothing(association) else ConnectionError
    raise kind(f"{peer.host}:{peer.port} {why_not(association)}")


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _abort(association: Any) -> None:
    # While the connection closes already, the state machine has no transition for an abort.
    if association.dul.state_machine.current_state == "Sta6":
        association.abort()
    association.is_established = False


def _end(association: Any) -> None:
    if association.is_established:
        association.release()

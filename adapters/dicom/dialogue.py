"""What may be said while a request is being answered: responses, cancellations, sub-operations.

Between a request and its last response the requestor may cancel (C-CANCEL, PS3.7 9.3.2.3), and
with C-GET we send it objects on the same association and wait for its responses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from adapters.dicom.command import (
    AFFECTED_CLASS,
    AFFECTED_INSTANCE,
    C_CANCEL_RQ,
    C_STORE_RQ,
    MESSAGE_ID,
    PRIORITY,
    RESPONSE,
    STATUS,
    Command,
    read_command,
    write_command,
)
from adapters.dicom.connection import CLOSED, Connection
from adapters.dicom.negotiation import AcceptedContext, Negotiated
from adapters.dicom.pdus import (
    ABORT,
    P_DATA_TF,
    RELEASE_RQ,
    UNEXPECTED_PDU,
    ProtocolError,
    data_pdus,
    values_of,
)
from adapters.dicom.sender import Outgoing, file_pdus
from adapters.dicom.settings import DicomSourceSettings

COMMAND_BYTES_MAX = 1 << 16
"""A command set (PS3.7 6.3) takes some hundred bytes."""
OWN_PDU_BYTES = 1 << 17
"""The longest PDU that we send to a peer that takes any."""
CANCELLED_MAX = 1_000


class PeerAborted(OSError):
    """The peer has aborted the association while a request was being answered."""


class Counting(Protocol):
    """What counts what happens at the door."""

    def count(self, name: str) -> None:
        """Count something that happened."""
        ...


class Standing(Protocol):
    """The association of a dialogue."""

    calling: str
    called: str
    peer: str
    stopping: bool

    @property
    def server(self) -> Counting:
        """The listening address that it belongs to."""
        ...


class Dialogue:
    """Implements :class:`adapters.dicom.caller.Caller` for an association."""

    def __init__(
        self,
        association: Standing,
        connection: Connection,
        settings: DicomSourceSettings,
        negotiated: Negotiated,
        pdu_bytes_max: int,
    ) -> None:
        self._association = association
        self._connection = connection
        self._settings = settings
        self._negotiated = negotiated
        self._pdu_bytes_max = pdu_bytes_max
        self._command = bytearray()
        self._cancelled: set[int] = set()
        self._responses: deque[Command] = deque()
        self._sent = 0
        self.released = False
        """Whether the peer has asked for the release in the middle of a request. It may (PS3.8
        9.2.2, Sta8): what it is owed still goes to it, and the release is answered after that."""
        self.calling, self.called = association.calling, association.called
        self.peer = association.peer

    @property
    def stopping(self) -> bool:
        """Whether the source stops."""
        return self._association.stopping

    def count(self, name: str) -> None:
        """See :class:`adapters.dicom.caller.Caller`."""
        self._association.server.count(name)

    def begin(self) -> None:
        """A request begins: what was cancelled before is forgotten."""
        self._cancelled.clear()

    def answer(self, context: AcceptedContext, command: bytes, data_set: bytes = b"") -> None:
        """Send a response with its data set, if any. Raises OSError."""
        connection, limit = self._connection, self._pdu_bytes_max
        pieces = [*data_pdus(context.number, command, is_command=True, pdu_bytes_max=limit)]
        if data_set:
            pieces += data_pdus(context.number, data_set, is_command=False, pdu_bytes_max=limit)
        connection.send(b"".join(pieces), self._settings.idle_timeout_seconds)

    def cancelled(self, message_id: int) -> bool:
        """See :class:`adapters.dicom.caller.Caller`."""
        connection = self._connection
        while not self.released and connection.waits():
            self._hear()
        return message_id in self._cancelled

    def storing(self, sop_class: str) -> Sequence[AcceptedContext]:
        """See :class:`adapters.dicom.caller.Caller`."""
        role = self._negotiated.roles.get(sop_class)
        if role is None or not role.provider:
            return ()
        return [
            each for each in self._negotiated.contexts.values() if each.abstract_syntax == sop_class
        ]

    def store(self, context: AcceptedContext, outgoing: Outgoing) -> int:
        """See :class:`adapters.dicom.caller.Caller`."""
        connection = self._connection
        seconds = self._settings.retrieve_timeout_seconds
        if self.released:
            raise ProtocolError("a release before the objects", UNEXPECTED_PDU)
        self._sent = self._sent % 0xFFFF + 1
        number = self._sent
        values: dict[int, int | str] = {
            AFFECTED_CLASS: outgoing.meta.sop_class, AFFECTED_INSTANCE: outgoing.meta.sop_instance,
            MESSAGE_ID: number, PRIORITY: 0,
        }  # fmt: skip
        command = write_command(C_STORE_RQ, values, has_data_set=True)
        limit = self._pdu_bytes_max or OWN_PDU_BYTES
        words = data_pdus(context.number, command, is_command=True, pdu_bytes_max=limit)
        connection.send(b"".join(words), seconds)
        for word in file_pdus(context.number, outgoing, min(limit, OWN_PDU_BYTES)):
            connection.send(word, seconds)
        while not self.released:
            while self._responses:
                found = self._responses.popleft()
                if found.field == C_STORE_RQ | RESPONSE and found.message_id == number:
                    return found.number(STATUS)
                raise ProtocolError("a response to nothing")
            self._hear()
        # It cannot answer any more (PS3.8 9.2.2, Sta7).
        raise ProtocolError("a release instead of a response", UNEXPECTED_PDU)

    def _hear(self) -> None:
        """Take one PDU of commands: responses to sub-operations, and cancellations."""
        seconds = self._settings.retrieve_timeout_seconds
        kind, body = self._connection.read(seconds, seconds)
        if kind == ABORT:
            raise PeerAborted
        if kind == CLOSED:
            raise ConnectionError
        if kind == RELEASE_RQ:
            self.released = True
            return
        if kind != P_DATA_TF:
            raise ProtocolError("something else than a response", UNEXPECTED_PDU)
        for _, control, fragment in values_of(body):
            if not control & 1 or len(self._command) + len(fragment) > COMMAND_BYTES_MAX:
                raise ProtocolError("something else than a response")
            self._command += fragment
            if not control & 2:
                continue
            raw, self._command = self._command, bytearray()
            found = read_command(raw)
            if found.field == C_CANCEL_RQ:
                if len(self._cancelled) < CANCELLED_MAX:
                    self._cancelled.add(found.message_id)
            elif found.field & RESPONSE and not found.has_data_set:
                self._responses.append(found)
            else:
                raise ProtocolError("a request while another one is being answered")

"""The storage SCP's inside: pynetdicom's associations, with objects streamed to the disk.

pynetdicom negotiates, keeps the state machine and answers C-ECHO. Replaced are the
parts that would read without a limit or hold whole objects in memory: the socket's
reading (:mod:`adapters.dicom.upper_layer`), the commands, and C-STORE.
"""

from __future__ import annotations

import logging
import queue
import struct
import time
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AddressInformation

from adapters.dicom.command import (
    CommandError,
    StoreRequest,
    command_fragments,
    read_store_request,
    store_response,
)
from adapters.dicom.storage import OUT_OF_RESOURCES, Endless, Incoming, Request, Status, Storage
from adapters.dicom.upper_layer import WAIT_SECONDS, ProtocolError, UpperLayer

log = logging.getLogger("ecluse.dicom")

COMMAND_BYTES_MAX = 1 << 16
"""A command set (PS3.7 6.3) takes some hundred bytes."""

IDENTIFIER_BYTES_MAX = 1 << 20
"""A data set that comes with anything but C-STORE; it is thrown away."""

OUTSTANDING_MAX = 8
"""Requests that a sender may put forward unanswered, although one is the window (PS3.7 D.3.3.3)."""


class Commands(DIMSEServiceProvider):
    """Commands and their data sets, put together from P-DATA; objects go to the storage."""

    def __init__(self, association: StorageAssociation) -> None:
        super().__init__(association)
        self._command = bytearray()
        self._context_id = 0
        self._store: StoreRequest | None = None
        self._thrown_away = 0

    def take_pdvs(self, body: bytearray) -> None:
        """The body of a P-DATA-TF PDU (PS3.8 9.3.5). Raises ProtocolError."""
        view, position = memoryview(body), 0
        while position < len(view):
            if position + 6 > len(view):
                raise ProtocolError("a presentation data value without its head")
            (length,) = struct.unpack_from(">L", view, position)
            end = position + 4 + length
            if length < 2 or end > len(view):
                raise ProtocolError("a presentation data value longer than its PDU")
            self._take(view[position + 4], view[position + 5], view[position + 6 : end])
            position = end

    def receive_primitive(self, primitive: Any) -> None:
        """P-DATA that the state machine hands over (while a release is under way)."""
        for context_id, data in primitive.presentation_data_value_list:
            self._take(context_id, data[0], memoryview(data)[1:])

    def get_msg(self, block: bool = False) -> Any:
        """The next request with its context, or (None, None) when there is none for a while."""
        try:
            return self.msg_queue.get(timeout=self.dimse_timeout if block else WAIT_SECONDS)
        except queue.Empty:
            return None, None

    def wake(self) -> None:
        """Let the association's thread look at what it is told (a release, an abort) at once."""
        self.msg_queue.put((None, None))

    def discard(self) -> None:
        """Forget what is on its way in and what waits for its turn."""
        waiting, self._store = [self._store], None
        while True:
            try:
                waiting.append(self.msg_queue.get(block=False)[1])
            except queue.Empty:
                break
        for request in waiting:
            if isinstance(request, StoreRequest) and request.incoming is not None:
                request.incoming.discard()

    @property
    def busy(self) -> bool:
        """Whether a request is on its way in or waits."""
        under_way = self._store is not None or self.message is not None or bool(self._command)
        return under_way or not self.msg_queue.empty()

    def _take(self, context_id: int, control: int, data: memoryview) -> None:
        if control & 1:
            if self._store is not None or self.message is not None:
                raise ProtocolError("a command inside another's data set")
            if len(self._command) + len(data) > COMMAND_BYTES_MAX:
                raise ProtocolError("a command set that does not end")
            self._command += data
            if control & 2:
                self._begin(context_id)
            return
        if context_id != self._context_id:
            raise ProtocolError("a data set in another presentation context than its command")
        if self._store is not None and self._store.incoming is not None:
            try:
                self.assoc.storage.take(self._store.incoming, data)
            except Endless:
                raise ProtocolError("an object that does not end") from None
        elif self.message is not None:
            self._thrown_away += len(data)
            if self._thrown_away > IDENTIFIER_BYTES_MAX:
                raise ProtocolError("a data set that this service does not take")
        else:
            raise ProtocolError("a data set without its command")
        if control & 2:
            self._queue()

    def _begin(self, context_id: int) -> None:
        """A command is whole: decode it, and open what its data set goes to."""
        command, self._command = self._command, bytearray()
        if self.msg_queue.qsize() >= OUTSTANDING_MAX:
            raise ProtocolError("more requests than may wait")
        self._context_id, self._thrown_away = context_id, 0
        try:
            store = read_store_request(command)
        except CommandError as error:
            raise ProtocolError(str(error)) from None
        if store is not None:
            if not store.has_data_set:
                raise ProtocolError("a C-STORE without a data set")
            store.incoming = self.assoc.begin_store(context_id, store)
            self._store = store
            return
        primitive = P_DATA()
        primitive.presentation_data_value_list.append([context_id, b"\x03" + bytes(command)])
        message = DIMSEMessage()
        try:
            alone = message.decode_msg(primitive, self.assoc)
        except Exception as error:  # noqa: BLE001  pynetdicom raises whatever it meets
            raise ProtocolError(f"an undecodable command ({type(error).__name__})") from None
        self.message = message
        if alone:
            self._queue()

    def _queue(self) -> None:
        """A request is whole: its turn comes when those before it are answered."""
        store, self._store = self._store, None
        if store is not None:
            self.msg_queue.put((self._context_id, store))
            return
        message, self.message = self.message, None
        try:
            request = message.message_to_primitive()
        except Exception as error:  # noqa: BLE001  a value that pynetdicom does not take
            raise ProtocolError(f"an invalid command ({type(error).__name__})") from None
        self.msg_queue.put((self._context_id, request))


class StorageAssociation(Association):
    """One association with a sender."""

    def __init__(self, ae: Any, mode: str, storage: Storage) -> None:
        super().__init__(ae, mode)
        self.storage = storage
        self.stopping = False
        self.serving = False
        self.dul = UpperLayer(self)
        self.dimse = Commands(self)
        # The constructor set these on the provider that was just replaced.
        self.acse_timeout = ae.acse_timeout
        self.network_timeout = ae.network_timeout

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not (self.serving or self.dimse.busy)

    def kill(self) -> None:
        """End the association's threads; a peer that does not let go is cut off in the end."""
        self._reactor_checkpoint.set()
        self._kill = True
        self.is_established = False
        self._is_paused = True
        deadline = time.monotonic() + self.acse_timeout
        while self.dul.is_alive() and not self.dul.stop_dul():
            time.sleep(0.01)
            if time.monotonic() > deadline and self.dul.socket is not None:
                self.dul.socket._shutdown_socket()

    def run_reactor(self) -> None:
        """Serve until the association ends, then leave nothing behind."""
        try:
            super().run_reactor()
        finally:
            self.dimse.discard()

    def begin_store(self, context_id: int, request: StoreRequest) -> Incoming:
        """Open an object. Raises ProtocolError for a context that was not accepted."""
        context = self._accepted_cx.get(context_id)
        if context is None:
            raise ProtocolError("a request in a presentation context that was not accepted")
        if self.stopping:
            raise ProtocolError("a request while the source stops")
        peer: AddressInformation = self.requestor.address_info
        return self.storage.begin(
            Request(
                sop_class=request.sop_class,
                sop_instance=request.sop_instance,
                abstract_syntax=str(context.abstract_syntax),
                transfer_syntax=str(context.transfer_syntax[0]),
                calling_aet=str(self.requestor.ae_title).strip(),
                called_aet=str(self.requestor.primitive.called_ae_title).strip(),
                peer=f"{peer.address}:{peer.port}",
            )
        )

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """C-STORE here, for every SOP class that was negotiated; the rest in pynetdicom."""
        self.serving = True
        try:
            if isinstance(msg, StoreRequest):
                self._serve_store(msg, context_id)
            else:
                super()._serve_request(msg, context_id)
        finally:
            self.serving = False

    def _serve_store(self, request: StoreRequest, context_id: int) -> None:
        incoming = request.incoming
        assert incoming is not None
        try:
            status = self.storage.complete(incoming)
        except Exception as error:  # noqa: BLE001  the sender gets an answer, whatever is broken
            # Without the traceback: an exception's text may carry what it was about.
            log.error("%s: storing failed (%s)", self.name, type(error).__name__)  # noqa: TRY400
            incoming.discard()
            status = Status(OUT_OF_RESOURCES, "an internal fault")
        limit = self.dimse.maximum_pdu_size or 0
        for fragment in command_fragments(store_response(request, status), limit):
            primitive = P_DATA()
            primitive.presentation_data_value_list.append([context_id, fragment])
            self.dul.send_pdu(primitive)

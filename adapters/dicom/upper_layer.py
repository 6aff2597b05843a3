"""The upper layer below the storage SCP: bounded reading, and waiting instead of polling.

pynetdicom's state machine stays in charge (PS3.8 section 9.2). Replaced are the
socket's reading, the way of P-DATA to the commands, and the sleeping: a thread
waits for the socket or for something to send.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import socket
import struct
import threading
import time
from typing import Any

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.transport import AssociationSocket

log = logging.getLogger("ecluse.dicom")

NEGOTIATION_BYTES_MAX = 1 << 19
"""128 presentation contexts with all transfer syntaxes take less (PS3.8 9.3.2)."""

DRAIN_BYTES = 1 << 16
WAIT_SECONDS = 0.05
"""How long a thread waits at most before it looks at its timers again."""

_P_DATA_TF = 0x04
_INVALID_PDU = "Evt19"
_CLOSED = "Evt17"


class ProtocolError(Exception):
    """The peer does what the protocol does not allow; the association is aborted."""


class Connection(AssociationSocket):
    """An accepted connection: a PDU has a limit of length and of time."""

    pdu_bytes_max = NEGOTIATION_BYTES_MAX
    negotiation_seconds_max = 15.0
    pdu_seconds_max = 60.0

    def recv(self, nr_bytes: int) -> bytearray:
        """Read as many bytes; fewer when the peer closes.

        Raises ProtocolError for more than the limit, TimeoutError when they do not come.
        """
        if nr_bytes > self.pdu_bytes_max:
            raise ProtocolError(f"a PDU of {nr_bytes} bytes")
        connection = self.socket
        if connection is None:
            return bytearray()
        buffer = bytearray(nr_bytes)
        view = memoryview(buffer)
        established = self.assoc.is_established
        seconds = self.pdu_seconds_max if established else self.negotiation_seconds_max
        read, deadline = 0, time.monotonic() + seconds
        while read < nr_bytes:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("a PDU did not arrive in time")
            connection.settimeout(left)
            count = connection.recv_into(view[read:])
            if count == 0:
                return buffer[:read]
            read += count
        if hasattr(socket, "TCP_QUICKACK"):
            # Senders with Nagle's algorithm wait for this acknowledgement between two writes.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return buffer


class _Indications(queue.Queue[Any]):
    """What the upper layer tells the association; each one wakes its thread."""

    def __init__(self, association: Any) -> None:
        super().__init__()
        self._association = association

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._association.dimse.wake()


class UpperLayer(DULServiceProvider):
    """The upper layer; P-DATA of an established association goes straight to the commands."""

    _connected = False

    def __init__(self, association: Any) -> None:
        super().__init__(association)
        self.to_user_queue = _Indications(association)
        # The waiting is in _is_transport_event.
        self._run_loop_delay = 0
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._waking = threading.Lock()

    def run_reactor(self) -> None:
        """Run until the connection ends.

        Both sides may end it at once; the library's state machine then meets an event that it
        has no transition for. There is nothing left to say to the peer in that case.
        """
        try:
            super().run_reactor()
        except InvalidEventError:
            self.assoc.is_established = False
            self.assoc._kill = True
            if self.socket is not None:
                self.socket._shutdown_socket()
        finally:
            with self._waking:
                os.close(self._waker)
                os.close(self._woken)
                self._waker = -1
            self.to_user_queue.put(None)

    def send_pdu(self, primitive: Any) -> None:
        """Put something out to be sent, and wake the thread that sends it."""
        super().send_pdu(primitive)
        with self._waking:
            if self._waker >= 0:
                # A full pipe has woken the thread already.
                with contextlib.suppress(BlockingIOError):
                    os.write(self._waker, b"\0")

    def _is_transport_event(self) -> bool:
        """Wait for incoming data; once the connection is over, wake who waits for a request.

        A load balancer's probe connects and closes: the association must not wait its whole
        negotiation time for a request that cannot come.
        """
        state = self.state_machine.current_state
        if state != "Sta1":
            self._connected = True
        elif self._connected:
            if self.to_user_queue.empty():
                self.to_user_queue.put(None)
            time.sleep(0.001)
            return False
        if state == "Sta13" or not self.event_queue.empty():
            found: bool = super()._is_transport_event()
            return found
        if not self._readable(WAIT_SECONDS):
            return False
        self._read_pdu_data()
        return True

    def _readable(self, seconds: float) -> bool:
        """Wait for the socket or for something to send; whether there is something to read."""
        connection = self.socket.socket if self.socket is not None else None
        if connection is None:
            time.sleep(0.001)
            return False
        if self.socket.ready:
            return True
        try:
            ready, _, _ = select.select([connection, self._woken], [], [], seconds)
        except (OSError, ValueError):
            self.event_queue.put(_CLOSED)
            return False
        if self._woken in ready:
            os.read(self._woken, DRAIN_BYTES)
        return connection in ready

    def _read_pdu_data(self) -> None:
        """Read one PDU, and then all P-DATA that are there already.

        In state Sta6 a P-DATA-TF means action DT-2, an indication without a change of
        state (PS3.8 9.2.3), so that the state machine need not be asked.
        """
        if self.state_machine.current_state == "Sta13":
            self._drain()
            return
        while True:
            head = self._recv(6)
            if head is None:
                return
            kind, length = struct.unpack(">BxL", head)
            body = self._recv(length)
            if body is None:
                return
            if kind != _P_DATA_TF or self.state_machine.current_state != "Sta6":
                self._decoded(head + body)
                return
            try:
                self.assoc.dimse.take_pdvs(body)
            except ProtocolError as error:
                self._invalid(str(error))
                return
            self._idle_timer.restart()
            if self.to_provider_queue.qsize() or not self._readable(WAIT_SECONDS):
                return

    def _drain(self) -> None:
        """Throw away what still comes after our last word (PS3.8 9.2.3, action AA-6)."""
        try:
            more = self.socket.socket.recv(DRAIN_BYTES)
        except OSError:
            more = b""
        if not more:
            self.event_queue.put(_CLOSED)

    def _invalid(self, why: str) -> None:
        log.warning("%s: %s; the association is aborted", self.assoc.name, why)
        self.event_queue.put(_INVALID_PDU)

    def _recv(self, count: int) -> bytearray | None:
        """Exactly ``count`` bytes, or None with the event that says why not."""
        try:
            found: bytearray = self.socket.recv(count)
        except OSError:
            self.event_queue.put(_CLOSED)
            return None
        except ProtocolError as error:
            self._invalid(str(error))
            return None
        if len(found) < count:
            self.event_queue.put(_CLOSED)
            return None
        return found

    def _decoded(self, pdu: bytearray) -> None:
        """Hand a PDU that is no P-DATA to the state machine."""
        try:
            decoded, event = self._decode_pdu(pdu)
        except Exception as error:  # noqa: BLE001  anything may be wrong with bytes from outside
            self._invalid(f"an undecodable PDU ({type(error).__name__})")
            return
        self.event_queue.put(event)
        self._recv_pdu.put(decoded)

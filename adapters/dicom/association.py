"""One association with a sender, in one thread: from the handshake to the last byte.

P-DATA and the commands are decoded by hand (:mod:`adapters.dicom.pdus`,
:mod:`adapters.dicom.command`); an object's bytes go from the connection's buffer straight to
the storage. Requests are answered one after the other: a sender that puts more forward waits
in its own TCP window, so that nothing grows here.
"""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
from typing import TYPE_CHECKING

from adapters.certificate import PeerCertificate
from adapters.dicom.command import (
    C_CANCEL_RQ,
    C_STORE_RQ,
    REQUESTS,
    RESPONSE,
    Command,
    CommandError,
    Status,
    read_command,
    response,
)
from adapters.dicom.connection import CLOSED, Connection
from adapters.dicom.dialogue import COMMAND_BYTES_MAX, Dialogue, PeerAborted
from adapters.dicom.negotiation import AcceptedContext, Negotiated, Rejection
from adapters.dicom.part10 import IMPLEMENTATION_CLASS_UID
from adapters.dicom.pdus import (
    ABORT,
    ASSOCIATE_RQ,
    BY_PROVIDER,
    P_DATA_TF,
    RELEASE_RQ,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    AssociateRequest,
    ProtocolError,
    abort,
    associate_accept,
    associate_reject,
    read_associate_request,
    release_response,
    values_of,
)
from adapters.dicom.storage import OUT_OF_RESOURCES, Endless, Incoming, Request
from adapters.tls import handshake_fault

if TYPE_CHECKING:
    from adapters.dicom.listener import Server

log = logging.getLogger("ecluse.dicom")

IMPLEMENTATION_VERSION_NAME = "ECLUSE"

LINGER_SECONDS = 1.0
"""After our last word: how long the peer may take to close."""


class Association(threading.Thread):
    """Serves one connection until it ends; leaves nothing behind."""

    def __init__(self, server: Server, connected: socket.socket, address: str, port: int) -> None:
        super().__init__(name=f"dicom-{server.settings.name}-{next(server.numbers)}", daemon=True)
        self.server = server
        self.settings = server.settings
        self.services = server.services
        self.address = address
        self.peer = f"{address}:{port}"
        self.calling = self.called = ""
        self.stopping = False
        self.serving = False
        self.standing = False
        self.contexts: dict[int, AcceptedContext] = {}
        self._socket = connected
        self._connection: Connection | None = None
        self._command = bytearray()
        self._request: Command | None = None
        self._context: AcceptedContext | None = None
        self._incoming: Incoming | None = None
        self._study = ""
        self._data_set = bytearray()
        self._dialogue: Dialogue | None = None

    # --- from the server's side -----------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self.serving

    def interrupt(self) -> None:
        """End it when it waits for the peer; from any thread."""
        self.stopping = True
        connection = self._connection
        if connection is not None:
            connection.interrupt()
        else:
            try:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return

    # --- the thread -----------------------------------------------------------------

    def run(self) -> None:
        """Negotiate, serve, close. Nothing leaves this thread but counts and log lines."""
        try:
            connection = self._open()
            if connection is not None:
                self._connected(connection)
        except Exception:  # noqa: BLE001  a fault of ours costs this association only
            # Without the traceback: an exception's text may carry what it was about.
            fault = type(sys.exception()).__name__
            log.error(  # noqa: TRY400
                "%s: an association ended by a fault (%s)", self.name, fault
            )
            self.server.count("faults")
        finally:
            self._drop()
            self._socket.close()
            # It knows this association: both, with the connection's buffer, would wait for
            # Python's garbage collector, which counts objects and not bytes.
            self._dialogue = self._connection = None
            self.server.ended(self)

    def _open(self) -> Connection | None:
        """The connection, after its TLS handshake; None when that fails."""
        settings = self.settings
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = self.server.tls
        if tls is not None:
            try:
                self._socket.settimeout(tls.settings.handshake_timeout_seconds)
                self._socket = tls.context.wrap_socket(self._socket, server_side=True)
            except OSError as error:
                self.server.refuse(handshake_fault(error), self.address)
                return None
        return Connection(self._socket, settings.pdu_bytes_max)

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        try:
            if self._negotiate(connection):
                self._serve(connection)
        except PeerAborted:
            self.server.count("aborted-by-peer")
        except ProtocolError as error:
            log.warning("%s: %s; the association is aborted", self.name, error)
            self._last_word(abort(BY_PROVIDER, error.reason), "aborted-by-us")
        except TimeoutError:
            log.warning("%s: silence; the association is aborted", self.name)
            self._last_word(abort(BY_PROVIDER, 0), "timed-out")
        except OSError:
            self.server.count("connections-lost")

    def _last_word(self, data: bytes, counted: str) -> None:
        self.server.count(counted)
        self._drop()
        self.standing = False
        connection = self._connection
        if connection is None:
            return
        try:
            connection.send(data, LINGER_SECONDS)
        except OSError:
            return
        connection.drain(min(LINGER_SECONDS, self.settings.association_timeout_seconds))

    # --- negotiation ----------------------------------------------------------------

    def _negotiate(self, connection: Connection) -> bool:
        """Whether an association stands now. The time for it is the ARTIM timer's."""
        kind, body = connection.read_request(self.settings.association_timeout_seconds)
        if kind == CLOSED:
            # A load balancer's probe connects and closes.
            if self.stopping:
                self._last_word(abort(BY_PROVIDER, 0), "aborted-by-us")
            return False
        if kind == ABORT:
            return False
        if kind != ASSOCIATE_RQ:
            raise ProtocolError("something else than an association request", UNEXPECTED_PDU)
        request = read_associate_request(body)
        self.calling, self.called = request.calling, request.called
        rejection = self.server.rejection(self, request, self._certificate())
        if rejection is not None:
            self._reject(rejection)
            return False
        negotiated = self.server.policy.negotiate(request)
        self._accept(connection, request, negotiated)
        return True

    def _certificate(self) -> PeerCertificate | None:
        if not isinstance(self._socket, ssl.SSLSocket):
            return None
        der = self._socket.getpeercert(binary_form=True)
        return PeerCertificate.of(der, self._socket.getpeercert() or {}) if der else None

    def _reject(self, rejection: Rejection) -> None:
        self.server.refuse(rejection.name, self.address)
        word = associate_reject(rejection.result, rejection.source, rejection.reason)
        self._last_word(word, "rejected")

    def _accept(
        self, connection: Connection, request: AssociateRequest, negotiated: Negotiated
    ) -> None:
        self.contexts = negotiated.contexts
        self._dialogue = Dialogue(
            self, connection, self.settings, negotiated, request.pdu_bytes_max
        )
        word = associate_accept(
            request, negotiated.answers, negotiated.roles,
            pdu_bytes_max=self.settings.pdu_bytes_max,
            implementation=IMPLEMENTATION_CLASS_UID,
            version_name=IMPLEMENTATION_VERSION_NAME,
        )  # fmt: skip
        connection.send(word, self.settings.association_timeout_seconds)
        self.server.count("accepted")

    # --- requests -------------------------------------------------------------------

    def _serve(self, connection: Connection) -> None:
        seconds = self.settings.idle_timeout_seconds
        while True:
            kind, body = connection.read(seconds, seconds)
            if kind == P_DATA_TF:
                for context, control, fragment in values_of(body):
                    self._take(context, control, fragment)
                if self._dialogue is not None and self._dialogue.released:
                    self._last_word(release_response(), "released")
                    return
                if self.stopping and self.idle:
                    self._last_word(abort(BY_PROVIDER, 0), "aborted-by-us")
                    return
            elif kind == RELEASE_RQ:
                self._last_word(release_response(), "released")
                return
            elif kind in (ABORT, CLOSED):
                stopped = kind == CLOSED and self.stopping
                word = "aborted-by-peer" if kind == ABORT else "connections-lost"
                if stopped:
                    self._last_word(abort(BY_PROVIDER, 0), "aborted-by-us")
                else:
                    self.server.count(word)
                return
            else:
                known = ASSOCIATE_RQ <= kind < ABORT
                reason = UNEXPECTED_PDU if known else UNRECOGNIZED_PDU
                raise ProtocolError("a PDU that has no place here", reason)

    def _take(self, context: int, control: int, fragment: memoryview) -> None:
        """One presentation data value; a request that is whole by it is served at once."""
        self.serving = True
        if control & 1:
            if self._request is not None:
                raise ProtocolError("a command inside another's data set")
            if len(self._command) + len(fragment) > COMMAND_BYTES_MAX:
                raise ProtocolError("a command set that does not end")
            self._command += fragment
            if control & 2:
                self._begin(context)
            return
        request = self._request
        if request is None or self._context is None:
            raise ProtocolError("a data set without its command")
        if context != self._context.number:
            raise ProtocolError("a data set in another presentation context than its command")
        if self._incoming is not None:
            try:
                self.services.storage.take(self._incoming, fragment)
            except Endless:
                raise ProtocolError("an object that does not end") from None
        else:
            if len(self._data_set) + len(fragment) > self.services.data_set_bytes_max:
                raise ProtocolError("a data set that this service does not take")
            self._data_set += fragment
        if control & 2:
            self._whole(request, self._context)

    def _begin(self, number: int) -> None:
        """A command is whole: open what its data set goes to, or serve it without one."""
        raw, self._command = self._command, bytearray()
        try:
            request = read_command(raw)
            context = self.contexts.get(number)
            if context is None:
                raise ProtocolError("a request in a presentation context that was not accepted")
            if request.field == C_CANCEL_RQ:
                # It came when what it cancels was answered already.
                self.serving = False
                return
            if request.field & RESPONSE or request.field not in REQUESTS:
                raise ProtocolError("a command that is no request")
            if self.stopping:
                raise ProtocolError("a request while the source stops")
            if request.field == C_STORE_RQ:
                if not request.has_data_set:
                    raise ProtocolError("a C-STORE without a data set")
                self._incoming = self.services.storage.begin(
                    Request(
                        sop_class=request.sop_class,
                        sop_instance=request.sop_instance,
                        abstract_syntax=context.abstract_syntax,
                        transfer_syntax=context.transfer_syntax,
                        calling_aet=self.calling,
                        called_aet=self.called,
                        peer=self.peer,
                    ),
                    self._study,
                )
            self._request, self._context = request, context
            if not request.has_data_set:
                self._whole(request, context)
        except CommandError as error:
            raise ProtocolError(str(error)) from None

    def _whole(self, request: Command, context: AcceptedContext) -> None:
        """A request is whole: serve it, answer it, forget it."""
        incoming, data_set = self._incoming, bytes(self._data_set)
        dialogue = self._dialogue
        assert dialogue is not None, "a request comes after the association was accepted"
        dialogue.begin()
        self._data_set.clear()
        try:
            if incoming is not None:
                status = self._stored(incoming)
                dialogue.answer(context, response(request, status))
            else:
                self.services.serve(dialogue, request, context, data_set)
        finally:
            self._drop()
            self.serving = False

    def _stored(self, incoming: Incoming) -> Status:
        try:
            status = self.services.storage.complete(incoming)
        except Exception:  # noqa: BLE001  the sender gets an answer, whatever is broken
            fault = type(sys.exception()).__name__
            log.error("%s: storing failed (%s)", self.name, fault)  # noqa: TRY400
            status = Status(OUT_OF_RESOURCES, "an internal fault")
        self._study = incoming.study
        self.server.count(f"store-{status.code:04x}")
        return status

    def _drop(self) -> None:
        """Forget the request that is under way, with what it has left on the disk."""
        incoming, self._incoming = self._incoming, None
        self._request = self._context = None
        if incoming is not None:
            incoming.discard()

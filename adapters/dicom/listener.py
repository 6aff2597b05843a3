"""A DICOM source: a storage SCP (C-ECHO, C-STORE) in front of intake."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.transport import AssociationServer, RequestHandler

from adapters.dicom.association import StorageAssociation
from adapters.dicom.part10 import IMPLEMENTATION_CLASS_UID
from adapters.dicom.settings import DicomSourceSettings
from adapters.dicom.spool import SpoolFolder
from adapters.dicom.storage import Storage
from adapters.dicom.syntaxes import supported_contexts
from adapters.dicom.upper_layer import NEGOTIATION_BYTES_MAX, Connection
from gateway.ports import Clock, Intake

log = logging.getLogger("ecluse.dicom")

IMPLEMENTATION_VERSION_NAME = "ECLUSE"
POLL_SECONDS = 0.05
BACKLOG = 128


class DicomSource:
    """Implements :class:`gateway.ports.Source`: takes objects, answers after the commit.

    ``spool`` should be on the file system of the journal's files, so that intake can
    take an object by renaming it.
    """

    def __init__(
        self, settings: DicomSourceSettings, intake: Intake, clock: Clock, spool: Path
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._spool = spool
        self._folder: SpoolFolder | None = None
        self._server: _Server | None = None
        self._draining: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind and listen. Raises OSError when the port or the spool cannot be had."""
        if self._server is None:
            await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        """Listen no more, let objects in flight end, abort what is left. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        await asyncio.to_thread(self._drain, server)
        if self._draining:
            await asyncio.wait(self._draining)
        if self._folder is not None:
            self._folder.close()

    async def reconfigure(self, settings: DicomSourceSettings) -> None:
        """Take new settings from the next association on; those that are open keep theirs.

        With another address the new one is listened on before the old one is left, whose
        associations may end within ``stop_grace_seconds``. Raises OSError, and changes
        nothing then, when the address cannot be had.
        """
        old, folder = self._server, self._folder
        if old is not None and folder is not None:
            if settings.listen == self._settings.listen:
                old.take(settings, Storage(settings, self._intake, self._clock, folder))
            else:
                self._server = await asyncio.to_thread(self._listen, settings, folder)
                draining = asyncio.create_task(asyncio.to_thread(self._drain, old))
                self._draining.add(draining)
                draining.add_done_callback(self._draining.discard)
        self._settings = settings

    def address(self) -> str:
        """``host:port`` as it is bound; as it is configured before the start."""
        if self._server is None:
            return self._settings.listen
        host, port = self._server.server_address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    def _start(self) -> None:
        folder = SpoolFolder(self._spool, self._settings.name)
        try:
            self._server = self._listen(self._settings, folder)
        except BaseException:
            folder.close()
            raise
        self._folder = folder

    def _listen(self, settings: DicomSourceSettings, folder: SpoolFolder) -> _Server:
        # Process-wide switch of the library; its own events would log every command.
        _config.LOG_HANDLER_LEVEL = "none"
        address = _host_port(settings.listen)
        ae = _configured(AE(ae_title=settings.ae_title), settings)
        storage = Storage(settings, self._intake, self._clock, folder)
        server = _Server(ae, address, storage, settings)
        # shutdown() takes the server off this list.
        ae._servers.append(server)
        server.thread = threading.Thread(
            target=server.serve_forever, args=(POLL_SECONDS,), name=f"dicom-{self.name}"
        )
        server.thread.start()
        return server

    def _drain(self, server: _Server) -> None:
        """Listen no more; wait for the associations, then abort what is left."""
        server.shutdown()
        if server.thread is not None:
            server.thread.join()
        deadline = time.monotonic() + self._settings.stop_grace_seconds
        for association in server.associations():
            association.stopping = True
        while associations := server.associations():
            over = time.monotonic() > deadline
            ending = [each for each in associations if over or each.idle]
            with ThreadPoolExecutor(max_workers=16) as aborts:
                list(aborts.map(StorageAssociation.abort, ending))
            for association in ending or associations[:1]:
                association.join(timeout=POLL_SECONDS)
            if time.monotonic() > deadline + self._settings.commit_timeout_seconds:
                log.warning("%s: %d associations do not end", self.name, len(associations))
                break


def _host_port(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit():
        raise OSError(f"{listen}: host:port is expected")
    return host.strip("[]") or "127.0.0.1", int(port)


def _configured(ae: Any, settings: DicomSourceSettings) -> Any:
    ae.ae_title = settings.ae_title
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_pdu_size = settings.pdu_bytes_max
    ae.maximum_associations = settings.associations_max
    ae.require_called_aet = settings.require_called_aet
    ae.require_calling_aet = list(settings.calling_aets)
    ae.acse_timeout = settings.association_timeout_seconds
    ae.dimse_timeout = settings.idle_timeout_seconds
    ae.network_timeout = settings.idle_timeout_seconds
    return ae


def _window_of_one(_event: Any) -> tuple[int, int]:
    """Asynchronous operations are answered with one invoked and one performed (PS3.7 D.3.3.3)."""
    return 1, 1


class _Server(AssociationServer):
    """Accepts connections; each gets an association and its threads."""

    request_queue_size = BACKLOG

    def __init__(
        self, ae: Any, address: tuple[str, int], storage: Storage, settings: DicomSourceSettings
    ) -> None:
        self.storage = storage
        self.settings = settings
        self.thread: threading.Thread | None = None
        self.numbers = itertools.count(1)
        super().__init__(
            ae,
            address,
            settings.ae_title,
            supported_contexts(settings.sop_classes, settings.transfer_syntaxes),
            evt_handlers=[(evt.EVT_ASYNC_OPS, _window_of_one)],
            request_handler=_Handler,
        )

    def take(self, settings: DicomSourceSettings, storage: Storage) -> None:
        """Give new settings to the associations that begin from now on."""
        _configured(self.ae, settings)
        self.ae_title = settings.ae_title
        self.contexts = supported_contexts(settings.sop_classes, settings.transfer_syntaxes)
        self.settings, self.storage = settings, storage

    def associations(self) -> list[StorageAssociation]:
        """Those of this server that have not ended."""
        return [
            thread
            for thread in threading.enumerate()
            if isinstance(thread, StorageAssociation) and thread._server is self
        ]

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; answers must not wait for the acknowledgement of what went before them."""
        assert self.socket is not None
        connection, address = self.socket.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self.settings.idle_timeout_seconds)
        return connection, address

    def verify_request(self, _request: Any, _address: Any) -> bool:
        """Close at once what comes far beyond the limit; a few more get a proper rejection."""
        allowed = 2 * self.settings.associations_max + 8
        return len(self.associations()) < allowed

    def service_actions(self) -> None:
        """Nothing: a full garbage collection per sixty rounds would stop all associations."""

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Say that a connection could not be served; the others go on."""
        fault = type(sys.exception()).__name__
        log.error("%s: a connection could not be served (%s)", self.settings.name, fault)


class _Handler(RequestHandler):
    """Makes the association of one connection."""

    server: _Server

    def _create_association(self) -> StorageAssociation:
        server = self.server
        settings = server.settings
        association = StorageAssociation(self.ae, MODE_ACCEPTOR, server.storage)
        association._server = server
        # pynetdicom knows acceptors by this prefix.
        association.name = f"AcceptorThread@{settings.name}-{next(server.numbers)}"
        connection = Connection(association, client_socket=self.request)
        connection.pdu_bytes_max = max(settings.pdu_bytes_max, NEGOTIATION_BYTES_MAX)
        connection.negotiation_seconds_max = settings.association_timeout_seconds
        connection.pdu_seconds_max = settings.idle_timeout_seconds
        association.set_socket(connection)
        acceptor, requestor = association.acceptor, association.requestor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        # Negotiation only reads them, so that one list serves all associations.
        acceptor.supported_contexts = server.contexts
        requestor.address_info = self.remote
        association.bind(evt.EVT_ASYNC_OPS, _window_of_one)
        return association

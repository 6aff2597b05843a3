"""A DICOM source: the address, and the associations that come there, each in its thread."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters.certificate import PeerCertificate
from adapters.dicom.association import Association
from adapters.dicom.commitment import Reporter
from adapters.dicom.holdings import Holdings
from adapters.dicom.ledger import StudyLedger
from adapters.dicom.negotiation import LIMIT_REACHED, Policy, Rejection
from adapters.dicom.pdus import AssociateRequest
from adapters.dicom.services import Services
from adapters.dicom.settings import DicomSourceSettings
from adapters.dicom.spool import SpoolFolder
from adapters.dicom.storage import Storage
from adapters.dicom.worklist import Worklist
from adapters.tls import HeldCertificate, ServerTls, TlsUnusable
from gateway.ports import Clock, Intake

log = logging.getLogger("ecluse.dicom")

POLL_SECONDS = 0.05
BACKLOG = 128
ACCEPT_PAUSE_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""How often the files of certificates are looked at."""
TELL_SECONDS = 10.0
"""Of refused connections one in this time is told in the log, for each reason."""


class DicomSource:
    """Implements :class:`gateway.ports.Source`: takes objects, answers after the commit.

    ``spool`` should be on the file system of the journal's files, so that intake can
    take an object by renaming it. Without a ``ledger`` neither performed procedure steps nor
    storage commitment are offered, without ``holdings`` neither query nor retrieve,
    without a ``worklist`` none.
    """

    def __init__(
        self,
        settings: DicomSourceSettings,
        intake: Intake,
        clock: Clock,
        spool: Path,
        ledger: StudyLedger | None = None,
        *,
        holdings: Holdings | None = None,
        worklist: Worklist | None = None,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._spool = spool
        self._folder: SpoolFolder | None = None
        self._server: Server | None = None
        self._counts: Counter[str] = Counter()
        self._draining: set[asyncio.Task[None]] = set()
        self._ledger = ledger
        self._holdings = holdings
        self._worklist = worklist
        self._reporter: Reporter | None = None

    async def start(self) -> None:
        """Bind and listen. Raises OSError when the port or the spool cannot be had,
        TlsUnusable when the files of its TLS cannot be used."""
        if self._server is None:
            await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        """Listen no more, let objects in flight end, abort what is left. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        await asyncio.to_thread(server.stop)
        reporter, self._reporter = self._reporter, None
        if reporter is not None:
            await asyncio.to_thread(reporter.stop)
        if self._draining:
            await asyncio.wait(self._draining)
        if self._folder is not None:
            self._folder.close()

    async def reconfigure(self, settings: DicomSourceSettings) -> None:
        """Take new settings from the next association on; those that are open keep theirs.

        With another address the new one is listened on before the old one is left, whose
        associations may end within ``stop_grace_seconds``. Raises OSError or TlsUnusable, and
        changes nothing then.
        """
        old, folder = self._server, self._folder
        if old is not None and folder is not None:
            if settings.listen == self._settings.listen:
                await asyncio.to_thread(old.take, settings, self._services(settings, folder))
            else:
                self._server = await asyncio.to_thread(self._listen, settings, folder)
                draining = asyncio.create_task(asyncio.to_thread(old.stop))
                self._draining.add(draining)
                draining.add_done_callback(self._draining.discard)
        self._settings = settings

    def address(self) -> str:
        """``host:port`` as it is bound; as it is configured before the start."""
        return self._settings.listen if self._server is None else self._server.address()

    def statistics(self) -> Mapping[str, int]:
        """What happened at the door since the start: associations by how they began and
        ended, objects by their status (``store-0000``), refused connections by reason."""
        return dict(self._counts)

    def certificates(self) -> Sequence[HeldCertificate]:
        """The certificates that are in force."""
        tls = self._server.tls if self._server is not None else None
        return tls.certificates if tls is not None else ()

    def _start(self) -> None:
        folder = SpoolFolder(self._spool, self._settings.name)
        try:
            self._server = self._listen(self._settings, folder)
        except BaseException:
            folder.close()
            raise
        self._folder = folder
        if self._ledger is not None:
            self._reporter = Reporter(
                lambda: self._settings, self._ledger, self._clock, self._count
            )
            self._reporter.start()

    def _count(self, name: str) -> None:
        if self._server is not None:
            self._server.count(name)

    def _services(self, settings: DicomSourceSettings, folder: SpoolFolder) -> Services:
        storage = Storage(settings, self._intake, self._clock, folder, self._ledger)
        return Services(
            settings, storage, self._clock, self._ledger, holdings=self._holdings,
            worklist=self._worklist,
        )  # fmt: skip

    def _listen(self, settings: DicomSourceSettings, folder: SpoolFolder) -> Server:
        server = Server(settings, self._services(settings, folder), self._counts)
        server.start()
        return server


class Server:
    """One listening address with its associations."""

    def __init__(
        self, settings: DicomSourceSettings, services: Services, counts: Counter[str]
    ) -> None:
        """Read the certificates, bind and listen. Raises TlsUnusable, OSError."""
        self.numbers = itertools.count(1)
        self.settings, self.services = settings, services
        self.policy = _policy(settings, services)
        self.tls = ServerTls(settings.tls) if settings.tls is not None else None
        self._counts = counts
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}
        self._complained = ""
        self._associations: set[Association] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"dicom-{settings.name}")
        self._listening = _listen(settings.listen)

    def start(self) -> None:
        """Begin to take connections."""
        self._thread.start()

    def take(self, settings: DicomSourceSettings, services: Services) -> None:
        """Give new settings to the associations that begin from now on. Raises TlsUnusable."""
        tls = ServerTls(settings.tls) if settings.tls is not None else None
        self.settings, self.services, self.tls = settings, services, tls
        self.policy = _policy(settings, services)

    def address(self) -> str:
        """``host:port`` as it is bound."""
        host, port = self._listening[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def stop(self) -> None:
        """Listen no more; wait for the objects in flight, then abort what is left."""
        self._stopping.set()
        self._thread.join()
        for listening in self._listening:
            listening.close()
        grace = time.monotonic() + self.settings.stop_grace_seconds
        hard = grace + self.settings.commit_timeout_seconds
        associations = self.associations()
        for association in associations:
            association.stopping = True
        while associations := self.associations():
            now = time.monotonic()
            if now > hard:
                log.warning("%s: %d associations do not end", self.settings.name, len(associations))
                break
            for association in associations:
                if now > grace or association.idle:
                    association.interrupt()
            associations[0].join(timeout=POLL_SECONDS)

    # --- what associations ask ------------------------------------------------------

    def associations(self) -> list[Association]:
        """Those that have not ended."""
        with self._lock:
            return list(self._associations)

    def rejection(
        self, association: Association, request: AssociateRequest,
        certificate: PeerCertificate | None,
    ) -> Rejection | None:  # fmt: skip
        """Why an association must not be taken: by the policy, or because there are too many.
        One that may be taken stands from now on."""
        found = self.policy.rejection(request, association.address, certificate)
        if found is not None:
            return found
        settings = self.settings
        with self._lock:
            standing = [each for each in self._associations if each.standing]
            near = sum(each.address == association.address for each in standing)
            if (
                len(standing) >= settings.associations_max
                or near >= settings.associations_per_address_max
            ):
                return LIMIT_REACHED
            association.standing = True
        return None

    def ended(self, association: Association) -> None:
        """An association's thread is at its end."""
        with self._lock:
            self._associations.discard(association)

    def count(self, name: str) -> None:
        """Count something that happened."""
        with self._lock:
            self._counts[name] += 1

    def refuse(self, reason: str, address: str) -> None:
        """Count a connection that is refused, and say so from time to time."""
        with self._lock:
            self._counts[reason] += 1
            so_far, now = self._counts[reason], time.monotonic()
            if now - self._told.get(reason, float("-inf")) < TELL_SECONDS:
                return
            self._told[reason] = now
        log.warning(
            "%s: a connection from %s is refused: %s (%d so far)",
            self.settings.name, address, reason, so_far,
        )  # fmt: skip

    # --- new connections ------------------------------------------------------------

    def _run(self) -> None:
        look = time.monotonic() + LOOK_SECONDS
        with selectors.DefaultSelector() as selector:
            for listening in self._listening:
                selector.register(listening, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select(POLL_SECONDS):
                    assert isinstance(key.fileobj, socket.socket)
                    self._welcome(key.fileobj)
                if self.tls is not None and time.monotonic() > look:
                    look = time.monotonic() + LOOK_SECONDS
                    self.renew()

    def _welcome(self, listening: socket.socket) -> None:
        try:
            connected, found = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor or memory is left
            self.count("accept-failed")
            log.error(  # noqa: TRY400  the system's word says it all
                "%s: a connection cannot be taken: %s", self.settings.name, error.strerror
            )
            self._stopping.wait(ACCEPT_PAUSE_SECONDS)
            return
        # A few more than may stand get a proper rejection; what is far beyond is closed.
        allowed = 2 * self.settings.associations_max + 8
        with self._lock:
            crowded = len(self._associations) >= allowed
        if crowded:
            self.refuse("refused-connections-limit", str(found[0]))
            connected.close()
            return
        association = Association(self, connected, str(found[0]), int(found[1]))
        with self._lock:
            self._associations.add(association)
        try:
            association.start()
        except RuntimeError:  # no thread is left
            self.ended(association)
            self.count("accept-failed")
            connected.close()

    def renew(self) -> None:
        """Read the files of the certificates again if they have changed. Unusable files leave
        what is in force, and are told once for each state in which they are found."""
        tls = self.tls
        if tls is None:
            return
        try:
            renewed = tls.renewed()
        except TlsUnusable as error:
            if self._complained != str(error):
                self._complained = str(error)
                self.count("tls-files-unusable")
                log.warning("%s: the certificate in force stays: %s", self.settings.name, error)
            return
        if renewed is not None and self.tls is tls:
            self.tls, self._complained = renewed, ""
            log.info("%s: the certificates were read again", self.settings.name)


def _policy(settings: DicomSourceSettings, services: Services) -> Policy:
    return Policy.of(
        settings, services.syntaxes(), services.provided_by_peers(),
        for_peers=services.for_peers(), only_provided=services.only_provided(),
    )  # fmt: skip


def _listen(address: str) -> list[socket.socket]:
    """Sockets that listen on every form of an address. Raises OSError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise OSError(f"{address}: host:port is expected")
    found = socket.getaddrinfo(
        host.strip("[]") or "127.0.0.1", int(port), type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )  # fmt: skip
    listening: list[socket.socket] = []
    try:
        for family, where in dict.fromkeys((each[0], each[4]) for each in found):
            one = socket.socket(family, socket.SOCK_STREAM)
            listening.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(where)
            one.listen(BACKLOG)
            one.setblocking(False)
    except OSError as error:
        for one in listening:
            one.close()
        said = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"cannot listen on {address}: {said}") from None
    return listening

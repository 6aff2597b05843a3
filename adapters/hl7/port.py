"""A listening address and the sources behind it.

A plain port belongs to one source. A TLS port may belong to several: the certificate that a
client shows says to which its connection goes, and one that names none is refused. A source
joins a port and leaves it; the last one closes it. That is how a changed configuration moves
sources between ports without closing one that goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapters.certificate import PeerCertificate
from adapters.hl7.door import PlainDoor, TlsDoor
from adapters.hl7.settings import MllpSourceSettings, split_address
from adapters.tls import HeldCertificate, ServerTls, TlsSettings, TlsUnusable, handshake_fault

if TYPE_CHECKING:
    from adapters.hl7.listener import MllpSource

log = logging.getLogger("ecluse.hl7")
_BACKLOG = 512
_ACCEPTED_AT_ONCE = 64
_ACCEPT_PAUSE_SECONDS = 1.0
_SHUTDOWN_SECONDS = 5.0
LOOK_SECONDS = 5.0
"""How often the files of certificates are looked at."""
HANDSHAKES_MAX = 512
"""Handshakes under way at one port; what comes beyond that is closed at once."""
_TELL_SECONDS = 10.0
"""Of refused connections one in this time is told in the log, for each reason."""


class Port:
    """One listening address, its TLS, and the sources that share it."""

    def __init__(self, listen: str, tls: ServerTls | None, look_seconds: float) -> None:
        self.listen = listen
        self.tls = tls
        self.sources: list[MllpSource] = []
        self.shaking: Counter[str] = Counter()
        self._look_seconds = look_seconds
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._welcoming: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()
        self._told: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None
        self._complained: object = None

    async def open(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        host, number = split_address(self.listen)
        found = await self._loop.getaddrinfo(
            host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, address in dict.fromkeys((each[0], each[4]) for each in found):
                self._listening.append(_listen(family, address))
        except OSError as error:
            self.close()
            said = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"cannot listen on {self.listen}: {said}") from None
        for listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)
        self._looking = self._loop.create_task(self._look(), name=f"certificates-{self.listen}")

    def close(self) -> None:
        """Listen no more and give up the handshakes under way. Connections stay. Idempotent."""
        for listening in self._listening:
            self._loop.remove_reader(listening.fileno())
            listening.close()
        self._listening.clear()
        if self._looking is not None:
            self._looking.cancel()
        for welcoming in self._welcoming:
            welcoming.cancel()

    def address(self) -> str:
        """``host:port`` as bound; as configured when it is not."""
        if not self._listening:
            return self.listen
        bound = self._listening[0]
        host, number = bound.getsockname()[:2]
        return f"[{host}]:{number}" if bound.family is socket.AF_INET6 else f"{host}:{number}"

    def choose(self, certificate: PeerCertificate | None) -> MllpSource | None:
        """Whose connection this is; None when it is nobody's.

        The source that joined last is asked first: while a configuration changes, the one
        that takes over and the one that goes are here at the same time.
        """
        return next(
            (each for each in reversed(self.sources) if takes(each.settings, certificate)), None
        )

    # --- what is counted ----------------------------------------------------------

    def refuse(self, reason: str, address: str) -> None:
        """Count a connection that belongs to no source, by the reason for which it is closed."""
        self._counts[reason] += 1
        now = self._loop.time()
        if now - self._told.get(reason, float("-inf")) >= _TELL_SECONDS:
            self._told[reason] = now
            log.warning(
                "port %s: a connection from %s is refused: %s (%d so far)",
                self.listen, address, reason, self._counts[reason],
            )  # fmt: skip

    def refusals(self) -> Mapping[str, int]:
        """Connections that were refused before their source was known, by reason."""
        return dict(self._counts)

    # --- certificates -------------------------------------------------------------

    async def renew(self) -> bool:
        """Read the files of the certificates again if they have changed; was it so?

        Connections go on with what they have. Unusable files leave what is in force, and
        are told once for each state in which they are found.
        """
        tls = self.tls
        if tls is None:
            return False
        try:
            renewed = await asyncio.to_thread(tls.renewed)
        except TlsUnusable as error:
            if self._complained != str(error):
                self._complained = str(error)
                self._counts["tls-files-unusable"] += 1
                log.warning("port %s: the certificate in force stays: %s", self.listen, error)
            return False
        if renewed is None or self.tls is not tls:
            return False
        self.tls, self._complained = renewed, None
        log.info("port %s: the certificates were read again", self.listen)
        return True

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            await self.renew()

    # --- new connections ----------------------------------------------------------

    # Accepted here and not by ``create_server``: that tells nobody why a handshake failed.

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connected, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor or memory is left
                self._counts["accept-failed"] += 1
                log.error(  # noqa: TRY400  the system's word says it all
                    "port %s: a connection cannot be taken: %s", self.listen, error.strerror
                )
                self._loop.remove_reader(listening.fileno())
                self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._accept_again, listening)
                return
            connected.setblocking(False)
            self._welcome(connected, str(address[0]))

    def _accept_again(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _welcome(self, connected: socket.socket, address: str) -> None:
        tls = self.tls
        if tls is not None and not self._may_shake(address):
            self.refuse("refused-handshakes-limit", address)
            connected.close()
            return
        if tls is None:
            greeting = self._open(connected)
        else:
            self.shaking[address] += 1
            greeting = self._shake(connected, address, tls)
        task = self._loop.create_task(greeting)
        self._welcoming.add(task)
        task.add_done_callback(self._welcoming.discard)

    async def _open(self, connected: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has gone already
            await self._loop.connect_accepted_socket(lambda: PlainDoor(self), connected)

    async def _shake(self, connected: socket.socket, address: str, tls: ServerTls) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: TlsDoor(self, address),
                connected,
                ssl=tls.context,
                ssl_handshake_timeout=tls.settings.handshake_timeout_seconds,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        except OSError as error:  # ssl.SSLError and the time-out are among them
            self.refuse(handshake_fault(error), address)
        finally:
            self.shaking[address] -= 1
            if not self.shaking[address]:
                del self.shaking[address]

    def _may_shake(self, address: str) -> bool:
        """May another handshake begin? Limits in all and by address."""
        most = max((each.settings.connections_per_address_max for each in self.sources), default=0)
        return self.shaking.total() < HANDSHAKES_MAX and self.shaking[address] < most


def _listen(family: int, address: Any) -> socket.socket:
    """A socket that listens. Raises OSError."""
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def takes(settings: MllpSourceSettings, certificate: PeerCertificate | None) -> bool:
    """Is a connection with this certificate, or without one, for a source of these settings?"""
    if not settings.clients:
        return True
    return certificate is not None and any(
        name.names(certificate) for name in settings.client_names()
    )


class Ports:
    """The open ports of a process, by their configured address."""

    def __init__(self, look_seconds: float = LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._shared: dict[str, Port] = {}
        self._turn = asyncio.Lock()

    async def join(self, source: MllpSource, settings: MllpSourceSettings) -> Port:
        """Put a source behind the port of these settings, which is opened when it is not.

        The port's TLS becomes that of the settings. Raises OSError when the address cannot be
        had and TlsUnusable when the files cannot be used; then nothing is changed.
        """
        async with self._turn:
            # Port 0 is any free one: it is shared with nobody.
            port = source.port if source.port and source.port.listen == settings.listen else None
            port = port or self._shared.get(settings.listen)
            tls = await _tls(settings.tls, port)
            if port is None:
                port = Port(settings.listen, tls, self._look_seconds)
                await port.open()
                if settings.host_and_port()[1]:
                    self._shared[settings.listen] = port
            port.tls = tls
            if source not in port.sources:
                port.sources.append(source)
            return port

    def leave(self, source: MllpSource, port: Port) -> None:
        """Take a source from a port; with the last one the port is closed. Idempotent."""
        if source in port.sources:
            port.sources.remove(source)
        if not port.sources:
            port.close()
            if self._shared.get(port.listen) is port:
                del self._shared[port.listen]


async def _tls(settings: TlsSettings | None, port: Port | None) -> ServerTls | None:
    if settings is None:
        return None
    if port is not None and port.tls is not None and port.tls.settings == settings:
        return port.tls
    return await asyncio.to_thread(ServerTls, settings)


def certificates_of(port: Port | None) -> tuple[HeldCertificate, ...]:
    """What a port's TLS relies on; nothing for a plain one."""
    return port.tls.certificates if port is not None and port.tls is not None else ()

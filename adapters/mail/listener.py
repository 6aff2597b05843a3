"""A port that takes mail: who may connect, how many at a time, and how it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.mail.reception import MailReception, Receptions
from adapters.mail.session import House, Session
from adapters.mail.settings import SmtpSourceSettings
from adapters.mail.spooling import SpoolFolder
from adapters.mail.wire import Wire
from adapters.tls import HeldCertificate, ServerTls, TlsUnusable, server_context
from gateway.ports import Clock, Intake

_LOG = logging.getLogger("ecluse.mail")


class SmtpSource:
    """One listening port for SMTP or LMTP."""

    def __init__(
        self, settings: SmtpSourceSettings, intake: Intake, clock: Clock, receptions: Receptions
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.clock = clock
        self.reception = MailReception(settings, intake, receptions)
        self._tls = _tls(settings)
        self._complained = ""
        self._spools = SpoolFolder(settings)
        self._counts: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._stopping = asyncio.Event()
        self._sessions: dict[asyncio.Task[None], Session | None] = {}

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        if self._server is not None:
            return
        await asyncio.to_thread(self._spools.open)
        self._stopping = asyncio.Event()
        host, port = self.settings.host_and_port()
        try:
            self._server = await asyncio.start_server(
                self._connected, host, port, **self._from_the_first_byte()
            )
        except OSError as error:
            await asyncio.to_thread(self._spools.close)
            said = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"cannot listen on {self.settings.listen}: {said}") from None

    def _from_the_first_byte(self) -> dict[str, Any]:
        """Implicit TLS (RFC 8314, section 3): the context that is in force at each handshake."""
        tls, settings = self._tls, self.settings.tls
        if tls is None or settings is None or self.settings.security != "tls":
            return {}

        def choose(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
            if self._tls is not None:
                connection.context = self._tls.context

        entry = server_context(settings)
        entry.sni_callback = choose
        return {"ssl": entry, "ssl_handshake_timeout": settings.handshake_timeout_seconds}

    async def stop(self) -> None:
        """Listen no more; let the mails in hand be answered. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._stopping.set()
        idle = [task for task, each in self._sessions.items() if each is None or not each.busy]
        for task in idle:
            task.cancel()
        if self._sessions:
            await asyncio.wait(set(self._sessions), timeout=self.settings.stop_timeout_seconds)
        for task in set(self._sessions):
            task.cancel()
        if self._sessions:
            await asyncio.wait(set(self._sessions))
        await server.wait_closed()
        await asyncio.to_thread(self._spools.close)

    async def reconfigure(self, settings: SmtpSourceSettings) -> None:
        """Take new settings from the next connection on; listen elsewhere when told so.

        Raises OSError or TlsUnusable, and changes nothing then.
        """
        tls = _tls(settings)
        before = self.settings
        reception = MailReception(settings, self.reception.intake, self.reception.receptions)
        if self._server is not None and (
            settings.listen != before.listen
            or settings.spool_folder != before.spool_folder
            or (settings.security, settings.tls) != (before.security, before.tls)
        ):
            await self._move(settings, tls)
        self.settings, self._tls, self.reception = settings, tls, reception

    async def _move(self, settings: SmtpSourceSettings, tls: ServerTls | None) -> None:
        before, spools, held = self.settings, self._spools, self._tls
        await self.stop()
        self.settings, self._spools, self._tls = settings, SpoolFolder(settings), tls
        try:
            await self.start()
        except OSError:
            self.settings, self._spools, self._tls = before, spools, held
            await self.start()
            raise

    def address(self) -> str:
        """``host:port`` as bound; as configured when it is not."""
        if self._server is None or not self._server.sockets:
            return self.settings.listen
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def statistics(self) -> Mapping[str, int]:
        """Mails, refused senders and recipients, and faults since the start."""
        return dict(self._counts)

    def certificates(self) -> Sequence[HeldCertificate]:
        """Those that are in force."""
        return self._tls.certificates if self._tls is not None else ()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this as a task"
        settings = self.settings
        wire = Wire(reader, writer, settings.idle_timeout_seconds)
        crowded = len(self._sessions) >= settings.connections_max
        self._sessions[task] = None
        try:
            if crowded:
                self._counts["connections-refused"] += 1
                await wire.say("421 4.3.2 too many connections; try again later")
                return
            await self._converse(task, wire, writer)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError, TimeoutError):
                await wire.say("421 4.3.2 the gateway is closing")
        except (OSError, TimeoutError):
            self._counts["disconnected"] += 1
        except Exception as error:  # noqa: BLE001 - one conversation must not end the port
            # The type only: the message might quote the mail.
            _LOG.error("port %s: unexpected %s", self.name, type(error).__name__)
        finally:
            await wire.close()
            del self._sessions[task]

    async def _converse(
        self, task: asyncio.Task[None], wire: Wire, writer: asyncio.StreamWriter
    ) -> None:
        peer = writer.get_extra_info("peername") or ("", 0)
        house = House(
            settings=self.settings,
            reception=self.reception,
            clock=self.clock,
            make_spool=lambda: self._spools.make(self.reception.bytes_max),
            context=await self._context(),
            counts=self._counts,
            stopping=self._stopping,
        )
        session = Session(house, wire, f"{peer[0]}:{peer[1]}")
        self._sessions[task] = session
        await session.run()

    async def _context(self) -> ssl.SSLContext | None:
        """TLS with the files as they are now; unusable ones leave what is in force."""
        tls = self._tls
        if tls is None:
            return None
        try:
            renewed = await asyncio.to_thread(tls.renewed)
        except TlsUnusable as error:
            if self._complained != str(error):
                self._complained = str(error)
                self._counts["tls-files-unusable"] += 1
                _LOG.warning("port %s: the certificate in force stays: %s", self.name, error)
            renewed = None
        if renewed is not None and self._tls is tls:
            self._tls, self._complained = renewed, ""
            return renewed.context
        return tls.context


def _tls(settings: SmtpSourceSettings) -> ServerTls | None:
    """Raises TlsUnusable."""
    return ServerTls(settings.tls) if settings.tls is not None else None

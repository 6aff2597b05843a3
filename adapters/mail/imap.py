"""Mail out of a mailbox: what is there is kept, then moved or marked, and nothing is deleted.

A mail leaves the mailbox only after the journal's commit, so after a crash it is found again,
answered as a duplicate, and moved: nothing is lost and nothing doubled. A mail that was kept and
could not be moved is remembered by its UID for as long as UIDVALIDITY says that UIDs are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections import Counter
from collections.abc import Mapping, Sequence

from adapters.doors.reception import EVIDENCE_BYTES_MAX
from adapters.doors.spool import BodyTooLarge
from adapters.mail.custody import keep
from adapters.mail.mailbox import Gone, Mailbox, MailboxFault, Place
from adapters.mail.reception import MailReception, Receptions
from adapters.mail.settings import ImapSourceSettings
from adapters.mail.spooling import SpoolFolder
from adapters.tls import ClientTls, HeldCertificate, TlsUnusable
from gateway.model import Cause
from gateway.ports import Clock, Intake, IntakeUnavailable

_LOG = logging.getLogger("ecluse.mail")
_FIRST_PAUSE_SECONDS = 1.0


class ImapSource:
    """One mailbox, looked into when its server tells of mail (IDLE), else every ``poll_seconds``,
    and as long as there is work."""

    def __init__(
        self, settings: ImapSourceSettings, intake: Intake, clock: Clock, receptions: Receptions
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.clock = clock
        self.reception = MailReception(settings, intake, receptions)
        self._tls = _tls(settings)
        self._spools = SpoolFolder(settings)
        self._mailbox: Mailbox | None = None
        self._validity = 0
        self._decided: dict[int, Place] = {}
        self._left: dict[int, str] = {}
        self._counts: Counter[str] = Counter()
        self._told = ""
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # What ends a wait in another thread: the first is read, the second written.
        self._wake: tuple[socket.socket, socket.socket] | None = None

    async def start(self) -> None:
        """Begin to look. A server that does not answer is tried again and again; OSError when
        the spool folder cannot be made."""
        if self._task is None:
            await asyncio.to_thread(self._spools.open)
            self._stopping.clear()
            self._wake = socket.socketpair()
            self._task = asyncio.create_task(self._watch(), name=f"imap-{self.name}")

    async def stop(self) -> None:
        """Finish the mail in hand, log out. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            self._stopping.set()
            wake, self._wake = self._wake, None
            if wake is not None:
                wake[1].send(b"x")
            await task
            for each in wake or ():
                each.close()
            await self._hang_up()
            await asyncio.to_thread(self._spools.close)

    async def reconfigure(self, settings: ImapSourceSettings) -> None:
        """Take new settings from the next look on. Raises TlsUnusable, or OSError for the spool
        folder, and changes nothing then."""
        before = (self.settings, self._tls, self.reception, self._spools)
        tls = _tls(settings)
        reception = MailReception(settings, self.reception.intake, self.reception.receptions)
        running = self._task is not None
        await self.stop()
        self.settings, self._tls, self.reception = settings, tls, reception
        self._spools = SpoolFolder(settings)
        self._decided.clear()
        self._told = ""
        if not running:
            return
        try:
            await self.start()
        except OSError:
            self.settings, self._tls, self.reception, self._spools = before
            await self.start()
            raise

    def address(self) -> str:
        """The server and the folder that is emptied."""
        return f"imap://{self.settings.server}/{self.settings.mailbox}"

    def left(self) -> Mapping[str, str]:
        """UIDs of mails that are still in the mailbox, with the reason; for status pages."""
        return {str(uid): reason for uid, reason in self._left.items()}

    def statistics(self) -> Mapping[str, int]:
        """Mails and faults since the start."""
        return dict(self._counts)

    def certificates(self) -> Sequence[HeldCertificate]:
        """Those that are in force."""
        return self._tls.certificates if self._tls is not None else ()

    # --- looking ------------------------------------------------------------------

    async def _watch(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            pause = self.settings.poll_seconds
            try:
                more = await self._look()
                failures = 0
                self._tell("")
                if more or await self._idled():
                    pause = 0.0
            except MailboxFault as fault:
                pause, failures = self._backoff(failures), failures + 1
                await self._hang_up()
                self._counts["connections-failed"] += 1
                self._tell(str(fault))
            except (OSError, IntakeUnavailable) as error:
                self._counts["not-kept"] += 1
                self._tell(f"{type(error).__name__}: nothing can be kept")
            except Exception as error:  # noqa: BLE001 - one bad mail must not end the watch
                # The type only: the message might quote the mail.
                await self._hang_up()
                self._tell(f"unexpected {type(error).__name__}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _idled(self) -> bool:
        """Wait for what the server tells of; False where it does not, or where mails that could
        not be dealt with are to be tried again. Raises MailboxFault."""
        mailbox, wake, seconds = self._mailbox, self._wake, self.settings.idle_seconds
        if mailbox is None or wake is None or not mailbox.idles or not seconds or self._left:
            return False
        await asyncio.to_thread(mailbox.idle, seconds, wake[0])
        return True

    def _backoff(self, failures: int) -> float:
        """Twice as long each time, up to the longest; somewhere in its upper half."""
        whole = min(
            self.settings.backoff_seconds_max, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 30)
        )
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 - a pause is no secret

    def _tell(self, fault: str) -> None:
        """Log a state of the mailbox once, when it changes."""
        if fault != self._told:
            if fault:
                _LOG.warning("mailbox %s: %s; trying again", self.name, fault)
            else:
                _LOG.warning("mailbox %s: is read again", self.name)
            self._told = fault

    async def _look(self) -> bool:
        """Take up what waits; True when more waits than one look takes."""
        mailbox = await self._open()
        validity, waiting = await asyncio.to_thread(mailbox.look)
        if validity != self._validity:
            # The same numbers are now other mails (RFC 9051, section 2.3.1.1).
            self._validity = validity
            self._decided.clear()
        known = set(waiting)
        self._decided = {uid: place for uid, place in self._decided.items() if uid in known}
        self._left = {uid: why for uid, why in self._left.items() if uid in known}
        fresh = [uid for uid in waiting if uid not in self._left]
        # What could not be dealt with last time comes last: it must not hold up the rest.
        turn = [*fresh, *self._left][: self.settings.mails_per_look_max]
        for uid in turn:
            if self._stopping.is_set():
                break
            await self._take(mailbox, uid)
        return len(fresh) > len(turn)

    async def _open(self) -> Mailbox:
        """The open mailbox; a new connection takes up certificates that have changed."""
        if self._mailbox is None:
            if self._tls is not None:
                try:
                    self._tls = await asyncio.to_thread(self._tls.renewed) or self._tls
                except TlsUnusable as error:
                    _LOG.warning("mailbox %s: the former certificate stays: %s", self.name, error)
            self._mailbox = await asyncio.to_thread(Mailbox, self.settings, self._tls)
        return self._mailbox

    async def _hang_up(self) -> None:
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            await asyncio.to_thread(mailbox.close)

    # --- one mail -----------------------------------------------------------------

    async def _take(self, mailbox: Mailbox, uid: int) -> None:
        """Keep one mail and put it where it belongs. Raises MailboxFault, IntakeUnavailable."""
        self._left.pop(uid, None)
        try:
            if uid not in self._decided:
                self._decided[uid] = await self._keep(mailbox, uid)
            await asyncio.to_thread(mailbox.settle, uid, self._decided[uid])
        except Gone:
            self._decided.pop(uid, None)
        except MailboxFault as fault:
            self._leave(uid, f"is kept; {fault}" if uid in self._decided else str(fault))
            if not fault.connected:
                raise
        except (IntakeUnavailable, OSError):
            self._leave(uid, "could not be kept yet")
            raise
        except Exception as error:  # noqa: BLE001 - one mail must not hold up those behind it
            self._leave(uid, f"cannot be taken apart ({type(error).__name__})")
        else:
            self._counts[self._decided.pop(uid)] += 1

    def _leave(self, uid: int, why: str) -> None:
        self._left[uid] = why
        self._counts["left"] += 1
        _LOG.warning("mailbox %s: a mail stays in it: %s", self.name, why)

    async def _keep(self, mailbox: Mailbox, uid: int) -> Place:
        size = await asyncio.to_thread(mailbox.size, uid)
        spool = self._spools.make(self.reception.bytes_max)
        fault: Cause | None = self.reception.oversized() if size > spool.bytes_max else None
        wanted = EVIDENCE_BYTES_MAX if fault is not None else spool.bytes_max + 1
        try:
            await asyncio.to_thread(mailbox.fetch, uid, spool, wanted)
        except BodyTooLarge:  # the server said less than there is
            fault = self.reception.oversized()
        except BaseException:
            spool.discard()
            raise
        kept = await keep(self.reception, spool, self.clock, peer=self.settings.server, fault=fault)
        return "refused" if kept.verdict.rejected else "accepted"


def _tls(settings: ImapSourceSettings) -> ClientTls | None:
    """Raises TlsUnusable."""
    return None if settings.security == "none" else ClientTls(settings.tls)

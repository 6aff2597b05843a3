"""One connection to a mailbox, over IMAP (RFC 9051; RFC 3501). Its methods block; one at a time.

A mail is known by its UID, which means something only together with the mailbox's UIDVALIDITY.
It is read in blocks with BODY.PEEK, so that nothing is marked as seen and no answer of the server
is of unbounded size.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import select
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from adapters.doors.spool import Spool
from adapters.mail.settings import ImapSourceSettings
from adapters.tls import ClientTls, connect_fault

if TYPE_CHECKING:
    import io

    from _typeshed import ReadableBuffer as Buffer

BLOCK_BYTES = 1 << 20
ANSWER_BYTES_MAX = BLOCK_BYTES + (4 << 20)
"""Of all that a server says to one command."""
_PASSWORD_BYTES_MAX = 1024
_SIZE = re.compile(rb"RFC822\.SIZE (\d{1,15})")

Place = Literal["accepted", "refused"]


class MailboxFault(Exception):
    """The server cannot be used now. The message says why, in words for a person; it has no
    address, subject or content of a mail. ``connected``: it said no, and goes on listening."""

    def __init__(self, message: str, *, connected: bool = False) -> None:
        super().__init__(message)
        self.connected = connected


class Gone(Exception):
    """The mail is no longer in the mailbox: somebody moved it."""


class Mailbox:
    """An open mailbox. Raises MailboxFault from every method; then it is to be closed."""

    def __init__(
        self, settings: ImapSourceSettings, tls: ClientTls | None, *, prepare: bool = True
    ) -> None:
        """Connect and log in; with ``prepare`` make the folders that are not there."""
        self._settings = settings
        self._imap = _connected(settings, tls)
        try:
            with _said("the log-in is refused"):
                _log_in(self._imap, settings)
            with _said("the server does not say what it can do"):
                # What it can do may be more after the log-in (RFC 9051, section 6.2).
                self._can = _words(self._demand(self._imap.capability()))
            if prepare and settings.after == "move":
                self._make_folders()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Log out, if the server still listens. Idempotent; raises nothing."""
        with contextlib.suppress(imaplib.IMAP4.error, OSError, ValueError):
            self._imap.logout()
        with contextlib.suppress(OSError):
            self._imap.shutdown()

    def look(self) -> tuple[int, list[int]]:
        """UIDVALIDITY, and the UIDs of the mails that wait, the first to come first."""
        with _said("the mailbox cannot be opened"):
            self._demand(self._imap.select(_quoted(self._settings.mailbox)))
            _, said = self._imap.response("UIDVALIDITY")
            validity = int(said[-1]) if said and said[-1] else 0
            wanted = ["UNDELETED"]
            if self._settings.after == "flag":
                wanted += ["UNKEYWORD", self._settings.accepted]
                wanted += ["UNKEYWORD", self._settings.refused]
            found = self._demand(self._imap.uid("SEARCH", *wanted))
            numbers = b" ".join(each for each in found if isinstance(each, bytes)).split()
            return validity, sorted(int(each) for each in numbers)

    @property
    def idles(self) -> bool:
        """Whether the server can tell of new mail by itself."""
        return "IDLE" in self._can

    def idle(self, seconds: float, wake: socket.socket) -> None:
        """Wait until the server says something about the mailbox that was looked into (IDLE, RFC
        2177), ``wake`` can be read, or the time is over."""
        with _said("the server does not go on telling of new mail"):
            self._imap.idle_for(seconds, wake)

    def size(self, uid: int) -> int:
        """How many bytes the server says that a mail has. Raises Gone."""
        with _said("the size of a mail cannot be had"):
            found = self._demand(self._imap.uid("FETCH", str(uid), "(UID RFC822.SIZE)"))
            for each in found:
                if isinstance(each, bytes) and (match := _SIZE.search(each)):
                    return int(match[1])
        raise Gone

    def fetch(self, uid: int, into: Spool, bytes_max: int) -> None:
        """The beginning of a mail, at most ``bytes_max``, in blocks. Raises Gone, OSError for
        the spool, BodyTooLarge as that does."""
        start = 0
        while start < bytes_max:
            wanted = min(BLOCK_BYTES, bytes_max - start)
            with _said("a mail cannot be read"):
                found = self._demand(
                    self._imap.uid("FETCH", str(uid), f"(UID BODY.PEEK[]<{start}.{wanted}>)")
                )
                blocks = [each[1] for each in found if isinstance(each, tuple)]
            if not blocks:
                if start == 0:
                    raise Gone
                return
            into.write(blocks[0])
            start += len(blocks[0])
            if len(blocks[0]) < wanted:
                return

    def settle(self, uid: int, place: Place) -> None:
        """Put a mail where it belongs, or mark it. It is never without a place: without MOVE
        (RFC 6851) it is copied first."""
        name = self._settings.accepted if place == "accepted" else self._settings.refused
        with _said("a mail cannot be put into its folder"):
            number = str(uid)
            if self._settings.after == "flag":
                self._demand(self._imap.uid("STORE", number, "+FLAGS.SILENT", f"({name})"))
                return
            if "MOVE" in self._can:
                self._demand(self._imap.uid("MOVE", number, _quoted(name)))
                return
            self._demand(self._imap.uid("COPY", number, _quoted(name)))
            self._demand(self._imap.uid("STORE", number, "+FLAGS.SILENT", r"(\Deleted)"))
            if "UIDPLUS" in self._can:  # else it would take the deleted mails of others along
                self._demand(self._imap.uid("EXPUNGE", number))

    def _make_folders(self) -> None:
        for name in (self._settings.accepted, self._settings.refused):
            with _said(f"the folder {name} cannot be made"):
                if not self._has(name):
                    made = self._imap.create(_quoted(name))
                    if made[0] != "OK" and not self._has(name):  # somebody else made it meanwhile
                        self._demand(made)

    def _has(self, name: str) -> bool:
        return any(self._demand(self._imap.list('""', _quoted(name))))

    @staticmethod
    def _demand(answer: tuple[str, Sequence[object]]) -> Sequence[object]:
        kind, said = answer
        if kind != "OK":
            raise imaplib.IMAP4.error(kind)
        return said


class _Bounded(imaplib.IMAP4):
    """An IMAP client whose every answer has a limit, and which makes its own connection."""

    def __init__(self, settings: ImapSourceSettings, context: ssl.SSLContext | None) -> None:
        self._context, self._implicit = context, settings.security == "tls"
        self._server_name = settings.tls.server_name or settings.host_and_port()[0]
        self._left = ANSWER_BYTES_MAX
        self._idles = 0
        host, port = settings.host_and_port()
        super().__init__(host, port, timeout=settings.timeout_seconds)

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:
        """Connect; called by the class above."""
        # The name under which STARTTLS verifies the certificate.
        self.host, self.port = self._server_name, port
        connected = socket.create_connection((host, port), timeout)
        if self._implicit and self._context is not None:
            try:
                connected = self._context.wrap_socket(connected, server_hostname=self._server_name)
            except BaseException:
                connected.close()
                raise
        self.sock = connected
        self.file = cast("BinaryIO", connected.makefile("rb"))

    def read(self, size: int) -> bytes:
        """A literal of the server's."""
        self._count(size)
        return super().read(size)

    def readline(self) -> bytes:
        """A line of the server's."""
        line = super().readline()
        self._count(len(line))
        return line

    def send(self, data: Buffer) -> None:
        """A command, or its continuation: a new answer begins."""
        self._left = ANSWER_BYTES_MAX
        super().send(data)

    def idle_for(self, seconds: float, wake: socket.socket) -> None:
        """IDLE until something comes; the class above knows no such command."""
        self._idles += 1
        tag = b"IDLE%d" % self._idles
        self.send(tag + b" IDLE\r\n")
        while not (line := self.readline()).startswith(b"+"):
            if not line or line.startswith(tag):
                raise self.error("IDLE")
        # The first words may have come together with the "+".
        if not self._something_came():
            select.select([self.sock, wake], [], [], seconds)
        self.send(b"DONE\r\n")
        while not (line := self.readline()).startswith(tag):
            if not line:
                raise self.abort("the connection ended")
        if not line[len(tag) :].strip().upper().startswith(b"OK"):
            raise self.error("IDLE")

    def _something_came(self) -> bool:
        """Whether there is something to read that the operating system does not know of."""
        before = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            return bool(cast("io.BufferedReader", self.file).peek(1))
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        finally:
            self.sock.settimeout(before)

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self.abort(f"an answer is longer than {ANSWER_BYTES_MAX} bytes")


def _connected(settings: ImapSourceSettings, tls: ClientTls | None) -> _Bounded:
    context = tls.context if tls is not None else None
    try:
        imap = _Bounded(settings, context)
    except OSError as error:
        raise MailboxFault(f"no connection: {connect_fault(error)}") from None
    except imaplib.IMAP4.error:
        raise MailboxFault("what answers is no IMAP server") from None
    if settings.security == "starttls" and context is not None:
        try:
            imap.starttls(context)
        except (OSError, imaplib.IMAP4.error) as error:
            with contextlib.suppress(OSError):
                imap.shutdown()
            said = connect_fault(error) if isinstance(error, OSError) else "the server refuses it"
            raise MailboxFault(f"STARTTLS: {said}") from None
    return imap


def _log_in(imap: _Bounded, settings: ImapSourceSettings) -> None:
    user = settings.user.encode()
    if settings.password_file is None:
        imap.authenticate("EXTERNAL", lambda _: user)
        return
    password = _password(settings.password_file)
    if "AUTH=PLAIN" in imap.capabilities:
        imap.authenticate("PLAIN", lambda _: b"\0%b\0%b" % (user, password))
    else:
        imap.login(settings.user, password.decode("utf-8", "replace"))


def _password(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.readline(_PASSWORD_BYTES_MAX).rstrip(b"\r\n")
    except OSError as error:
        raise MailboxFault(f"{path}: cannot be read: {error.strerror}") from None


def _words(said: Sequence[object]) -> frozenset[str]:
    found = [each for each in said if isinstance(each, bytes)]
    return frozenset(b" ".join(found).decode("ascii", "replace").upper().split())


def _quoted(name: str) -> str:
    return f'"{name}"'


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    """Any fault of the conversation as a MailboxFault. What the server says is not repeated: it
    may quote a mail."""
    try:
        yield
    except imaplib.IMAP4.abort:
        raise MailboxFault(f"{what}: the connection ended, or the answer is none") from None
    except imaplib.IMAP4.error:
        raise MailboxFault(f"{what}: the server refuses it", connected=True) from None
    except OSError as error:
        raise MailboxFault(f"{what}: {connect_fault(error)}") from None

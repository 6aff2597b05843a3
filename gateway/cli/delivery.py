"""What ``ecluse send`` does for each protocol: bytes out, one answer back per message."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from gateway.cli.output import say
from gateway.wording import plural

if TYPE_CHECKING:
    from adapters.tls import ClientTlsSettings

_AET = re.compile(r"[ -\[\]-~]{1,16}")
"""An AE title: up to 16 characters without backslash and controls (PS3.5 6.2, VR AE)."""
CDA_PATH = "/intake/cda"
ERROR_MAX = 500
NOTES_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered to one message.

    ``code`` is MSA-1, a DIMSE status in hexadecimal or an HTTP status; empty when nothing
    came. ``index`` counts the messages of one file from 1.
    """

    file: str
    index: int
    control_id: str
    code: str
    answered: bool
    accepted: bool
    error: str = ""
    attempts: int = 1
    """How often it was sent."""
    silent: bool = False
    """HL7 v2: it asked for no answer (MSH-15, MSH-16), and none came."""
    commit_code: str = ""
    """HL7 v2: the commit acknowledgement before an application acknowledgement."""
    location: str = ""
    """HL7 v2: the first place that ERR names."""
    notes: tuple[str, ...] = ()
    """HL7 v2: every ERR: severity, code, location, words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Where to send."""

    scheme: str
    host: str
    port: int
    url: str
    called: str = ""
    calling: str = ""
    token_file: Path | None = None
    timeout_seconds: float = 30.0
    tls: ClientTlsSettings | None = None
    reconnect_seconds: float = 15.0
    resend: int = 0
    application: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @classmethod
    def parse(
        cls, to: str, *, calling: str, token_file: Path | None, timeout_seconds: float
    ) -> Peer:
        """Read a destination. Raises ValueError with what is wrong."""
        try:
            parts = urlsplit(to)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{to}: {error}") from None
        scheme, host = parts.scheme.lower(), parts.hostname or ""
        if scheme not in {"mllp", "mllps", "dicom", "http", "https"}:
            raise ValueError(f"{to}: begins with mllp://, mllps://, dicom://, http:// or https://")
        if not host:
            raise ValueError(f"{to}: has no host")
        if port is None:
            port = {"http": 80, "https": 443, "dicom": 104}.get(scheme)
        if port is None:
            raise ValueError(f"{to}: has no port")
        # The host name is case-insensitive, an AE title is not: it is taken from the text.
        called = parts.netloc.rpartition("@")[0] if scheme == "dicom" else ""
        if scheme == "dicom":
            called = called or "ECLUSE"
            for title in (called, calling):
                if _AET.fullmatch(title) is None:
                    raise ValueError(f"{title!r} is no AE title (1 to 16 characters)")
        path = parts.path if parts.path not in {"", "/"} else CDA_PATH
        url = urlunsplit((scheme, parts.netloc, path, parts.query, ""))
        return cls(
            scheme=scheme, host=host, port=port, url=url, called=called, calling=calling,
            token_file=token_file, timeout_seconds=timeout_seconds,
        )  # fmt: skip


def answers(peer: Peer, files: Sequence[Path]) -> Iterator[tuple[int, Answer]]:
    """Send the files one after the other; each answer with the number of files done.

    Raises ConnectionError when nobody is there at the first message, ``adapters.tls.TlsUnusable``
    when the files of TLS cannot be used.
    """
    send = {"mllp": _mllp, "mllps": _mllp, "dicom": _dicom}.get(peer.scheme, _http)
    return send(peer, files)


# --- HL7 v2 -----------------------------------------------------------------------


def _mllp(peer: Peer, files: Sequence[Path]) -> Iterator[tuple[int, Answer]]:
    from adapters.hl7.answer import control_id_of
    from adapters.hl7.sender import read_messages
    from gateway.ports import Unreadable

    sender = _MllpSender(peer)
    try:
        for number, path in enumerate(files, 1):
            index = 0
            try:
                for index, message in enumerate(read_messages(path), 1):
                    told = _Told(
                        str(path), index, control_id_of(message).decode("utf-8", "replace")
                    )
                    yield number, sender.send(message, told)
            except (Unreadable, OSError) as fault:
                if isinstance(fault, ConnectionError) and not sender.reached:
                    raise
                yield number, _answer(path, index + 1, "", "", f"not sent: {_said(fault)}")
            if index == 0 and path.stat().st_size == 0:
                yield number, _answer(path, 1, "", "", "not sent: the file is empty")
    finally:
        sender.close()


@dataclass(frozen=True, slots=True)
class _Told:
    """Which message it is, for people."""

    file: str
    index: int
    control_id: str

    def __str__(self) -> str:
        place = f"{self.file}#{self.index}" if self.index > 1 else self.file
        return f"{place} ({self.control_id})" if self.control_id else place


class _MllpSender:
    """Sends messages one after the other, and again only where that was asked for and is told."""

    def __init__(self, peer: Peer) -> None:
        from adapters.hl7.sender import MllpClient

        self._peer = peer
        self.reached = False
        self._runner = asyncio.Runner()
        self._client = MllpClient(
            peer.host,
            peer.port,
            timeout_seconds=peer.timeout_seconds,
            tls=_client_context(peer),
            server_name=peer.tls.server_name if peer.tls is not None else "",
            on_pause=self._pause,
        )

    def close(self) -> None:
        """Close the connection."""
        self._runner.run(self._client.close())
        if self._client.strays:
            count = self._client.strays
            say(f"{count} {plural(count, 'answer')} came that belonged to no message in hand")
        self._runner.close()

    def send(self, message: bytes, told: _Told) -> Answer:
        """One message until it is answered or the resends are used up.

        Raises ConnectionError when nobody is there at the first one.
        """
        from adapters.hl7.sender import NoAnswer

        for attempt in range(1, self._peer.resend + 2):
            try:
                return self._exchanged(message, told, attempt)
            except NoAnswer as error:
                said = str(error)
                self._reach()
                if attempt <= self._peer.resend:
                    say(f"sent again ({attempt + 1}): {told}: {said}")
            except ValueError as error:
                return _failed(told, f"not sent: {error}", attempt - 1)
            except OSError as error:
                if not self.reached:
                    raise ConnectionError(_connect_fault(error)) from None
                sent_before = attempt - 1
                prefix = "not sent again" if sent_before else "not sent"
                return _failed(told, f"{prefix}: {_connect_fault(error)}", sent_before)
        return _failed(told, said, self._peer.resend + 1)

    def _exchanged(self, message: bytes, told: _Told, attempt: int) -> Answer:
        from adapters.hl7.answer import read_answer
        from gateway.ports import Unreadable

        exchange = self._runner.run(
            self._client.exchange(message, application=self._peer.application)
        )
        self._reach()
        common = {"file": told.file, "index": told.index, "control_id": told.control_id,
                  "attempts": attempt}  # fmt: skip
        if not exchange.answers:
            return Answer(**common, code="", answered=True, accepted=True, silent=True)  # type: ignore[arg-type]
        try:
            read = [read_answer(each) for each in exchange.answers]
        except Unreadable as fault:
            said = f"an answer that cannot be read: {fault}"
            return Answer(**common, code="", answered=False, accepted=False, error=said)  # type: ignore[arg-type]
        last = read[-1]
        error = last.said
        if exchange.missing:
            error = "the application acknowledgement did not come"
        return Answer(
            **common,  # type: ignore[arg-type]
            code=last.code,
            commit_code=read[0].code if len(read) > 1 else "",
            answered=bool(last.code) and not exchange.missing,
            accepted=last.positive and not exchange.missing,
            error=error[:ERROR_MAX] if not last.positive or exchange.missing else "",
            location=last.location,
            notes=tuple(f"{n.severity} {n.code} {n.location} {n.text}".strip()[:ERROR_MAX]
                        for n in last.errors[:NOTES_MAX]),
        )  # fmt: skip

    def _reach(self) -> None:
        """From now on a connection that cannot be made is tried for some time."""
        from adapters.hl7.sender import Reconnect

        self.reached = True
        self._client.reconnect = Reconnect(within_seconds=self._peer.reconnect_seconds)

    def _pause(self, error: OSError, seconds: float) -> None:
        say(f"no connection ({_connect_fault(error)}); trying again in {seconds:.1f} s")


def _client_context(peer: Peer) -> ssl.SSLContext | None:
    from adapters.tls import client_context

    return client_context(peer.tls) if peer.tls is not None else None


def _failed(told: _Told, error: str, attempts: int) -> Answer:
    return Answer(
        file=told.file, index=told.index, control_id=told.control_id, code="", answered=False,
        accepted=False, error=error[:ERROR_MAX], attempts=attempts,
    )  # fmt: skip


def _connect_fault(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the receiver's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        words = (error.reason or "").lower().replace("_", " ")
        return f"TLS: {words or 'the handshake failed'}"
    return _said(error)


def read_acknowledgement(answer: bytes) -> tuple[str, str]:
    """MSA-1, and the error text of an acknowledgement: ERR-8, ERR-7, ERR-3 or MSA-3."""
    from adapters.hl7.answer import read_answer
    from gateway.ports import Unreadable

    try:
        found = read_answer(answer)
    except Unreadable as fault:
        return "", f"an answer that cannot be read: {fault}"
    return found.code, found.said


# --- DICOM and CDA -------------------------------------------------------------------


def _dicom(peer: Peer, files: Sequence[Path]) -> Iterator[tuple[int, Answer]]:
    from adapters.dicom.sender import send_files

    results = send_files(
        peer.host, peer.port, peer.called, peer.calling, files,
        timeout_seconds=peer.timeout_seconds,
    )  # fmt: skip
    for number, sent in enumerate(results, 1):
        code = f"0x{sent.status:04X}" if sent.status is not None else ""
        control_id = _sop_instance(sent.path)
        yield number, _answer(sent.path, 1, control_id, code, sent.reason, accepted=sent.accepted)


def _sop_instance(path: Path) -> str:
    from adapters.dicom.part10 import NotPart10, read_file_meta

    try:
        with path.open("rb") as stream:
            return read_file_meta(stream, path.stat().st_size).sop_instance
    except (NotPart10, OSError):
        return ""


def _http(peer: Peer, files: Sequence[Path]) -> Iterator[tuple[int, Answer]]:
    import httpx2

    from adapters.cda.sender import CONNECT_SECONDS, post_file
    from gateway.api.security import read_token

    headers = {}
    if peer.token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(peer.token_file)}"
    timeout = httpx2.Timeout(peer.timeout_seconds, connect=CONNECT_SECONDS)
    reached = False
    with httpx2.Client(timeout=timeout, headers=headers, follow_redirects=False) as client:
        for number, path in enumerate(files, 1):
            try:
                status, body = post_file(peer.url, path, client=client)
            except httpx2.ConnectError as error:
                if not reached:
                    raise ConnectionError(_said(error)) from None
                yield number, _answer(path, 1, "", "", f"not sent: {_said(error)}")
            except (httpx2.HTTPError, OSError) as error:
                yield number, _answer(path, 1, "", "", f"no answer: {_said(error)}")
            else:
                reached = True
                control_id, error_text = _http_words(status, body)
                accepted = 200 <= status < 300
                yield number, _answer(path, 1, control_id, str(status), error_text,
                                      accepted=accepted)  # fmt: skip


def _http_words(status: int, body: bytes) -> tuple[str, str]:
    """Control id and error text of an HTTP answer, as far as it is JSON."""
    try:
        found = json.loads(body)
    except ValueError:
        return "", "" if status < 300 else body[:ERROR_MAX].decode("utf-8", "replace").strip()
    if not isinstance(found, dict):
        return "", ""
    error = "" if status < 300 else str(found.get("detail") or found.get("title") or "")
    return str(found.get("control_id") or ""), error


def _answer(
    path: Path, index: int, control_id: str, code: str, error: str, *, accepted: bool = False
) -> Answer:
    return Answer(
        file=str(path), index=index, control_id=control_id, code=code, answered=bool(code),
        accepted=accepted, error=error[:ERROR_MAX],
    )  # fmt: skip


def _said(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__

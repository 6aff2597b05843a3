"""What ``ecluse send`` does for each protocol: bytes out, one answer back per message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from adapters.tls import ClientTlsSettings

_AET = re.compile(r"[ -\[\]-~]{1,16}")
"""An AE title: up to 16 characters without backslash and controls (PS3.5 6.2, VR AE)."""
INTAKES = {
    "cda": ("/intake/cda", "application/xml"),
    "hl7": ("/intake/hl7", "application/hl7-v2"),
    "hprim": ("/intake/hprim", "text/plain"),
    "xdm": ("/intake/xdm", "application/zip"),
}
"""Where a file of a format goes when the address has no path, and its type."""
SCHEMES = ("mllp", "mllps", "mllp2", "mllp2s", "dicom", "http", "https")
ERROR_MAX = 500


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
    def over_mllp(self) -> bool:
        """Is it MLLP, of any release, with TLS or without?"""
        return self.scheme.startswith("mllp")

    @property
    def release(self) -> int:
        """Of MLLP."""
        return 2 if self.scheme.startswith("mllp2") else 1

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
        if scheme not in SCHEMES:
            *most, last = (f"{each}://" for each in SCHEMES)
            raise ValueError(f"{to}: begins with {', '.join(most)} or {last}")
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
        path = "" if parts.path == "/" else parts.path
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
    from gateway.cli.mllp_delivery import mllp_answers

    if peer.over_mllp:
        return mllp_answers(peer, files)
    return _dicom(peer, files) if peer.scheme == "dicom" else _http(peer, files)


# --- DICOM and HTTP ------------------------------------------------------------------


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

    from adapters.doors.sender import CONNECT_SECONDS, post_file
    from gateway.api.security import read_token

    headers = {}
    if peer.token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(peer.token_file)}"
    timeout = httpx2.Timeout(peer.timeout_seconds, connect=CONNECT_SECONDS)
    reached = False
    with httpx2.Client(timeout=timeout, headers=headers, follow_redirects=False) as client:
        for number, path in enumerate(files, 1):
            try:
                intake, media_type = INTAKES[_kind_of(path)]
                url = peer.url if urlsplit(peer.url).path else _with_path(peer.url, intake)
                status, body = post_file(url, path, media_type=media_type, client=client)
            except httpx2.ConnectError as error:
                if not reached:
                    raise ConnectionError(_said(error)) from None
                yield number, _answer(path, 1, "", "", f"not sent: {_said(error)}")
            except (httpx2.HTTPError, OSError) as error:
                yield number, _answer(path, 1, "", "", f"no answer: {_said(error)}")
            else:
                reached = True
                for index, told in enumerate(_http_answers(status, body), 1):
                    control_id, code, error_text, accepted = told
                    yield number, _answer(path, index, control_id, code, error_text,
                                          accepted=accepted)  # fmt: skip


def _kind_of(path: Path) -> str:
    """Which intake a file is for, by its beginning."""
    from adapters.hprim.reception import is_hprim

    with path.open("rb") as stream:
        head = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PK\x03\x04"):
        return "xdm"
    if head.startswith((b"MSH", b"FHS", b"BHS", b"\x0b")):
        return "hl7"
    return "hprim" if is_hprim(path) else "cda"


def _with_path(url: str, path: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _http_answers(status: int, body: bytes) -> Iterator[tuple[str, str, str, bool]]:
    """Control id, code, error text and whether it was accepted, for each message of a file.

    HL7 over HTTP answers with acknowledgements; a file of several messages may have
    an entry for each of them in JSON; all else is one answer.
    """
    from adapters.hl7.batch import parts

    acknowledgements = [part for part in parts(body) if part.name == "MSH"]
    for part in acknowledgements:
        yield _acknowledged(body[part.begin : part.end])
    if acknowledgements:
        return
    listed = _several(body)
    for told in listed:
        refused = told.get("disposition") == "refused"
        error = str(told.get("detail") or told.get("cause") or "") if refused else ""
        yield str(told.get("control_id") or ""), str(status), error, not refused
    if not listed:
        control_id, error_text = _http_words(status, body)
        yield control_id, str(status), error_text, 200 <= status < 300


def _acknowledged(answer: bytes) -> tuple[str, str, str, bool]:
    from adapters.hl7.message import Message
    from gateway.cli.mllp_delivery import read_acknowledgement
    from gateway.ports import Unreadable

    code, error = read_acknowledgement(answer)
    try:
        message = Message.read(answer, encoding="8859/1")
        control_id = message.text(message.positions("MSA")[0], 2)
    except (Unreadable, IndexError):
        control_id = ""
    return control_id, code, error, code in {"AA", "CA"}


def _several(body: bytes) -> list[dict[str, object]]:
    try:
        found = json.loads(body)
    except ValueError:
        return []
    listed = found.get("messages") if isinstance(found, dict) else None
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


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

"""HTTP with one server, one exchange at a time, none longer than its deadline.

A timeout of the client library bounds one read; a server that sends a byte now and then keeps
it waiting for ever. So a watch shuts the socket when the time of the whole attempt is over.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import httpx2

from adapters.tls import ClientTlsSettings, TlsUnusable, client_context

ANSWER_BYTES_MAX = 16 << 20
"""A transaction's answer has a line or two for each entry; a larger one is none."""
_BLOCK_BYTES = 1 << 16
_CREDENTIAL_BYTES_MAX = 16 << 10


class ServerSettings(Protocol):
    """What must be known of a server: times are in seconds; ``timeout_seconds`` is that of a
    whole attempt; ``token_file`` and ``password_file`` hold a credential in their first line."""

    @property
    def url(self) -> str: ...
    @property
    def timeout_seconds(self) -> float: ...
    @property
    def connect_timeout_seconds(self) -> float: ...
    @property
    def tls(self) -> ClientTlsSettings | None: ...
    @property
    def token_file(self) -> Path | None: ...
    @property
    def username(self) -> str: ...
    @property
    def password_file(self) -> Path | None: ...


class NotSent(Exception):
    """The server cannot have what was to be sent: it was never reached. Says why."""


class NoAnswer(Exception):
    """Something was sent and no answer came; what became of it is not known. Says why."""


class Unusable(Exception):
    """Our own credentials or certificates cannot be used. Says which file and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Line:
    """One connection to a server, opened when needed and kept. Belongs to one thread."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._files: tuple[object, ...] = ()
        self._client: httpx2.Client | None = None
        self._socket: socket.socket | None = None
        self._deadline = 0.0

    def begin(self) -> None:
        """The time of an attempt begins."""
        self._deadline = time.monotonic() + self._settings.timeout_seconds

    def left(self) -> float:
        """Seconds that the attempt may still take."""
        return self._deadline - time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        client, self._client, self._socket = self._client, None, None
        if client is not None:
            client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its answer; ``path`` stands after the base URL.

        Redirects are not followed. Raises NotSent, NoAnswer, Unusable.
        """
        if self.left() <= 0:
            raise NotSent("no time was left for it")
        client = self._opened()
        given = {**(headers or {}), **self._credentials()}
        watch = threading.Timer(self.left(), self._shut)
        watch.daemon = True
        watch.start()
        try:
            return self._exchange(client, method, path, content, given)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise NotSent(_said(error)) from None
        except (httpx2.HTTPError, OSError) as error:
            self.close()
            raise NoAnswer(_said(error)) from None
        finally:
            watch.cancel()

    def _exchange(
        self,
        client: httpx2.Client,
        method: str,
        path: str,
        content: bytes | Iterable[bytes],
        headers: Mapping[str, str],
    ) -> Answer:
        left = max(self.left(), 0.001)
        timeout = httpx2.Timeout(left, connect=min(left, self._settings.connect_timeout_seconds))
        url = f"{self._settings.url}/{path}" if path else self._settings.url
        with client.stream(
            method,
            url,
            content=content or None,
            headers=dict(headers),
            timeout=timeout,
            extensions=self._extensions(),
        ) as answer:
            body = bytearray()
            for block in answer.iter_bytes(_BLOCK_BYTES):
                body += block
                if len(body) > ANSWER_BYTES_MAX:
                    raise httpx2.ReadError("the answer is too large")
                if self.left() <= 0:
                    raise httpx2.ReadTimeout("the answer took too long")
            found = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status_code, found, bytes(body))

    # --- the connection ---------------------------------------------------------------

    def _opened(self) -> httpx2.Client:
        files = _signature(self._settings.tls)
        if self._client is not None and files == self._files:
            return self._client
        self.close()
        verify: Any = True
        if self._settings.url.startswith("https:"):
            try:
                verify = client_context(self._settings.tls or ClientTlsSettings())
            except TlsUnusable as error:
                raise Unusable(str(error)) from None
        self._files = files
        self._client = httpx2.Client(
            verify=verify,
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
        )
        return self._client

    def _extensions(self) -> dict[str, Any]:
        name = self._settings.tls.server_name if self._settings.tls is not None else ""
        return {"trace": self._trace, **({"sni_hostname": name} if name else {})}

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    def _shut(self) -> None:
        held = self._socket
        if held is not None:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def _credentials(self) -> dict[str, str]:
        settings = self._settings
        if settings.token_file is not None:
            return {"Authorization": f"Bearer {_first_line(settings.token_file)}"}
        if settings.password_file is not None:
            pair = f"{settings.username}:{_first_line(settings.password_file)}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}


def blocks(data: bytes) -> Iterator[bytes]:
    """A body in blocks, so that each has a time of its own."""
    view = memoryview(data)
    for start in range(0, len(data), _BLOCK_BYTES):
        yield bytes(view[start : start + _BLOCK_BYTES])


def stream_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """The same for a body that lies in a file."""
    while block := stream.read(_BLOCK_BYTES):
        yield block


def _first_line(path: os.PathLike[str]) -> str:
    try:
        with open(path, encoding="utf-8") as stream:  # noqa: PTH123 - of any path
            line = stream.readline(_CREDENTIAL_BYTES_MAX).strip()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise Unusable(f"{os.fspath(path)}: {said}") from None
    if not line or not line.isprintable():
        raise Unusable(f"{os.fspath(path)}: its first line is no credential")
    return line


def _signature(tls: ClientTlsSettings | None) -> tuple[object, ...]:
    """What changes when a file of TLS is written or replaced."""
    if tls is None:
        return (None,)
    found: list[object] = []
    for path in (tls.ca, tls.certificate, tls.key):
        try:
            status = path.stat() if path is not None else None
        except OSError:
            status = None
        found.append(status and (status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _said(error: Exception) -> str:
    """What went wrong, without what the server sent: that may quote a patient."""
    text = str(error) if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)) else ""
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__

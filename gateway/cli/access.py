"""How commands reach the journal: read-only beside a running gateway, through its HTTP address
when they change something, or directly when nothing runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import httpx2

    from gateway.journal.journal import Journal
    from gateway.settings import Settings

STATUS_FILE = "gateway.json"
_STATUS_BYTES_MAX = 1 << 20
REQUEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that runs on this state folder: its process, its HTTP address, its sources,
    and its last reading of the configuration (see ``GET /api/v1/configuration``)."""

    pid: int
    http: str
    sources: dict[str, str]
    configuration: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where to ask it. One that listens everywhere is asked on the loopback."""
        host, _, port = self.http.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
        return f"http://{host}:{port}"


def running(settings: Settings) -> Running | None:
    """The gateway that ``<state>/gateway.json`` names, if its process is alive."""
    path = settings.state / STATUS_FILE
    try:
        if path.stat().st_size > _STATUS_BYTES_MAX:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        pid, http = int(found["pid"]), str(found["http"])
        sources = {str(name): str(at) for name, at in found.get("sources", {}).items()}
        configuration = dict(found.get("configuration", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Running(pid, http, sources, configuration) if _alive(pid) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def reading(settings: Settings) -> Iterator[Journal]:
    """The journal, to be read only; works while a gateway runs.

    Raises JournalUnavailable when there is none yet or it cannot be reached.
    """
    from gateway.opening import open_journal

    log_to_standard_error(settings)
    journal = open_journal(settings, read_only=True)
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def writing(settings: Settings) -> Iterator[Journal]:
    """The journal, to be changed by this process. Raises JournalInUse while a gateway runs."""
    from gateway.opening import open_journal

    log_to_standard_error(settings)
    journal = open_journal(settings, read_only=False)
    try:
        yield journal
    finally:
        journal.close()


def account() -> str:
    """Who acts from the command line: the system's account."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "command line"


def log_to_standard_error(settings: Settings) -> None:
    """Keep log lines off standard output, which is for data; only warnings and errors."""
    from gateway import telemetry

    telemetry.configure("error" if settings.log.level == "error" else "warning")


class Refused(Exception):
    """The running gateway did not do what it was asked. ``status`` is the HTTP status,
    ``told`` the rest of what it answered."""

    def __init__(self, status: int, detail: str, told: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.told = told or {}


def ask(
    settings: Settings,
    gateway: Running,
    path: str,
    *,
    json_body: Any = None,
    content: bytes | None = None,
    parameters: dict[str, str] | None = None,
    method: str = "POST",
    seconds: float = REQUEST_SECONDS,
) -> Any:
    """Ask the running gateway's API; the JSON that it answers within so many seconds.

    Raises Refused when it answers with an error and ConnectionError when it does not answer.
    """
    import httpx2

    from gateway.api.security import read_token

    headers = {"Accept": "application/json"}
    if settings.http.token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(settings.http.token_file)}"
    if content is not None:
        headers["Content-Type"] = "application/octet-stream"
    try:
        answer = httpx2.request(
            method, f"{gateway.url}/api/v1{path}", json=json_body, content=content,
            params=parameters, headers=headers, timeout=seconds,
        )  # fmt: skip
    except httpx2.HTTPError as error:
        raise ConnectionError(f"{gateway.http}: {type(error).__name__}") from None
    try:
        body = answer.json()
    except ValueError:
        body = {"detail": answer.text[:200]}
    if answer.status_code >= 400:
        detail = body.get("detail") if isinstance(body, dict) else None
        told = body if isinstance(body, dict) else None
        raise Refused(answer.status_code, str(detail or f"HTTP {answer.status_code}"), told)
    return body


def fetch(
    settings: Settings, gateway: Running, path: str, parameters: dict[str, str], stream: BinaryIO
) -> None:
    """GET a file from the running gateway's API into a stream.

    Raises Refused when it answers with an error, ConnectionError when it does not answer,
    OSError when the stream cannot be written.
    """
    import httpx2

    from gateway.api.security import read_token

    headers = {}
    if settings.http.token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(settings.http.token_file)}"
    address = f"{gateway.url}/api/v1{path}"
    try:
        with httpx2.stream(
            "GET", address, params=parameters, headers=headers, timeout=REQUEST_SECONDS
        ) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise Refused(answer.status_code, _detail(answer))
            for block in answer.iter_bytes():
                stream.write(block)
    except httpx2.HTTPError as error:
        raise ConnectionError(f"{gateway.http}: {type(error).__name__}") from None


def _detail(answer: httpx2.Response) -> str:
    """What an answer says of an error; whoever answered may be no gateway."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    detail = found.get("detail") if isinstance(found, dict) else None
    return str(detail or f"HTTP {answer.status_code}")


def read_bounded(path: Path, limit: int) -> bytes:
    """A file's bytes. Raises ValueError when there are more than ``limit``, OSError otherwise."""
    with path.open("rb") as stream:
        found = stream.read(limit + 1)
    if len(found) > limit:
        raise ValueError(f"{path}: larger than {limit} bytes")
    return found

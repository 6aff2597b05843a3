"""The gate in front of every HTTP route: host, credentials, origin, size, headers.

Lessons of other gateways' published faults hold here: nothing is parsed before the
credentials were compared; a browser's page of another site can neither read (Host is
checked, so a name that an attacker points to the loopback is refused) nor act (Origin and
Sec-Fetch-Site are checked on every method but GET and HEAD); a body has a limit before it
is read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.cda.rendering.page import policy as rendering_policy

log = structlog.get_logger("ecluse.http")

OPEN_PATHS = frozenset({"/livez", "/readyz"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BODY_BYTES_MAX = 2 << 20
REPAIR_BYTES_MAX = 64 << 20
SET_BYTES_MAX = 16 << 20
"""Of a packed set of mapping files."""
TOKEN_BYTES_MAX = 4096
REFUSAL_SECONDS = 0.3
"""How long the answer to wrong credentials takes, so that guessing is slow."""

CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
DOCUMENT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"
)
"""For a patient's documents: no script, no network, an origin of their own."""
PDF_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'; frame-ancestors 'self'"
)
"""Chromium's PDF viewer does not start in a sandboxed frame; it runs no script of the page."""

_SET_PATHS = frozenset({"/api/v1/mappings/check", "/api/v1/mappings/deploy"})
_REPAIR_PATH = re.compile(r"/api/v1/dead-letters/\d+/(replay|entries)")
_INTAKE_PREFIX = "/intake/"
_STORE_PREFIX = "/dicomweb/"
_DOCUMENT_PREFIX = "/fhir/Binary/"
_DROP_PATH = "/documents"
_RENDERED = re.compile(r"/documents/.+/(?:(rendering)|pdf/\d+)")
_ACTOR = re.compile(r"[\w.@-]{1,64}")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class TokenUnusable(Exception):
    """The token file cannot be used. The message names the file, never its content."""


def read_token(path: Path) -> str:
    """The first line of the token file. Raises TokenUnusable when there is none."""
    try:
        with path.open("rb") as stream:
            first = stream.readline(TOKEN_BYTES_MAX + 1).rstrip(b"\r\n")
    except OSError as error:
        raise TokenUnusable(f"{path}: cannot be read: {error.strerror}") from None
    if not first or len(first) > TOKEN_BYTES_MAX:
        raise TokenUnusable(f"{path}: the first line must hold the token")
    try:
        return first.decode("utf-8")
    except UnicodeDecodeError:
        raise TokenUnusable(f"{path}: the token must be UTF-8") from None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the gate asks for.

    ``token`` None means that no credentials are wanted. ``hosts`` None means that any
    Host will do (the address is not a loopback one, so a token is wanted and a browser
    does not send it to a page of another name).
    """

    token: str | None
    hosts: frozenset[str] | None
    body_bytes_max: int = BODY_BYTES_MAX
    secret: bytes = field(init=False, repr=False, default=b"")

    def __post_init__(self) -> None:
        object.__setattr__(self, "secret", _digest(self.token or ""))


def policy_for(listen: str, token: str | None) -> Policy:
    """The policy of an address: a loopback one answers to its own names only."""
    host = listen.rsplit(":", 1)[0].strip("[]")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return Policy(token=token, hosts=_LOOPBACK_NAMES | {host} if loopback else None)


class Gate:
    """ASGI middleware that holds the policy; see the module."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self.app = app
        self.policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        guarded = _Guarded(scope, receive, send, self._body_limit(scope["path"]))
        refusal = await self._refusal(scope)
        try:
            if refusal is not None:
                await refusal(scope, guarded.receive, guarded.send)
            else:
                await self.app(scope, guarded.receive, guarded.send)
        except _BodyTooLarge:
            if not guarded.answered:
                answer = PlainTextResponse("The body is too large.\n", 413, {"Connection": "close"})
                await answer(scope, receive, guarded.send)
        finally:
            self._report(scope, guarded.status, time.monotonic() - started)

    def _body_limit(self, path: str) -> int | None:
        if path.startswith((_INTAKE_PREFIX, _STORE_PREFIX)):
            return None  # the source has a limit of its own, and keeps the evidence
        if path in _SET_PATHS:
            return SET_BYTES_MAX
        if path == _DROP_PATH:
            return REPAIR_BYTES_MAX
        return REPAIR_BYTES_MAX if _REPAIR_PATH.fullmatch(path) else self.policy.body_bytes_max

    async def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.policy.hosts is not None and _name(host) not in self.policy.hosts:
            return PlainTextResponse("This address answers to its own name only.\n", 421)
        state = scope.setdefault("state", {})
        state["actor"] = "local"
        if self.policy.token is not None and scope["path"] not in OPEN_PATHS:
            actor = self._actor(headers.get("authorization"))
            if actor is None:
                if "authorization" in headers:
                    await asyncio.sleep(REFUSAL_SECONDS)
                return PlainTextResponse(
                    "Credentials are needed.\n", 401,
                    {"WWW-Authenticate": 'Basic realm="Ecluse", charset="UTF-8", Bearer'},
                )  # fmt: skip
            state["actor"] = actor
        if scope["method"] not in SAFE_METHODS and not _same_origin(headers, host):
            return PlainTextResponse("A page of another site may not do this.\n", 403)
        limit = self._body_limit(scope["path"])
        length = headers.get("content-length", "0")
        if limit is not None and (not length.isdecimal() or int(length) > limit):
            return PlainTextResponse("The body is too large.\n", 413, {"Connection": "close"})
        return None

    def _actor(self, authorization: str | None) -> str | None:
        """Who the credentials name; None when they are not the token."""
        scheme, _, value = (authorization or "").partition(" ")
        user, given = "", ""
        if scheme.lower() == "bearer":
            given = value.strip()
        elif scheme.lower() == "basic":
            try:
                decoded = base64.b64decode(value.strip(), validate=True).decode("utf-8")
            except (binascii.Error, UnicodeDecodeError):
                return None
            user, _, given = decoded.partition(":")
        if not given or not hmac.compare_digest(_digest(given), self.policy.secret):
            return None
        return user if _ACTOR.fullmatch(user) else "token"

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        template = getattr(route, "path", "") or _room(scope["path"])
        level = log.debug if scope["method"] in SAFE_METHODS and status < 500 else log.info
        # The path itself may hold an identifier of a patient; its template does not.
        level(
            "answered", method=scope["method"], path_template=template, status=status,
            duration_seconds=round(seconds, 6), actor=scope.get("state", {}).get("actor"),
        )  # fmt: skip


def _room(path: str) -> str:
    """The first part of a path whose route has no template of its own; closed, for labels."""
    first = path.strip("/").partition("/")[0]
    return f"/{first}" if first == "fhir" else "none"


class _BodyTooLarge(Exception):
    pass


class _Guarded:
    """Counts the body as it comes and adds the headers as the answer goes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int | None) -> None:
        self.scope = scope
        self.inner_receive = receive
        self.inner_send = send
        self.left = limit
        self.answered = False
        self.status = 0

    async def receive(self) -> Message:
        message = await self.inner_receive()
        if self.left is not None and message["type"] == "http.request":
            self.left -= len(message.get("body", b""))
            if self.left < 0:
                raise _BodyTooLarge
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answered = True
            self.status = message["status"]
            _protect(MutableHeaders(scope=message), self.scope["path"])
        await self.inner_send(message)


def _protect(headers: MutableHeaders, path: str) -> None:
    rendered = _RENDERED.fullmatch(path)
    document = path.startswith(_DOCUMENT_PREFIX) or rendered is not None
    pdf = document and headers.get("content-type", "").split(";")[0].strip() == "application/pdf"
    if rendered is not None and rendered[1] is not None:
        headers["Content-Security-Policy"] = rendering_policy()
    else:
        headers["Content-Security-Policy"] = (
            PDF_POLICY if pdf else DOCUMENT_POLICY if document else CONSOLE_POLICY
        )
    headers["X-Frame-Options"] = "SAMEORIGIN" if document else "DENY"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Cache-Control", "no-store")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


def _name(host: str) -> str:
    """The name of a Host header, without its port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rsplit(":", 1)[0].lower() if host.count(":") == 1 else host.lower()


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a request comes from our own page or from no page at all (curl, the CLI)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()

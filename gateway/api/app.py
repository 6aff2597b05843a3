"""What a gateway answers over HTTP, behind one gate: its health at once, the rest when it is asked.

FastAPI, and the routes that are made with it, take longer to load than the gateway to start.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.door_metrics import DoorCollector
from gateway.api.health import PATHS, Health
from gateway.api.metrics import Exposition
from gateway.api.security import Gate, policy_for, read_token

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway


def build(gateway: Gateway) -> Starlette:
    """The application of one gateway. Raises ``security.TokenUnusable``."""
    settings = gateway.settings
    token = read_token(settings.http.token_file) if settings.http.token_file else None
    health = Health(gateway, Exposition(gateway.journal, DoorCollector(gateway)))
    return Starlette(
        routes=[Route(path, answer) for path, answer in health.answers().items()],
        middleware=[
            Middleware(Gate, policy=policy_for(settings.http.listen, token)),
            Middleware(_Later, gateway=gateway, health=health),
        ],
    )


class _Later:
    """ASGI middleware: all but the health goes to an application that is made when it is needed."""

    def __init__(self, app: ASGIApp, gateway: Gateway, health: Health) -> None:
        self._app = app
        self._gateway = gateway
        self._health = health
        self._application: ASGIApp | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["path"] in PATHS:
            await self._app(scope, receive, send)
            return
        made = self._application
        if made is None:
            made = await asyncio.to_thread(self._made)
        await made(scope, receive, send)

    def _made(self) -> ASGIApp:
        with self._lock:  # another request may want it too
            if self._application is None:
                from gateway.api.application import application

                self._application = application(self._gateway, self._health)
            return self._application

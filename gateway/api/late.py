"""Routes that are made when somebody first asks for one of them.

FastAPI looks at every parameter of every route when it makes it. For the console and the whole
of the REST interface that is a good part of a gateway's start, and a gateway that only takes
messages is asked for none of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

DESCRIPTION = "/openapi.json"
"""Describes all routes, so that all of them must be there."""


@dataclass(frozen=True)
class Part:
    """Routes that stand below ``prefix``. ``make`` gives them and is called once, in a thread;
    no part has a route that one of another part would answer."""

    prefix: str
    make: Callable[[], Iterable[APIRouter]]


class LateRoutes:
    """ASGI middleware that makes the parts of ``application`` for the request that needs them.

    ``rest`` is what answers below none of the prefixes, those ``present`` from the beginning
    included.
    """

    def __init__(
        self,
        app: ASGIApp,
        application: FastAPI,
        *,
        present: Sequence[str],
        parts: Sequence[Part],
        rest: Callable[[], Iterable[APIRouter]],
    ) -> None:
        self._app = app
        self._application = application
        self._prefixes = (*present, *(part.prefix for part in parts))
        self._rest = Part("", rest)
        self._waiting = (*parts, self._rest)
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the routes made if they are not there, then pass the request on."""
        if self._waiting and scope["type"] == "http" and self._wanted(scope["path"]):
            await asyncio.to_thread(self._make, scope["path"])
        await self._app(scope, receive, send)

    def _wanted(self, path: str) -> list[Part]:
        """What waits and may answer a request for this path."""
        if path == DESCRIPTION:
            return list(self._waiting)
        rest = not path.startswith(self._prefixes)
        return [
            part
            for part in self._waiting
            if (rest if part is self._rest else path.startswith(part.prefix))
        ]

    def _make(self, path: str) -> None:
        with self._lock:  # another request may have wanted the same
            for part in self._wanted(path):
                made = [route for router in part.make() for route in router.routes]
                # To include a router would have every route looked at a second time.
                self._application.routes.extend(made)
                self._waiting = tuple(each for each in self._waiting if each is not part)

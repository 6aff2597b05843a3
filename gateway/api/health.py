"""``/livez``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.api.metrics import Exposition
from gateway.journal.faults import JournalUnavailable

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

PATHS = ("/livez", "/readyz", "/metrics")


class Health:
    """What machines ask for, of one gateway."""

    def __init__(self, gateway: Gateway, exposition: Exposition) -> None:
        self._gateway = gateway
        self._exposition = exposition

    def answers(self) -> dict[str, Callable[[Request], Any]]:
        """What answers at each of the ``PATHS``."""
        return dict(zip(PATHS, (self.livez, self.readyz, self.metrics), strict=True))

    async def livez(self, request: Request) -> Response:  # noqa: ARG002
        """The process answers. Nothing else is looked at."""
        return PlainTextResponse("ok\n")

    def readyz(self, request: Request) -> Response:
        """200 when messages can be taken, else 503; ``?verbose`` says what is missing.

        A destination that is away is no reason: that is what the queue is for.
        """
        found = self._gateway.ready()
        ready = all(found.values())
        status = 200 if ready else 503
        if "verbose" in request.query_params:
            return JSONResponse({"ready": ready, "checks": found}, status)
        return PlainTextResponse("ok\n" if ready else "not ready\n", status)

    def metrics(self, request: Request) -> Response:  # noqa: ARG002
        """Prometheus' text format."""
        try:
            text = self._exposition.text()
        except JournalUnavailable:
            return PlainTextResponse("The journal does not answer.\n", 503, {"Retry-After": "5"})
        return Response(text, media_type=self._exposition.content_type)

"""``/livez``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.api.metrics import Exposition

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway


def health_routes(gateway: Gateway, exposition: Exposition) -> APIRouter:
    """The routes that machines ask for."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", response_class=PlainTextResponse)
    async def livez() -> Response:
        """The process answers. Nothing else is looked at."""
        return PlainTextResponse("ok\n")

    @router.get("/readyz")
    def readyz(request: Request) -> Response:
        """200 when messages can be taken, else 503; ``?verbose`` says what is missing.

        A destination that is away is no reason: that is what the queue is for.
        """
        found = gateway.ready()
        ready = all(found.values())
        status = 200 if ready else 503
        if "verbose" in request.query_params:
            return JSONResponse({"ready": ready, "checks": found}, status)
        return PlainTextResponse("ok\n" if ready else "not ready\n", status)

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Prometheus' text format."""
        return Response(exposition.text(), media_type=exposition.content_type)

    return router

"""REST for the configuration: what is in force since when, and reading it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, Response

from gateway.configuration import NothingToRead

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")


def configuration_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/configuration`` and ``/api/v1/reload``."""
    router = APIRouter(prefix="/api/v1", tags=["configuration"])
    configuration = gateway.configuration

    @router.get("/configuration")
    def last_reading() -> Any:
        """The last reading of the configuration and what came of it, and where sources listen."""
        return {**configuration.last.shape(), "addresses": gateway.addresses()}

    @router.post("/reload")
    async def reload(request: Request) -> Response:
        """Read the configuration again. 200 when it is in force; 422 with ``problems`` when it
        cannot be used and the former one stays; 409 when there is nothing to read."""
        log.info("a reload is asked for", actor=request.state.actor)
        try:
            reading = await configuration.reload()
        except NothingToRead as error:
            raise HTTPException(409, str(error)) from None
        if reading.in_force:
            return JSONResponse(reading.shape())
        detail = "\n".join(reading.problems)
        return JSONResponse({"detail": detail, **reading.shape()}, 422)

    return router

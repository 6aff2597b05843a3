"""One FastAPI application for all that speaks HTTP; :mod:`gateway.api.app` stands before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from adapters.dicom.web.service import Answered, Service, answered
from gateway.api.health import PATHS as HEALTH
from gateway.api.health import Health
from gateway.api.late import LateRoutes, Part
from gateway.journal.faults import JournalUnavailable
from gateway.release import version

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway
    from gateway.console.context import Console

log = structlog.get_logger("ecluse.http")

ROUTES = ("cda", "hl7", "hprim", "xdm", "xds")
"""The formats that have an HTTP intake; a source of each may come with a reload."""
_MACHINE_PREFIXES = ("/api/", "/fhir/", "/intake/", "/dicomweb/", *HEALTH)


def application(gateway: Gateway, health: Health) -> FastAPI:
    """The application of one gateway."""
    app = FastAPI(
        title="Écluse",
        summary="An open integration gateway to the patient's shared record",
        version=version(),
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        license_info={"name": "Apache-2.0"},
    )
    for path, answer in health.answers().items():
        app.add_api_route(path, answer, response_class=PlainTextResponse, tags=["health"])

    @cache
    def console() -> Console:
        from gateway.console.context import Console

        return Console(gateway)

    app.add_middleware(
        LateRoutes,
        application=app,
        present=HEALTH,
        parts=_parts(gateway),
        rest=lambda: _console(console()),
    )
    _answer_errors(app, console)
    return app


def _parts(gateway: Gateway) -> tuple[Part, ...]:
    """What is for programs, by the prefix below which it stands."""
    return (
        Part("/api/v1/dead-letters", lambda: _desk(gateway)),
        Part("/api/v1/mappings", lambda: _mappings(gateway)),
        Part("/api/v1", lambda: _rest(gateway)),
        Part("/fhir", lambda: _record(gateway)),
        Part("/intake", lambda: _intake(gateway)),
        Part("/dicomweb", lambda: _dicomweb(gateway)),
    )


def _desk(gateway: Gateway) -> Iterator[APIRouter]:
    from gateway.api.dead_letters import dead_letter_routes
    from gateway.api.desk import desk_routes

    yield desk_routes(gateway)
    yield dead_letter_routes(gateway)


def _mappings(gateway: Gateway) -> Iterator[APIRouter]:
    from gateway.api.mappings import mapping_routes
    from gateway.api.reprocessing import reprocessing_routes

    yield reprocessing_routes(gateway)
    yield mapping_routes(gateway)


def _rest(gateway: Gateway) -> Iterator[APIRouter]:
    from gateway.api.configuration import configuration_routes
    from gateway.api.manifests import manifest_routes
    from gateway.api.messages import message_routes
    from gateway.api.purges import purge_routes
    from gateway.api.standing import standing_routes

    for routes in (
        configuration_routes, message_routes, standing_routes, purge_routes, manifest_routes,
    ):  # fmt: skip
        yield routes(gateway)


def _record(gateway: Gateway) -> Iterator[APIRouter]:
    from record.fhir_api import fhir_router

    yield fhir_router(gateway.record, gateway.journal.read)


def _intake(gateway: Gateway) -> Iterator[APIRouter]:
    from adapters.doors.http import current_intake_router

    for route in ROUTES:
        yield current_intake_router(route, gateway.sources.over_http)


def _dicomweb(gateway: Gateway) -> Iterator[APIRouter]:
    from adapters.dicom.web.routes import dicomweb_routes
    from gateway.served_holdings import ServedHoldings

    service = Service(
        ServedHoldings(gateway.holdings, lambda: gateway.settings.holdings),
        gateway.sources.over_dicomweb,
        lambda: gateway.settings.dicomweb,
        gateway.pictures,
    )
    yield dicomweb_routes(service)


def _console(console: Console) -> Iterator[APIRouter]:
    from gateway.console.router import console_routers

    return console_routers(console)


def _answer_errors(app: FastAPI, console: Callable[[], Console]) -> None:
    """Errors as JSON for programs and as a page for people; never with a value of a message."""

    def refused(request: Request, error: HTTPException) -> Response:
        detail = str(error.detail)
        if request.url.path.startswith(_MACHINE_PREFIXES):
            return JSONResponse({"detail": detail}, error.status_code, error.headers)
        return console().error(error.status_code, detail)

    def not_understood(request: Request, error: RequestValidationError) -> Response:
        # The values are left out: a form may hold a message of a patient.
        said = "; ".join(
            f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
            for each in error.errors()[:10]
        )
        if request.url.path.startswith(_MACHINE_PREFIXES):
            return JSONResponse({"detail": said}, 422)
        return console().error(422, said)

    def journal_away(request: Request, error: JournalUnavailable) -> Response:  # noqa: ARG001
        detail = "The journal does not answer. Nothing was changed; try again soon."
        if request.url.path.startswith(_MACHINE_PREFIXES):
            return JSONResponse({"detail": detail}, 503, {"Retry-After": "5"})
        return console().error(503, detail)

    app.add_exception_handler(HTTPException, refused)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, not_understood)  # type: ignore[arg-type]
    app.add_exception_handler(Answered, answered)
    app.add_exception_handler(JournalUnavailable, journal_away)  # type: ignore[arg-type]

"""One FastAPI application for everything that speaks HTTP, behind one gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from adapters.dicom.web.routes import dicomweb_routes
from adapters.dicom.web.service import Answered, Service, answered
from adapters.doors.http import current_intake_router
from gateway.api.configuration import configuration_routes
from gateway.api.dead_letters import dead_letter_routes
from gateway.api.desk import desk_routes
from gateway.api.door_metrics import DoorCollector
from gateway.api.health import health_routes
from gateway.api.manifests import manifest_routes
from gateway.api.mappings import mapping_routes
from gateway.api.messages import message_routes
from gateway.api.metrics import Exposition
from gateway.api.purges import purge_routes
from gateway.api.reprocessing import reprocessing_routes
from gateway.api.security import Gate, policy_for, read_token
from gateway.api.standing import standing_routes
from gateway.console.context import Console
from gateway.console.router import console_router
from gateway.journal.faults import JournalUnavailable
from gateway.release import version
from gateway.served_holdings import ServedHoldings
from record.fhir_api import fhir_router

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")

ROUTES = ("cda", "hl7", "hprim", "xdm", "xds")
"""The formats that have an HTTP intake; a source of each may come with a reload."""
_MACHINE_PREFIXES = ("/api/", "/fhir/", "/intake/", "/dicomweb/", "/metrics", "/livez", "/readyz")


def build(gateway: Gateway) -> FastAPI:
    """The application of one gateway. Raises ``security.TokenUnusable``."""
    settings = gateway.settings
    token = read_token(settings.http.token_file) if settings.http.token_file else None
    app = FastAPI(
        title="Écluse",
        summary="An open integration gateway to the patient's shared record",
        version=version(),
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        license_info={"name": "Apache-2.0"},
    )
    app.add_middleware(Gate, policy=policy_for(settings.http.listen, token))
    exposition = Exposition(gateway.journal, DoorCollector(gateway))
    app.include_router(health_routes(gateway, exposition))
    app.include_router(configuration_routes(gateway))
    app.include_router(message_routes(gateway))
    app.include_router(desk_routes(gateway))
    app.include_router(dead_letter_routes(gateway))
    app.include_router(standing_routes(gateway))
    app.include_router(reprocessing_routes(gateway))
    app.include_router(mapping_routes(gateway))
    app.include_router(purge_routes(gateway))
    app.include_router(manifest_routes(gateway))
    app.include_router(fhir_router(gateway.record, gateway.journal.read))
    for route in ROUTES:
        app.include_router(current_intake_router(route, gateway.sources.over_http))
    service = Service(
        ServedHoldings(gateway.holdings, lambda: gateway.settings.holdings),
        gateway.sources.over_dicomweb,
        lambda: gateway.settings.dicomweb,
        gateway.pictures,
    )
    app.include_router(dicomweb_routes(service))
    console = Console(gateway)
    app.include_router(console_router(console))
    _answer_errors(app, console)
    return app


def _answer_errors(app: FastAPI, console: Console) -> None:
    """Errors as JSON for programs and as a page for people; never with a value of a message."""

    def refused(request: Request, error: HTTPException) -> Response:
        detail = str(error.detail)
        if request.url.path.startswith(_MACHINE_PREFIXES):
            return JSONResponse({"detail": detail}, error.status_code, error.headers)
        return console.error(error.status_code, detail)

    def not_understood(request: Request, error: RequestValidationError) -> Response:
        # The values are left out: a form may hold a message of a patient.
        said = "; ".join(
            f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
            for each in error.errors()[:10]
        )
        if request.url.path.startswith(_MACHINE_PREFIXES):
            return JSONResponse({"detail": said}, 422)
        return console.error(422, said)

    def journal_away(request: Request, error: JournalUnavailable) -> Response:  # noqa: ARG001
        detail = "The journal does not answer. Nothing was changed; try again soon."
        if request.url.path.startswith(_MACHINE_PREFIXES):
            return JSONResponse({"detail": detail}, 503, {"Retry-After": "5"})
        return console.error(503, detail)

    app.add_exception_handler(HTTPException, refused)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, not_understood)  # type: ignore[arg-type]
    app.add_exception_handler(Answered, answered)
    app.add_exception_handler(JournalUnavailable, journal_away)  # type: ignore[arg-type]

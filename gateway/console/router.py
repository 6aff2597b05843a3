"""All routes of the console, and its static files."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, HTTPException
from starlette.responses import Response

from gateway.console.context import Console
from gateway.console.desk import desk_routes
from gateway.console.documents import document_routes
from gateway.console.drafts import draft_routes
from gateway.console.flow import flow_routes
from gateway.console.held import held_routes
from gateway.console.manifests import manifest_routes
from gateway.console.mappings import mapping_routes
from gateway.console.messages import message_routes
from gateway.console.pages import STATIC, static_bytes
from gateway.console.patients import patient_routes
from gateway.console.pictures import picture_routes
from gateway.console.reprocessing import reprocessing_routes
from gateway.console.standing import standing_routes
from gateway.console.studies import study_routes

STATIC_SECONDS = 31_536_000
"""Pages name static files with their version, so that a browser may keep them for a year."""


def console_routers(console: Console) -> Iterator[APIRouter]:
    """Every page of the console."""
    yield _static()
    for routes in (
        flow_routes, message_routes, desk_routes, held_routes, patient_routes, mapping_routes,
        draft_routes, reprocessing_routes, document_routes, standing_routes, study_routes,
        picture_routes,
        manifest_routes,
    ):  # fmt: skip
        yield routes(console)


def _static() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/static/{name}")
    def static_file(name: str) -> Response:
        try:
            content = static_bytes(name)
        except KeyError:
            raise HTTPException(404, "there is no such file") from None
        return Response(
            content,
            media_type=STATIC[name],
            headers={"Cache-Control": f"public, max-age={STATIC_SECONDS}, immutable"},
        )

    return router

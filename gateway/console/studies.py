"""Studies at the DICOM doors: what came, what was announced, what is missing and why they wait."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import HTMLResponse

from adapters.dicom.store_settings import StoreSettings
from gateway.console.context import Console
from gateway.journal.studies import accounts

SHOWN = 100


def study_routes(console: Console) -> APIRouter:
    """``/studies``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/studies", response_class=HTMLResponse)
    def studies_page(waiting: Annotated[bool, Query()] = False) -> HTMLResponse:
        settings = console.gateway.settings
        sources = [each.name for each in settings.sources if isinstance(each, StoreSettings)]
        with console.journal.read() as connection:
            found = accounts(connection, sources=sources, waiting=waiting, limit=SHOWN)
        context = {"studies": found, "waiting": waiting, "sources": sources, "shown": SHOWN}
        return console.page("studies.html", "Studies", context)

    return router

"""How one source or destination stands, and the decision to let it stand still or go on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from gateway import rooms
from gateway.api.standing import MODES, REASON_MAX, names
from gateway.console.context import Console, actor
from gateway.journal import standstills
from gateway.journal.standstills import Kind, Mode

DECISIONS_SHOWN = 20


def standing_routes(console: Console) -> APIRouter:
    """``/standing/{kind}/{name}``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/standing/{kind}/{name}")
    def standing_page(kind: Kind, name: str) -> Response:
        with console.journal.read() as connection:
            found = rooms.standing(connection, *names(console.gateway), console.now())
            waits = [
                each
                for each in rooms.rooms(connection, console.gateway.shares, console.now())
                if each.name == name
            ]
            decisions = [
                each
                for each in standstills.history(connection, limit=500)
                if (each.kind, each.name) == (kind, name)
            ]
        this = next((each for each in found if (each.kind, each.name) == (kind.value, name)), None)
        if this is None:
            return console.not_found(f"{kind.value} {name} in the configuration")
        return console.page(
            "standing.html",
            "Flow",
            {"this": this, "rooms": waits, "decisions": decisions[:DECISIONS_SHOWN]},
        )

    @router.post("/standing/{kind}/{name}")
    def decide(
        request: Request,
        kind: Kind,
        name: str,
        what: Annotated[str, Form(max_length=10)],
        reason: Annotated[str, Form(max_length=REASON_MAX)] = "",
    ) -> Response:
        known = names(console.gateway)[kind is Kind.DESTINATION]
        mode = MODES.get(what)
        if mode is None or name not in known:
            return console.not_found(f"{kind.value} {name} in the configuration")
        if mode is not Mode.RUNNING and len(reason.strip()) < 3:
            return console.error(422, "Say why: whoever sees it stand still wants to know.")
        with console.journal.write() as connection:
            standstills.change(
                connection, kind, name, mode, actor=actor(request), reason=reason.strip()
            )
        console.saw(request, "a person decided", outcome=what, reason=f"{kind.value} {name}")
        console.gateway.pool.wake()
        return RedirectResponse(f"/standing/{kind.value}/{name}", 303)

    return router

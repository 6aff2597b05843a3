"""REST for what stands still: pause, drain and resume sources and destinations; what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import structlog
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway import rooms, shapes
from gateway.journal import standstills
from gateway.journal.standstills import Kind, Mode
from gateway.journal.times import utc_now

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")

REASON_MAX = 500
MODES = {"pause": Mode.PAUSED, "drain": Mode.DRAINING, "resume": Mode.RUNNING}


class Reason(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=REASON_MAX, description="Why; kept with who.")


def standing_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/standing`` and ``/api/v1/rooms``."""
    router = APIRouter(prefix="/api/v1", tags=["standing"])

    @router.get("/standing")
    def list_standing() -> Any:
        """How every source and destination stands, and who decided what."""
        with gateway.journal.read() as connection:
            found = rooms.standing(connection, *names(gateway), utc_now())
            decisions = standstills.history(connection)
        return {
            "items": [shapes.standing(each) for each in found],
            "decisions": [shapes.decision(each) for each in decisions],
        }

    @router.get("/rooms")
    def list_rooms() -> Any:
        """What waits and is not dead, by the reason for which it waits."""
        with gateway.journal.read() as connection:
            found = rooms.rooms(connection, gateway.shares, utc_now())
        return {"items": [shapes.room(each) for each in found]}

    @router.post("/standing/{kind}/{name}/{what}")
    def decide(
        request: Request,
        kind: Kind,
        name: str,
        what: Literal["pause", "drain", "resume"],
        body: Reason | None = None,
    ) -> Any:
        """Let a source or destination stand still or go on. Said twice, it is one decision."""
        known = names(gateway)[kind is Kind.DESTINATION]
        with gateway.journal.write() as connection:
            still = standstills.current(connection)
            if name not in known and still.mode(kind, name) is Mode.RUNNING:
                raise HTTPException(404, f"there is no {kind.value} {name}")
            changed = standstills.change(
                connection,
                kind,
                name,
                MODES[what],
                actor=request.state.actor,
                reason=body.reason if body else "",
            )
        if changed:
            which = f"{kind.value} {name}"
            log.warning("a person decided", actor=request.state.actor, outcome=what, reason=which)
        gateway.pool.wake()
        with gateway.journal.read() as connection:
            found = rooms.standing(connection, *names(gateway), utc_now())
        this = [each for each in found if (each.kind, each.name) == (kind.value, name)]
        return {"changed": changed, **(shapes.standing(this[0]) if this else {})}

    return router


def names(gateway: Gateway) -> tuple[list[str], list[str]]:
    """The sources and the destinations of the configuration."""
    settings = gateway.settings
    return [each.name for each in settings.sources], [each.name for each in settings.destinations]

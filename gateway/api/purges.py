"""REST for purges: what one would take, having one done, and what was done."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.housekeeping import shape
from gateway.journal import purges, purging
from gateway.row_number import RowNumber

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")

REASON_MAX = 500
KEY_MAX = 128


class Wanted(BaseModel):
    """A purge by the policy of the configuration."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=REASON_MAX, description="Why; kept with who.")
    key: str = Field(
        default="", max_length=KEY_MAX, description="Names it: sent twice, it is one purge."
    )


def purge_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/purges``."""
    router = APIRouter(prefix="/api/v1/purges", tags=["purges"])

    @router.get("")
    def list_purges() -> Any:
        """The newest purges: who, when, by which policy, what went."""
        with gateway.journal.read() as connection:
            return {"items": [shape(each) for each in purges.newest(connection)]}

    @router.get("/expected")
    def expect() -> Any:
        """What a purge would take now, at most. Changes nothing."""
        policy = gateway.settings.retention.policy()
        with gateway.journal.read() as connection:
            counts = purging.expected(connection, policy, gateway.journal.now())
        return {"policy": policy.as_json(), "counts": counts}

    @router.get("/{purge_id}")
    def get_purge(purge_id: RowNumber) -> Any:
        """One purge, and how far it is."""
        with gateway.journal.read() as connection:
            found = purges.get(connection, purge_id)
        if found is None:
            raise HTTPException(404, f"there is no purge {purge_id}")
        return shape(found)

    @router.post("", status_code=202)
    def begin(request: Request, body: Wanted) -> Any:
        """Have what is past its time taken out. While a purge is at work, this gives that one."""
        policy = gateway.settings.retention.policy()
        if not policy.anything:
            raise HTTPException(409, "the configuration keeps everything for ever (retention)")
        with gateway.journal.write() as connection:
            begun = purges.begin(
                connection, body.key or f"wanted {secrets.token_hex(8)}", policy,
                actor=request.state.actor, reason=body.reason,
            )  # fmt: skip
        # Why stands with the purge: a person's own words are nothing for a log.
        log.warning("a purge was wanted", actor=begun.actor, operation=begun.key)
        gateway.housekeeper.wake()
        return shape(begun)

    return router

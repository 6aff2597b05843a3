"""REST for imaging manifests: which studies have one, and looking at all of them again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import Response

from gateway.journal import manifests
from gateway.journal.manifests import ManifestAccount
from gateway.serialise import dumps
from gateway.shapes import instant

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")

LIMIT_MAX = 1_000


def manifest_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/manifests`` and below."""
    router = APIRouter(prefix="/api/v1/manifests", tags=["manifests"])

    @router.get("")
    def listed(
        state: Annotated[str, Query(max_length=16)] = "",
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 100,
    ) -> Response:
        """Imaging studies of the record with their manifests, those that changed last first;
        400 for a ``state`` that is none."""
        if state and state not in manifests.STATES:
            raise HTTPException(400, f"a state is one of {', '.join(manifests.STATES)}")
        with gateway.journal.read() as connection:
            found = manifests.accounts(connection, states=[state] if state else (), limit=limit)
        return _json({"manifests": [_shape(each) for each in found]})

    @router.post("/again")
    def again(request: Request) -> Response:
        """Look at every study again, because the settings are others: only where what a manifest
        says is another does it get a new version. 409 when no manifests are made."""
        if gateway.settings.manifest is None:
            raise HTTPException(409, "no manifests are made: the configuration has no manifest")
        log.info("all manifests are looked at again", actor=request.state.actor)
        with gateway.journal.write() as connection:
            count = manifests.mark_all(connection, gateway.journal.now())
        return _json({"studies": count})

    return router


def _shape(account: ManifestAccount) -> dict[str, Any]:
    due, changed = instant(account.due_at), instant(account.changed_at)
    return {**asdict(account), "due_at": due, "changed_at": changed}


def _json(content: Any) -> Response:
    return Response(dumps(content), media_type="application/json")

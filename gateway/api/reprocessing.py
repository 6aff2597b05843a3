"""REST for reprocessings: what a reading anew would change, and the jobs that do it."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from gateway.api.jobs import act_on_job
from gateway.deployment import shapes
from gateway.deployment.deploying import REASON_MAX
from gateway.deployment.reprocessing import DRY_RUN_DEFAULT, DRY_RUN_MAX, CannotReprocess
from gateway.journal import reprocessing
from gateway.journal.reprocessing import IDS_MAX, Busy, Selection
from gateway.row_number import RowNumber
from gateway.serialise import dumps

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")

KEY_MAX = 128
NAME_MAX = 256


class Selected(BaseModel):
    """Which delivered messages; what is left out does not restrict."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(default="", max_length=NAME_MAX, description="Of this source.")
    kind: str = Field(default="", max_length=NAME_MAX, description="Of this type: ORU^R01.")
    mapping: str = Field(default="", max_length=NAME_MAX, description="Read with this mapping.")
    mapping_version: str = Field(default="", max_length=64, description="In this version of it.")
    patient_id: str = Field(default="", max_length=36, description="Of this patient.")
    since: AwareDatetime | None = Field(default=None, description="Arrived then or later.")
    until: AwareDatetime | None = Field(default=None, description="Arrived before.")
    ids: list[RowNumber] = Field(
        default_factory=list, max_length=IDS_MAX, description="Their numbers."
    )

    def selection(self) -> Selection:
        """As the journal takes it."""
        since: datetime | None = self.since
        until: datetime | None = self.until
        return Selection(
            source=self.source, kind=self.kind, mapping=self.mapping,
            mapping_version=self.mapping_version, patient_id=self.patient_id, since=since,
            until=until, ids=tuple(self.ids),
        )  # fmt: skip


class Submitted(Selected):
    """A reprocessing: which messages, and why."""

    reason: str = Field(max_length=REASON_MAX, description="Why.")
    key: str = Field(
        default="", max_length=KEY_MAX, description="Names it: sent twice, it is one job."
    )


def reprocessing_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/mappings/reprocessing``."""
    router = APIRouter(prefix="/api/v1/mappings/reprocessing", tags=["reprocessing"])
    _add_reading(router, gateway)
    _add_actions(router, gateway)
    return router


def _add_reading(router: APIRouter, gateway: Gateway) -> None:
    @router.get("")
    def list_jobs(limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Any:
        """The jobs, newest first."""
        with gateway.journal.read() as connection:
            found = reprocessing.jobs(connection, limit=limit)
        return {"items": [shapes.job(each) for each in found]}

    @router.get("/{number}")
    def show_job(number: RowNumber) -> Any:
        """One job: where it stands, and what it could not read."""
        with gateway.journal.read() as connection:
            found = reprocessing.get(connection, number)
        if found is None:
            raise HTTPException(404, f"there is no reprocessing {number}")
        return shapes.job(found)

    @router.post("/dry-run")
    def dry_run(
        request: Request,
        wanted: Selected,
        *,
        limit: Annotated[int, Query(ge=1, le=DRY_RUN_MAX)] = DRY_RUN_DEFAULT,
        values: bool = False,
    ) -> Response:
        """What would change, for the newest messages selected. ``values`` adds what the
        elements hold: data of patients. Nothing is changed."""
        done = gateway.reprocessing.dry_run(wanted.selection(), limit)
        if values:
            log.info("facts shown", actor=request.state.actor, count=len(done.listed))
        return Response(dumps(shapes.dry_run(done, values=values)), media_type="application/json")


def _add_actions(router: APIRouter, gateway: Gateway) -> None:
    service = gateway.reprocessing

    @router.post("")
    def submit(request: Request, wanted: Submitted) -> Response:
        """Begin a job. 201 when it is new, 200 when the key names one, 409 while another is not
        at its end."""
        try:
            job, new = service.submit(
                wanted.selection(), actor=request.state.actor, reason=wanted.reason,
                key=wanted.key or secrets.token_hex(16),
            )  # fmt: skip
        except Busy as busy:
            return JSONResponse({"detail": str(busy), "job": busy.job_id}, 409)
        except CannotReprocess as error:
            raise HTTPException(422, str(error)) from None
        gateway.follower.wake()
        return JSONResponse(shapes.job(job), 201 if new else 200)

    @router.post("/{number}/{action}")
    def act(request: Request, number: RowNumber, action: str) -> Any:
        """``pause``, ``resume`` or ``stop``."""
        acts = {"pause": service.pause, "resume": service.resume, "stop": service.stop}
        job = act_on_job(
            request, number, action, acts, refusal=CannotReprocess,
            otherwise="a reprocessing is paused, resumed or stopped",
        )  # fmt: skip
        gateway.follower.wake()
        return shapes.job(job)

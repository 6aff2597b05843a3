"""REST for messages: what was handed over and what became of it; the end of a wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response, StreamingResponse

from deadletter import waiting
from gateway import figures, shapes
from gateway.journal import acknowledgements, messages
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.values import Message, MessageFilter
from gateway.model import Format, Payload
from gateway.row_number import RowNumber
from gateway.serialise import dumps

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")

PAGE_MAX = 500
_BLOCK_BYTES = 1 << 18
_EXTENSIONS = {
    Format.HL7V2: "hl7",
    Format.CDA: "xml",
    Format.DICOM: "dcm",
    Format.HPRIM: "hpr",
}


class EndOfWait(BaseModel):
    """Which messages shall wait no longer, and why."""

    model_config = ConfigDict(extra="forbid")

    ids: list[RowNumber] = Field(
        min_length=1, max_length=waiting.MESSAGES_MAX, description="Their numbers."
    )
    reason: str = Field(min_length=1, max_length=500, description="Why; kept with the message.")
    dry_run: bool = Field(default=False, description="Only say which of them wait.")


def message_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/messages`` and ``/api/v1/status``."""
    router = APIRouter(prefix="/api/v1", tags=["messages"])
    journal = gateway.journal

    _add_status(router, gateway)
    _add_bytes(router, journal)

    @router.post("/messages/bury")
    def bury(request: Request, end: EndOfWait) -> Any:
        """Make dead letters of messages that are held or unmapped, to be repaired or discarded:
        by message the number of its dead letter. Those that do not wait are left as they are."""
        try:
            buried = waiting.end_wait(
                journal, end.ids, actor=request.state.actor, reason=end.reason,
                dry_run=end.dry_run,
            )  # fmt: skip
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        if not end.dry_run:
            log.info("waits ended", count=len(buried), actor=request.state.actor)
        return shapes.ended_waits(buried, end.ids, dry_run=end.dry_run)

    @router.get("/messages")
    def list_messages(
        *,
        source: str = "",
        state: Annotated[list[MessageState] | None, Query()] = None,
        kind: str = "",
        control_id: str = "",
        patient_id: str = "",
        cause: str = "",
        before: RowNumber | None = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 50,
    ) -> Any:
        """Messages, newest first. ``next_before`` is the next page's ``before``, or null."""
        wanted = MessageFilter(
            states=tuple(state or ()), source=source, kind=kind, control_id=control_id,
            patient_id=patient_id, cause_code=cause,
        )  # fmt: skip
        with journal.read() as connection:
            found = messages.page(connection, wanted, before_id=before, limit=limit)
        return {
            "items": [shapes.message(each) for each in found],
            "next_before": found[-1].id if len(found) == limit else None,
        }

    @router.get("/messages/{number}")
    def show_message(request: Request, number: RowNumber, *, resources: bool = False) -> Response:
        """One message's whole life. ``resources`` adds the FHIR resources: data of a patient."""
        with journal.read() as connection:
            life = shapes.life(connection, _get(connection, number), resources=resources)
        if resources:
            log.info("entries shown", message_id=number, actor=request.state.actor)
        return Response(dumps(life), media_type="application/json")

    return router


def _add_status(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/status")
    def status() -> Any:
        """The account of every source, what is held and dead, each destination's queue, and
        the last reading of the configuration."""
        with gateway.journal.read() as connection:
            return {
                "configuration": gateway.configuration.last.shape(),
                **shapes.ledger(messages.ledger(connection)),
                "held": figures.held_by_cause(connection),
                "dead_letters": figures.dead_by_cause(connection),
                "acknowledgements": shapes.acknowledgements(acknowledgements.counts(connection)),
                "destinations": [
                    {
                        "destination": each.destination,
                        "pending": each.pending,
                        "oldest_due": shapes.instant(each.oldest_due),
                    }
                    for each in figures.lateness(connection)
                ],
            }


def _add_bytes(router: APIRouter, journal: Journal) -> None:
    @router.get("/messages/{number}/bytes")
    def message_bytes(request: Request, number: RowNumber) -> Response:
        """The exact bytes, as a download; ``X-Content-SHA256`` is their digest."""
        with journal.read() as connection:
            found = _get(connection, number)
        try:
            payload = messages.payload(journal, found)
        except KeyError:
            return JSONResponse({"detail": "the bytes are not in the store any more"}, 410)
        log.info("bytes downloaded", message_id=number, actor=request.state.actor)
        name = f"message-{number}.{_EXTENSIONS[found.format]}"
        headers = {
            "Content-Length": str(payload.size),
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-SHA256": payload.sha256,
        }
        return StreamingResponse(
            _blocks(payload), headers=headers, media_type="application/octet-stream"
        )


def _get(connection: Connection, number: int) -> Message:
    found = messages.get(connection, number)
    if found is None:
        raise HTTPException(404, f"there is no message {number}")
    return found


def _blocks(payload: Payload) -> Iterator[bytes]:
    with payload.open() as stream:
        while block := stream.read(_BLOCK_BYTES):
            yield block

"""REST for dead letters: list, show, replay, discard; each action once per operation key."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from deadletter import replay as desk
from deadletter import triage
from deadletter.selection import Report
from gateway import shapes
from gateway.api.security import REPAIR_BYTES_MAX
from gateway.journal import deadletters, desk_actions
from gateway.journal.values import DeadLetterFilter
from gateway.model import Payload, Stage
from gateway.row_number import RowNumber

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")

PAGE_MAX = 500
IDS_MAX = 10_000
REASON_MAX = 500
KEY_MAX = 128


class Action(BaseModel):
    """Which dead letters, and why. Exactly one of ``ids``, ``group``, ``cause``, ``all``."""

    model_config = ConfigDict(extra="forbid")

    ids: list[RowNumber] = Field(
        default_factory=list, max_length=IDS_MAX, description="Their numbers."
    )
    group: str = Field(default="", max_length=64, description="A fingerprint.")
    cause: str = Field(default="", max_length=64, description="A cause code.")
    all: bool = Field(default=False, description="Every unresolved one.")
    source: str = Field(default="", max_length=128, description="Of these, only a source's.")
    destination: str = Field(
        default="", max_length=128, description="Of these, only deliveries to a destination."
    )
    reason: str = Field(default="", max_length=REASON_MAX, description="Why.")
    dry_run: bool = Field(default=False, description="Only say what would happen.")
    key: str = Field(
        default="",
        max_length=KEY_MAX,
        description="Names this action: sent twice, it acts once and answers the same.",
    )

    @model_validator(mode="after")
    def _one_selection(self) -> Action:
        given = [bool(self.ids), bool(self.group), bool(self.cause), self.all]
        if sum(given) != 1:
            raise ValueError("give exactly one of ids, group, cause, all")
        return self

    def filter(self) -> DeadLetterFilter:
        """The journal's filter."""
        return DeadLetterFilter(
            ids=tuple(self.ids), fingerprint=self.group, code=self.cause, source=self.source,
            destination=self.destination,
        )  # fmt: skip

    def operation(self) -> str:
        """The operation's key: the given one, or a new one that nobody else has."""
        return self.key or secrets.token_hex(16)


def dead_letter_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/dead-letters``."""
    router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"])
    _add_reading(router, gateway)
    _add_actions(router, gateway)
    return router


def _add_reading(router: APIRouter, gateway: Gateway) -> None:
    journal = gateway.journal

    @router.get("")
    def list_letters(
        *,
        group: str = "",
        cause: str = "",
        source: str = "",
        stage: Stage | None = None,
        destination: str = "",
        assignee: str = "",
        resolved: bool | None = False,
        before: RowNumber | None = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 50,
    ) -> Any:
        """Dead letters, newest first; those that nobody has settled unless told otherwise."""
        wanted = DeadLetterFilter(
            resolved=resolved,
            fingerprint=group,
            code=cause,
            source=source,
            stage=stage,
            destination=destination,
            assignee=assignee,
        )
        found = triage.letters(journal, wanted, before_id=before, limit=limit)
        return {
            "items": [shapes.dead_letter(each) for each in found],
            "next_before": found[-1].id if len(found) == limit else None,
        }

    @router.get("/groups")
    def list_groups() -> Any:
        """The open ones by fingerprint, the largest group first, each with what to do."""
        return {"items": [shapes.group(each.letters) for each in triage.groups(journal)]}

    @router.get("/{number}")
    def show_letter(number: RowNumber) -> Any:
        """One dead letter, and who did what about it."""
        with journal.read() as connection:
            found = deadletters.get(connection, number)
            told = desk_actions.page(
                connection, dead_letter_id=number,
                fingerprint=found.fingerprint if found is not None else "",
            )  # fmt: skip
        if found is None:
            raise HTTPException(404, f"there is no dead letter {number}")
        actions = [shapes.desk_action(each) for each in told]
        return {**shapes.dead_letter(found), "actions": actions}


def _add_actions(router: APIRouter, gateway: Gateway) -> None:
    journal = gateway.journal

    @router.post("/replay")
    def replay(request: Request, action: Action) -> Any:
        """Let dead letters go again, in the order of their lanes."""
        report = desk.replay(
            journal, action.filter(), actor=request.state.actor, key=action.operation(),
            reason=action.reason, dry_run=action.dry_run,
        )  # fmt: skip
        return _answer(request, report)

    @router.post("/discard")
    def discard(request: Request, action: Action) -> Any:
        """Decide that dead letters do not go. ``reason`` is needed."""
        try:
            report = desk.discard(
                journal, action.filter(), actor=request.state.actor, key=action.operation(),
                reason=action.reason, dry_run=action.dry_run,
            )  # fmt: skip
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return _answer(request, report)

    @router.post(
        "/{number}/replay",
        openapi_extra={"requestBody": {"content": {"application/octet-stream": {}}}},
    )
    async def repair(
        request: Request,
        number: RowNumber,
        *,
        reason: Annotated[str, Query(max_length=REASON_MAX)] = "",
        key: Annotated[str, Query(max_length=KEY_MAX)] = "",
    ) -> Any:
        """Replay one dead letter with repaired bytes, which are the body; empty: as it is."""
        body = await read_body(request)
        operation = key or secrets.token_hex(16)

        def act() -> Report:
            actor = request.state.actor
            if not body:
                wanted = DeadLetterFilter(ids=(number,))
                return desk.replay(journal, wanted, actor=actor, key=operation, reason=reason)
            payload = Payload.from_bytes(body)
            return desk.repair(journal, number, payload, actor=actor, key=operation, reason=reason)

        try:
            report = await run_in_threadpool(act)
        except LookupError:
            raise HTTPException(404, f"there is no dead letter {number}") from None
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return _answer(request, report)


async def read_body(request: Request) -> bytes:
    """The whole body, within the limit. Raises HTTPException."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > REPAIR_BYTES_MAX:
            raise HTTPException(413, "the repaired message is too large")
    return bytes(body)


def _answer(request: Request, report: Report) -> Any:
    if not report.finished:
        raise HTTPException(409, "the same action is at work already; ask again in a moment")
    if not report.dry_run and not report.again:
        log.info(
            "dead letters settled", actor=request.state.actor, operation=report.operation,
            outcome=report.what,
            dead_letters=sum(report.counts.values()),
        )  # fmt: skip
    return report.as_json()

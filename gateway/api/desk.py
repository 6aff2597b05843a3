"""REST for the dead-letter desk: replays as jobs, editing of entries, notes, export, audit."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO, cast

import structlog
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from deadletter import editing, notes
from deadletter.alerts import NotSent, trial
from deadletter.causes import CAUSES
from deadletter.export import LETTERS_MAX, Exporter
from deadletter.jobs import DEFAULT_RAMP, CannotReplay, checked_pace
from gateway import shapes
from gateway.api.dead_letters import KEY_MAX, REASON_MAX, Action, read_body
from gateway.api.jobs import act_on_job
from gateway.failure import internal
from gateway.journal import alerting, deadletters, desk_actions, replaying
from gateway.journal.values import DeadLetterFilter, Message
from gateway.model import TraceStep
from gateway.normalise import Unusable
from gateway.originals import original_of
from gateway.row_number import RowNumber
from gateway.serialise import dumps, loads

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.http")


class Submitted(Action):
    """A replay at a pace. ``dry_run`` is not for jobs: ask ``/replay`` for one."""

    per_second: float = Field(default=0.0, description="How many a second; 0: no limit.")
    ramp: list[int] = Field(
        default=list(DEFAULT_RAMP),
        max_length=20,
        description="Sizes of the first steps; each waits until all of the one before has ended.",
    )
    stop_percent: int = Field(
        default=10, description="Share of failures above which it halts by itself."
    )


class Words(BaseModel):
    """A note, or whom to assign to."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=2048, description="The note, or the name; an empty name: nobody.")


def desk_routes(gateway: Gateway) -> APIRouter:
    """``/api/v1/dead-letters``: what goes beyond one letter's look, replay and discard."""
    router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"])
    _add_jobs(router, gateway)
    _add_job_actions(router, gateway)
    _add_export(router, gateway)
    _add_people(router, gateway)
    _add_words(router, gateway)
    _add_entries(router, gateway)
    _add_alerts(router, gateway)
    return router


def _add_jobs(router: APIRouter, gateway: Gateway) -> None:
    journal = gateway.journal

    @router.get("/jobs")
    def list_jobs(
        *,
        active: bool = False,
        before: RowNumber | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Any:
        """Replays, newest first."""
        with journal.read() as connection:
            found = replaying.jobs(connection, active=active, before_id=before, limit=limit)
        return {"items": [shapes.replay_job(each) for each in found]}

    @router.get("/jobs/{number}")
    def show_job(number: RowNumber) -> Any:
        """One replay: where it stands, and who did what with it."""
        with journal.read() as connection:
            job = replaying.get(connection, number)
            told = desk_actions.page(connection, job_id=number)
        if job is None:
            raise HTTPException(404, f"there is no replay {number}")
        return {**shapes.replay_job(job), "actions": [shapes.desk_action(each) for each in told]}

    _add_job_items(router, gateway)


def _add_job_items(router: APIRouter, gateway: Gateway) -> None:
    journal = gateway.journal

    @router.get("/jobs/{number}/items")
    def job_items(
        number: RowNumber,
        *,
        state: Annotated[str, Query(max_length=16)] = "",
        after: RowNumber = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Any:
        """The letters of a replay in their order, after a place, and what became of each."""
        with journal.read() as connection:
            found = replaying.items(connection, number, state=state, after=after, limit=limit)
        return {
            "items": [
                {
                    "place": each.place, "dead_letter_id": each.dead_letter_id,
                    "message_id": each.message_id, "delivery_id": each.delivery_id,
                    "state": each.state,
                }
                for each in found
            ]
        }  # fmt: skip


def _add_job_actions(router: APIRouter, gateway: Gateway) -> None:
    replays = gateway.replays

    @router.post("/jobs")
    def submit(request: Request, wanted: Submitted) -> Response:
        """Begin a replay. 201 when it is new, 200 when the key names one."""
        try:
            pace = checked_pace(wanted.per_second, tuple(wanted.ramp), wanted.stop_percent)
            job, new = replays.submit(
                wanted.filter(), pace, actor=request.state.actor, reason=wanted.reason,
                key=wanted.operation(),
            )  # fmt: skip
        except CannotReplay as error:
            raise HTTPException(422, str(error)) from None
        gateway.desk.wake()
        return JSONResponse(shapes.replay_job(job), 201 if new else 200)

    @router.post("/jobs/{number}/{action}")
    def act(request: Request, number: RowNumber, action: str) -> Any:
        """``pause``, ``resume`` or ``cancel``."""
        acts = {"pause": replays.pause, "resume": replays.resume, "cancel": replays.cancel}
        job = act_on_job(
            request, number, action, acts, refusal=CannotReplay,
            otherwise="a replay is paused, resumed or cancelled",
        )  # fmt: skip
        gateway.desk.wake()
        return shapes.replay_job(job)


def _add_export(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/export")
    def export(
        request: Request,
        *,
        ids: Annotated[str, Query(pattern=r"^(\d{1,15}(,\d{1,15})*)?$", max_length=4000)] = "",
        group: Annotated[str, Query(max_length=64)] = "",
        deidentify: bool = False,
        limit: Annotated[int, Query(ge=1, le=LETTERS_MAX)] = 20,
    ) -> Response:
        """A folder in a zip with all that is known of some dead letters, for a ticket.
        ``deidentify`` leaves out what could name a person; the docs say what is not promised."""
        if bool(ids) == bool(group):
            raise HTTPException(422, "give exactly one of ids, group")
        wanted = DeadLetterFilter(
            resolved=None if ids else False, fingerprint=group,
            ids=tuple(int(part) for part in ids.split(",")) if ids else (),
        )  # fmt: skip
        spooled = tempfile.TemporaryFile(prefix="ecluse-export-")  # noqa: SIM115  streamed below
        try:
            count = exporter(gateway).write(
                cast("BinaryIO", spooled), wanted, limit=limit, deidentify=deidentify,
                actor=request.state.actor,
            )  # fmt: skip
        except BaseException:
            spooled.close()
            raise
        if not count:
            spooled.close()
            raise HTTPException(404, "there is no such dead letter")
        log.info("dead letters exported", actor=request.state.actor, dead_letters=count,
                 deidentified=deidentify)  # fmt: skip
        name = f"dead-letters-{group or ids.replace(',', '-')[:40]}.zip"
        spooled.seek(0)
        return StreamingResponse(
            _blocks(spooled), media_type="application/zip",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )  # fmt: skip


def exporter(gateway: Gateway) -> Exporter:
    """Exports of a running gateway, with the trace of each value."""

    def trace(message: Message) -> Sequence[TraceStep]:
        try:
            found = gateway.normaliser.explain(original_of(gateway.journal, message))
        except (KeyError, OverflowError):
            return ()
        return () if isinstance(found, Unusable) else found.trace

    from gateway.formats import deidentifiers

    return Exporter(gateway.journal, deidentifiers(), trace)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while block := stream.read(1 << 16):
            yield block


def _add_people(router: APIRouter, gateway: Gateway) -> None:
    journal = gateway.journal

    @router.get("/causes")
    def list_causes() -> Any:
        """The closed set of causes, each with what to do."""
        return {"items": [{"code": code.value, **shapes.explanation(code.value)}
                          for code in CAUSES]}  # fmt: skip

    @router.get("/audit")
    def audit(
        *,
        group: str = "",
        before: RowNumber | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Any:
        """Who did what at the desk, newest first."""
        with journal.read() as connection:
            found = desk_actions.page(connection, fingerprint=group, before_id=before, limit=limit)
        return {"items": [shapes.desk_action(each) for each in found]}

    @router.get("/groups/{fingerprint}")
    def show_group(fingerprint: str) -> Any:
        """One group, and who did what about it."""
        with journal.read() as connection:
            found = deadletters.group(connection, fingerprint, now=journal.now())
            told = desk_actions.page(connection, fingerprint=fingerprint)
        if found is None:
            raise HTTPException(404, "there is no open dead letter of this group")
        return {**shapes.group(found), "actions": [shapes.desk_action(each) for each in told]}


def _add_words(router: APIRouter, gateway: Gateway) -> None:
    journal = gateway.journal

    def said(words: Words, actor: str, *, assigns: bool, **of: Any) -> Any:
        try:
            if assigns:
                ids = (of["dead_letter_id"],) if "dead_letter_id" in of else ()
                notes.assign(journal, words.text, actor=actor, group=of.get("group", ""), ids=ids)
            else:
                notes.write_note(journal, words.text, actor=actor, **of)
        except notes.NotThere as error:
            raise HTTPException(404, str(error)) from None
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return {"done": True}

    @router.post("/groups/{fingerprint}/assign")
    def assign_group(request: Request, fingerprint: str, words: Words) -> Any:
        """Say whose a group is."""
        return said(words, request.state.actor, assigns=True, group=fingerprint)

    @router.post("/groups/{fingerprint}/notes")
    def note_on_group(request: Request, fingerprint: str, words: Words) -> Any:
        """Write a note on a group."""
        return said(words, request.state.actor, assigns=False, group=fingerprint)

    @router.post("/{number}/assign")
    def assign_letter(request: Request, number: RowNumber, words: Words) -> Any:
        """Say whose one dead letter is."""
        return said(words, request.state.actor, assigns=True, dead_letter_id=number)

    @router.post("/{number}/notes")
    def note_on_letter(request: Request, number: RowNumber, words: Words) -> Any:
        """Write a note on one dead letter."""
        return said(words, request.state.actor, assigns=False, dead_letter_id=number)


def _add_entries(router: APIRouter, gateway: Gateway) -> None:
    journal = gateway.journal

    @router.get("/{number}/entries")
    def show_entries(request: Request, number: RowNumber) -> Response:
        """The entries of a dead delivery, to be edited, and the ``base`` that names them."""
        with journal.read() as connection, _edit_errors():
            found = editing.open_entries(connection, number)
        log.info("entries shown", actor=request.state.actor, dead_letter=number)
        told = {"base": found.base, "entries": [each.resource for each in found.entries]}
        return Response(dumps(told), media_type="application/json")

    @router.post(
        "/{number}/entries",
        openapi_extra={"requestBody": {"content": {"application/json": {}}}},
    )
    async def edit(
        request: Request,
        number: RowNumber,
        *,
        base: Annotated[str, Query(max_length=64)],
        reason: Annotated[str, Query(max_length=REASON_MAX)] = "",
        key: Annotated[str, Query(max_length=KEY_MAX)] = "",
    ) -> Any:
        """Let a child with corrected entries take the place of the dead message. The body is an
        array of the resources that change. 409 when the entries are not those of ``base``."""
        body = await read_body(request)

        def act() -> Any:
            with _edit_errors():
                resources = loads(body)
                if not isinstance(resources, list) or not all(
                    isinstance(each, dict) for each in resources
                ):
                    raise ValueError("the body is an array of FHIR resources")
                changes = {
                    f"{each.get('resourceType')}/{each.get('id')}": each for each in resources
                }
                report = editing.edit_entries(
                    journal, number, changes, base=base, actor=request.state.actor,
                    key=key or secrets.token_hex(16), reason=reason,
                    check=gateway.normaliser.problem_of,
                )  # fmt: skip
                return report.as_json()

        return await run_in_threadpool(act)


@contextmanager
def _edit_errors() -> Iterator[None]:
    """Editing's exceptions as answers."""
    try:
        yield
    except LookupError as error:
        raise HTTPException(404, str(error)) from None
    except editing.Stale as error:
        raise HTTPException(409, str(error)) from None
    except (ValueError, editing.NothingToEdit) as error:
        raise HTTPException(422, str(error)) from None


def _add_alerts(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/alerts")
    def list_alerts(limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Any:
        """Who was told of what, newest first."""
        with gateway.journal.read() as connection:
            found = alerting.newest(connection, limit=limit)
        return {"items": [shapes.alert(each) for each in found]}

    @router.post("/alerts/test")
    def try_alerts() -> Any:
        """Send a test through every channel; what each answered."""
        told = {}
        for channel in gateway.alerts.channels:
            try:
                answer = channel.send(trial(gateway.journal.now(), channel.name))
                told[channel.name] = {"sent": True, "answer": answer}
            except NotSent as fault:
                told[channel.name] = {"sent": False, "answer": str(fault)}
            except Exception as error:  # noqa: BLE001  the other channels are tried all the same
                cause = internal(error)
                said = f"{cause.detail} at {cause.location}"
                told[channel.name] = {"sent": False, "answer": said}
        return {"channels": told}

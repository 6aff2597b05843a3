"""Replays as pages: how far each is, what became of its letters, and the buttons of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from deadletter.jobs import CannotReplay
from gateway.console.context import Alone, Console, actor
from gateway.console.desk_rows import ENDS, action_row, job_row, job_rows
from gateway.journal import desk_actions, replaying
from gateway.journal.replaying import End
from gateway.row_number import RowNumber

JOBS_PAGE = 50
ITEMS_PAGE = 100
FAILED_SHOWN = 20


def replay_routes(console: Console) -> APIRouter:
    """``/dead/replays`` and below."""
    router = APIRouter(include_in_schema=False)
    _add_reading(router, console)

    @router.post("/dead/replays/{number}/{action}")
    def act(request: Request, number: RowNumber, action: str) -> Response:
        replays = console.gateway.replays
        acts = {"pause": replays.pause, "resume": replays.resume, "cancel": replays.cancel}
        if action not in acts:
            raise HTTPException(404, "There is no such action.")
        try:
            acts[action](number, actor=actor(request))
        except CannotReplay as error:
            raise HTTPException(409, f"{error}.") from None
        console.gateway.desk.wake()
        console.counts.forget()
        return RedirectResponse(f"/dead/replays/{number}", 303)

    return router


def _add_reading(router: APIRouter, console: Console) -> None:
    @router.get("/dead/replays", response_class=HTMLResponse)
    def list_page(before: RowNumber | None = None) -> Response:
        with console.journal.read() as connection:
            found = replaying.jobs(connection, before_id=before, limit=JOBS_PAGE + 1)
            rows = job_rows(connection, found[:JOBS_PAGE])
        more = len(found) > JOBS_PAGE
        context = {
            "jobs": rows,
            "newer": "/dead/replays" if before is not None else "",
            "older": f"/dead/replays?before={found[JOBS_PAGE - 1].id}" if more else "",
        }
        return console.page("replays.html", "Dead letters", context)

    @router.get("/dead/replays/{number}", response_class=HTMLResponse)
    def job_page(number: RowNumber) -> Response:
        return console.page("replay.html", "Dead letters", _job(console, number))

    @router.get("/dead/replays/{number}/live", response_class=HTMLResponse)
    def live(request: Request, number: RowNumber) -> Response:
        console.counts.forget()
        alone = Alone(
            heading=f"Replay {number}", back="/dead/replays", back_label="Replays",
            current="Dead letters",
        )  # fmt: skip
        return console.fragment(request, "replay_live.html", _job(console, number), alone)

    @router.get("/dead/replays/{number}/letters", response_class=HTMLResponse)
    def letters(
        number: RowNumber,
        *,
        state: Annotated[str, Query(max_length=16)] = "",
        after: RowNumber = 0,
    ) -> Response:
        with console.journal.read() as connection:
            job = replaying.get(connection, number)
            found = replaying.items(
                connection, number, state=state, after=after, limit=ITEMS_PAGE + 1
            )
            row = job_row(connection, job) if job is not None else None
        if row is None:
            raise HTTPException(404, f"There is no replay {number}.")
        here = f"/dead/replays/{number}/letters?" + (f"state={state}&" if state else "")
        words = {end.value: label for end, label in ENDS.items()}
        words |= {replaying.WAITING: "Waits for its turn", replaying.RELEASED: "On its way"}
        context = {
            "row": row,
            "state": words.get(state, ""),
            "items": [(each, words[each.state]) for each in found[:ITEMS_PAGE]],
            "newer": here.rstrip("?&") if after else "",
            "older": f"{here}after={found[ITEMS_PAGE - 1].place}"
            if len(found) > ITEMS_PAGE
            else "",
        }
        return console.page("replay_letters.html", "Dead letters", context)


def _job(console: Console, number: int) -> dict[str, Any]:
    with console.journal.read() as connection:
        job = replaying.get(connection, number)
        if job is None:
            raise HTTPException(404, f"There is no replay {number}.")
        failed = replaying.items(connection, number, state=End.FAILED.value, limit=FAILED_SHOWN)
        actions = desk_actions.page(connection, job_id=number)
        row = job_row(connection, job)
    return {
        "row": row,
        "failed": failed,
        "actions": [action_row(each) for each in actions],
    }

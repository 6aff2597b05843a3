"""The dead-letter desk: groups, letters, who did what; words and names that people add."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from deadletter import notes
from gateway.console import letters
from gateway.console.context import Console, actor
from gateway.console.deciding import deciding_routes
from gateway.console.desk_rows import action_row, alert_row, cards, job_rows
from gateway.console.entry_repair import entry_repair_routes
from gateway.console.repair import repair_routes
from gateway.console.replays import replay_routes
from gateway.journal import alerting, deadletters, deliveries, desk_actions, replaying
from gateway.journal.values import DeadLetterFilter
from gateway.row_number import RowNumber
from gateway.shapes import explanation

PAGE_ROWS = 50
SETTLED_ROWS = 12
ACTIONS_SHOWN = 30
ACTIONS_PAGE = 100
JOBS_SHOWN = 5

Name = Annotated[str, Query(max_length=128)]
Words = Annotated[str, Form(max_length=2048)]


def desk_routes(console: Console) -> APIRouter:
    """``/dead`` and below."""
    router = APIRouter(include_in_schema=False)
    _add_groups(router, console)
    _add_lists(router, console)
    _add_words(router, console)
    # Before what takes a letter's number at the same place.
    router.routes.extend(deciding_routes(console).routes)
    router.routes.extend(replay_routes(console).routes)
    _add_letter(router, console)
    router.routes.extend(repair_routes(console).routes)
    router.routes.extend(entry_repair_routes(console).routes)
    return router


def _add_groups(router: APIRouter, console: Console) -> None:
    @router.get("/dead", response_class=HTMLResponse)
    def groups_page() -> Response:
        now = console.now()
        with console.journal.read() as connection:
            groups = cards(connection, deadletters.groups(connection, now=now))
            count = deadletters.count(connection, DeadLetterFilter())
            settled = deadletters.page(
                connection, DeadLetterFilter(resolved=True), limit=SETTLED_ROWS
            )
            context = {
                "groups": groups,
                "open_count": count,
                "resolved": letters.read_letters(connection, settled),
                "jobs": job_rows(connection, replaying.jobs(connection, active=True)),
            }
        return console.page("dead.html", "Dead letters", context)

    @router.get("/dead/groups/{fingerprint}", response_class=HTMLResponse)
    def group_page(fingerprint: str, before: RowNumber | None = None) -> Response:
        with console.journal.read() as connection:
            group = deadletters.group(connection, fingerprint, now=console.now())
            if group is None:
                return _past(console, connection, fingerprint)
            wanted = DeadLetterFilter(fingerprint=fingerprint)
            found = deadletters.page(connection, wanted, before_id=before, limit=PAGE_ROWS + 1)
            rows = letters.read_letters(connection, found[:PAGE_ROWS])
            (shown,) = cards(connection, [group])
            context = {
                "group": shown,
                "rows": rows,
                **_told(connection, fingerprint),
                **_pages(f"/dead/groups/{fingerprint}?", found, before),
            }
        return console.page("dead_group.html", "Dead letters", context)


def _past(console: Console, connection: Connection, fingerprint: str) -> Response:
    """A group in which nothing is open any more: what became of it."""
    wanted = DeadLetterFilter(resolved=True, fingerprint=fingerprint)
    found = deadletters.page(connection, wanted, limit=PAGE_ROWS)
    if not found:
        return console.not_found("group of dead letters of this name")
    context = {
        "title": explanation(found[0].cause.code)["title"],
        "fingerprint": fingerprint,
        "rows": letters.read_letters(connection, found),
        **_told(connection, fingerprint),
    }
    return console.page("dead_group_past.html", "Dead letters", context)


def _told(connection: Connection, fingerprint: str) -> dict[str, Any]:
    actions = desk_actions.page(connection, fingerprint=fingerprint, limit=ACTIONS_SHOWN)
    jobs = replaying.jobs(connection, fingerprint=fingerprint, limit=JOBS_SHOWN)
    return {
        "actions": [action_row(each) for each in actions],
        "jobs": job_rows(connection, jobs),
    }


def _pages(here: str, found: list[Any], before: int | None) -> dict[str, str]:
    more = len(found) > PAGE_ROWS
    return {
        "newer": here.rstrip("?&") if before is not None else "",
        "older": f"{here}before={found[PAGE_ROWS - 1].id}" if more else "",
    }


def _add_lists(router: APIRouter, console: Console) -> None:
    @router.get("/dead/letters", response_class=HTMLResponse)
    def letters_page(
        *,
        source: Name = "",
        cause: Name = "",
        destination: Name = "",
        whose: Name = "",
        settled: bool = False,
        before: RowNumber | None = None,
    ) -> Response:
        wanted = DeadLetterFilter(
            resolved=settled, source=source, code=cause, destination=destination, assignee=whose
        )
        with console.journal.read() as connection:
            found = deadletters.page(connection, wanted, before_id=before, limit=PAGE_ROWS + 1)
            rows = letters.read_letters(connection, found[:PAGE_ROWS])
            groups = deadletters.groups(connection)
        chosen = {
            "source": source, "cause": cause, "destination": destination, "whose": whose,
            "settled": "true" if settled else "",
        }  # fmt: skip
        query = filter_query(chosen)
        context = {
            "rows": rows,
            "chosen": chosen,
            "sources": sorted({name for each in groups for name in each.by_source}),
            "causes": sorted({(each.code, explanation(each.code)["title"]) for each in groups}),
            "destinations": sorted({each.destination for each in groups if each.destination}),
            **_pages(f"/dead/letters?{query}", found, before),
        }
        return console.page("dead_letters.html", "Dead letters", context)

    @router.get("/dead/audit", response_class=HTMLResponse)
    def audit_page(before: RowNumber | None = None) -> Response:
        with console.journal.read() as connection:
            found = desk_actions.page(connection, before_id=before, limit=ACTIONS_PAGE + 1)
            told = alerting.newest(connection, limit=20) if before is None else []
        more = len(found) > ACTIONS_PAGE
        context = {
            "actions": [action_row(each) for each in found[:ACTIONS_PAGE]],
            "alerts": [alert_row(each) for each in told],
            "channels": [each.name for each in console.gateway.alerts.channels],
            "newer": "/dead/audit" if before is not None else "",
            "older": f"/dead/audit?before={found[ACTIONS_PAGE - 1].id}" if more else "",
        }
        return console.page("dead_audit.html", "Dead letters", context)


def filter_query(chosen: dict[str, str]) -> str:
    """The chosen filters as the start of a query, ending in ``&`` where there is one."""
    from urllib.parse import urlencode

    said = urlencode({name: value for name, value in chosen.items() if value})
    return f"{said}&" if said else ""


def _add_letter(router: APIRouter, console: Console) -> None:
    @router.get("/dead/{letter_id}", response_class=HTMLResponse)
    def letter_page(letter_id: RowNumber) -> Response:
        with console.journal.read() as connection:
            found = deadletters.get(connection, letter_id)
            if found is None:
                return console.not_found(f"dead letter {letter_id}")
            (letter,) = letters.read_letters(connection, [found])
            actions = desk_actions.page(
                connection, dead_letter_id=letter_id, fingerprint=found.fingerprint,
                limit=ACTIONS_SHOWN,
            )  # fmt: skip
            attempts = (
                deliveries.attempts(connection, found.delivery_id, limit=PAGE_ROWS)
                if found.delivery_id is not None
                else []
            )
        context = {
            "letter": letter,
            "actions": [action_row(each) for each in actions],
            "attempts": attempts,
        }
        return console.page("dead_letter.html", "Dead letters", context)


def _add_words(router: APIRouter, console: Console) -> None:
    """Notes and names, of a group and of a letter."""

    def keep(request: Request, *, text: str, assigns: bool, **of: Any) -> Response:
        try:
            if assigns:
                letter = of.get("dead_letter_id")
                notes.assign(
                    console.journal, text, actor=actor(request), group=of.get("group", ""),
                    ids=(letter,) if letter is not None else (),
                )  # fmt: skip
            else:
                notes.write_note(console.journal, text, actor=actor(request), **of)
        except notes.NotThere as error:
            raise HTTPException(404, f"{error}.") from None
        except ValueError as error:
            raise HTTPException(422, f"{error}.") from None
        place = of.get("dead_letter_id") or f"groups/{of['group']}"
        return RedirectResponse(f"/dead/{place}#who", 303)

    @router.post("/dead/groups/{fingerprint}/assign")
    def assign_group(request: Request, fingerprint: str, text: Words = "") -> Response:
        return keep(request, text=text, assigns=True, group=fingerprint)

    @router.post("/dead/groups/{fingerprint}/notes")
    def note_on_group(request: Request, fingerprint: str, text: Words = "") -> Response:
        return keep(request, text=text, assigns=False, group=fingerprint)

    @router.post("/dead/{letter_id}/assign")
    def assign_letter(request: Request, letter_id: RowNumber, text: Words = "") -> Response:
        return keep(request, text=text, assigns=True, dead_letter_id=letter_id)

    @router.post("/dead/{letter_id}/notes")
    def note_on_letter(request: Request, letter_id: RowNumber, text: Words = "") -> Response:
        return keep(request, text=text, assigns=False, dead_letter_id=letter_id)

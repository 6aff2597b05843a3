"""Reading delivered messages anew, by hand: the difference first, then a job with its progress."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console.clinical import says
from gateway.console.context import Alone, Console, actor
from gateway.console.differences import Difference, differences
from gateway.console.mappings import job_row
from gateway.deployment.comparing import Compared, Fact
from gateway.deployment.reprocessing import CannotReprocess, DryRun
from gateway.journal import reprocessing
from gateway.journal.reprocessing import Busy, Selection
from gateway.row_number import RowNumber
from gateway.shapes import explanation

DRY_RUN_MESSAGES = 200
MESSAGES_SHOWN = 40
ELEMENTS_SHOWN = 12
NAME_MAX = 256

Name = Annotated[str, Query(max_length=NAME_MAX)]
FormName = Annotated[str, Form(max_length=NAME_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the form asks for; times as a browser's field writes them, in the gateway's zone."""

    source: str = ""
    kind: str = ""
    mapping: str = ""
    mapping_version: str = ""
    since: str = ""
    until: str = ""

    def selection(self) -> Selection:
        """As the journal takes it. Raises HTTPException for a time that is none."""
        return Selection(
            source=self.source.strip(),
            kind=self.kind.strip(),
            mapping=self.mapping.strip(),
            mapping_version=self.mapping_version.strip(),
            since=_instant(self.since),
            until=_instant(self.until),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FactShown:
    """One fact that would be added, changed or withdrawn."""

    mark: str
    type: str
    reference: str
    says: str
    elements: Sequence[Difference] = ()
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageShown:
    """One message of a dry run."""

    id: int
    verdict: str
    problem: str
    facts: Sequence[FactShown]


def reprocessing_routes(console: Console) -> APIRouter:
    """``/mappings/reprocess`` and ``/mappings/reprocessing/…``."""
    router = APIRouter(include_in_schema=False)
    _add_form(router, console)
    _add_jobs(router, console)
    return router


def _add_form(router: APIRouter, console: Console) -> None:
    @router.get("/mappings/reprocess", response_class=HTMLResponse)
    def form(
        request: Request,
        *,
        source: Name = "",
        kind: Name = "",
        mapping: Name = "",
        mapping_version: Name = "",
        since: Name = "",
        until: Name = "",
        look: bool = False,
    ) -> Response:
        wanted = Wanted(
            source=source, kind=kind, mapping=mapping, mapping_version=mapping_version,
            since=since, until=until,
        )  # fmt: skip
        dry = None
        if look:
            dry = console.gateway.reprocessing.dry_run(wanted.selection(), DRY_RUN_MESSAGES)
            console.saw(request, "facts shown", count=len(dry.listed))
        return _form(console, wanted, dry)

    @router.post("/mappings/reprocess", response_class=HTMLResponse)
    def start(
        request: Request,
        *,
        source: FormName = "",
        kind: FormName = "",
        mapping: FormName = "",
        mapping_version: FormName = "",
        since: FormName = "",
        until: FormName = "",
        key: Annotated[str, Form(min_length=8, max_length=64)],
        reason: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        wanted = Wanted(
            source=source, kind=kind, mapping=mapping, mapping_version=mapping_version,
            since=since, until=until,
        )  # fmt: skip
        try:
            job, _ = console.gateway.reprocessing.submit(
                wanted.selection(), actor=actor(request), reason=reason, key=key
            )
        except Busy as busy:
            raise HTTPException(409, f"{busy}.") from None
        except CannotReprocess as error:
            raise HTTPException(422, f"{error}.") from None
        console.gateway.follower.wake()
        return RedirectResponse(f"/mappings/reprocessing/{job.id}", 303)


def _add_jobs(router: APIRouter, console: Console) -> None:
    @router.get("/mappings/reprocessing/{number}", response_class=HTMLResponse)
    def job_page(number: RowNumber) -> Response:
        row = _row(console, number)
        return console.page("reprocessing.html", "Mappings", {"row": row})

    @router.get("/mappings/reprocessing/{number}/live", response_class=HTMLResponse)
    def live(request: Request, number: RowNumber) -> Response:
        context = {"row": _row(console, number)}
        alone = Alone(
            heading=f"Reprocessing {number}", back="/mappings", back_label="Mappings",
            current="Mappings",
        )  # fmt: skip
        return console.fragment(request, "reprocessing_live.html", context, alone)

    @router.post("/mappings/reprocessing/{number}/{action}")
    def act(request: Request, number: RowNumber, action: str) -> Response:
        service = console.gateway.reprocessing
        acts = {"pause": service.pause, "resume": service.resume, "stop": service.stop}
        if action not in acts:
            raise HTTPException(404, "There is no such action.")
        try:
            acts[action](number, actor=actor(request))
        except CannotReprocess as error:
            raise HTTPException(409, f"{error}.") from None
        console.gateway.follower.wake()
        return RedirectResponse(f"/mappings/reprocessing/{number}", 303)


def _row(console: Console, number: int) -> dict[str, Any]:
    with console.journal.read() as connection:
        found = reprocessing.get(connection, number)
    if found is None:
        raise HTTPException(404, f"There is no reprocessing {number}.")
    titles = {each.code: explanation(each.code)["title"] for each in found.failures}
    return {**job_row(found), "titles": titles, "chosen": _chosen(found.selection)}


def _chosen(selection: Selection) -> str:
    pairs = (
        ("from", selection.source),
        ("of type", selection.kind),
        ("read with", " ".join(p for p in (selection.mapping, selection.mapping_version) if p)),
        ("arrived since", f"{selection.since:%Y-%m-%d %H:%M %Z}" if selection.since else ""),
        ("arrived before", f"{selection.until:%Y-%m-%d %H:%M %Z}" if selection.until else ""),
    )
    said = ", ".join(f"{word} {value}" for word, value in pairs if value)
    return f"Delivered messages {said}" if said else "All delivered messages"


def _form(console: Console, wanted: Wanted, dry: DryRun | None) -> HTMLResponse:
    programs = console.gateway.library.programs
    context = {
        "wanted": wanted,
        "sources": [each.name for each in console.gateway.settings.sources],
        "mappings": sorted(each.name for each in programs),
        "dry": dry,
        "messages": [shown(each) for each in dry.listed[:MESSAGES_SHOWN]] if dry else [],
        "more": max(len(dry.listed) - MESSAGES_SHOWN, 0) if dry else 0,
        "key": secrets.token_hex(16),
        "in_force": console.gateway.mappings.now.version,
    }
    return console.page("reprocess.html", "Mappings", context)


def shown(compared: Compared) -> MessageShown:
    """What a page says of one message."""
    cause = compared.cause
    problem = ""
    if cause is not None:
        where = f" ({cause.location})" if cause.location else ""
        problem = f"{explanation(cause.code.value)['title']}: {cause.detail}{where}"
    return MessageShown(
        id=compared.message_id,
        verdict=compared.verdict.value,
        problem=problem,
        facts=[
            *(fact_shown("added", each) for each in compared.added),
            *(fact_shown("changed", each) for each in compared.changed),
            *(fact_shown("vanished", each) for each in compared.vanished),
        ],
    )


def fact_shown(mark: str, fact: Fact) -> FactShown:
    """What a page says of one fact."""
    resource = dict(fact.after or fact.before or {})
    found: Sequence[Difference] = ()
    if fact.before is not None and fact.after is not None:
        found = differences(fact.before, fact.after)
    return FactShown(
        mark=mark,
        type=fact.reference.partition("/")[0],
        reference=fact.reference,
        says=says(resource),
        elements=found[:ELEMENTS_SHOWN],
        more=max(len(found) - ELEMENTS_SHOWN, 0),
    )


def _instant(text: str) -> datetime | None:
    if not text.strip():
        return None
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise HTTPException(422, "A time is written as 2026-11-22T08:00.") from None

"""The workbench beside a draft: the message, its entries, where each value comes from, and what
the draft does to the messages of yesterday."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from starlette.responses import HTMLResponse, Response

from gateway.console import last_messages, readings, skeletons
from gateway.console.context import Alone, Console
from gateway.console.given import Given, NoMessage, Subject, subject_of
from gateway.console.source_text import view_of
from gateway.deployment.drafts import Opened
from gateway.journal import messages
from gateway.journal.values import MessageFilter
from gateway.mapping import Library
from gateway.workbench.elements import NoTarget

NEWEST_SHOWN = 15
LAST_MAX = 200

FromForm = Annotated[Given, Depends(Given.of_form)]


class DoesNotLoad(Exception):
    """The draft has errors: nothing can be read with it."""


def bench_routes(console: Console) -> APIRouter:
    """Below ``/mappings/drafts/{id}``."""
    router = APIRouter(include_in_schema=False)
    _add_message(router, console)
    _add_values(router, console)
    _add_many(router, console)
    return router


def _add_message(router: APIRouter, console: Console) -> None:
    @router.post("/mappings/drafts/{draft_id}/message", response_class=HTMLResponse)
    def message(request: Request, draft_id: str, given: FromForm) -> Response:
        try:
            subject = subject_of(console, given)
        except NoMessage as reason:
            return _part(console, request, draft_id, "workbench_nothing.html",
                         {"said": str(reason), "id": "message-body"})  # fmt: skip
        if subject.message_id is not None:
            console.saw(request, "bytes shown", message_id=subject.message_id)
        context = {
            "view": view_of(subject, subject.shown),
            "subject": subject,
            "message_id": subject.message_id,
        }
        return _part(console, request, draft_id, "workbench_message.html", context)

    @router.get("/mappings/drafts/{draft_id}/newest", response_class=HTMLResponse)
    def newest(request: Request, draft_id: str, source: str = "") -> Response:
        with console.journal.read() as connection:
            found = messages.page(connection, MessageFilter(source=source), limit=NEWEST_SHOWN)
        return _part(console, request, draft_id, "workbench_newest.html",
                     {"rows": [readings.choice(each) for each in found]})  # fmt: skip


def _add_values(router: APIRouter, console: Console) -> None:
    @router.post("/mappings/drafts/{draft_id}/entries", response_class=HTMLResponse)
    def entries(request: Request, draft_id: str, given: FromForm) -> Response:
        try:
            subject, library = _both(console, draft_id, given)
        except (NoMessage, DoesNotLoad) as reason:
            return _part(console, request, draft_id, "workbench_nothing.html",
                         {"said": str(reason), "id": "entries-body"})  # fmt: skip
        if subject.message_id is not None:
            console.saw(request, "trace shown", message_id=subject.message_id)
        reading = readings.read(library, subject)
        return _part(console, request, draft_id, "workbench_entries.html", {"reading": reading})

    @router.post("/mappings/drafts/{draft_id}/explain", response_class=HTMLResponse)
    def explain(
        request: Request,
        draft_id: str,
        given: FromForm,
        *,
        target: Annotated[str, Form(max_length=400)] = "",
    ) -> Response:
        opened = _open(console, draft_id)
        try:
            subject, library = _both(console, draft_id, given)
            explained = readings.explain(library, subject, target.strip(), opened)
        except (NoMessage, DoesNotLoad, NoTarget) as reason:
            return _part(console, request, draft_id, "workbench_nothing.html",
                         {"said": str(reason), "id": "explained"})  # fmt: skip
        return _part(console, request, draft_id, "workbench_explained.html",
                     {"explained": explained, "draft_id": draft_id})  # fmt: skip


def _add_many(router: APIRouter, console: Console) -> None:
    @router.post("/mappings/drafts/{draft_id}/coverage", response_class=HTMLResponse)
    def coverage(
        request: Request,
        draft_id: str,
        *,
        source: Annotated[str, Form(max_length=128)] = "",
        last: Annotated[int, Form(ge=1, le=LAST_MAX)] = 50,
    ) -> Response:
        loaded = _loaded(console, request, draft_id)
        if isinstance(loaded, Response):
            return loaded
        opened, library = loaded
        found = last_messages.cover_last(console, library, opened, source, last)
        return _part(console, request, draft_id, "workbench_coverage.html",
                     {"found": found, "draft_id": draft_id, "site": opened.after.site})  # fmt: skip

    @router.post("/mappings/drafts/{draft_id}/diff", response_class=HTMLResponse)
    def diff(
        request: Request,
        draft_id: str,
        *,
        source: Annotated[str, Form(max_length=128)] = "",
        last: Annotated[int, Form(ge=1, le=LAST_MAX)] = 50,
    ) -> Response:
        loaded = _loaded(console, request, draft_id)
        if isinstance(loaded, Response):
            return loaded
        _, library = loaded
        found = last_messages.diff_last(console, library, source, last)
        console.saw(request, "facts shown", count=found.examined)
        return _part(console, request, draft_id, "workbench_diff.html", {"found": found})


def _open(console: Console, draft_id: str) -> Opened:
    opened = console.gateway.drafts.open(draft_id)
    if opened is None:
        raise HTTPException(404, "There is no such draft: it was deployed or dropped.")
    return opened


def _library(console: Console, opened: Opened) -> Library:
    checked = console.gateway.drafts.check(opened)
    if checked.library is None:
        count = len(checked.errors)
        raise DoesNotLoad(
            f"The draft has {count} error{'' if count == 1 else 's'}: nothing is read with it."
        )
    return checked.library


def _loaded(console: Console, request: Request, draft_id: str) -> tuple[Opened, Library] | Response:
    """A draft and its library; the answer to give where it has errors."""
    opened = _open(console, draft_id)
    try:
        return opened, _library(console, opened)
    except DoesNotLoad as reason:
        return _part(console, request, draft_id, "workbench_nothing.html",
                     {"said": str(reason), "id": "many"})  # fmt: skip


def _both(console: Console, draft_id: str, given: Given) -> tuple[Subject, Library]:
    subject = subject_of(console, given)
    return subject, _library(console, _open(console, draft_id))


def _part(
    console: Console, request: Request, draft_id: str, template: str, context: dict[str, Any]
) -> Response:
    alone = Alone(
        heading="Workbench", back=skeletons.address(draft_id), back_label="Draft",
        current="Mappings",
    )  # fmt: skip
    return console.fragment(request, template, {"draft_id": draft_id, **context}, alone)

"""The pages of messages: the list, one message's life, its bytes, its trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from deadletter.waiting import end_wait
from gateway.console.context import Alone, Console, actor
from gateway.console.explain import explain
from gateway.console.life import read_life
from gateway.console.rows import message_row
from gateway.console.source_text import view_of
from gateway.journal import messages
from gateway.journal.states import MessageState
from gateway.journal.values import Message, MessageFilter
from gateway.row_number import RowNumber

PAGE_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the form above the list asks for."""

    source: str = ""
    state: str = ""
    kind: str = ""
    find: str = ""

    @property
    def active(self) -> bool:
        """Whether anything restricts the list."""
        return bool(self.source or self.state or self.kind or self.find)

    def filter(self) -> MessageFilter:
        """The journal's filter. A state that is none is left out."""
        known = {each.value for each in MessageState}
        return MessageFilter(
            states=(MessageState(self.state),) if self.state in known else (),
            source=self.source,
            kind=self.kind,
            control_id=self.find,
        )

    def query(self, **more: Any) -> str:
        """The address of the list with this filter."""
        given = {"source": self.source, "state": self.state, "kind": self.kind, "find": self.find}
        pairs = {name: value for name, value in {**given, **more}.items() if value}
        return f"/messages?{urlencode(pairs)}" if pairs else "/messages"


def message_routes(console: Console) -> APIRouter:
    """``/messages`` and below."""
    router = APIRouter(include_in_schema=False)

    _add_end_of_wait(router, console)

    @router.get("/messages", response_class=HTMLResponse)
    def list_page(
        source: str = "",
        state: str = "",
        kind: str = "",
        find: str = "",
        before: RowNumber | None = None,
    ) -> Response:
        wanted = Wanted(source=source, state=state, kind=kind.strip(), find=find.strip())
        with console.journal.read() as connection:
            exact = _by_number(connection, wanted.find)
            if exact is not None:
                return RedirectResponse(f"/messages/{exact}", 303)
            found = messages.page(
                connection, wanted.filter(), before_id=before, limit=PAGE_ROWS + 1
            )
        return console.page("messages.html", "Messages", _list_context(console, wanted, found,
                                                                       before))  # fmt: skip

    @router.get("/messages/{number}", response_class=HTMLResponse)
    def life_page(number: RowNumber) -> Response:
        with console.journal.read() as connection:
            found = messages.get(connection, number)
            if found is None:
                return console.not_found(f"message {number}")
            life = read_life(connection, found)
        return console.page("message.html", "Messages", {"life": life})

    @router.get("/messages/{number}/bytes", response_class=HTMLResponse)
    def bytes_part(request: Request, number: RowNumber) -> Response:
        with console.journal.read() as connection:
            found = messages.get(connection, number)
        if found is None:
            return console.not_found(f"message {number}")
        try:
            view = view_of(found, messages.payload(console.journal, found))
        except KeyError:
            return console.not_found(f"stored bytes of message {number}")
        console.saw(request, "bytes shown", message_id=number)
        context = {"view": view, "message_id": number}
        return console.fragment(request, "bytes.html", context, _alone(found, "Bytes"))

    @router.get("/messages/{number}/trace", response_class=HTMLResponse)
    def trace_part(request: Request, number: RowNumber) -> Response:
        with console.journal.read() as connection:
            found = messages.get(connection, number)
        if found is None:
            return console.not_found(f"message {number}")
        console.saw(request, "trace shown", message_id=number)
        trace = explain(console.journal, console.gateway.mappings.now, found)
        return console.fragment(request, "trace.html", {"trace": trace}, _alone(found, "Reading"))

    return router


def _add_end_of_wait(router: APIRouter, console: Console) -> None:
    @router.post("/messages/{number}/bury")
    def bury(request: Request, number: RowNumber, reason: Annotated[str, Form()] = "") -> Response:
        if not reason.strip():
            return RedirectResponse(f"/messages/{number}", 303)
        buried = end_wait(console.journal, [number], actor=actor(request), reason=reason)
        console.counts.forget()
        console.saw(request, "wait ended", message_id=number, count=len(buried))
        # Where it went by itself in the meantime, its own page says so.
        letter = buried.get(number)
        return RedirectResponse(f"/dead/{letter}" if letter else f"/messages/{number}", 303)


def _by_number(connection: Connection, find: str) -> int | None:
    """The message whose number was typed, unless it is also somebody's control id."""
    if not find.isdecimal() or len(find) > 15:
        return None
    if messages.page(connection, MessageFilter(control_id=find), limit=1):
        return None
    return int(find) if messages.get(connection, int(find)) is not None else None


def _list_context(
    console: Console, wanted: Wanted, found: list[Message], before: int | None
) -> dict[str, Any]:
    rows = [message_row(each) for each in found[:PAGE_ROWS]]
    more = len(found) > PAGE_ROWS
    return {
        "filter": wanted,
        "choices": {
            "sources": [each.name for each in console.gateway.settings.sources],
            "states": [each.value for each in MessageState],
        },
        "rows": rows,
        "newer": wanted.query() if before is not None else "",
        "older": wanted.query(before=rows[-1].id) if more else "",
    }


def _alone(message: Message, what: str) -> Alone:
    return Alone(
        heading=f"{what} of message {message.id}",
        back=f"/messages/{message.id}",
        back_label=f"Message {message.id}",
        current="Messages",
    )

"""What is held: it waits for something known, and each kind of waiting has a room of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection, select
from starlette.responses import HTMLResponse, RedirectResponse, Response

from deadletter.unmapped import replay_unmapped
from gateway import figures
from gateway.console.context import Console, actor
from gateway.console.rows import kind_label
from gateway.console.typography import masked
from gateway.journal import messages
from gateway.journal.states import MessageState
from gateway.journal.tables import message
from gateway.rooms import rooms as all_rooms
from gateway.shapes import explanation

ROWS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Awaited:
    """An identifier that a message waits for, its value hidden but for the end."""

    masked: str
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRow:
    """One message that waits."""

    id: int
    received_at: datetime
    source: str
    kind_label: str
    waits: tuple[Awaited, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """All that waits for one cause: the oldest ones, and how old the rest are."""

    code: str
    state: MessageState
    title: str
    meaning: str
    remedy: str
    count: int
    oldest_at: datetime
    ages: tuple[tuple[str, int], ...]
    rows: tuple[HeldRow, ...]

    @property
    def more(self) -> bool:
        """Whether there are more than are shown."""
        return self.count > len(self.rows)


def held_routes(console: Console) -> APIRouter:
    """``/held``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/held", response_class=HTMLResponse)
    def held_page(again: Annotated[int | None, Query(ge=0)] = None) -> HTMLResponse:
        with console.journal.read() as connection:
            rooms = [
                _room(connection, each) for each in figures.held_rooms(connection, console.now())
            ]
            codes = {each.code for each in rooms}
            others = [
                each
                for each in all_rooms(connection, console.gateway.shares, console.now())
                if each.code not in codes
            ]
        found = {"rooms": rooms, "others": others, "again": again}
        return console.page("held.html", "Held", found)

    @router.post("/held/read-again")
    def read_again(request: Request) -> Response:
        done = replay_unmapped(console.journal, actor=actor(request))
        console.counts.forget()
        console.saw(request, "unmapped messages read again", count=len(done))
        return RedirectResponse(f"/held?again={len(done)}", 303)

    return router


def _room(connection: Connection, room: figures.HeldRoom) -> Room:
    words = explanation(room.code)
    return Room(
        code=room.code or room.state.value,
        state=room.state,
        title=words["title"],
        meaning=words["means"],
        remedy=words["do"],
        count=room.count,
        oldest_at=room.oldest_at,
        ages=room.ages,
        rows=tuple(_oldest(connection, room)),
    )


def _oldest(connection: Connection, room: figures.HeldRoom) -> list[HeldRow]:
    ids = connection.execute(
        select(message.c.id)
        .where(message.c.state == room.state.value, message.c.cause_code == room.code)
        .order_by(message.c.id)
        .limit(ROWS_SHOWN)
    ).scalars()
    rows = []
    for number in list(ids):
        found = messages.get(connection, number)
        if found is None:
            continue
        rows.append(
            HeldRow(
                id=found.id,
                received_at=found.received_at,
                source=found.source,
                kind_label=kind_label(found.format, found.kind),
                waits=tuple(
                    Awaited(masked(each.value), each.system)
                    for each in messages.waiting_for(connection, found.id)
                ),
                detail=found.cause.detail if found.cause else "",
            )
        )
    return rows

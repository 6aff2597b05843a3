"""The first page: what comes in, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fastapi import APIRouter, Request
from markupsafe import Markup
from sqlalchemy import Connection
from starlette.responses import HTMLResponse

from gateway import figures
from gateway.console import pages, plot
from gateway.console.context import Console, Kept
from gateway.console.notices import Notice, notices
from gateway.console.rows import MessageRow, message_row
from gateway.console.typography import ago
from gateway.journal import deadletters, deliveries, messages
from gateway.journal.states import DeliveryState
from gateway.journal.values import LedgerLine, MessageFilter
from gateway.rooms import Standstill, standing
from gateway.wording import PROTOCOLS, plural

RECENT = 12
LIVE_SECONDS = 1.0
ARRIVALS_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One number above all: ``tone`` is empty while there is nothing to worry about."""

    label: str
    value: int
    note: str
    href: str
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One way in and its account."""

    name: str
    protocol: str
    address: str
    received: int
    duplicates: int
    delivered: int
    moving: int
    held: int
    refused: int
    dead: int
    share: Markup
    trend: Markup
    mode: str = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationRow:
    """One way out and its queue."""

    name: str
    pending: int
    delivered: int
    dead: int
    oldest_due: datetime | None
    last_outcome: str
    last_at: datetime | None
    configured: bool = True
    mode: str = "running"
    resting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Everything that the page shows, read at ``at``."""

    at: datetime
    tiles: tuple[Tile, ...]
    sources: tuple[SourceRow, ...]
    destinations: tuple[DestinationRow, ...]
    recent: tuple[MessageRow, ...]
    window_label: str
    mllp_hint: str
    notices: tuple[Notice, ...] = ()


class FlowReader:
    """Reads the flow; its readings are shared by all browsers that look."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._arrivals = Kept(self._read_arrivals, ARRIVALS_SECONDS)
        self.flow = Kept(self._read, LIVE_SECONDS)

    def _read_arrivals(self) -> figures.Arrivals:
        with self._console.journal.read() as connection:
            return figures.arrivals(connection, self._console.now())

    def _read(self) -> Flow:
        arrivals, now = self._arrivals.get(), self._console.now()
        addresses = {each.name: each.address() for each in self._console.gateway.sources}
        protocols = {
            each.name: PROTOCOLS.get(each.type, each.type)
            for each in self._console.gateway.settings.sources
        }
        with self._console.journal.read() as connection:
            ledger = messages.ledger(connection)
            rooms = figures.held_rooms(connection, now)
            destinations = self._destinations(connection)
            groups = deadletters.groups(connection)
            newest = messages.page(connection, MessageFilter(), limit=RECENT)
            modes = {each.name: each.mode for each in standing(connection, [*protocols], [], now)}
        names = [*addresses, *sorted(set(ledger) - set(addresses))]
        sources = tuple(
            replace(
                _source(
                    name,
                    protocols.get(name, "no longer configured"),
                    addresses.get(name, ""),
                    ledger.get(name, LedgerLine()),
                    arrivals,
                ),
                mode=modes.get(name, ""),
            )
            for name in names
        )
        reasons = len(groups)
        mllp = next((a for n, a in addresses.items() if protocols.get(n) == PROTOCOLS["mllp"]), "")
        return Flow(
            at=now,
            tiles=_tiles(ledger, rooms, destinations, reasons, now),
            sources=sources,
            destinations=tuple(destinations),
            recent=tuple(message_row(each) for each in newest),
            window_label=f"Last {_window(arrivals)}",
            mllp_hint=mllp,
            notices=notices(self._console.gateway, now),
        )

    def _destinations(self, connection: Connection) -> list[DestinationRow]:
        counts = deliveries.counts(connection)
        queues = {each.destination: each for each in figures.lateness(connection)}
        configured = [each.name for each in self._console.gateway.settings.destinations]
        names = [*configured, *sorted({name for name, _ in counts} - set(configured))]
        last = figures.last_answers(connection, names)
        now = self._console.now()
        stands = {each.name: each for each in standing(connection, [], configured, now)}
        return [
            DestinationRow(
                name=name,
                pending=counts.get((name, DeliveryState.PENDING), 0),
                delivered=counts.get((name, DeliveryState.DELIVERED), 0),
                dead=counts.get((name, DeliveryState.DEAD), 0),
                oldest_due=queues[name].oldest_due if name in queues else None,
                last_outcome=last[name][0] if name in last else "",
                last_at=last[name][1] if name in last else None,
                configured=name in stands,
                mode=stands[name].mode if name in stands else "not configured",
                resting=_resting(stands[name]) if name in stands else "",
            )
            for name in names
        ]


def _resting(found: Standstill) -> str:
    """Why nothing is attempted at a destination now; empty when something is."""
    if found.closed_until is None:
        return ""
    return "breaker open" if found.breaker != "closed" else "at its request"


def _window(arrivals: figures.Arrivals) -> str:
    minutes = int(arrivals.window.total_seconds() // 60)
    return "hour" if minutes == 60 else "minute" if minutes == 1 else f"{minutes} minutes"


def _source(
    name: str, protocol: str, address: str, line: LedgerLine, arrivals: figures.Arrivals
) -> SourceRow:
    held = line.held + line.unmapped
    parts = (
        ("done", line.delivered, "delivered"),
        ("moving", line.pending, "moving"),
        ("held", held, "held"),
        ("refused", line.refused, "refused"),
        ("dead", line.dead, "dead"),
        ("settled", line.discarded, "discarded"),
    )
    counts = arrivals.by_source.get(name, [0] * figures.BARS)
    return SourceRow(
        name=name,
        protocol=protocol,
        address=address,
        received=line.received,
        duplicates=line.duplicates,
        delivered=line.delivered,
        moving=line.pending,
        held=held,
        refused=line.refused,
        dead=line.dead,
        share=plot.proportions(parts, f"Where the messages of {name} stand"),
        trend=plot.spark_bars(
            counts, f"{name}: {sum(counts)} {plural(sum(counts), 'message')} in the last "
            f"{_window(arrivals)}",
        ),
    )  # fmt: skip


def _tiles(
    ledger: Mapping[str, LedgerLine],
    rooms: list[figures.HeldRoom],
    destinations: list[DestinationRow],
    reasons: int,
    now: datetime,
) -> tuple[Tile, ...]:
    lines = list(ledger.values())
    received, delivered = sum(x.received for x in lines), sum(x.delivered for x in lines)
    moving, dead = sum(x.pending for x in lines), sum(x.dead for x in lines)
    held = sum(room.count for room in rooms)
    due = min((d.oldest_due for d in destinations if d.oldest_due), default=None)
    oldest = min((room.oldest_at for room in rooms), default=None)
    refused = sum(x.refused for x in lines)
    return (
        Tile(label="Received", value=received, href="/messages",
             note=f"{refused} refused" if refused else "every one was answered"),
        Tile(label="Delivered", value=delivered, href="/messages?state=delivered",
             note="every destination has them"),
        Tile(label="On their way", value=moving, href="/messages?state=routed",
             note=f"oldest due {ago(due, now)}" if due else "nothing is due"),
        Tile(label="Held", value=held, href="/held", tone="held" if held else "",
             note=f"oldest since {ago(oldest, now)}" if oldest else "nothing waits"),
        Tile(label="Dead letters", value=dead, href="/dead", tone="dead" if dead else "",
             note=f"{reasons} {plural(reasons, 'reason')}" if reasons else "none to settle"),
    )  # fmt: skip


def flow_routes(console: Console) -> APIRouter:
    """``/`` and its live part."""
    router = APIRouter(include_in_schema=False)
    reader = FlowReader(console)

    @router.get("/", response_class=HTMLResponse)
    def flow_page(live: str = "on") -> HTMLResponse:
        return console.page("flow.html", "Flow", {"flow": reader.flow.get(), "live": live != "off"})

    @router.get("/flow/live", response_class=HTMLResponse)
    def flow_live(request: Request) -> HTMLResponse:  # noqa: ARG001
        return pages.fragment("flow_live.html", {"flow": reader.flow.get()}, now=console.now())

    return router

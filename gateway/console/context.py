"""What every page of the console stands on: the gateway, and counts that are read rarely."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog
from fastapi import Request
from starlette.responses import HTMLResponse

from gateway import figures
from gateway.console import pages

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway

log = structlog.get_logger("ecluse.console")

COUNTS_SECONDS = 2.0
Read = TypeVar("Read")


class Kept(Generic[Read]):
    """A reading that is made at most every ``seconds``, however many browsers ask."""

    def __init__(self, read: Callable[[], Read], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: Read | None = None
        self._at = float("-inf")

    def get(self) -> Read:
        """The reading, at most ``seconds`` old."""
        with self._lock:
            if self._value is None or time.monotonic() - self._at >= self._seconds:
                self._value = self._read()
                self._at = time.monotonic()
            return self._value

    def forget(self) -> None:
        """Read again the next time, because something was just changed."""
        with self._lock:
            self._value = None


class Console:
    """Renders pages for one gateway. Safe to share between threads."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.journal = gateway.journal
        self.counts = Kept(self._read_counts, COUNTS_SECONDS)

    def _read_counts(self) -> tuple[int, int]:
        with self.journal.read() as connection:
            dead = figures.open_dead_letters(connection)
            return dead, sum(figures.held_by_cause(connection).values())

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)

    def page(
        self, template: str, current: str, context: Mapping[str, Any], *, status: int = 200
    ) -> HTMLResponse:
        """A whole page under the navigation's entry ``current``."""
        dead, held = self.counts.get()
        items = pages.navigation(current, dead=dead, held=held)
        return pages.page(template, context, items=items, status=status, now=self.now())

    def fragment(
        self, request: Request, template: str, context: Mapping[str, Any], alone: Alone
    ) -> HTMLResponse:
        """A piece of a page for htmx; a page of its own for a browser without scripts."""
        if request.headers.get("hx-request") == "true":
            return pages.fragment(template, context, status=alone.status, now=self.now())
        whole = {**context, "fragment": template, "heading": alone.heading, "back": alone.back,
                 "back_label": alone.back_label}  # fmt: skip
        return self.page("alone.html", alone.current, whole, status=alone.status)

    def error(self, status: int, detail: str) -> HTMLResponse:
        """The page for an error. ``detail`` holds no value of a patient."""
        headings = {404: "Not found", 409: "It has changed", 503: "Not available"}
        said = {"Not Found": "There is no page at this address."}.get(detail, detail)
        context = {"heading": headings.get(status, "It cannot be done"), "detail": said}
        return pages.page(
            "error.html", context, items=pages.navigation("", dead=0, held=0), status=status
        )

    def not_found(self, what: str) -> HTMLResponse:
        """The page for something that is not there."""
        context = {"heading": "Not found", "detail": f"There is no {what}."}
        return self.page("error.html", "", context, status=404)

    def saw(self, request: Request, event: str, **keys: Any) -> None:
        """Write to the log that somebody looked at data of a patient, without the data."""
        log.info(event, actor=actor(request), **keys)


class Alone:
    """How a fragment looks as a page of its own."""

    def __init__(
        self, *, heading: str, back: str, back_label: str, current: str, status: int = 200
    ) -> None:
        self.heading = heading
        self.back = back
        self.back_label = back_label
        self.current = current
        self.status = status


def actor(request: Request) -> str:
    """Who asks, as far as the credentials say; ``local`` where none are wanted."""
    return str(getattr(request.state, "actor", "local"))

"""The templates and what every page has: navigation, filters, an escaped environment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from starlette.responses import HTMLResponse

from gateway.console import typography
from gateway.wording import state_label, state_tone

STATIC = {
    "ecluse.css": "text/css; charset=utf-8",
    "ecluse.svg": "image/svg+xml",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "workbench.css": "text/css; charset=utf-8",
    "workbench.js": "text/javascript; charset=utf-8",
}
"""The only files that /static serves, with their media types."""


@dataclass(frozen=True, slots=True)
class NavigationItem:
    """One entry of the main navigation; ``count`` is how many wait for a person there."""

    label: str
    href: str
    current: bool = False
    count: int = 0
    tone: str = ""


def navigation(current: str, *, dead: int, held: int) -> list[NavigationItem]:
    """The main navigation; ``current`` is the label of the page that is shown."""
    items = (
        ("Flow", "/", 0, ""),
        ("Messages", "/messages", 0, ""),
        ("Dead letters", "/dead", dead, "dead"),
        ("Held", "/held", held, "held"),
        ("Studies", "/studies", 0, ""),
        ("Patients", "/patients", 0, ""),
        ("Documents", "/documents", 0, ""),
        ("Mappings", "/mappings", 0, ""),
    )
    return [NavigationItem(n, h, n == current, count, tone) for n, h, count, tone in items]


@cache
def static_bytes(name: str) -> bytes:
    """A static file by its exact name. Raises KeyError for any other name."""
    if name not in STATIC:
        raise KeyError(name)
    return (resources.files("gateway.console") / "static" / name).read_bytes()


@cache
def asset_version() -> str:
    """Changes when a static file does, so that browsers may keep the files for ever."""
    digest = hashlib.sha256()
    for name in sorted(STATIC):
        digest.update(static_bytes(name))
    return digest.hexdigest()[:10]


@pass_context
def _clock(context: Context, instant: datetime) -> str:
    return typography.clock(instant, context.get("now"))


@cache
def environment() -> Environment:
    """The templates: always escaped, and an unknown name is an error, not an empty string."""
    made = Environment(
        loader=PackageLoader("gateway.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        ago=typography.ago,
        authority=typography.authority,
        clock=_clock,
        duration=typography.duration,
        exact=typography.exact,
        iso=typography.iso,
        middle=typography.middle,
        number=typography.number,
        size=typography.size,
        state_label=state_label,
        state_tone=state_tone,
    )
    return made


def page(
    template: str,
    context: Mapping[str, Any],
    *,
    items: list[NavigationItem],
    status: int = 200,
    now: datetime | None = None,
) -> HTMLResponse:
    """A whole page. It is never kept by a cache: it may show data of a patient."""
    from gateway.release import version

    moment = now or datetime.now(UTC)
    offset = moment.astimezone().strftime("%z")
    text = (
        environment()
        .get_template(template)
        .render(
            {
                "navigation": items,
                "version": version(),
                "asset_version": asset_version(),
                "now": moment,
                "zone": f"UTC{offset[:3]}:{offset[3:]}" if offset != "+0000" else "UTC",
                **context,
            }
        )
    )
    return HTMLResponse(text, status, {"Cache-Control": "no-store"})


def fragment(
    template: str, context: Mapping[str, Any], *, status: int = 200, now: datetime | None = None
) -> HTMLResponse:
    """A piece of a page, for htmx."""
    text = environment().get_template(template).render({"now": now or datetime.now(UTC), **context})
    return HTMLResponse(text, status, {"Cache-Control": "no-store"})

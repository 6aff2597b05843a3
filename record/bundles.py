"""Searchsets and histories as FHIR Bundles (R4 «RESTful API», «Search», 3.1.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from record.outcomes import outcome
from record.reading import Stored
from record.store import Page


def searchset(page: Page, base: str, path: str, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A page as a Bundle with self and next links.

    ``base`` is the API's absolute URL without a final slash; ``path`` what was asked
    below it; ``query`` its parameters as they were understood.
    """
    understood = [pair for pair in query if pair[0] not in page.ignored]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if page.total is not None:
        bundle["total"] = page.total
    bundle["link"] = _links(page, base, path, understood)
    entries = [_entry(item, base, search="match") for item in page.entries]
    if page.ignored:
        text = f"left out, because they are unknown here: {', '.join(page.ignored)}"
        warning = outcome("not-supported", text, severity="warning")
        entries.append({"resource": warning, "search": {"mode": "outcome"}})
    if entries:
        bundle["entry"] = entries
    return bundle


def history_bundle(
    page: Page, base: str, path: str, query: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """A page of one entry's versions as a Bundle of type history."""
    entries = []
    for item in page.entries:
        entry = _entry(item, base)
        first = item.version == 1
        entry["request"] = {
            "method": "PUT",
            "url": item.reference,
        }
        entry["response"] = {
            "status": "201 Created" if first else "200 OK",
            "etag": etag(item),
            "lastModified": item.resource["meta"]["lastUpdated"],
        }
        entries.append(entry)
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "history",
        "total": page.total,
        "link": _links(page, base, path, query),
    }
    if entries:
        bundle["entry"] = entries
    return bundle


def etag(item: Stored) -> str:
    """The version as a weak entity tag (R4 3.1.0.1.3)."""
    return f'W/"{item.version}"'


def _entry(item: Stored, base: str, *, search: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"fullUrl": f"{base}/{item.reference}", "resource": item.resource}
    if search:
        entry["search"] = {"mode": search}
    return entry


def _links(
    page: Page, base: str, path: str, query: Sequence[tuple[str, str]]
) -> list[dict[str, str]]:
    links = [{"relation": "self", "url": _url(base, path, query)}]
    if page.next:
        following = [pair for pair in query if pair[0] != "page"]
        url = _url(base, path, [*following, ("page", page.next)])
        links.append({"relation": "next", "url": url})
    return links


def _url(base: str, path: str, query: Sequence[tuple[str, str]]) -> str:
    return f"{base}/{path}?{urlencode(query)}" if query else f"{base}/{path}"

"""The roads by which a CDA comes in, and what the record then holds: the same, whichever it was.

A road that wants to be compared names itself in ``ROADS``: its source's line in the
configuration, and how it sends one document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.eventually import eventually
from tests.http_client import HTTP
from tests.integration.faces.house import House
from tests.integration.xds.submissions import REPOSITORY, provide


@dataclass(frozen=True)
class Road:
    """One way in. ``send`` must have been answered positively when it returns."""

    configuration: str
    send: Callable[[House, bytes], None]


def by_http(house: House, data: bytes) -> None:
    answer = HTTP.post(
        f"{house.url}/intake/cda/documents", content=data, timeout=60,
        headers={"Content-Type": "application/xml"},
    )  # fmt: skip
    assert answer.status_code == 201, answer.text


def by_xds(house: House, data: bytes) -> None:
    answer = provide(f"{house.url}/intake/xds", [data])
    assert (answer.outcome, answer.codes) == ("Success", [])


ROADS = {
    # All sources have one name: codes of a sender's own are told apart by it.
    "cda-http": Road("  - {name: documents, type: cda-http}\n", by_http),
    "xds": Road(
        f"  - {{name: documents, type: xds, repository_unique_id: {REPOSITORY}, "
        "unknown_patients: hold}\n",
        by_xds,
    ),
}


def until_open(house: House) -> None:
    """Wait until the HTTP server takes connections, which is a moment after it has an address."""

    def answers() -> bool:
        if not hasattr(house, "http"):
            return False  # it has no address yet
        try:
            return HTTP.get(f"{house.url}/livez", timeout=30).status_code == 200
        except httpx2.TransportError:
            return False

    eventually(answers, timeout=60)


def documents(shared: Path) -> Sequence[Path]:
    """The 36 examples of the ANS."""
    found = sorted((shared / "corpora" / "cda").glob("*.xml"))
    assert len(found) == 36
    return found


def entries(house: House) -> dict[str, dict[str, Any]]:
    """Every entry of the record by reference, without what says when and by which message it
    came (``meta``, and the Provenance of each message)."""
    found: dict[str, dict[str, Any]] = {}
    record = house.gateway.record
    with house.gateway.journal.read() as connection:
        for kind in record.types(connection):
            page = ""
            while kind != "Provenance":
                asked = [("_count", "500"), *([("page", page)] if page else [])]
                one = record.search(connection, kind, asked)
                for each in one.entries:
                    found[each.reference] = {**each.resource, "meta": None}
                page = one.next
                if not page:
                    break
    return found


def states(house: House) -> list[tuple[str, str]]:
    """What became of each document: its id and where it stands, in order."""
    with house.gateway.journal.read() as connection:
        rows = connection.exec_driver_sql("select control_id, state from message order by id")
        return [(row[0], row[1]) for row in rows]

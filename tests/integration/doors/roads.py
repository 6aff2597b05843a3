"""What tests of documents by several ways in have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx2

from tests.eventually import eventually
from tests.http_client import HTTP
from tests.integration.faces.house import House
from tests.integration.xds.submissions import REPOSITORY

XDS = (
    f"  - {{name: documents, type: xds, repository_unique_id: {REPOSITORY}, "
    "unknown_patients: hold}\n"
)
"""A source of XDS.b, for the configuration."""


def until_open(house: House) -> None:
    """Wait until the HTTP server takes connections, which is a moment after it has an address."""

    def answers() -> bool:
        if not hasattr(house, "http"):
            return False  # it has no address yet
        try:
            return HTTP.get(f"{house.url}/livez", timeout=30).status_code == 200
        except httpx2.TransportError:
            return False

    eventually(answers, timeout=180)


def documents(shared: Path) -> Sequence[Path]:
    """The 36 examples of the ANS."""
    found = sorted((shared / "corpora" / "cda").glob("*.xml"))
    assert len(found) == 36
    return found


def states(house: House, source: str) -> dict[str, str]:
    """What became of each document of a source: where it stands, by its id."""
    with house.gateway.journal.read() as connection:
        rows = connection.exec_driver_sql(
            "select source, control_id, state from message order by id"
        )
        return {row[1]: row[2] for row in rows if row[0] == source}

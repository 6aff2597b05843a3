"""What a gateway says of itself when it has started is true at that moment."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from gateway.bootstrap import Gateway
from gateway.serving import RUNNING_FILE, serve
from gateway.settings import load_settings
from tests.integration.faces.house import CONFIGURATION
from tests.migrated import migrated


def connected(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        return True


def test_whoever_is_told_that_it_runs_can_connect_at_once(tmp_path: Path) -> None:
    configuration = tmp_path / "ecluse.yaml"
    configuration.write_text(CONFIGURATION.format(state=tmp_path / "state", token="", lab=""))
    migrated(tmp_path / "state/journal.sqlite")
    stop = asyncio.Event()
    told: list[dict[str, object]] = []

    def on_started(_gateway: Gateway, http: str) -> None:
        # In the loop's own thread: nothing can come to be true while this goes on.
        told.append(json.loads((tmp_path / "state" / RUNNING_FILE).read_text()))
        assert connected(http)
        stop.set()

    settings = load_settings(configuration, environment={})
    asyncio.run(serve(settings, on_started=on_started, stop=stop))
    (said,) = told
    with pytest.raises(ConnectionRefusedError):
        connected(str(said["http"]))
    assert not (tmp_path / "state" / RUNNING_FILE).exists()

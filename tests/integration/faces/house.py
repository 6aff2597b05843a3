"""A whole gateway in this process, on free ports, with its HTTP face: what the faces stand on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from adapters.hl7.sender import MllpClient
from gateway import telemetry
from gateway.bootstrap import Gateway
from gateway.cli.mllp_delivery import read_acknowledgement
from gateway.journal import deadletters, messages
from gateway.journal.states import MessageState
from gateway.journal.values import DeadLetterFilter, MessageFilter
from gateway.serving import serve
from gateway.settings import Loaded, Settings, load_settings, read_settings
from tests.eventually import eventually
from tests.migrated import migrated

CONFIGURATION = """
state: {state}
http: {{listen: '127.0.0.1:0'{token}}}
sources:
  - {{name: lab, type: mllp, listen: '127.0.0.1:0'{lab}}}
  - {{name: scanner, type: dicom, listen: '127.0.0.1:0', quiet_seconds: 1}}
  - {{name: practice, type: cda-http}}
"""


@dataclass
class House:
    """A running gateway and how to reach it."""

    settings: Settings
    configuration: Path
    gateway: Gateway = field(init=False)
    http: str = field(init=False)

    @property
    def url(self) -> str:
        """The address of the console."""
        return f"http://{self.http}"

    @property
    def mllp(self) -> tuple[str, int]:
        """Where HL7 v2 is taken."""
        host, _, port = self.source("lab").rpartition(":")
        return host, int(port)

    def source(self, name: str) -> str:
        """A source's address."""
        return self.gateway.addresses()[name]

    def reread(self) -> Loaded:
        """The configuration as the file has it now."""
        return read_settings(self.configuration, environment={})

    def client(self, **options: Any) -> httpx2.Client:
        """An HTTP client at the gateway's address."""
        return httpx2.Client(base_url=self.url, timeout=30, **options)

    def send(self, *bodies: bytes) -> list[str]:
        """Send messages over MLLP; the codes of their acknowledgements."""

        async def exchange() -> list[str]:
            async with MllpClient(*self.mllp) as client:
                return [read_acknowledgement(await client.send(body))[0] for body in bodies]

        # In a thread of its own: the caller may stand inside an event loop (a browser's).
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, exchange()).result(60)

    def settled(self) -> bool:
        """Whether nothing is on its way."""
        with self.gateway.journal.read() as connection:
            lines = messages.ledger(connection).values()
        return all(line.pending == 0 for line in lines)

    def wait(self) -> None:
        """Wait until nothing is on its way."""
        eventually(self.settled, timeout=30)

    def number(self, control_id: str) -> int:
        """The number of the newest message with a control id."""
        with self.gateway.journal.read() as connection:
            found = messages.page(connection, MessageFilter(control_id=control_id), limit=1)
        return found[0].id

    def state(self, number: int) -> MessageState:
        """Where a message stands."""
        with self.gateway.journal.read() as connection:
            found = messages.get(connection, number)
        assert found is not None
        return found.state

    def letter(self, control_id: str) -> int:
        """The number of the open dead letter of a message."""
        wanted = DeadLetterFilter(message_id=self.number(control_id))
        with self.gateway.journal.read() as connection:
            return deadletters.page(connection, wanted)[0].id


@contextlib.contextmanager
def running_house(
    folder: Path, *, token_file: Path | None = None, more: str = "", lab: str = ""
) -> Iterator[House]:
    """Start a gateway in a thread of its own; stop it in order at the end. ``more`` is added
    to its configuration, ``lab`` to that of its MLLP source."""
    telemetry.configure("warning", "json")
    configuration = folder / "ecluse.yaml"
    token = f", token_file: '{token_file}'" if token_file else ""
    configuration.write_text(
        CONFIGURATION.format(state=folder / "state", token=token, lab=lab) + more,
        encoding="utf-8",
    )
    migrated(folder / "state/journal.sqlite")
    house = House(load_settings(configuration, environment={}), configuration)
    started, stop, faults = threading.Event(), asyncio.Event(), list[BaseException]()
    loop = asyncio.new_event_loop()

    def on_started(gateway: Gateway, http: str) -> None:
        house.gateway, house.http = gateway, http
        started.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(
                serve(house.settings, reread=house.reread, on_started=on_started, stop=stop)
            )
        except BaseException as error:
            faults.append(error)
        finally:
            started.set()
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(180)
    if faults:
        raise faults[0]
    try:
        yield house
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    assert not thread.is_alive(), "the gateway did not stop"
    if faults:
        raise faults[0]

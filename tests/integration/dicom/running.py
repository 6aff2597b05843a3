"""A running DICOM source before an intake that keeps everything in memory and on disk."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.dicom.listener import DicomSource
from adapters.dicom.settings import DicomSourceSettings
from gateway.model import Cause, Disposition, Receipt, Received
from gateway.ports import IntakeUnavailable


class FixedClock:
    """Always the same instant."""

    def now(self) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class KeepingIntake:
    """Adopts each spooled file by renaming it, as the journal does.

    ``permission`` refuses every object with its cause; ``available`` False keeps
    nothing; ``committing`` cleared holds every commit back until it is set.
    """

    folder: Path
    permission: Cause | None = None
    available: bool = True
    committing: threading.Event = field(default_factory=threading.Event)
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.committing.set()
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._known: dict[tuple[str, str], int] = {}

    def submit(self, received: Received) -> Future[Receipt]:
        return self._pool.submit(self._commit, received)

    def _commit(self, received: Received) -> Receipt:
        self.committing.wait(timeout=30)
        if not self.available:
            raise IntakeUnavailable("test")
        key = (received.control_id, received.payload.sha256)
        known = self._known.get(key)
        cause = received.refusal or self.permission
        if known is not None and cause is None:
            return Receipt(message_id=known, disposition=Disposition.DUPLICATE)
        place = self.folder / received.payload.sha256
        if received.payload.path is not None:
            received.payload.path.rename(place)
        else:
            place.write_bytes(received.payload.read())
        self.received.append(received)
        number = len(self.received)
        if cause is not None:
            return Receipt(message_id=number, disposition=Disposition.REFUSED, cause=cause)
        self._known[key] = number
        return Receipt(message_id=number, disposition=Disposition.ACCEPTED)

    def stored(self, received: Received) -> bytes:
        """The bytes that were adopted for a message."""
        return (self.folder / received.payload.sha256).read_bytes()

    @property
    def accepted(self) -> list[Received]:
        return [one for one in self.received if one.refusal is None]

    @property
    def refused(self) -> list[Received]:
        return [one for one in self.received if one.refusal is not None]


@dataclass
class Running:
    """A started source, the intake behind it, and where it listens."""

    source: DicomSource
    intake: KeepingIntake
    spool: Path
    loop: asyncio.AbstractEventLoop

    @property
    def host(self) -> str:
        return self.source.address().rsplit(":", 1)[0]

    @property
    def port(self) -> int:
        return int(self.source.address().rsplit(":", 1)[1])

    def spooled(self) -> list[Path]:
        """Objects on their way in that are on the disk now."""
        return [p for p in self.spool.rglob("*") if p.is_file() and p.name != "lock"]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.source.stop(), self.loop).result(timeout=60)


@contextlib.contextmanager
def running_source(tmp_path: Path, **settings: Any) -> Iterator[Running]:
    """A source on a free loopback port for as long as the block lasts."""
    values: dict[str, Any] = {"name": "scanner", "listen": "127.0.0.1:0", "free_bytes_min": 0}
    configured = DicomSourceSettings(**(values | settings))
    intake = KeepingIntake(tmp_path / "kept")
    spool = tmp_path / "spool"
    source = DicomSource(configured, intake, FixedClock(), spool)
    with in_loop(source) as loop:
        try:
            yield Running(source, intake, spool, loop)
        finally:
            intake.committing.set()


@contextlib.contextmanager
def in_loop(source: DicomSource) -> Iterator[asyncio.AbstractEventLoop]:
    """Start a source in an event loop of its own, and stop it at the end of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(source.start(), loop).result(timeout=10)
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(source.stop(), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


def acceptors() -> int:
    """How many associations have not ended."""
    return sum(thread.name.startswith("dicom-scanner-") for thread in threading.enumerate())

"""Run folder sources and HTTP sources of any format, as a gateway does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from adapters.doors.folder import FolderSource
from adapters.doors.http import HttpSource, intake_router
from tests.eventually import eventually


@dataclass
class Watched:
    """A running folder source."""

    source: FolderSource
    folder: Path
    looks: list[int]

    @property
    def incoming(self) -> Path:
        return self.folder / "incoming"

    def names(self, place: str) -> list[str]:
        return sorted(path.name for path in (self.folder / place).iterdir())

    def read(self, place: str, name: str) -> bytes:
        return (self.folder / place / name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        """As a well-behaved writer does."""
        unfinished = self.incoming / f"{name}.part"
        unfinished.write_bytes(data)
        unfinished.rename(self.incoming / name)

    def after_looks(self, count: int = 4) -> None:
        """Wait until the source has looked ``count`` times more."""
        start = len(self.looks)
        eventually(lambda: len(self.looks) >= start + count)

    def until_gone(self) -> None:
        """Wait until nothing is left in ``incoming/``."""
        eventually(lambda: self.names("incoming") == [])


@contextlib.contextmanager
def watching(make: Callable[[], FolderSource]) -> Iterator[Watched]:
    """Run the source that ``make`` makes in a thread with an event loop of its own."""
    source: list[FolderSource] = []
    looks: list[int] = []
    started, ending = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    async def run() -> None:
        made = make()
        look = made.drop.look
        made.drop.look = lambda: (looks.append(1), look())[1]  # type: ignore[method-assign]
        await made.start()
        source.append(made)
        started.set()
        await asyncio.to_thread(ending.wait)
        await made.stop()
        await made.stop()  # it is idempotent

    def guarded() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            failures.append(error)
            started.set()

    thread = threading.Thread(target=guarded)
    thread.start()
    started.wait(10)
    try:
        if failures:
            raise failures[0]
        yield Watched(source[0], source[0].drop.folder, looks)
    finally:
        ending.set()
        thread.join(timeout=20)
    assert not thread.is_alive()
    assert not failures


@contextlib.contextmanager
def served(
    route: str,
    make: Callable[[], Sequence[HttpSource]],
    *,
    location: str = "/messages/{message_id}",
) -> Iterator[tuple[str, int]]:
    """Serve the sources; the URL of the first one's intake, and the port."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI):  # type: ignore[no-untyped-def]
        made = make()
        for source in made:
            await source.start()
        app.include_router(intake_router(route, *made, location=location))
        yield
        for source in made:
            await source.stop()

    server = uvicorn.Server(
        uvicorn.Config(FastAPI(lifespan=lifespan), port=0, log_level="warning", lifespan="on")
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    eventually(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}/intake/{route}", port
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
    assert not thread.is_alive()

"""DICOMweb before a real journal, over HTTP, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import secrets
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI

from adapters.dicom.web.routes import dicomweb_routes
from adapters.dicom.web.service import Answered, Service, answered
from adapters.dicom.web.settings import DicomwebSettings, DicomwebSourceSettings
from adapters.dicom.web.source import DicomwebSource
from gateway.gate import PermissionGate
from gateway.holdings import JournalHoldings
from gateway.intake import JournalIntake
from gateway.journal import gatherings, messages, tables
from gateway.journal.gatherings import Gathering
from gateway.journal.journal import Journal
from gateway.journal.values import Message
from gateway.journal.writer import GroupWriter
from gateway.sources import SystemClock
from gateway.studies import SourceStudies
from tests.eventually import eventually
from tests.migrated import migrated


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    def reasons(self, sequence: str = "00081198") -> list[int]:
        """The failure reasons of a sequence of a Store response."""
        items = self.json.get(sequence, {}).get("Value", [])
        return [each["00081197"]["Value"][0] for each in items]


@dataclass
class Web:
    """A running DICOMweb service."""

    journal: Journal
    source: DicomwebSource
    service: Service
    holdings: JournalHoldings
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicomweb"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request below ``/dicomweb``; underscores in header names stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, f"/dicomweb{path}", body, named)
            answer = connection.getresponse()
            return Answer(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        finally:
            connection.close()

    def get(self, path: str, accept: str = "application/dicom+json") -> Answer:
        return self.ask("GET", path, Accept=accept)

    def store(self, *files: bytes, path: str = "/studies", boundary: str = "") -> Answer:
        """A Store transaction of whole files."""
        content_type, body = multipart(files, boundary)
        return self.ask("POST", path, body, Content_Type=content_type)

    def kept(self) -> list[Message]:
        """All messages, the oldest first."""
        with self.journal.read() as connection:
            ids = connection.execute(tables.message.select().order_by(tables.message.c.id))
            found = [messages.get(connection, row.id) for row in ids]
        return [each for each in found if each is not None]

    def gathering(self, study: str) -> Gathering | None:
        with self.journal.read() as connection:
            return gatherings.get(connection, "web", study)

    def spooled(self) -> list[Path]:
        """Objects on their way in that are on the disk now."""
        spool = self.folder / "spool"
        return [p for p in spool.rglob("*") if p.is_file() and p.name != "lock"]


def multipart(files: Iterable[bytes], boundary: str = "", *, close: bool = True
              ) -> tuple[str, bytes]:  # fmt: skip
    """The Content-Type and the body of a Store transaction."""
    boundary = boundary or secrets.token_hex(8)
    parts = [
        b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % (boundary.encode(), file)
        for file in files
    ]
    end = f"--{boundary}--".encode() if close else b""
    kind = f'multipart/related; type="application/dicom"; boundary="{boundary}"'
    return kind, b"".join([*parts, end])


@contextlib.contextmanager
def running_web(folder: Path, pictures: Any = None, **settings: Any) -> Iterator[Web]:
    """A service for as long as the block lasts. ``settings`` are those of its source."""
    journal = Journal(
        f"sqlite:///{migrated(folder / 'journal.db')}", blob_directory=folder / "blobs"
    )
    journal.migrate()
    writer = GroupWriter(journal)
    writer.start()
    configured = DicomwebSourceSettings(**({"name": "web", "free_bytes_min": 0} | settings))
    quiet = {"web": timedelta(seconds=configured.quiet_seconds)}
    patience = {"web": timedelta(seconds=configured.partial_after_seconds)}
    ledger = SourceStudies(journal, "web", quiet, patience)
    intake = JournalIntake(writer, PermissionGate(), quiet=quiet)
    source = DicomwebSource(configured, intake, SystemClock(), folder / "spool", ledger)
    holdings = JournalHoldings(journal)
    told = {"url": ""}
    service = Service(holdings, lambda: [source], lambda: DicomwebSettings(**told), pictures)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> Any:
        await source.start()
        yield
        await source.stop()

    app = FastAPI(lifespan=lifespan)
    app.include_router(dicomweb_routes(service))
    app.add_exception_handler(Answered, answered)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        told["url"] = f"http://127.0.0.1:{port}/dicomweb"
        yield Web(journal, source, service, holdings, port, folder)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        writer.stop()
        journal.close()

"""The only place that builds everything: settings in, a gateway out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from adapters.cda.folder import CdaFolderSource
from adapters.cda.http import CdaHttpSource
from adapters.cda.language import CdaLanguage, CdaReader
from adapters.cda.settings import CdaFolderSourceSettings, CdaHttpSourceSettings
from adapters.cda.transmitted import CdaHeaders
from adapters.dicom.language import DicomLanguage, DicomReader
from adapters.dicom.listener import DicomSource
from adapters.dicom.notation import study_files
from adapters.dicom.settings import DicomSourceSettings
from adapters.doors.settings import HttpDoorSettings
from adapters.hl7.folder import Hl7FolderSource
from adapters.hl7.http import Hl7HttpSource
from adapters.hl7.language import Hl7Language, Hl7Reader
from adapters.hl7.listener import MllpSource
from adapters.hl7.settings import (
    Hl7FolderSourceSettings,
    Hl7HttpSourceSettings,
    MllpSourceSettings,
)
from adapters.hprim.folder import HprimFolderSource
from adapters.hprim.http import HprimHttpSource
from adapters.hprim.language import HprimLanguage, HprimReader
from adapters.hprim.settings import HprimFolderSourceSettings, HprimHttpSourceSettings
from gateway.broker import make_broker
from gateway.drain import Drainer
from gateway.gate import PermissionGate
from gateway.ins import ROOTS, TEST_ROOTS
from gateway.instruments import TimedIntake, TimedNormaliser, timed
from gateway.intake import JournalIntake
from gateway.journal.journal import Journal
from gateway.journal.writer import GroupWriter
from gateway.mapping import Library, MappingContext, packaged_mappings, serialise
from gateway.model import Format, Payload
from gateway.normalise import Normaliser
from gateway.opening import open_journal
from gateway.ports import Intake, Reader, Source, SourceLanguage
from gateway.retry import RetryPolicy
from gateway.route import DestinationRule
from gateway.settings import Settings
from gateway.worker import WorkerPool
from record.destination import RecordDestination
from record.store import Record

log = structlog.get_logger("ecluse.gateway")

RUNNING_FILE = "gateway.json"
"""In the state folder while a gateway runs there: its process id and addresses."""


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)


def languages() -> dict[Format, SourceLanguage]:
    """How mappings read each format."""
    return {
        Format.HL7V2: Hl7Language(),
        Format.CDA: CdaLanguage(),
        Format.DICOM: DicomLanguage(),
        Format.HPRIM: HprimLanguage(),
    }


def readers() -> dict[Format, Reader]:
    """How the bytes of each format are read."""
    return {
        Format.HL7V2: Hl7Reader(),
        Format.CDA: CdaReader(),
        Format.DICOM: DicomReader(),
        Format.HPRIM: HprimReader(),
    }


def encoders() -> dict[Format, Callable[[str], Sequence[Payload]]]:
    """How the text of a mapping's test becomes a message, where text is not the format itself."""
    return {Format.DICOM: study_files}


def load_library(settings: Settings) -> Library:
    """Load the shipped mappings, the site's folders and its overrides.

    Raises ``gateway.mapping.MappingError`` with every finding.
    """
    return Library.load(
        [packaged_mappings(), *settings.mappings.folders],
        languages(),
        sites=settings.mappings.sites,
        site=settings.mappings.site or None,
    )


def make_normaliser(settings: Settings, library: Library) -> Normaliser:
    """Stage 2 as these settings want it, for the gateway and for tools beside it."""
    roots = ROOTS if settings.identity.accept_test_roots else ROOTS - TEST_ROOTS
    return Normaliser(
        readers=readers(),
        library=library,
        contexts={
            source.name: MappingContext(
                zone=source.zone, authorities=source.authorities, source=source.name
            )
            for source in settings.sources
        },
        accepted_ins=roots,
    )


GARBAGE_THRESHOLD = 10_000
"""Objects made, and not freed, after which Python looks for garbage among the young ones. A
batch of messages is some tens of thousands, and none of it is garbage while it is worked on."""


def _calm_collector() -> None:
    """Keep Python's garbage collector from walking, every few batches, through what was loaded
    at the start and stays: mappings, definitions, code. It was a quarter of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)


@dataclass
class Gateway:
    """A gateway that is built; :meth:`start` and :meth:`stop` run it."""

    settings: Settings
    journal: Journal
    record: Record
    library: Library
    normaliser: Normaliser
    intake: JournalIntake
    writer: GroupWriter
    pool: WorkerPool
    sources: list[Source]
    started: bool = False

    @classmethod
    def build(cls, settings: Settings) -> Gateway:
        """Open, migrate and build everything; start nothing.

        Raises JournalUnavailable, JournalInUse, MappingError.
        """
        library = load_library(settings)
        pools: list[WorkerPool] = []

        def ring(lanes: frozenset[str]) -> None:
            for pool in pools:
                pool.ring_all(lanes)

        journal = open_journal(settings, read_only=False, on_ring=ring)
        gate = PermissionGate()
        record = Record(journal.blobs, now=SystemClock().now, json=serialise)
        normaliser = TimedNormaliser.around(make_normaliser(settings, library))
        drainer = Drainer(
            journal,
            normaliser,
            [timed(RecordDestination(record, name=each.name)) for each in settings.destinations],
            rules=[DestinationRule(destination=each.name) for each in settings.destinations],
            policy=retry_policy(settings),
            gate=gate,
            lease=timedelta(seconds=settings.worker.lease_seconds),
        )
        pool = WorkerPool(
            journal,
            drainer,
            make_broker(settings.broker.url),
            threads=settings.worker.threads,
            sweep_seconds=settings.worker.sweep_seconds,
        )
        if settings.worker.threads:
            pools.append(pool)
        writer = GroupWriter(journal, judge=gate.judge)
        intake = JournalIntake(
            writer,
            gate,
            quiet={
                source.name: timedelta(seconds=source.quiet_seconds)
                for source in settings.sources
                if isinstance(source, DicomSourceSettings)
            },
        )
        sources = make_sources(settings, TimedIntake(intake))
        return cls(settings, journal, record, library, normaliser, intake, writer, pool, sources)

    async def start(self) -> None:
        """Start the writer, the workers, then the doors. Raises OSError when a port is taken."""
        _calm_collector()
        self.writer.start()
        if self.settings.worker.threads:
            self.pool.start()
        for source in self.sources:
            await source.start()
            log.info("source listens", source=source.name, at=source.address())
        self.started = True

    async def stop(self) -> None:
        """Close the doors, finish what is in hand, give the lanes back. Idempotent."""
        self.started = False
        for source in self.sources:
            await source.stop()
        await asyncio.to_thread(self._stop_threads)

    def _stop_threads(self) -> None:
        self.writer.stop()
        if self.settings.worker.threads:
            self.pool.stop()
        self.journal.close()

    def ready(self) -> dict[str, bool]:
        """What must hold for the gateway to take messages; a destination's state is not part."""
        try:
            with self.journal.read() as connection:
                journal = connection.exec_driver_sql("select 1").scalar_one() == 1
        except Exception as error:  # noqa: BLE001  any fault of the database means not ready
            log.warning("the journal does not answer", error=type(error).__name__)
            journal = False
        return {"journal": journal, "sources": self.started}

    def addresses(self) -> dict[str, str]:
        """Where each source listens."""
        return {source.name: source.address() for source in self.sources}


def retry_policy(settings: Settings) -> RetryPolicy:
    """The retry policy of the settings."""
    retry = settings.retry
    return RetryPolicy(
        base=timedelta(seconds=retry.base_seconds),
        factor=retry.factor,
        cap=timedelta(seconds=retry.cap_seconds),
        attempts_max=retry.attempts_max,
        give_up_after=timedelta(seconds=retry.give_up_seconds),
    )


def make_sources(settings: Settings, intake: Intake) -> list[Source]:
    """One source per block of the settings."""
    clock, documents, made = SystemClock(), CdaHeaders(), list[Source]()
    for each in settings.sources:
        if isinstance(each, HttpDoorSettings) and each.spool_folder is None:
            each = each.model_copy(update={"spool_folder": settings.state / "spool"})  # noqa: PLW2901
        match each:
            case MllpSourceSettings():
                made.append(MllpSource(each, intake, clock, documents=documents))
            case DicomSourceSettings():
                made.append(DicomSource(each, intake, clock, settings.state / "spool"))
            case CdaHttpSourceSettings():
                made.append(CdaHttpSource(each, intake, clock))
            case CdaFolderSourceSettings():
                made.append(CdaFolderSource(each, intake, clock))
            case Hl7HttpSourceSettings():
                made.append(Hl7HttpSource(each, intake, clock, documents=documents))
            case Hl7FolderSourceSettings():
                made.append(Hl7FolderSource(each, intake, clock, documents=documents))
            case HprimHttpSourceSettings():
                made.append(HprimHttpSource(each, intake, clock))
            case HprimFolderSourceSettings():
                made.append(HprimFolderSource(each, intake, clock))
    return made


async def serve(
    settings: Settings,
    *,
    on_started: Callable[[Gateway, str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run a gateway with its HTTP face until ``stop`` is set, or SIGTERM or SIGINT.

    ``on_started`` gets the gateway and the HTTP address once every door is open.
    Raises OSError when a port is taken, and what :meth:`Gateway.build` raises.
    """
    from gateway.api import create_app

    stop = stop or asyncio.Event()
    gateway = await asyncio.to_thread(Gateway.build, settings)
    listening = _bind(settings.http.listen)
    host, port = listening.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = _Server(
        uvicorn.Config(create_app(gateway), log_config=None, lifespan="off", timeout_keep_alive=30)
    )
    serving: asyncio.Task[None] | None = None
    running = settings.state / RUNNING_FILE
    try:
        await gateway.start()
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        _say_running(running, gateway, address)
        _stop_on_signals(stop)
        log.info("http listens", at=address)
        if on_started is not None:
            on_started(gateway, address)
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    finally:
        running.unlink(missing_ok=True)
        server.should_exit = True
        if serving is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        listening.close()
        await gateway.stop()


class _Server(uvicorn.Server):
    """Leaves the signals to :func:`serve`, which has more to close than HTTP."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Capture none."""
        yield


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, int(port)))
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror}") from None
    return listening


def _say_running(path: Path, gateway: Gateway, address: str) -> None:
    told = {"pid": os.getpid(), "http": address, "sources": gateway.addresses()}
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(told), encoding="utf-8")
    partial.replace(path)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread may do so; a test that serves in another sets ``stop`` itself.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(name, stop.set)

"""The only place that builds everything: settings in, a gateway out."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from adapters.cda.inventory import CdaInventory
from adapters.cda.language import CdaLanguage, CdaReader
from adapters.dicom.inventory import DicomInventory
from adapters.dicom.language import DicomLanguage, DicomReader
from adapters.dicom.notation import study_files
from adapters.hl7.continuation import Fragment, fragment_kept
from adapters.hl7.inventory import Hl7Inventory
from adapters.hl7.language import Hl7Language, Hl7Reader
from adapters.hprim.inventory import HprimInventory
from adapters.hprim.language import HprimLanguage, HprimReader
from gateway.broker import make_broker
from gateway.configuration import Configuration
from gateway.deployment.deploying import Build, Deployer
from gateway.deployment.drafts import Drafts
from gateway.deployment.files import FileSet, MappingFolders
from gateway.deployment.following import Follower
from gateway.deployment.force import InForce, Mappings
from gateway.deployment.reprocessing import Reprocessing
from gateway.deployment.starting import SETS_FOLDER, first
from gateway.deployment.testing import Tests
from gateway.drain import Drainer
from gateway.gate import PermissionGate
from gateway.ins import ROOTS, TEST_ROOTS
from gateway.instruments import TimedIntake, TimedNormaliser, observe_mapping, timed
from gateway.intake import JournalIntake
from gateway.inventory import Inventory
from gateway.journal import gatherings
from gateway.journal.journal import Journal
from gateway.journal.writer import GroupWriter
from gateway.mapping import Library, MappingContext, serialise
from gateway.mapping.checked import CheckedMappings
from gateway.mapping_processes import CPU_SECONDS_MAX, MappingProcesses
from gateway.mapping_wire import Opening, content_digest
from gateway.model import Format, Payload
from gateway.normalise import Normaliser
from gateway.opening import open_journal
from gateway.ports import Reader, SourceLanguage
from gateway.release import version
from gateway.retry import RetryPolicy
from gateway.return_links import ReturnLinks
from gateway.route import DestinationRule
from gateway.settings import Loaded, Settings
from gateway.sources import Fragments, Sources, SystemClock, mapping_context
from gateway.worker import WorkerPool
from record.destination import RecordDestination
from record.store import Record

log = structlog.get_logger("ecluse.gateway")


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


def inventories() -> dict[Format, Inventory]:
    """What the messages of each format say, for the measure of retention."""
    return {
        Format.HL7V2: Hl7Inventory(),
        Format.CDA: CdaInventory(),
        Format.DICOM: DicomInventory(),
        Format.HPRIM: HprimInventory(),
    }


def encoders() -> dict[Format, Callable[[str], Sequence[Payload]]]:
    """How the text of a mapping's test becomes a message, where text is not the format itself."""
    return {Format.DICOM: study_files}


def load_library(
    settings: Settings, folders: MappingFolders | None = None, *, check: bool = False
) -> Library:
    """Load the shipped mappings, the site's folders and its overrides; or those in ``folders``.

    A mapping that was found right before is not checked again, unless ``check`` asks for
    it: then its warnings are in the library's ``findings``, too. Raises
    ``gateway.mapping.MappingError`` with every finding.
    """
    given = folders or MappingFolders.of(settings.mappings)
    return Library.load(
        given.folders,
        languages(),
        sites=given.sites,
        site=given.site or None,
        checked=None if check else checked_mappings(),
    )


def checked_mappings() -> CheckedMappings | None:
    """What this user's commands and gateways checked before; None for one without a home."""
    folder = os.environ.get("CACHE_DIRECTORY") or os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(folder.split(":")[0]) if folder else Path.home() / ".cache"
    except RuntimeError:
        return None
    return CheckedMappings(base / "ecluse" / "checked-mappings")


def make_normaliser(
    settings: Settings,
    library: Library,
    contexts: Mapping[str, MappingContext] | None = None,
) -> Normaliser:
    """Stage 2 as these settings want it, for the gateway and for tools beside it.

    ``contexts`` is what mappings are told of each source; without it what the settings say.
    """
    roots = ROOTS if settings.identity.accept_test_roots else ROOTS - TEST_ROOTS
    return Normaliser(
        readers=readers(),
        library=library,
        contexts={each.name: mapping_context(each) for each in settings.sources}
        if contexts is None
        else contexts,
        accepted_ins=roots,
    )


def make_mapping_processes(
    settings: Settings, library: Library, folders: MappingFolders | None = None
) -> MappingProcesses | None:
    """The processes that map for the workers; none is started yet. None where there are none."""
    if settings.worker.mapping_processes == 0 or sys.platform == "win32":
        return None
    return MappingProcesses(
        Opening(settings=settings, cpu_seconds=CPU_SECONDS_MAX, folders=folders),
        content_digest(library.programs, version()),
        count=settings.worker.mapping_processes,
        observe=observe_mapping,
    )


GARBAGE_THRESHOLD = 10_000
"""Objects made, and not freed, after which Python looks for garbage among the young ones. A
batch of messages is some tens of thousands, and none of it is garbage while it is worked on."""


def calm_collector() -> None:
    """Keep Python's garbage collector from walking, every few batches, through what was loaded
    at the start and stays: mappings, definitions, code. It was a quarter of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)


@dataclass
class Gateway:
    """A gateway that is built; :meth:`start` and :meth:`stop` run it."""

    configuration: Configuration
    journal: Journal
    record: Record
    mappings: Mappings
    deployer: Deployer
    drafts: Drafts
    reprocessing: Reprocessing
    follower: Follower
    intake: JournalIntake
    writer: GroupWriter
    pool: WorkerPool
    sources: Sources
    started: bool = False

    @property
    def library(self) -> Library:
        """The mappings in force."""
        return self.mappings.now.library

    @property
    def normaliser(self) -> Normaliser:
        """Stage 2 with the mappings in force."""
        return self.mappings.now.normaliser

    @property
    def processes(self) -> MappingProcesses | None:
        """The processes that map with the mappings in force."""
        return self.mappings.now.processes

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configuration.settings

    @classmethod
    def build(cls, settings: Settings, reread: Callable[[], Loaded] | None = None) -> Gateway:
        """Open, migrate and build everything; start nothing. ``reread`` reads the
        configuration again when that is asked for.

        Raises JournalUnavailable, JournalInUse, MappingError, CannotDeploy, NotASet.
        """
        pools: list[WorkerPool] = []

        def ring(lanes: frozenset[str]) -> None:
            for pool in pools:
                pool.ring_all(lanes)

        journal = open_journal(settings, read_only=False, on_ring=ring)
        gate = PermissionGate()
        record = Record(journal.blobs, now=SystemClock().now, json=serialise)
        policy = retry_policy(settings)
        links = ReturnLinks(journal, SystemClock(), policy)
        sources = Sources(settings.state, return_links=links)
        try:
            mappings, deployer = make_mappings(settings, journal, sources.contexts)
        except BaseException:
            journal.close()
            raise
        drainer = Drainer(
            journal,
            mappings.now.normaliser,
            [timed(RecordDestination(record, name=each.name)) for each in settings.destinations],
            rules=[DestinationRule(destination=each.name) for each in settings.destinations],
            policy=policy,
            gate=gate,
            lease=timedelta(seconds=settings.worker.lease_seconds),
            processes=mappings.now.processes,
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
        follower = Follower(journal, mappings, deployer, works=settings.worker.threads > 0)
        mappings.on_switch = lambda now: drainer.read_with(now.normaliser, now.processes)
        drainer.on_outdated = follower.outdated
        writer = GroupWriter(journal, judge=gate.judge)
        intake = JournalIntake(writer, gate, quiet=sources.quiet)
        sources.prepare(settings.sources, TimedIntake(intake), fragments_of(journal))
        configuration = Configuration(settings, sources, reread)
        return cls(
            configuration,
            journal,
            record,
            mappings,
            deployer,
            Drafts(journal, deployer, mappings, lambda folders: load_library(settings, folders)),
            Reprocessing(journal, mappings),
            follower,
            intake,
            writer,
            pool,
            sources,
        )

    async def start(self) -> None:
        """Start the writer, the workers, then the doors. Raises OSError when a port is taken."""
        calm_collector()
        self.writer.start()
        if self.settings.worker.threads:
            self.pool.start()
        self.follower.start()
        await self.sources.start()
        self.started = True

    async def stop(self) -> None:
        """Close the doors, finish what is in hand, give the lanes back. Idempotent."""
        self.started = False
        await self.configuration.close()
        await self.sources.stop()
        await asyncio.to_thread(self._stop_threads)

    def _stop_threads(self) -> None:
        self.writer.stop()
        self.follower.stop()
        if self.settings.worker.threads:
            self.pool.stop()
        self.sources.hang_up()
        self.mappings.close()
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
        return self.sources.addresses()


def make_deployer(
    settings: Settings,
    journal: Journal,
    mappings: Mappings | None = None,
    contexts: Mapping[str, MappingContext] | None = None,
) -> Deployer:
    """What deploys mappings into a journal: for the gateway that runs with ``mappings``, and
    for the command line when none runs."""

    def load(folders: MappingFolders) -> Library:
        return load_library(settings, folders)

    return Deployer(
        journal,
        settings.state / SETS_FOLDER,
        load=load,
        test=Tests(load, readers(), encoders(), checked_mappings()).run,
        build=_builder(settings, contexts),
        versions_kept=settings.mappings.versions_kept,
        mappings=mappings,
    )


def make_mappings(
    settings: Settings, journal: Journal, contexts: Mapping[str, MappingContext]
) -> tuple[Mappings, Deployer]:
    """The mappings in force at the start, and what deploys others.

    Raises MappingError, CannotDeploy, NotASet.
    """
    mappings = Mappings(
        first(
            journal,
            settings.state / SETS_FOLDER,
            MappingFolders.of(settings.mappings),
            load=lambda folders: load_library(settings, folders),
            build=_builder(settings, contexts),
        )
    )
    return mappings, make_deployer(settings, journal, mappings, contexts)


def _builder(settings: Settings, contexts: Mapping[str, MappingContext] | None) -> Build:
    def build(number: int, files: FileSet, folders: MappingFolders, library: Library) -> InForce:
        return InForce(
            version=number,
            files=files,
            folders=folders,
            library=library,
            normaliser=TimedNormaliser.around(make_normaliser(settings, library, contexts)),
            processes=make_mapping_processes(settings, library, folders),
            loaded=content_digest(library.programs, version()),
        )

    return build


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


def fragments_of(journal: Journal) -> Fragments:
    """What waits in the journal of a source's continued messages, the oldest first."""

    def fragments(source: str) -> list[tuple[str, Fragment, datetime]]:
        with journal.read() as connection:
            return [
                (
                    kept.group_key,
                    fragment_kept(kept.attributes, kept.control_id, kept.sha256, kept.size),
                    kept.received_at,
                )
                for kept in gatherings.waiting(connection, source)
            ]

    return fragments

"""The only place that builds everything: settings in, a gateway out."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from adapters.cda.validation.validator import Validator
from adapters.dicom.imaging.process import Pictures
from adapters.dicom.settings import DicomSourceSettings
from adapters.fhir.destination import FhirDestination
from adapters.hl7.continuation import Fragment, fragment_kept
from deadletter.alerts import Alerts, Channel
from deadletter.channels import Mail, Webhook
from deadletter.jobs import Replays
from deadletter.watch import DeskWatch
from gateway.broker import POSTGRESQL, make_broker
from gateway.configuration import Configuration
from gateway.delivery_settings import (
    DicomDestinationSettings,
    ElsewhereSettings,
    FhirDestinationSettings,
    RecordDestinationSettings,
)
from gateway.deployment.apart import Apart
from gateway.deployment.deploying import Build, Deployer
from gateway.deployment.drafts import Drafts
from gateway.deployment.files import FileSet, MappingFolders
from gateway.deployment.following import Follower
from gateway.deployment.force import InForce, Mappings, undeployed
from gateway.deployment.loading import checked_mappings, load_folders
from gateway.deployment.reprocessing import Reprocessing
from gateway.deployment.starting import SETS_FOLDER, first
from gateway.dicom_destinations import make_dicom_destination
from gateway.drain import Drainer
from gateway.failure import internal
from gateway.formats import readers
from gateway.gate import PermissionGate
from gateway.holdings import JournalHoldings
from gateway.housekeeping import Housekeeper
from gateway.ins import ROOTS, TEST_ROOTS
from gateway.instruments import TimedIntake, TimedNormaliser, observe_mapping, timed
from gateway.intake import JournalIntake
from gateway.journal import gatherings, standstills
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.writer import GroupWriter
from gateway.judging import make_validator
from gateway.manifests.making import Manifests
from gateway.manifests.marking import Marking
from gateway.mapping import Library, MappingContext, serialise
from gateway.mapping_processes import CPU_SECONDS_MAX, MappingProcesses
from gateway.mapping_wire import Opening, content_digest
from gateway.model import Format
from gateway.normalise import Normaliser
from gateway.opening import open_journal
from gateway.ports import Closes, Destination, Intake
from gateway.registry import RecordRegistry
from gateway.release import version
from gateway.retry import RetryPolicy
from gateway.return_links import ReturnLinks
from gateway.route import DestinationRule
from gateway.settings import Loaded, Settings
from gateway.shares import Shares
from gateway.sources import Fragments, Sources, SystemClock, mapping_context
from gateway.studies import SourceStudies
from gateway.worker import WorkerPool
from gateway.worklist import JournalWorklist
from record.destination import RecordDestination
from record.store import Record

log = structlog.get_logger("ecluse.gateway")

DOORS_SECONDS = 1.0
"""How often is looked whether a source's door must be closed or opened."""


def load_library(settings: Settings, folders: MappingFolders | None = None) -> Library:
    """Load the shipped mappings, the site's folders and its overrides; or those in ``folders``.

    A mapping of which nothing had to be said before is not checked again. Raises
    ``gateway.mapping.MappingError`` with every finding.
    """
    return load_folders(folders or MappingFolders.of(settings.mappings), checked_mappings())


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
    replays: Replays
    desk: DeskWatch
    alerts: Alerts
    validator: Validator
    housekeeper: Housekeeper
    holdings: JournalHoldings
    pictures: Pictures
    worklist: JournalWorklist
    closing: Sequence[Callable[[], None]] = ()
    """What ends the connections of destinations once nothing is delivered any more."""
    manifests: Manifests | None = None
    started: bool = False
    _doors: asyncio.Task[None] | None = None

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
    def shares(self) -> Shares:
        """Whose work is looked at, in which order."""
        return self.pool.shares

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configuration.settings

    @classmethod
    def build(cls, settings: Settings, reread: Callable[[], Loaded] | None = None) -> Gateway:
        """Open, migrate and build everything; start nothing. ``reread`` reads the
        configuration again when that is asked for.

        Raises JournalUnavailable, JournalInUse, MappingError, CannotDeploy, NotASet,
        PackUnusable.
        """
        pools: list[WorkerPool] = []

        def ring(lanes: frozenset[str]) -> None:
            for pool in pools:
                pool.ring_all(lanes)

        journal = open_journal(settings, read_only=False, on_ring=ring)
        gate = PermissionGate()
        record = make_record(settings, journal)
        policy = retry_policy(settings)
        links = ReturnLinks(journal, SystemClock(), policy)
        try:
            validator = make_validator(settings)
        except BaseException:
            journal.close()
            raise
        roots = ROOTS if settings.identity.accept_test_roots else ROOTS - TEST_ROOTS
        sources = Sources(
            settings.state,
            return_links=links,
            validator=validator,
            documents=RecordRegistry(journal, record, roots=roots),
        )
        try:
            mappings, deployer = make_mappings(settings, journal, sources.contexts)
        except BaseException:
            journal.close()
            raise
        try:
            destinations = [_destination(each, record, journal) for each in settings.destinations]
        except BaseException:
            mappings.close()
            journal.close()
            raise
        drainer = Drainer(
            journal,
            mappings.now.normaliser,
            [timed(each) for each in destinations],
            rules=[
                DestinationRule(
                    destination=each.name,
                    sources=frozenset(each.sources),
                    formats=_formats(each),
                )
                for each in settings.destinations
            ],
            policies={
                each.name: each.retry.policy()
                for each in settings.destinations
                if isinstance(each, ElsewhereSettings) and each.retry is not None
            },
            policy=policy,
            treatment={
                each.name: each.treatment()
                for each in settings.destinations
                if isinstance(each, ElsewhereSettings)
            },
            shares=Shares(
                (each.name for each in settings.destinations), settings.worker.priorities
            ),
            gate=gate,
            lease=timedelta(seconds=settings.worker.lease_seconds),
            processes=mappings.now.processes,
            judge_joined=sources.judge_joined,
        )
        pool = WorkerPool(
            journal,
            drainer,
            make_broker(settings.broker.url),
            threads=settings.worker.threads,
            connections={
                each.name: each.connections
                for each in settings.destinations
                if isinstance(each, ElsewhereSettings)
            },
            notify=settings.journal_url() if settings.broker.url == POSTGRESQL else "",
            sweep_seconds=settings.worker.sweep_seconds,
        )
        if settings.worker.threads or settings.broker.url:
            pools.append(pool)
        follower = Follower(journal, mappings, deployer, works=settings.worker.threads > 0)
        mappings.on_switch = lambda now: drainer.read_with(now.normaliser, now.processes)
        drainer.on_outdated = follower.outdated
        writer = GroupWriter(journal, judge=gate.judge)
        intake = JournalIntake(writer, gate, quiet=sources.quiet)
        holdings, worklist = JournalHoldings(journal), JournalWorklist(journal)
        sources.prepare(
            settings.sources,
            TimedIntake(intake),
            fragments_of(journal),
            lambda name: SourceStudies(journal, name, sources.quiet, sources.patience),
            holdings=holdings,
            worklist=worklist,
        )
        configuration = Configuration(
            settings,
            sources,
            reread,
            undeployed=lambda wanted: undeployed(mappings.now, MappingFolders.of(wanted.mappings)),
        )
        return cls(
            configuration,
            journal,
            record,
            mappings,
            deployer,
            Drafts(journal, deployer, mappings),
            Reprocessing(journal, mappings),
            follower,
            intake,
            writer,
            pool,
            sources,
            Replays(journal),
            DeskWatch(journal),
            make_alerts(settings, journal),
            validator,
            Housekeeper(journal, record.named, lambda: configuration.settings.retention),
            holdings,
            Pictures(lambda: configuration.settings.dicomweb),
            worklist,
            closing=[each.close for each in destinations if isinstance(each, Closes)],
            manifests=make_manifests(settings, journal, record, intake, configuration),
        )

    @property
    def _rings(self) -> bool:
        """Whether it drains lanes, or tells other processes to."""
        return bool(self.settings.worker.threads or self.settings.broker.url)

    async def start(self) -> None:
        """Start the writer, the workers, then the doors. Raises OSError when a port is taken."""
        calm_collector()
        self.writer.start()
        if self._rings:
            self.pool.start()
            self.desk.start()
            self.alerts.start()
        if self.settings.worker.threads:
            self.holdings.start()
            self.worklist.start()
        self.follower.start()
        self.housekeeper.start()
        if self.manifests is not None and self.settings.worker.threads:
            self.manifests.start()
        await self.sources.start()
        self._doors = asyncio.create_task(self._hold_doors())
        self.started = True

    async def stop(self) -> None:
        """Close the doors, finish what is in hand, give the lanes back. Idempotent."""
        self.started = False
        if self._doors is not None:
            self._doors.cancel()
        await self.configuration.close()
        await self.sources.stop()
        await asyncio.to_thread(self._stop_threads)

    async def _hold_doors(self) -> None:
        """Close the doors of sources that are being drained, and open them again."""
        while True:
            try:
                wanted = await asyncio.to_thread(self._draining)
                await self.configuration.hold(wanted)
            except JournalUnavailable:
                log.debug("the journal is away; doors stay as they are")
            except Exception as error:  # noqa: BLE001  the next look may be luckier
                fault = internal(error)
                log.critical("doors stay as they are", error=fault.detail, at=fault.location)
            await asyncio.sleep(DOORS_SECONDS)

    def _draining(self) -> frozenset[str]:
        with self.journal.read() as connection:
            return standstills.current(connection).draining_sources

    def _stop_threads(self) -> None:
        if self.manifests is not None:
            self.manifests.stop()
        self.writer.stop()
        self.alerts.stop()
        self.desk.stop()
        self.holdings.stop()
        self.worklist.stop()
        self.follower.stop()
        self.housekeeper.stop()
        if self._rings:
            self.pool.stop()
        for close in self.closing:
            close()
        self.sources.hang_up()
        self.mappings.close()
        self.validator.close()
        self.pictures.close()
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


def make_record(settings: Settings, journal: Journal) -> Record:
    """The built-in record, which tells of its changes when manifests are made of them."""
    now = SystemClock().now
    if settings.manifest is None:
        return Record(journal.blobs, now=now, json=serialise)
    return Record(journal.blobs, now=now, json=serialise, changed=Marking(journal.now))


def make_manifests(
    settings: Settings,
    journal: Journal,
    record: Record,
    intake: Intake,
    configuration: Configuration,
) -> Manifests | None:
    """What makes manifests; None where none are wanted."""
    if settings.manifest is None:
        return None

    def sources() -> list[str]:
        named = configuration.settings.sources
        return [each.name for each in named if isinstance(each, DicomSourceSettings)]

    return Manifests(journal, record, intake, settings.manifest, sources=sources)


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
        check=Apart().check,
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


def make_alerts(settings: Settings, journal: Journal) -> Alerts:
    """Who is told of dead letters."""
    told = settings.alerts
    console = told.console_url.rstrip("/")
    return Alerts(
        journal,
        channels(settings),
        thresholds=told.thresholds,
        calm=timedelta(seconds=told.calm_seconds),
        link=lambda group: f"{console}/dead/groups/{group}" if console else "",
    )


def channels(settings: Settings) -> list[Channel]:
    """The ways to people that are configured."""
    told = settings.alerts
    found: list[Channel] = [
        Webhook(name=each.name, url=each.url, secret_file=each.secret_file, ca_file=each.ca_file)
        for each in told.webhooks
    ]
    mail = told.mail
    if mail is not None:
        found.append(
            Mail(
                name="mail", host=mail.host, port=mail.port, sender=mail.sender,
                to=tuple(mail.to), security=mail.security, user=mail.user,
                password_file=mail.password_file, ca_file=mail.ca_file,
            )
        )  # fmt: skip
    return found


def retry_policy(settings: Settings) -> RetryPolicy:
    """The retry policy of the settings."""
    return settings.retry.policy()


def _destination(
    settings: RecordDestinationSettings | ElsewhereSettings, record: Record, journal: Journal
) -> Destination:
    if isinstance(settings, FhirDestinationSettings):
        return FhirDestination(settings.name, settings, journal.blobs)
    if isinstance(settings, DicomDestinationSettings):
        return make_dicom_destination(settings, journal)
    return RecordDestination(record, name=settings.name)


def _formats(settings: RecordDestinationSettings | ElsewhereSettings) -> frozenset[Format]:
    """What a destination takes: objects are sent on as they are, entries of every format go to
    the others."""
    dicom = isinstance(settings, DicomDestinationSettings)
    return frozenset({Format.DICOM}) if dicom else frozenset()


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

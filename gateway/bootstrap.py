"""The only place that builds everything: settings in, a gateway out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from adapters.cda.validation.validator import Validator
from adapters.dicom.imaging.process import Pictures
from adapters.dicom.store_settings import StoreSettings
from adapters.hl7.continuation import Fragment, fragment_kept
from deadletter.alerts import Alerts
from deadletter.jobs import Replays
from deadletter.watch import DeskWatch
from gateway.alerting import make_alerts
from gateway.configuration import Configuration
from gateway.delivery_side import (
    make_destinations,
    make_drainer,
    make_pool,
    make_record,
    retry_policy,
)
from gateway.deployment.deploying import Deployer
from gateway.deployment.drafts import Drafts
from gateway.deployment.files import MappingFolders
from gateway.deployment.following import Follower
from gateway.deployment.force import Mappings, undeployed
from gateway.deployment.reprocessing import Reprocessing
from gateway.destinations import Closes
from gateway.failure import internal
from gateway.garbage import calm_collector
from gateway.gate import PermissionGate
from gateway.holdings import JournalHoldings
from gateway.housekeeping import Housekeeper
from gateway.ins import ROOTS, TEST_ROOTS
from gateway.instruments import TimedIntake
from gateway.intake import JournalIntake
from gateway.journal import gatherings, standstills
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.writer import GroupWriter
from gateway.judging import make_validator
from gateway.mapping import Library
from gateway.mapping_processes import MappingProcesses
from gateway.mapping_side import make_mappings
from gateway.normalise import Normaliser
from gateway.opening import open_journal
from gateway.ports import Intake
from gateway.registry import RecordRegistry
from gateway.return_links import ReturnLinks
from gateway.served_holdings import ServedHoldings
from gateway.settings import Loaded, Settings
from gateway.shared_notes import SharedNotes
from gateway.shares import Shares
from gateway.source_making import Fragments
from gateway.sources import Sources, SystemClock
from gateway.studies import SourceStudies
from gateway.study_reports import StudyReports
from gateway.worker import WorkerPool
from gateway.worklist import JournalWorklist
from record.store import Record

if TYPE_CHECKING:
    from gateway.manifests.making import Manifests

log = structlog.get_logger("ecluse.gateway")

DOORS_SECONDS = 1.0
"""How often is looked whether a source's door must be closed or opened."""


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
            destinations = make_destinations(settings, record, journal)
        except BaseException:
            mappings.close()
            journal.close()
            raise
        holdings, worklist = JournalHoldings(journal), JournalWorklist(journal)
        drainer = make_drainer(
            settings, journal, mappings.now, destinations, gate=gate, sources=sources,
            hear_reports=StudyReports(journal, holdings, sources.reported).hear,
        )  # fmt: skip
        pool = make_pool(settings, journal, drainer)
        if settings.worker.threads or settings.broker.url:
            pools.append(pool)
        follower = Follower(journal, mappings, deployer, works=settings.worker.threads > 0)
        mappings.on_switch = lambda now: drainer.read_with(now.normaliser, now.processes)
        drainer.on_outdated = follower.outdated
        writer = GroupWriter(journal, judge=gate.judge)
        intake = JournalIntake(writer, gate, quiet=sources.quiet)
        holdings.share = SharedNotes(journal, intake, journal.now).share
        sources.prepare(
            settings.sources,
            TimedIntake(intake),
            fragments_of(journal),
            lambda name: SourceStudies(journal, name, sources.quiet, sources.patience),
            holdings=ServedHoldings(holdings, lambda: configuration.settings.holdings),
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
        try:
            await self.configuration.close()
            await self.sources.stop()
        finally:
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
    from gateway.manifests.making import Manifests

    def sources() -> list[str]:
        named = configuration.settings.sources
        return [each.name for each in named if isinstance(each, StoreSettings)]

    return Manifests(journal, record, intake, settings.manifest, sources=sources)


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

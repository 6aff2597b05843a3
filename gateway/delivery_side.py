"""The delivery side of a gateway, made of its settings: destinations, lanes, workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from adapters.fhir.destination import FhirDestination
from gateway.broker import POSTGRESQL, make_broker
from gateway.delivery_settings import (
    DicomDestinationSettings,
    ElsewhereSettings,
    FhirDestinationSettings,
    RecordDestinationSettings,
)
from gateway.deployment.force import InForce
from gateway.destinations import Destination
from gateway.dicom_destinations import make_dicom_destination
from gateway.drain import Drainer
from gateway.gate import PermissionGate
from gateway.instruments import timed
from gateway.journal.journal import Journal
from gateway.manifests.marking import Marking
from gateway.mapping import serialise
from gateway.model import Format
from gateway.reported import HearReports, unheard
from gateway.retry import RetryPolicy
from gateway.route import DestinationRule
from gateway.settings import Settings
from gateway.shares import Shares
from gateway.sources import Sources, SystemClock
from gateway.worker import WorkerPool
from record.destination import RecordDestination
from record.feeding import untold
from record.store import Record


def make_record(settings: Settings, journal: Journal) -> Record:
    """The built-in record, which tells of its changes when manifests are made of them."""
    same_author = all(
        each.same_author
        for each in settings.destinations
        if isinstance(each, RecordDestinationSettings)
    )
    return Record(
        journal.blobs,
        now=SystemClock().now,
        json=serialise,
        changed=untold if settings.manifest is None else Marking(journal.now),
        same_author=same_author,
    )


def retry_policy(settings: Settings) -> RetryPolicy:
    """The retry policy of the settings."""
    return settings.retry.policy()


def make_destinations(settings: Settings, record: Record, journal: Journal) -> list[Destination]:
    """Where deliveries go. Raises what makes a destination unusable."""
    return [_destination(each, record, journal) for each in settings.destinations]


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


def make_drainer(
    settings: Settings,
    journal: Journal,
    in_force: InForce,
    destinations: Sequence[Destination],
    *,
    gate: PermissionGate,
    sources: Sources,
    hear_reports: HearReports = unheard,
) -> Drainer:
    """What works on the lanes, with the mappings in force now."""
    elsewhere = [each for each in settings.destinations if isinstance(each, ElsewhereSettings)]
    return Drainer(
        journal,
        in_force.normaliser,
        [timed(each) for each in destinations],
        rules=[
            DestinationRule(
                destination=each.name, sources=frozenset(each.sources), formats=_formats(each)
            )
            for each in settings.destinations
        ],
        policies={each.name: each.retry.policy() for each in elsewhere if each.retry is not None},
        policy=retry_policy(settings),
        treatment={each.name: each.treatment() for each in elsewhere},
        shares=Shares((each.name for each in settings.destinations), settings.worker.priorities),
        gate=gate,
        lease=timedelta(seconds=settings.worker.lease_seconds),
        processes=in_force.processes,
        judge_joined=sources.judge_joined,
        hear_reports=hear_reports,
    )


def make_pool(settings: Settings, journal: Journal, drainer: Drainer) -> WorkerPool:
    """The workers that drain lanes when they are rung. Raises what a broker's URL that cannot
    be used raises."""
    elsewhere = [each for each in settings.destinations if isinstance(each, ElsewhereSettings)]
    return WorkerPool(
        journal,
        drainer,
        make_broker(settings.broker.url),
        threads=settings.worker.threads,
        connections={each.name: each.connections for each in elsewhere},
        notify=settings.journal_url() if settings.broker.url == POSTGRESQL else "",
        sweep_seconds=settings.worker.sweep_seconds,
    )

"""Destinations to which DICOM objects are sent on, made as the settings want them."""

from __future__ import annotations

from adapters.dicom.changing import changes_of
from adapters.dicom.committing import Committing
from adapters.dicom.forwarding import DicomDestination
from adapters.dicom.rewriting import Rewriter
from adapters.dicom.rule_files import steps_of
from adapters.dicom.stow import StowDestination
from gateway.asked_commitments import JournalCommitments
from gateway.delivery_settings import DicomDestinationSettings
from gateway.destinations import Destination
from gateway.journal.journal import Journal
from gateway.study_rounds import StudyRounds


def make_dicom_destination(settings: DicomDestinationSettings, journal: Journal) -> Destination:
    """A storage SCP, or a DICOMweb server, as a destination.

    Raises RuleError with every problem of its rule files.
    """
    changes = changes_of(steps_of(settings.rules))
    rewriter = Rewriter(changes, settings.rewritten_bytes_max)
    originals = StudyRounds(journal)
    if settings.protocol == "stow":
        return StowDestination(settings.name, settings, originals, rewriter)
    committing = Committing(settings, JournalCommitments(journal)) if settings.commitment else None
    return DicomDestination(settings.name, settings, originals, rewriter, committing=committing)

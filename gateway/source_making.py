"""A source from its block of the settings: which class takes it, and what it is handed.

:class:`SourceMaker` is what :mod:`gateway.sources` has its sources made by. It knows all
kinds of sources; what runs, changes and stops them does not have to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from adapters.cda.folder import CdaFolderSource
from adapters.cda.http import CdaHttpSource
from adapters.cda.reception import Reception as CdaReception
from adapters.cda.settings import CdaFolderSourceSettings, CdaHttpSourceSettings
from adapters.cda.transmitted import CdaHeaders
from adapters.cda.validation.validator import Validator
from adapters.dicom.folder import DicomFolderSource
from adapters.dicom.folder_settings import DicomFolderSourceSettings
from adapters.dicom.holdings import Holdings
from adapters.dicom.ledger import StudyLedger
from adapters.dicom.listener import DicomSource
from adapters.dicom.settings import DicomSourceSettings
from adapters.dicom.web.settings import DicomwebSourceSettings
from adapters.dicom.web.source import DicomwebSource
from adapters.dicom.worklist import Worklist
from adapters.doors.settings import HttpDoorSettings
from adapters.hl7.continuation import Continuations, Fragment
from adapters.hl7.folder import Hl7FolderSource
from adapters.hl7.http import Hl7HttpSource
from adapters.hl7.listener import MllpSource
from adapters.hl7.port import Ports
from adapters.hl7.settings import (
    Hl7FolderSourceSettings,
    Hl7HttpSourceSettings,
    MllpSourceSettings,
)
from adapters.hprim.folder import HprimFolderSource
from adapters.hprim.http import HprimHttpSource
from adapters.hprim.settings import HprimFolderSourceSettings, HprimHttpSourceSettings
from adapters.mail.settings import ImapSourceSettings, MailSourceSettings, SmtpSourceSettings
from adapters.xdm.folder import XdmFolderSource
from adapters.xdm.http import XdmHttpSource
from adapters.xdm.settings import XdmFolderSourceSettings, XdmHttpSourceSettings
from adapters.xds.http import XdsSource
from adapters.xds.settings import XdsSourceSettings
from gateway.documents import DocumentRegistry
from gateway.mail import mail_source
from gateway.ports import Clock, Intake, Source
from gateway.registry import code_schemes

Fragments = Callable[[str], Sequence[tuple[str, Fragment, datetime]]]
"""Group, pointers and time of each fragment that waits at a source, the oldest first."""


class SourceMaker:
    """Makes sources, all of one gateway.

    ``spool`` is the folder for what is too large for memory, ``validator`` judges CDA
    documents, ``documents`` is what XDS sees of the record. MLLP sources that it makes share
    ports. Belongs to the event loop of the sources.
    """

    def __init__(
        self,
        spool: Path,
        clock: Clock,
        *,
        validator: Validator | None = None,
        documents: DocumentRegistry | None = None,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._validator = validator
        self._registry = documents
        self._ports = Ports()
        self._documents = CdaHeaders()
        self._intake: Intake | None = None
        self._fragments: Fragments | None = None
        self._ledger: Callable[[str], StudyLedger] | None = None
        self._holdings: Holdings | None = None
        self._worklist: Worklist | None = None

    def supply(
        self,
        intake: Intake,
        fragments: Fragments | None = None,
        ledger: Callable[[str], StudyLedger] | None = None,
        *,
        holdings: Holdings | None = None,
        worklist: Worklist | None = None,
    ) -> None:
        """What sources made from now on hand to and ask: see ``Sources.prepare``."""
        self._intake, self._fragments, self._ledger = intake, fragments, ledger
        self._holdings = holdings
        self._worklist = worklist

    def make(self, settings: Any) -> Source:
        """The source of a block, not yet started. Raises TypeError for a block of no source."""
        intake, clock = self._intake, self._clock
        assert intake is not None, "supply comes first"
        match settings:
            case MllpSourceSettings():
                source = MllpSource(
                    settings, intake, clock, ports=self._ports, documents=self._documents
                )
                self._restore(settings.name, source.continuations)
                return source
            case DicomSourceSettings():
                ledger = self._ledger(settings.name) if self._ledger is not None else None
                return DicomSource(
                    settings,
                    intake,
                    clock,
                    self._spool,
                    ledger,
                    holdings=self._holdings,
                    worklist=self._worklist,
                )
            case DicomwebSourceSettings():
                ledger = self._ledger(settings.name) if self._ledger is not None else None
                return DicomwebSource(settings, intake, clock, self._spool, ledger)
            case DicomFolderSourceSettings():
                ledger = self._ledger(settings.name) if self._ledger is not None else None
                return DicomFolderSource(settings, intake, clock, self._spool, ledger)
            case _:
                return self._make_of_files(settings, intake, clock)

    def _make_of_files(self, settings: Any, intake: Intake, clock: Clock) -> Source:
        """A source whose messages come as whole files: bodies, folders, mail."""
        match settings:
            case CdaHttpSourceSettings():
                spooled = self.spooled(settings)
                return CdaHttpSource(spooled, intake, clock, validator=self._validator)
            case CdaFolderSourceSettings():
                return CdaFolderSource(settings, intake, clock, validator=self._validator)
            case Hl7HttpSourceSettings():
                spooled = self.spooled(settings)
                over_http = Hl7HttpSource(spooled, intake, clock, documents=self._documents)
                self._restore(settings.name, over_http.reception.continuations)
                return over_http
            case Hl7FolderSourceSettings():
                folder = Hl7FolderSource(settings, intake, clock, documents=self._documents)
                self._restore(settings.name, folder.reception.continuations)
                return folder
            case HprimHttpSourceSettings():
                return HprimHttpSource(self.spooled(settings), intake, clock)
            case HprimFolderSourceSettings():
                return HprimFolderSource(settings, intake, clock)
            case XdmHttpSourceSettings():
                return XdmHttpSource(self.spooled(settings), intake, clock, self._documents)
            case XdmFolderSourceSettings():
                return XdmFolderSource(settings, intake, clock, self._documents)
            case XdsSourceSettings():
                assert self._registry is not None, "a gateway with a record has one"
                return XdsSource(
                    self.spooled(settings),
                    clock,
                    self._registry,
                    self._documents,
                    make_reception=lambda each: xds_reception(each, intake, self._validator),
                    schemes=code_schemes(),
                )
            case ImapSourceSettings() | SmtpSourceSettings():
                return mail_source(self.spooled(settings), intake, clock, self._documents)
            case _:
                raise TypeError(f"no source takes {type(settings).__name__}")

    def _restore(self, name: str, continuations: Continuations) -> None:
        """Let a source know again what waits of its continued messages."""
        for waiting in self._fragments(name) if self._fragments else ():
            continuations.restore(*waiting)

    def spooled(self, settings: Any) -> Any:
        """A source's spool is in the state folder unless the configuration names another."""
        spools = isinstance(settings, HttpDoorSettings | MailSourceSettings)
        if spools and settings.spool_folder is None:
            return settings.model_copy(update={"spool_folder": self._spool})
        return settings


def xds_reception(
    settings: XdsSourceSettings, intake: Intake, validator: Validator | None = None
) -> CdaReception:
    """The reception of CDA by HTTP, for the documents of a source of XDS."""
    shared = CdaHttpSourceSettings.model_fields.keys() & XdsSourceSettings.model_fields.keys()
    given = {name: getattr(settings, name) for name in shared - {"type"}}
    return CdaReception(CdaHttpSourceSettings(**given), intake, validator)

"""HL7 v2 by a watched folder: files of one or many messages, acknowledged by a file."""

from __future__ import annotations

from adapters.doors.folder import FolderSource
from adapters.hl7.files import Hl7FileReception
from adapters.hl7.settings import Hl7FolderSourceSettings
from gateway.documents import DocumentHeaders
from gateway.ports import Clock, Intake


class Hl7FolderSource(FolderSource):
    """One watched folder of HL7 v2 files. The answer is the file's name with ``.ack``."""

    reception: Hl7FileReception

    def __init__(
        self,
        settings: Hl7FolderSourceSettings,
        intake: Intake,
        clock: Clock,
        *,
        documents: DocumentHeaders | None = None,
    ) -> None:
        super().__init__(settings, Hl7FileReception(settings, intake, clock, documents), clock)

    def make_reception(self, settings: Hl7FolderSourceSettings) -> Hl7FileReception:
        """See :meth:`adapters.doors.folder.FolderSource.make_reception`."""
        return self.reception.under(settings)

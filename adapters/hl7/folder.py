"""HL7 v2 by a watched folder: files of one or many messages, acknowledged by a file."""

from __future__ import annotations

from adapters.doors.folder import FolderSource
from adapters.hl7.files import Hl7FileReception
from adapters.hl7.settings import Hl7FolderSourceSettings
from gateway.ports import Clock, DocumentHeaders, Intake


class Hl7FolderSource(FolderSource):
    """One watched folder of HL7 v2 files. The answer is the file's name with ``.ack``."""

    def __init__(
        self,
        settings: Hl7FolderSourceSettings,
        intake: Intake,
        clock: Clock,
        *,
        documents: DocumentHeaders | None = None,
    ) -> None:
        super().__init__(settings, Hl7FileReception(settings, intake, clock, documents), clock)
        self._documents = documents

    def make_reception(self, settings: Hl7FolderSourceSettings) -> Hl7FileReception:
        """See :meth:`adapters.doors.folder.FolderSource.make_reception`."""
        return Hl7FileReception(settings, self.reception.intake, self.clock, self._documents)

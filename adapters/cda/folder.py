"""CDA by a watched folder: one document a file."""

from __future__ import annotations

from adapters.cda.reception import Reception
from adapters.cda.settings import CdaFolderSourceSettings
from adapters.cda.validation.validator import Validator
from adapters.doors.folder import FolderSource
from gateway.ports import Clock, Intake


class CdaFolderSource(FolderSource):
    """One watched folder of CDA documents."""

    def __init__(
        self,
        settings: CdaFolderSourceSettings,
        intake: Intake,
        clock: Clock,
        *,
        validator: Validator | None = None,
    ) -> None:
        super().__init__(settings, Reception(settings, intake, validator), clock)
        self._validator = validator

    def make_reception(self, settings: CdaFolderSourceSettings) -> Reception:
        """See :meth:`adapters.doors.folder.FolderSource.make_reception`."""
        return Reception(settings, self.reception.intake, self._validator)

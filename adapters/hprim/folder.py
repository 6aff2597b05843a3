"""HPRIM by a watched folder."""

from __future__ import annotations

from adapters.doors.folder import FolderSource
from adapters.hprim.reception import Reception
from adapters.hprim.settings import HprimFolderSourceSettings
from gateway.ports import Clock, Intake


class HprimFolderSource(FolderSource):
    """One watched folder of HPRIM files of either form."""

    def __init__(self, settings: HprimFolderSourceSettings, intake: Intake, clock: Clock) -> None:
        super().__init__(settings, Reception(settings, intake), clock)

    def make_reception(self, settings: HprimFolderSourceSettings) -> Reception:
        """See :meth:`adapters.doors.folder.FolderSource.make_reception`."""
        return Reception(settings, self.reception.intake)

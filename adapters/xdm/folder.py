"""XDM archives by a watched folder."""

from __future__ import annotations

from adapters.doors.folder import FolderSource
from adapters.xdm.reception import XdmReception
from adapters.xdm.settings import XdmFolderSourceSettings
from gateway.documents import DocumentHeaders
from gateway.ports import Clock, Intake


class XdmFolderSource(FolderSource):
    """One watched folder of XDM archives."""

    reception: XdmReception

    def __init__(
        self,
        settings: XdmFolderSourceSettings,
        intake: Intake,
        clock: Clock,
        documents: DocumentHeaders,
    ) -> None:
        super().__init__(settings, XdmReception(settings, intake, documents), clock)

    def make_reception(self, settings: XdmFolderSourceSettings) -> XdmReception:
        """See :meth:`adapters.doors.folder.FolderSource.make_reception`."""
        return XdmReception(settings, self.reception.intake, self.reception.documents)

"""XDM over HTTP: one archive per ``POST``, answered as :mod:`adapters.doors.http` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from adapters.doors.http import HttpSource
from adapters.xdm.reception import XdmReception
from adapters.xdm.settings import XdmHttpSourceSettings
from gateway.documents import DocumentHeaders
from gateway.ports import Clock, Intake

MEDIA_TYPES = frozenset(
    {"application/zip", "application/x-zip-compressed", "application/x-zip",
     "application/octet-stream"}
)  # fmt: skip


class XdmHttpSource(HttpSource):
    """One named way in, ``POST /intake/xdm/{name}``; the first also ``POST /intake/xdm``."""

    route = "xdm"
    titles: ClassVar[Mapping[int, str]] = {400: "The body is no acceptable XDM archive"}
    types_taken = "application/zip"
    reception: XdmReception

    def __init__(
        self,
        settings: XdmHttpSourceSettings,
        intake: Intake,
        clock: Clock,
        documents: DocumentHeaders,
    ) -> None:
        super().__init__(settings, XdmReception(settings, intake, documents), clock)

    def make_reception(self, settings: XdmHttpSourceSettings) -> XdmReception:
        """See :meth:`adapters.doors.http.HttpSource.make_reception`."""
        return XdmReception(settings, self.reception.intake, self.reception.documents)

    def takes(self, media_type: str) -> bool:
        """A zip by any of its names."""
        return media_type in MEDIA_TYPES

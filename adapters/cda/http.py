"""CDA over HTTP: one document per ``POST``, or several as a multipart.

Answered as :mod:`adapters.doors.http` and :mod:`adapters.doors.multipart` say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from adapters.cda.reception import Reception
from adapters.cda.settings import CdaHttpSourceSettings
from adapters.cda.validation.validator import Validator
from adapters.doors.http import HttpSource
from adapters.doors.multipart import MultipartLimits
from gateway.model import Cause, CauseCode
from gateway.ports import Clock, Intake

XML_TYPES = frozenset({"application/xml", "text/xml"})


class CdaHttpSource(HttpSource):
    """One named way in, ``POST /intake/cda/{name}``; the first also ``POST /intake/cda``."""

    route = "cda"
    titles: ClassVar[Mapping[int, str]] = {
        400: "The body is not acceptable XML",
        422: "The XML is not a CDA R2 document",
    }
    settings: CdaHttpSourceSettings
    types_taken = "application/xml, text/xml or end in +xml"

    def __init__(
        self,
        settings: CdaHttpSourceSettings,
        intake: Intake,
        clock: Clock,
        *,
        validator: Validator | None = None,
    ) -> None:
        super().__init__(settings, Reception(settings, intake, validator), clock)
        self._validator = validator

    def make_reception(self, settings: CdaHttpSourceSettings) -> Reception:
        """See :meth:`adapters.doors.http.HttpSource.make_reception`."""
        return Reception(settings, self.reception.intake, self._validator)

    def several(self) -> MultipartLimits:
        """Each part of a multipart is a document of its own."""
        return MultipartLimits(
            parts_max=self.settings.documents_max, bytes_max=self.settings.multipart_bytes_max
        )

    def takes(self, media_type: str) -> bool:
        """XML by any of its names."""
        return media_type in XML_TYPES or media_type.endswith("+xml")

    def status_of(self, cause: Cause) -> int:
        """422 for XML that is another kind of document: its location is an XPath."""
        if cause.code is CauseCode.NOT_THE_FORMAT:
            return 422 if cause.location.startswith("/") else 400
        return super().status_of(cause)

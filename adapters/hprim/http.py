"""HPRIM over HTTP: one file per ``POST``, answered as :mod:`adapters.doors.http` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from adapters.doors.http import HttpSource
from adapters.hprim.reception import Reception
from adapters.hprim.settings import HprimHttpSourceSettings
from gateway.model import Cause, CauseCode
from gateway.ports import Clock, Intake

MEDIA_TYPES = frozenset(
    {"text/plain", "text/x-hprim", "application/x-hprim", "application/octet-stream"}
)


class HprimHttpSource(HttpSource):
    """One named way in, ``POST /intake/hprim/{name}``; the first also ``POST /intake/hprim``."""

    route = "hprim"
    titles: ClassVar[Mapping[int, str]] = {400: "The body is no readable HPRIM file"}
    types_taken = "text/plain, application/x-hprim or application/octet-stream"

    def __init__(self, settings: HprimHttpSourceSettings, intake: Intake, clock: Clock) -> None:
        super().__init__(settings, Reception(settings, intake), clock)

    def make_reception(self, settings: HprimHttpSourceSettings) -> Reception:
        """See :meth:`adapters.doors.http.HttpSource.make_reception`."""
        return Reception(settings, self.reception.intake)

    def takes(self, media_type: str) -> bool:
        """Text. HPRIM has no registered type."""
        return media_type in MEDIA_TYPES

    def status_of(self, cause: Cause) -> int:
        """400 for a file without its end that arrived whole: its location is a line."""
        if cause.code is CauseCode.FRAME_TRUNCATED and cause.location:
            return 400
        return super().status_of(cause)

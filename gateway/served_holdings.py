"""What is held, for those who ask by a protocol: without what the settings hide.

Rejected instances are not shown (IHE RAD IOCM, RAD-68: 404 to who asks for one), nor their notes;
nor, unless the site says so, the studies of a patient who opposes or whose record is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapters.dicom.holding_settings import HoldingsSettings
from adapters.dicom.holdings import PAGE_MAX, HeldInstance, Match, QueryLevel
from adapters.dicom.manifest import REJECTIONS
from gateway.holdings import JournalHoldings
from gateway.journal.hiding import Hidden
from gateway.model import Payload

QUALITY = "113001"
"""The one rejection that a site may decide to show (RAD-66, regular use)."""


class ServedHoldings:
    """Implements :class:`adapters.dicom.holdings.Holdings`. ``settings`` are those in force."""

    def __init__(self, holdings: JournalHoldings, settings: Callable[[], HoldingsSettings]) -> None:
        self._holdings = holdings
        self._settings = settings

    def find(
        self, level: QueryLevel, keys: Mapping[str, str], *, limit: int = PAGE_MAX, offset: int = 0
    ) -> Sequence[Match]:
        """See the protocol."""
        return self._holdings.find(level, keys, limit=limit, offset=offset, hidden=self._hidden())

    def instances(
        self, *, study: str = "", series: str = "", instance: str = "",
        limit: int = PAGE_MAX, offset: int = 0,
    ) -> Sequence[HeldInstance]:  # fmt: skip
        """See the protocol."""
        return self._holdings.instances(
            study=study, series=series, instance=instance, limit=limit, offset=offset,
            hidden=self._hidden(),
        )  # fmt: skip

    def payload(self, instance: HeldInstance) -> Payload:
        """See the protocol."""
        return self._holdings.payload(instance)

    def _hidden(self) -> Hidden:
        settings = self._settings()
        rejected = frozenset(REJECTIONS)
        if settings.rejected_for_quality == "show":
            rejected -= {QUALITY}
        return Hidden(rejected=rejected, denied=settings.denied == "hide")

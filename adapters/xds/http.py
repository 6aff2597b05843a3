"""The endpoint: ``POST /intake/xds/{name}``, SOAP 1.2 over HTTP, for all three transactions.

ITI TF-2 Appendix V.3; SOAP 1.2 Part 2 section 7 (HTTP binding). A message that is no valid SOAP
gets a fault (400, 413, 415 or 500); everything else is answered with 200 and a response that says
what became of it, also a Failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from adapters.doors.http import HttpSource
from adapters.doors.reception import Reception
from adapters.xds.catalogue import Memory
from adapters.xds.exchange import Exchange
from adapters.xds.faults import SoapFault
from adapters.xds.settings import XdsSourceSettings
from adapters.xds.soap import MEDIA_TYPE
from adapters.xds.writing import Describing
from gateway.documents import DocumentHeaders, DocumentRegistry
from gateway.ports import Clock


class XdsSource(HttpSource):
    """One Document Repository and Registry. ``make_reception`` gives the reception of CDA under
    this source's settings; ``schemes`` the OID of a code system by its URI."""

    route = "xds"
    types_taken = "multipart/related (MTOM) or application/soap+xml"
    settings: XdsSourceSettings

    def __init__(
        self,
        settings: XdsSourceSettings,
        clock: Clock,
        documents: DocumentRegistry,
        headers: DocumentHeaders,
        *,
        make_reception: Callable[[XdsSourceSettings], Reception],
        schemes: Mapping[str, str],
    ) -> None:
        super().__init__(settings, make_reception(settings), clock)
        self._make = make_reception
        self.documents = documents
        self.headers = headers
        self.memory = Memory()
        self._schemes = schemes
        self._counted: Counter[str] = Counter()

    def make_reception(self, settings: XdsSourceSettings) -> Reception:
        """See :meth:`adapters.doors.http.HttpSource.make_reception`."""
        return self._make(settings)

    def takes(self, media_type: str) -> bool:
        """SOAP 1.2, packed or not."""
        return media_type in ("multipart/related", MEDIA_TYPE)

    def statistics(self) -> Mapping[str, int]:
        """Requests by transaction and what they came to."""
        return dict(self._counted)

    async def receive(self, request: Request, location: str) -> Response:  # noqa: ARG002
        """Answer one ``POST``."""
        folder = self._spool_folder
        exchange = Exchange(self, self.settings, self.reception)
        if folder is None or self._arriving >= self.settings.uploads_max:
            self._counted["busy"] += 1
            return exchange.busy()
        self._arriving += 1
        self._idle.clear()
        try:
            return await exchange.run(request, folder)
        except OSError:
            return exchange.fault(
                SoapFault("the spool folder takes no more: send it again", code="Receiver")
            )
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._idle.set()

    def count(self, what: str) -> None:
        """Note what happened."""
        self._counted[what] += 1

    async def drain(self, stream: AsyncIterator[bytes], bytes_max: int = 0) -> None:
        """Read on and drop, within limits, so that the sender sees the answer."""
        await super().drain(stream, bytes_max or 2 * self.settings.submission_bytes_max)

    def describing(self, settings: XdsSourceSettings) -> Describing:
        """How entries are written."""
        return Describing(
            repository=settings.repository_unique_id,
            home=settings.home_community_id,
            authorities=settings.patient_authorities,
            schemes=self._schemes,
        )

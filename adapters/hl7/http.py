"""HL7 over HTTP: ER7 in, the acknowledgement out.

After HAPI's HL7-over-HTTP specification
(hl7api.sourceforge.net/hapi-hl7overhttp/specification.html): ``POST``, Content-Type
``application/hl7-v2; charset=…`` (``application/hl7-v2+er7`` in its later versions), the
acknowledgement in the body; 204 and no body when no message of it gets one. An answer of AE
or AR is a successful interaction of the transport and has the status 200. What is no matter
of HL7 (a body that is too large, of another type, or cut) is answered as
:mod:`adapters.doors.http` says; when nothing could be kept the status is 503 and the body an
AR.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from starlette.responses import Response

from adapters.doors.http import HttpSource
from adapters.doors.reception import Contents
from adapters.hl7.charset import charset_named
from adapters.hl7.files import Hl7Contents, Hl7FileReception
from adapters.hl7.settings import Hl7HttpSourceSettings
from gateway.documents import DocumentHeaders
from gateway.model import Receipt
from gateway.ports import Clock, Intake

MEDIA_TYPE = "application/hl7-v2"
MEDIA_TYPES = frozenset(
    {MEDIA_TYPE, "application/hl7-v2+er7", "x-application/hl7-v2+er7", "text/plain"}
)


class Hl7HttpSource(HttpSource):
    """One named way in, ``POST /intake/hl7/{name}``; the first also ``POST /intake/hl7``."""

    route = "hl7"
    types_taken = "application/hl7-v2, application/hl7-v2+er7 or text/plain (ER7, not XML)"
    reception: Hl7FileReception

    def __init__(
        self,
        settings: Hl7HttpSourceSettings,
        intake: Intake,
        clock: Clock,
        *,
        documents: DocumentHeaders | None = None,
    ) -> None:
        super().__init__(settings, Hl7FileReception(settings, intake, clock, documents), clock)

    def make_reception(self, settings: Hl7HttpSourceSettings) -> Hl7FileReception:
        """See :meth:`adapters.doors.http.HttpSource.make_reception`."""
        return self.reception.under(settings)

    def takes(self, media_type: str) -> bool:
        """ER7 by any of its names."""
        return media_type in MEDIA_TYPES

    def respond(self, contents: Contents, receipts: Sequence[Receipt], location: str) -> Response:
        """The acknowledgement, or the batch of them."""
        if isinstance(contents, Hl7Contents) and contents.faulty:
            return super().respond(contents, receipts, location)
        body = self.reception.answer(contents, receipts)
        headers = {}
        if receipts:
            headers["Location"] = location.format(message_id=receipts[0].message_id)
        if not body:  # acknowledgements, and messages that ask for no answer
            return Response(status_code=204, headers=headers)
        return _acknowledgement(contents, body, 200, headers)

    def not_kept(self, contents: Contents) -> Response:
        """AR for every message: none of them counts as taken."""
        headers = {"Retry-After": str(self.settings.retry_after_seconds)}
        body = self.reception.not_kept(contents)
        if not body:
            return Response(status_code=503, headers=headers)
        return _acknowledgement(contents, body, 503, headers)


def _acknowledgement(
    contents: Contents, body: bytes, status: int, headers: dict[str, str]
) -> Response:
    charset = _charset_of(contents, body)
    kind = f"{MEDIA_TYPE}; charset={charset}" if charset else MEDIA_TYPE
    # Not as media_type: Starlette would add a charset of its own to some types.
    return Response(body, status, headers={"Content-Type": kind, **headers})


def _charset_of(contents: Contents, body: bytes) -> str:
    """IANA's name of the answer's character set; empty when its parts differ."""
    if body.isascii():
        return "utf-8"
    names = {received.encoding for received in contents.received}
    charset = charset_named(names.pop()) if len(names) == 1 else None
    if charset is None:
        return ""
    name = codecs.lookup(charset.codec).name
    return {"cp1252": "windows-1252"}.get(name, name.replace("iso8859", "iso-8859"))

"""Refusals over HTTP as RFC 9457 ``application/problem+json``."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from gateway.model import Cause, CauseCode

MEDIA_TYPE = "application/problem+json"

_TITLES = {
    400: "The body is not acceptable XML",
    403: "The patient's record takes nothing from this source",
    404: "No such source",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body's type is not accepted",
    422: "The XML is not a CDA R2 document",
    503: "Nothing was kept",
}
_PERMISSION = frozenset({CauseCode.FEEDING_OPPOSED, CauseCode.RECORD_CLOSED})
_STATUS = {
    CauseCode.FRAME_OVERSIZED: 413,
    CauseCode.FRAME_TRUNCATED: 408,
    CauseCode.UNSUPPORTED_TYPE: 415,
    CauseCode.HOSTILE_CONTENT: 400,
    CauseCode.UNREADABLE: 400,
    CauseCode.CHARACTER_SET: 400,
}


def status_of(cause: Cause) -> int:
    """The HTTP status of a refusal: 403 permission, 400 no good XML, 422 no CDA R2."""
    if cause.code in _PERMISSION:
        return 403
    if cause.code is CauseCode.NOT_THE_FORMAT:
        # An XPath as location: it is XML, but another kind of document.
        return 422 if cause.location.startswith("/") else 400
    return _STATUS.get(cause.code, 422)


def problem(
    status: int,
    cause: Cause | None = None,
    *,
    detail: str = "",
    message_id: int | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """One problem: ``type`` names the cause, ``location`` the place, no patient value."""
    body: dict[str, object] = {"title": _TITLES.get(status, "Refused"), "status": status}
    if cause is not None:
        body["type"] = f"urn:ecluse:cause:{cause.code}"
        body["cause"] = str(cause.code)
        detail = detail or cause.detail
        if cause.location:
            body["location"] = cause.location
    if detail:
        body["detail"] = detail
    if message_id is not None:
        body["message_id"] = message_id
    return Response(orjson.dumps(body), status, headers=headers, media_type=MEDIA_TYPE)

"""Refusals over HTTP as RFC 9457 ``application/problem+json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
from starlette.responses import Response

from gateway.model import Cause, CauseCode

MEDIA_TYPE = "application/problem+json"

_TITLES = {
    400: "The body is not acceptable",
    403: "The patient's record takes nothing from this source",
    404: "No such source",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body's type is not accepted",
    422: "The body is not what this source takes",
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
    CauseCode.NOT_THE_FORMAT: 400,
}


def status_of(cause: Cause) -> int:
    """The HTTP status of a refusal: 403 permission, 400 unreadable, 422 what it says is wrong."""
    return 403 if cause.code in _PERMISSION else _STATUS.get(cause.code, 422)


def problem(
    status: int,
    cause: Cause | None = None,
    *,
    detail: str = "",
    message_id: int | None = None,
    headers: dict[str, str] | None = None,
    titles: Mapping[int, str] | None = None,
    reasons: Sequence[str] = (),
) -> Response:
    """One problem: ``type`` names the cause, ``location`` the place, no patient value.

    ``titles`` are a format's own words for a status. ``reasons`` are the sender's own, and
    may repeat its values.
    """
    body = problem_body(
        status, cause, detail=detail, message_id=message_id, titles=titles, reasons=reasons
    )
    return Response(orjson.dumps(body), status, headers=headers, media_type=MEDIA_TYPE)


def problem_body(
    status: int,
    cause: Cause | None = None,
    *,
    detail: str = "",
    message_id: int | None = None,
    titles: Mapping[int, str] | None = None,
    reasons: Sequence[str] = (),
) -> dict[str, object]:
    """The members of a problem; see :func:`problem`."""
    title = (titles or {}).get(status) or _TITLES.get(status, "Refused")
    body: dict[str, object] = {"title": title, "status": status}
    if cause is not None:
        body["type"] = f"urn:ecluse:cause:{cause.code}"
        body["cause"] = str(cause.code)
        detail = detail or cause.detail
        if cause.location:
            body["location"] = cause.location
    if detail:
        body["detail"] = detail
    if reasons:
        body["reasons"] = list(reasons)
    if message_id is not None:
        body["message_id"] = message_id
    return body

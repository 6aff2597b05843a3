"""What a FHIR server's answer means for a delivery. Pure.

=====================  ====================================================================
2xx, understood        Delivered
2xx, anything else     unknown: a proxy's page says nothing of what became of it
401 403 407, 3xx       Wait: our access is wrong, not the message; nothing is lost meanwhile
404 405 without an     Wait: the base URL is wrong
OperationOutcome
409 412                Again: somebody else changed the same resources (R4 http.html#concurrency)
408 425 500 502 504    Again: unknown, a server may fail after it has applied
429 503 507            Wait, as long as Retry-After says (RFC 9110, 10.2.3); else Again for 503, 507
other 4xx              Refused
=====================  ====================================================================
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from adapters.line import Answer
from gateway.model import Again, Cause, CauseCode, Delivered, Outcome, Refused, Wait

ACCESS_WAIT = timedelta(minutes=1)
"""How often a server is tried that does not let us in."""
REST_DEFAULT = timedelta(seconds=5)
REST_MAX = timedelta(hours=1)
"""The longest that Retry-After is followed."""
_ISSUES_MAX = 5
_ACCESS = frozenset({401, 403, 407})
_UNKNOWN = frozenset({408, 425, 500, 502, 504})
_REST = frozenset({429, 503, 507})
_CONFLICT = frozenset({409, 412})
_WRONG_ADDRESS = frozenset({404, 405})


def unknown(detail: str, status: int = 0) -> Again:
    """Nobody knows whether it arrived."""
    cause = Cause(
        code=CauseCode.OUTCOME_UNKNOWN, detail=detail, protocol_code=str(status) if status else ""
    )
    return Again(cause=cause)


def unavailable(detail: str, status: int = 0) -> Cause:
    """The destination, or our way to it, does not work."""
    return Cause(
        code=CauseCode.DESTINATION_UNAVAILABLE,
        detail=detail,
        protocol_code=str(status) if status else "",
    )


def failed(answer: Answer, now: datetime | None = None) -> Outcome:
    """The outcome of an answer whose status is not 2xx."""
    status, issues = answer.status, _issues(answer.body)
    said = f"the server answered {status}" + (f" ({issues})" if issues else "")
    if status in _ACCESS or 300 <= status < 400:
        what = "redirects us" if status < 400 else "does not let us in"
        return Wait(cause=unavailable(f"{said}: it {what}", status), after=ACCESS_WAIT)
    if status in _WRONG_ADDRESS and issues is None:
        detail = f"{said}: there is no FHIR server at this address"
        return Wait(cause=unavailable(detail, status), after=ACCESS_WAIT)
    if status in _CONFLICT:
        cause = Cause(code=CauseCode.DESTINATION_REFUSED, detail=said, protocol_code=str(status))
        return Again(cause=cause)
    if status in _UNKNOWN or (status >= 500 and status not in _REST):
        return unknown(said, status)
    if status in _REST:
        rest = _retry_after(answer, now or datetime.now(UTC))
        if rest is None and status != 429:
            return Again(cause=unavailable(said, status))
        return Wait(cause=unavailable(said, status), after=rest or REST_DEFAULT)
    location = _location(answer.body)
    return Refused(
        cause=Cause(
            code=CauseCode.DESTINATION_REFUSED,
            detail=said,
            location=location,
            protocol_code=str(status),
        )
    )


def applied(answer: Answer, expected: int) -> Outcome:
    """The outcome of a transaction that was answered with 2xx."""
    bundle = _json(answer.body)
    entries = bundle.get("entry") if bundle.get("type") == "transaction-response" else None
    if bundle.get("resourceType") != "Bundle" or not isinstance(entries, list):
        return unknown(
            f"the server answered {answer.status} with something that is no transaction-response",
            answer.status,
        )
    statuses = [str(_of(_of(each, "response"), "status"))[:3] for each in entries]
    if len(statuses) != expected or any(not each.startswith("2") for each in statuses):
        return unknown("the server's transaction-response does not fit what was sent")
    return Delivered(evidence=counted(statuses))


def counted(statuses: list[str]) -> str:
    """What updates did, in a few words."""
    created = Counter(statuses)["201"]
    parts = ((created, "created"), (len(statuses) - created, "updated"))
    return ", ".join(f"{number} {what}" for number, what in parts if number) or "nothing"


def _of(value: object, name: str) -> object:
    return value.get(name, "") if isinstance(value, dict) else ""


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _issues(body: bytes) -> str | None:
    """The codes of an OperationOutcome, without its texts, which may quote a patient; None
    when the body is no OperationOutcome."""
    outcome = _json(body)
    if outcome.get("resourceType") != "OperationOutcome":
        return None
    listed = outcome.get("issue")
    found = []
    for issue in listed[:_ISSUES_MAX] if isinstance(listed, list) else ():
        severity, code = str(_of(issue, "severity"))[:16], str(_of(issue, "code"))[:32]
        found.append(f"{severity}: {code}")
    return "; ".join(found)


def _location(body: bytes) -> str:
    """The element that the first issue names (a path, no value)."""
    listed = _json(body).get("issue")
    for issue in listed[:_ISSUES_MAX] if isinstance(listed, list) else ():
        paths = _of(issue, "expression")
        if isinstance(paths, list) and paths:
            path = str(paths[0])[:200]
            # FHIRPath with a value in it (a where clause) is left out.
            return path if not set(path) & set("'\"=") else ""
    return ""


def _retry_after(answer: Answer, now: datetime) -> timedelta | None:
    given = answer.headers.get("retry-after", "").strip()
    if given.isdigit():
        seconds = float(given[:9])
    else:
        try:
            seconds = (parsedate_to_datetime(given) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(timedelta(seconds=seconds), timedelta(seconds=1)), REST_MAX)

"""Errors as FHIR says them: OperationOutcome (R4 «RESTful API», 3.1.0.1.4)."""

from __future__ import annotations

from typing import Any


class Rejected(Exception):
    """An interaction that ends in an error.

    ``code`` is of http://hl7.org/fhir/issue-type; ``diagnostics`` a sentence that
    repeats no value of the request but a parameter's name.
    """

    def __init__(
        self,
        status: int,
        code: str,
        diagnostics: str,
        *,
        expression: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(diagnostics)
        self.headers = headers
        self.status = status
        self.code = code
        self.diagnostics = diagnostics
        self.expression = expression


def outcome(
    code: str, diagnostics: str, *, severity: str = "error", expression: str = ""
) -> dict[str, Any]:
    """An OperationOutcome of one issue."""
    issue: dict[str, Any] = {"severity": severity, "code": code, "diagnostics": diagnostics}
    if expression:
        issue["expression"] = [expression]
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def not_found(what: str) -> Rejected:
    """404: the record has no such thing."""
    return Rejected(404, "not-found", f"the record has no such {what}")


def bad_request(parameter: str, reason: str, *, known: bool) -> Rejected:
    """400: a search parameter that is unknown, or a value that cannot be read."""
    code = "invalid" if known else "not-supported"
    return Rejected(400, code, f"{parameter}: {reason}", expression=f"http.{parameter}")

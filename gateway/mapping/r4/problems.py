"""What a check of a FHIR R4 resource can find, and the shape of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PROBLEMS_MAX = 100
"""How many problems one check reports; a resource with more is wrong all the same."""

DEPTH_MAX = 100
"""How many objects may stand inside one another. JSON cannot be written back from much deeper."""


class ProblemCode(StrEnum):
    """The closed set of what a check finds."""

    UNKNOWN_RESOURCE = "unknown-resource"
    UNKNOWN_ELEMENT = "unknown-element"
    WRONG_TYPE = "wrong-type"
    NOT_AN_ARRAY = "not-an-array"
    NOT_SINGLE = "not-single"
    EMPTY = "empty"
    NULL = "null"
    FORMAT = "format"
    TOO_LONG = "too-long"
    TOO_DEEP = "too-deep"
    MISSING = "missing"
    PROHIBITED = "prohibited"
    CHOICE = "choice"
    CODE = "code"
    TARGET = "target"
    DANGLING = "dangling"
    DUPLICATE = "duplicate"
    CONTAINED = "contained"
    NARRATIVE = "narrative"
    INVARIANT = "invariant"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a resource.

    ``path`` is the place, with positions (``Observation.component[0].code``);
    ``message`` a sentence in which no value of the resource stands.
    """

    path: str
    code: ProblemCode
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.code} {self.message}"


Finding = tuple[str, ProblemCode, str]
"""A problem whose path is still relative: empty, ``.name…`` or ``[0]…``."""


def within(step: str, findings: list[Finding]) -> list[Finding]:
    """The findings as seen from one step (``.name`` or ``[0]``) further out."""
    return [(step + path, code, message) for path, code, message in findings]

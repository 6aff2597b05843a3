"""What is wrong with a mapping: every finding with its place and a way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gateway.value_class import value_class

Severity = Literal["error", "warning"]

FINDINGS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong. ``line`` and ``column`` count from 1; ``suggestion`` may be empty."""

    file: str
    line: int
    column: int
    code: str
    message: str
    suggestion: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        """``file:line:column code message (suggestion)``."""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column} {self.code} {self.message}{hint}"


class MappingError(Exception):
    """Mappings that cannot be used. ``findings`` holds all errors and warnings, in order."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings


@value_class(frozen=True, slots=True)
class Place:
    """Where a node stands: ``file`` as people find it, ``label`` as flags name it.

    ``label`` is the path inside the mappings folder, the same on every machine, so
    that the same message gives the same flags wherever Écluse is installed.
    """

    file: str
    label: str
    line: int
    column: int

    def __str__(self) -> str:
        """The rule's name in flags and traces: ``hl7/oru_r01.yaml:14:18``."""
        return f"{self.label}:{self.line}:{self.column}"

    def after(self, characters: int) -> Place:
        """So many characters further on the same line."""
        return Place(self.file, self.label, self.line, self.column + characters)


class Findings:
    """Collects; never raises until asked. The same finding is kept once."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}

    def error(self, place: Place, code: str, message: str, suggestion: str = "") -> None:
        """Add an error; after ``FINDINGS_MAX`` findings no more are kept."""
        self._add(place, code, message, suggestion, "error")

    def warning(self, place: Place, code: str, message: str, suggestion: str = "") -> None:
        """Add a warning: it does not keep the mapping from loading."""
        self._add(place, code, message, suggestion, "warning")

    def _add(
        self, place: Place, code: str, message: str, suggestion: str, severity: Severity
    ) -> None:
        if len(self._found) < FINDINGS_MAX:
            finding = Finding(
                place.file, place.line, place.column, code, message, suggestion, severity
            )
            self._found[finding] = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._found)

    @property
    def failed(self) -> bool:
        """Whether there is an error among them."""
        return any(finding.severity == "error" for finding in self._found)

    def all(self) -> tuple[Finding, ...]:
        """Everything found, by file, line and column."""
        return tuple(sorted(self._found, key=lambda f: (f.file, f.line, f.column, f.code)))


def nearest(wrong: str, known: Iterable[str], lead: str = "did you mean ") -> str:
    """«did you mean X?» for the known word most like the wrong one, or empty."""
    match = next(iter(difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)), "")
    return f"{lead}{match}?" if match else ""

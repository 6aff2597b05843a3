"""What a check says: findings with their place, and the report that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

TEXT_MAX = 600
FINDINGS_MAX = 1_000
"""Findings that a report keeps; what goes beyond is counted."""


class Level(StrEnum):
    """How grave a finding is. Only errors make a document one that would be refused."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, in French as its rule says it.

    ``origin`` names who says so: ``lecture`` (the reader), ``XSD``, ``Écluse`` or a
    schematron of the pack; ``rule`` is that origin's own name of the rule. ``xpath`` is
    positional in the document's own names, ``line`` 0 where there is none.
    """

    origin: str
    rule: str
    level: Level
    text: str
    xpath: str = ""
    line: int = 0

    @property
    def shown(self) -> str:
        """The text without runs of blanks, short enough for a line or two."""
        words = " ".join(self.text.split())
        return words if len(words) <= TEXT_MAX else words[: TEXT_MAX - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found in one document.

    ``origins`` are all that were asked, with or without a finding; ``problems`` is what
    could not be judged and why (an include that the pack does not have), which says
    nothing of the document. ``pack`` is the pack's name or empty, ``digest`` that of its
    content. ``left_out`` counts findings beyond ``FINDINGS_MAX``.
    """

    findings: tuple[Finding, ...]
    origins: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    pack: str = ""
    digest: str = ""
    left_out: int = 0

    @property
    def errors(self) -> int:
        """How many errors."""
        return sum(each.level is Level.ERROR for each in self.findings)

    @property
    def warnings(self) -> int:
        """How many warnings."""
        return sum(each.level is Level.WARNING for each in self.findings)

    @property
    def passed(self) -> bool:
        """Whether there is no error."""
        return self.errors == 0

    def groups(self) -> list[Group]:
        """Findings of one rule together, errors first, each group in document order."""
        together: dict[tuple[str, str, Level], list[Finding]] = {}
        for each in self.findings:
            together.setdefault((each.origin, each.rule, each.level), []).append(each)
        ranked = sorted(together.values(), key=lambda found: list(Level).index(found[0].level))
        return [Group(tuple(found)) for found in ranked]

    def as_json(self) -> dict[str, Any]:
        """Plain values, from which :func:`report_of` makes the same report."""
        return {
            "pack": self.pack,
            "digest": self.digest,
            "origins": list(self.origins),
            "problems": list(self.problems),
            "left_out": self.left_out,
            "findings": [
                {
                    "origin": each.origin, "rule": each.rule, "level": each.level.value,
                    "text": each.text, "xpath": each.xpath, "line": each.line,
                }
                for each in self.findings
            ],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one rule."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The one that stands for all."""
        return self.findings[0]


def report_of(said: Mapping[str, Any]) -> Report:
    """The report that :meth:`Report.as_json` was made of. KeyError, ValueError: it is none."""
    return Report(
        findings=tuple(
            Finding(
                origin=str(each["origin"]), rule=str(each["rule"]), level=Level(each["level"]),
                text=str(each["text"]), xpath=str(each["xpath"]), line=int(each["line"]),
            )
            for each in said["findings"]
        ),
        origins=tuple(said["origins"]),
        problems=tuple(said["problems"]),
        pack=str(said["pack"]),
        digest=str(said["digest"]),
        left_out=int(said["left_out"]),
    )  # fmt: skip


def limited(findings: Iterable[Finding]) -> tuple[tuple[Finding, ...], int]:
    """The first ``FINDINGS_MAX``, errors before others, and how many were left out."""
    every = list(findings)
    if len(every) > FINDINGS_MAX:
        every.sort(key=lambda each: list(Level).index(each.level))
    return tuple(every[:FINDINGS_MAX]), max(0, len(every) - FINDINGS_MAX)

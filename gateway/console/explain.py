"""Where each value of an entry came from: the mapping is run again, with a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.console import clinical
from gateway.console.source_text import field_anchor
from gateway.journal.journal import Journal
from gateway.journal.values import Message
from gateway.model import Cause, Format, Mapped, TraceStep
from gateway.normalise import Unusable
from gateway.originals import original_of
from gateway.shapes import explanation
from gateway.workbench import elements

if TYPE_CHECKING:
    from gateway.normalise import Normaliser

STEPS_MAX = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedValue:
    """One value: its element, what it is, its place in the source, the steps, the rule."""

    path: str
    value: str
    source: str
    anchor: str
    steps: tuple[str, ...]
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedEntry:
    """One entry with its values, in the mapping's order."""

    type: str
    says: str
    steps: tuple[ExplainedValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A whole message explained, or the problem that stopped its reading."""

    mapping: str = ""
    version: str = ""
    changed: bool = False
    entries: tuple[ExplainedEntry, ...] = field(default=())
    problem: dict[str, str] | None = None


def explain(journal: Journal, normaliser: Normaliser, message: Message) -> Explanation:
    """Read and map a message again, as the loaded mappings do it now."""
    try:
        original = original_of(journal, message)
    except KeyError:
        return _problem("The bytes are not there", "The store has no such bytes any more.")
    except OverflowError:
        return _problem("Too large to explain here", "Use ecluse mapping run on the file.")
    found = normaliser.explain(original)
    if isinstance(found, Unusable):
        return _unusable(found.cause)
    return Explanation(
        mapping=found.mapping,
        version=found.version,
        changed=bool(message.mapping_digest) and found.digest != message.mapping_digest,
        entries=tuple(_entries(found, message.format)),
    )


def _problem(title: str, detail: str, location: str = "") -> Explanation:
    return Explanation(problem={"title": title, "detail": detail, "location": location})


def _unusable(cause: Cause) -> Explanation:
    words = explanation(cause.code)
    return _problem(words["title"], cause.detail or words["means"], cause.location)


def _entries(mapped: Mapped, form: Format) -> list[ExplainedEntry]:
    by_entry: dict[str, list[TraceStep]] = {}
    for step in mapped.trace[:STEPS_MAX]:
        by_entry.setdefault(step.target.partition("#")[0], []).append(step)
    return [
        ExplainedEntry(
            type=str(entry.resource["resourceType"]),
            says=clinical.says(entry.resource),
            steps=tuple(_values(entry.resource, by_entry.get(entry.reference, ()), form)),
        )
        for entry in mapped.entries
    ]


def _values(
    resource: dict[str, Any], steps: Sequence[TraceStep], form: Format
) -> list[ExplainedValue]:
    return [
        ExplainedValue(
            path=(path := step.target.partition("#")[2]),
            value=value_at(resource, path),
            source=step.source,
            anchor=field_anchor(step.source) if form is Format.HL7V2 else "",
            steps=step.steps,
            rule=step.rule,
        )
        for step in steps
    ]


def value_at(resource: Any, path: str) -> str:
    """The value at a trace's path (``name[0].family``) as text; empty when it is not there.

    An object is shown by what it says: a coding by its code, a quantity by its number.
    """
    try:
        return _shown(elements.value_at(resource, elements.parse(path)))
    except elements.NoTarget:
        return ""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(each) for each in value[:5])
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    if "value" in value:
        # In the entry's own digits: this page is about what is stored.
        written = (value.get("comparator"), value["value"], value.get("unit"))
        return " ".join(str(each) for each in written if each is not None)
    return clinical.concept(value) or str(value.get("code") or value.get("reference") or "")

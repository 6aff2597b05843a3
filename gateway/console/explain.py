"""Where each value of a message's entries came from: the mapping is run again and watched.

What is told is what ``ecluse mapping explain`` tells (:mod:`gateway.workbench.provenance`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from gateway.console import clinical
from gateway.console.readings import bench_of
from gateway.console.source_text import field_anchor
from gateway.deployment.force import InForce
from gateway.journal.journal import Journal
from gateway.journal.values import Message
from gateway.mapping import MappingContext
from gateway.model import Cause, Format
from gateway.originals import original_of
from gateway.shapes import explanation
from gateway.workbench.examining import Examined, examine
from gateway.workbench.provenance import Explained, Provenance

VALUES_MAX = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceShown:
    """A place of the message that a value came from, and where the page shows it."""

    path: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedValue:
    """One value: its element, what it is, its places in the source, the steps, the rule.
    ``because`` is the table's row, or what the mapping writes beside a constant or policy."""

    path: str
    value: str
    sources: tuple[SourceShown, ...]
    steps: tuple[str, ...]
    because: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedEntry:
    """One entry with its values, in its own order."""

    type: str
    says: str
    steps: tuple[ExplainedValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A whole message explained, or the problem that stopped its reading.

    ``more``: it has more values than are shown.
    """

    mapping: str = ""
    version: str = ""
    changed: bool = False
    entries: tuple[ExplainedEntry, ...] = field(default=())
    more: bool = False
    problem: dict[str, str] | None = None


def explain(journal: Journal, now: InForce, message: Message) -> Explanation:
    """Read and map a message again, as the mappings in force do it now."""
    try:
        original = original_of(journal, message)
    except KeyError:
        return _problem("The bytes are not there", "The store has no such bytes any more.")
    except OverflowError:
        return _problem("Too large to explain here", "Use ecluse mapping explain on the file.")
    context = now.normaliser.contexts.get(message.source, MappingContext(source=message.source))
    found = examine(bench_of(now.library), original.format, original.payloads, context)
    if isinstance(found, Cause):
        return _unusable(found)
    values = list(islice(_values(found, message.format), VALUES_MAX + 1))
    by_entry: dict[str, list[ExplainedValue]] = {}
    for reference, value in values[:VALUES_MAX]:
        by_entry.setdefault(reference, []).append(value)
    return Explanation(
        mapping=found.mapped.mapping,
        version=found.mapped.version,
        changed=bool(message.mapping_digest) and found.mapped.digest != message.mapping_digest,
        entries=tuple(
            ExplainedEntry(
                type=str(entry.resource["resourceType"]),
                says=clinical.says(entry.resource),
                steps=tuple(by_entry.get(entry.reference, ())),
            )
            for entry in found.mapped.entries
        ),
        more=len(values) > VALUES_MAX,
    )


def _problem(title: str, detail: str, location: str = "") -> Explanation:
    return Explanation(problem={"title": title, "detail": detail, "location": location})


def _unusable(cause: Cause) -> Explanation:
    words = explanation(cause.code)
    return _problem(words["title"], cause.detail or words["means"], cause.location)


def _values(examined: Examined, form: Format) -> Iterator[tuple[str, ExplainedValue]]:
    """Every value with the reference of its entry."""
    for _, _, _, explained in Provenance(examined).everything():
        if explained is not None:
            reference, _, path = explained.target.partition("#")
            yield reference, _shown(path, explained, form)


def _shown(path: str, explained: Explained, form: Format) -> ExplainedValue:
    row = explained.row
    return ExplainedValue(
        path=path,
        value=explained.value,
        sources=tuple(
            SourceShown(
                path=each.path, anchor=field_anchor(each.path) if form is Format.HL7V2 else ""
            )
            for each in explained.sources
        ),
        steps=explained.steps,
        because=f"{row.table} {row.version}: {row.code} → {row.to}" if row else explained.reason,
        rule=explained.rule,
    )

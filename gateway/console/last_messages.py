"""What a draft makes of the last messages of a source: what is kept, and what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.console.clinical import says
from gateway.console.differences import Difference
from gateway.console.given import NoMessage, Subject, subject_of_message
from gateway.console.readings import PATHS_SHOWN, bench_of, rule_place
from gateway.console.reprocessing import FactShown
from gateway.deployment.drafts import Opened
from gateway.journal import messages
from gateway.journal.values import MessageFilter
from gateway.mapping import Library
from gateway.model import Cause, Entry
from gateway.workbench.codes import unknown_codes
from gateway.workbench.comparing import Change, Differences, FactChange, IdentityChange, compare
from gateway.workbench.coverage import Coverage, PathCount, cover
from gateway.workbench.examining import Examined, examine
from gateway.workbench.files import Message as Counted

if TYPE_CHECKING:
    from gateway.console.context import Console

MESSAGES_SHOWN = 30
ELEMENTS_SHOWN = 30
LAST_BYTES_MAX = 64 << 20
"""Bytes of the last messages that are looked at together."""


@dataclass(slots=True)
class Covered:
    """What the last messages of a source came to."""

    source: str
    examined: int
    coverage: Coverage
    lost: Sequence[PathCount] = ()
    kept: Sequence[PathCount] = ()
    unknown: Sequence[tuple[str, str, int, int, str]] = ()
    """Table, code, how often, a message that has it, and the table's file of the site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferingMessage:
    """One message that a draft reads otherwise. ``identities`` are facts that the record would
    take for others."""

    id: int
    outcome: str
    identities: Sequence[IdentityChange]
    facts: Sequence[FactShown]
    flags_added: Sequence[str]
    flags_removed: Sequence[str]


@dataclass(slots=True)
class Differing:
    """What a draft does to the last messages of a source."""

    source: str
    examined: int = 0
    same: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    messages: list[DifferingMessage] = field(default_factory=list)
    more: int = 0


def cover_last(
    console: Console, library: Library, opened: Opened, source: str, last: int
) -> Covered:
    """What a draft keeps of the last messages of a source, path by path, and the codes that
    its tables do not have."""
    bench = bench_of(library)
    total, examined = Coverage(), 0
    unknown: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], int] = {}
    subjects = list(_last(console, source, last))
    contexts = {each.format: each.context for each in subjects}
    counted = (Counted(str(each.message_id), each.format, each.payloads) for each in subjects)
    for grown in cover(bench, counted, contexts):
        total = grown
        examined += 1
    for subject in subjects:
        found = examine(bench, subject.format, subject.payloads, subject.context)
        if isinstance(found, Examined):
            for each in unknown_codes(found):
                unknown[each.table, each.code] += 1
                examples.setdefault((each.table, each.code), subject.message_id or 0)
    paths = total.paths()
    return Covered(
        source=source,
        examined=examined,
        coverage=total,
        lost=[each for each in paths if each.lost][:PATHS_SHOWN],
        kept=[each for each in paths if not each.lost][:PATHS_SHOWN],
        unknown=[
            (table, code, count, examples[table, code], _table_file(library, table, opened))
            for (table, code), count in unknown.most_common(50)
        ],
    )


def _table_file(library: Library, table: str, opened: Opened) -> str:
    """The path in the set of the file in which a row for a table is added: the site's own, else
    the one that ships."""
    known = library.tables.get(table)
    if known is None:
        return ""
    files = [rule_place(f"{label}:1", opened).file for label in known.files]
    own = [each for each in files if opened.editable(each)]
    return (own or [each for each in files if each] or [""])[0]


def diff_last(console: Console, library: Library, source: str, last: int) -> Differing:
    """What differs between the mappings in force and a draft, for the last messages."""
    before, after = bench_of(console.gateway.library), bench_of(library)
    found = Differing(source=source)
    for subject in _last(console, source, last):
        found.examined += 1
        old = examine(before, subject.format, subject.payloads, subject.context, trace=False)
        new = examine(after, subject.format, subject.payloads, subject.context, trace=False)
        differences = compare(str(subject.message_id), old, new)
        facts = list(_facts(differences, _entries(old), _entries(new)))
        for fact in facts:
            found.counts[fact.mark] += 1
        if not differences.any:
            found.same += 1
        elif len(found.messages) < MESSAGES_SHOWN:
            found.messages.append(
                DifferingMessage(
                    id=subject.message_id or 0,
                    outcome=differences.outcome,
                    identities=differences.identities,
                    facts=facts,
                    flags_added=differences.flags_added,
                    flags_removed=differences.flags_removed,
                )
            )
        else:
            found.more += 1
        found.counts["identities"] += len(differences.identities)
    return found


def _entries(outcome: Examined | Cause) -> dict[str, Entry]:
    if isinstance(outcome, Cause):
        return {}
    return {each.reference: each for each in outcome.mapped.entries}


def _facts(
    differences: Differences, old: Mapping[str, Entry], new: Mapping[str, Entry]
) -> Iterator[FactShown]:
    """The changed values of one message by the entry that they are in."""
    by_entry: dict[str, list[FactChange]] = {}
    for each in differences.facts:
        by_entry.setdefault(each.target.partition("#")[0], []).append(each)
    renamed = {each.new for each in differences.identities}
    for reference, found in by_entry.items():
        entry = new.get(reference) or old.get(reference)
        there = reference in old or reference in renamed
        mark = "vanished" if reference not in new else "changed" if there else "added"
        elements = [
            Difference(
                path=each.target.partition("#")[2],
                before=each.old if each.change is not Change.ADDED else None,
                after=each.new if each.change is not Change.REMOVED else None,
            )
            for each in found
        ]
        yield FactShown(
            mark=mark,
            type=reference.partition("/")[0],
            reference=reference,
            says=says(entry.resource) if entry is not None else "",
            elements=elements[:ELEMENTS_SHOWN] if mark == "changed" else (),
            more=max(len(elements) - ELEMENTS_SHOWN, 0) if mark == "changed" else 0,
        )


def _last(console: Console, source: str, last: int) -> Iterator[Subject]:
    """The newest messages of a source that can be had, the newest first."""
    with console.journal.read() as connection:
        found = messages.page(connection, MessageFilter(source=source), limit=last)
    size = 0
    for message in found:
        if message.state.value in ("refused", "gathering", "gathered", "replaced"):
            continue
        size += message.size
        if size > LAST_BYTES_MAX:
            return
        try:
            yield subject_of_message(console, message)
        except NoMessage:
            continue

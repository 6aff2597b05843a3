"""What a loaded draft makes of messages, for the workbench's pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.console.clinical import says
from gateway.console.differences import Difference
from gateway.console.given import NoMessage, Subject, subject_of_message
from gateway.console.reprocessing import FactShown
from gateway.console.rows import kind_label
from gateway.console.source_text import field_anchor
from gateway.deployment.drafts import Opened
from gateway.journal import messages
from gateway.journal.values import Message, MessageFilter
from gateway.mapping import Library
from gateway.mapping.observing import Answered, Asked, Entered, Event, Instance, LookedUp, Ruled
from gateway.model import Cause, Entry, Flag, Format
from gateway.shapes import explanation
from gateway.workbench.absence import why_absent
from gateway.workbench.comparing import Change, Differences, FactChange, IdentityChange, compare
from gateway.workbench.coverage import Coverage, PathCount, cover
from gateway.workbench.elements import Steps, entry_and_path, leaves, parse, shown, value_at
from gateway.workbench.examining import Bench, Examined, examine
from gateway.workbench.files import Message as Counted
from gateway.workbench.provenance import Explained, Provenance

if TYPE_CHECKING:
    from gateway.console.context import Console

VALUES_SHOWN = 2_000
PATHS_SHOWN = 300
MESSAGES_SHOWN = 30
TRIED_SHOWN = 60
ELEMENTS_SHOWN = 30
LAST_BYTES_MAX = 64 << 20
"""Bytes of the last messages that are looked at together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A message that may be chosen."""

    id: int
    label: str
    source: str
    received_at: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueShown:
    """One value of an entry, and how it is asked for."""

    path: str
    value: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryShown:
    """One entry with its values."""

    type: str
    reference: str
    says: str
    create_only: bool
    values: Sequence[ValueShown]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownCode:
    """A code that a table does not have."""

    table: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What became of one message, or the problem that stopped it."""

    mapping: str = ""
    version: str = ""
    problem: str = ""
    where: str = ""
    entries: Sequence[EntryShown] = ()
    flags: Sequence[Flag] = ()
    unknown: Sequence[UnknownCode] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlace:
    """A place in the message, what stands there, and where the page shows it."""

    path: str
    text: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePlace:
    """A place in a mapping file: ``file`` is its path in the set, empty when it is not there."""

    label: str
    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedShown:
    """A rule that gave nothing, and why."""

    rule: RulePlace
    element: str
    reasons: Sequence[str]
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where one value comes from, or that there is none."""

    target: str
    value: str = ""
    explained: Explained | None = None
    sources: Sequence[SourcePlace] = ()
    rule: RulePlace | None = None
    around: Sequence[RulePlace] = ()
    row: RulePlace | None = None
    said: str = ""
    tried: Sequence[TriedShown] = ()


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


def bench_of(library: Library) -> Bench:
    """What the workbench's functions work with."""
    from gateway.formats import inventories, readers

    return Bench(readers=readers(), library=library, inventories=inventories())


def choice(message: Message) -> Choice:
    """A message as a choice."""
    return Choice(
        id=message.id,
        label=kind_label(message.format, message.kind),
        source=message.source,
        received_at=message.received_at,
    )


# --- one message ----------------------------------------------------------------------


def read(library: Library, subject: Subject) -> Reading:
    """Read and map it, with every value."""
    examined = examine(bench_of(library), subject.format, subject.payloads, subject.context)
    if isinstance(examined, Cause):
        return _problem(examined)
    mapped, left = examined.mapped, VALUES_SHOWN
    entries = []
    for entry in mapped.entries:
        shown_entry = _entry(entry, left)
        left -= len(shown_entry.values)
        entries.append(shown_entry)
    return Reading(
        mapping=mapped.mapping,
        version=mapped.version,
        entries=entries,
        flags=mapped.flags,
        unknown=list(dict.fromkeys(_unknown(examined))),
    )


def _problem(cause: Cause) -> Reading:
    title = explanation(cause.code.value)["title"]
    return Reading(problem=f"{title}. {cause.detail}".rstrip(), where=cause.location)


def _entry(entry: Entry, limit: int) -> EntryShown:
    resource = entry.resource
    values: list[ValueShown] = []
    for steps, value in leaves(resource):
        if steps == ("resourceType",) or len(values) >= limit:
            continue
        path = shown(steps)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        values.append(ValueShown(path=path, value=text, target=f"{entry.reference}#{path}"))
    return EntryShown(
        type=str(resource["resourceType"]),
        reference=entry.reference,
        says=says(resource),
        create_only=entry.create_only,
        values=values,
    )


def explain(library: Library, subject: Subject, target: str, opened: Opened) -> Answer:
    """Where the value at ``Observation/<id>#code.text`` or ``Observation[0].code.text`` comes
    from. Raises NoMessage, NoTarget."""
    kind, number, identifier, steps = _place(target)
    examined = examine(bench_of(library), subject.format, subject.payloads, subject.context)
    if isinstance(examined, Cause):
        raise NoMessage(_problem(examined).problem)
    of_type = [e.resource for e in examined.mapped.entries if e.resource["resourceType"] == kind]
    if identifier:
        of_type = [each for each in of_type if each["id"] == identifier]
    if number is not None:
        of_type = of_type[number : number + 1]
    if not of_type:
        return _absent(examined, target, opened)
    resource = of_type[0]
    value = value_at(resource, steps) if steps else None
    if value is None:
        return _absent(examined, target, opened)
    if isinstance(value, dict | list):
        inner = next(leaves(value), None)
        steps = (*steps, *(inner[0] if inner else ()))
    explained = Provenance(examined).explain(resource, steps)
    if explained is None:
        return Answer(target=target, said="No rule can be named for this value.")
    return Answer(
        target=target,
        value=explained.value,
        explained=explained,
        sources=[
            SourcePlace(path=each.path, text=each.text, anchor=_anchor(each.path, subject.format))
            for each in explained.sources
        ],
        rule=rule_place(explained.rule, opened),
        around=[rule_place(each, opened) for each in explained.around],
        row=rule_place(explained.row.place, opened) if explained.row is not None else None,
    )


def _place(target: str) -> tuple[str, int | None, str, Steps]:
    """Type, number, id and steps of a target. Raises NoTarget."""
    reference, hash_sign, path = target.partition("#")
    if not hash_sign:
        return entry_and_path(target)
    kind, _, identifier = reference.partition("/")
    return kind, None, identifier, parse(path)


def _absent(examined: Examined, target: str, opened: Opened) -> Answer:
    """The rules that were tried for it, and why each gave nothing."""
    absence = why_absent(examined, target.replace("#", "."))
    return Answer(
        target=target,
        said="What stands there is no single value: name one below it."
        if absence.there
        else "No value stands there."
        if absence.tried
        else "No value stands there: no rule is written for it.",
        tried=[
            TriedShown(
                rule=rule_place(each.rule, opened),
                element=each.element,
                reasons=each.reasons,
                depth=min(each.depth, 5),
            )
            for each in absence.tried[:TRIED_SHOWN]
        ],
    )


def _anchor(path: str, kind: Format) -> str:
    return field_anchor(path) if kind is Format.HL7V2 else ""


def rule_place(label: str, opened: Opened) -> RulePlace:
    """``hl7/oru_r01.yaml:14:18`` as a file of the set and a line."""
    name, _, rest = label.partition(":")
    line = rest.partition(":")[0]
    roots = ("", "base/", *(f"folder-{n}/" for n in range(1, opened.after.folders + 1)))
    file = next((root + name for root in roots if root + name in opened.after.files), "")
    return RulePlace(label=label, file=file, line=int(line) if line.isdigit() else 0)


def _unknown(examined: Examined) -> Iterator[UnknownCode]:
    for part in examined.parts:
        for event in _lookups(part.watch.events):
            if event.row is None:
                yield UnknownCode(table=event.table, code=event.code)


def _lookups(events: Iterable[Event]) -> Iterator[LookedUp]:
    waiting = list(events)[::-1]
    while waiting:
        event = waiting.pop()
        if isinstance(event, LookedUp):
            yield event
        elif isinstance(event, Asked | Answered | Ruled | Instance | Entered):
            waiting.extend(reversed(event.events))


# --- the last messages of a source ----------------------------------------------------


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
            for each in _unknown(found):
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

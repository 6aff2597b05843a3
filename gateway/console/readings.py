"""What a loaded draft makes of messages, for the workbench's pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.console.clinical import says
from gateway.console.given import NoMessage, Subject
from gateway.console.rows import kind_label
from gateway.console.source_text import field_anchor
from gateway.deployment.drafts import Opened
from gateway.journal.values import Message
from gateway.mapping import Library
from gateway.model import Cause, Entry, Flag, Format
from gateway.shapes import explanation
from gateway.workbench.absence import why_absent
from gateway.workbench.codes import UnknownCode, unknown_codes
from gateway.workbench.elements import Steps, entry_and_path, leaves, parse, shown, value_at
from gateway.workbench.examining import Bench, Examined, examine
from gateway.workbench.provenance import Explained, Provenance

VALUES_SHOWN = 2_000
PATHS_SHOWN = 300
TRIED_SHOWN = 60


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
        unknown=list(dict.fromkeys(unknown_codes(examined))),
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
    return RulePlace(label=label, file=file, line=int(line) if line.isdecimal() else 0)

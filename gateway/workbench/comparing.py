"""What two versions of the mappings make of one message: facts added, removed, changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.model import Cause, Entry, Flag, Mapped
from gateway.workbench.elements import leaves, shown
from gateway.workbench.examining import Examined


class Change(StrEnum):
    """What happened to a fact."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class FactChange:
    """One value: its target (``Type/id#path`` with the id that it has now), old and new."""

    change: Change
    target: str
    old: str = ""
    new: str = ""


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """An entry that the record would take for another: the same thing under another id."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Differences:
    """Everything that differs for one message. ``outcome`` tells when one of the two gives
    no entries; ``flags`` counts those that only one of them raises."""

    message: str
    identities: tuple[IdentityChange, ...] = ()
    facts: tuple[FactChange, ...] = ()
    flags_added: tuple[str, ...] = ()
    flags_removed: tuple[str, ...] = ()
    outcome: str = ""

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return bool(
            self.identities or self.facts or self.flags_added or self.flags_removed or self.outcome
        )


def compare(name: str, old: Examined | Cause, new: Examined | Cause) -> Differences:
    """The differences between what two versions make of one message."""
    if isinstance(old, Cause) or isinstance(new, Cause):
        before, after = _told(old), _told(new)
        return Differences(name, outcome="" if before == after else f"{before} → {after}")
    pairs, removed, added = _paired(old.mapped.entries, new.mapped.entries)
    renamed = {a.reference: b.reference for a, b in pairs if a.reference != b.reference}
    identities = tuple(IdentityChange(before, after) for before, after in renamed.items())
    facts: list[FactChange] = []
    for entry in removed:
        facts += _changes(_facts(entry, {}), {})
    for first, second in pairs:
        facts += _changes(_facts(first, renamed, second.reference), _facts(second, {}))
    for entry in added:
        facts += _changes({}, _facts(entry, {}))
    return Differences(
        name,
        identities,
        tuple(facts),
        _more(new.mapped, old.mapped),
        _more(old.mapped, new.mapped),
    )


def _told(result: Examined | Cause) -> str:
    if isinstance(result, Cause):
        return f"{result.code.value} {result.detail}".strip()
    return f"{len(result.mapped.entries)} entries"


def _paired(
    old: Sequence[Entry], new: Sequence[Entry]
) -> tuple[list[tuple[Entry, Entry]], list[Entry], list[Entry]]:
    """Entries that are the same: by reference, else, of those left over, by type and what
    they say, the likest first."""
    by_reference = {entry.reference: entry for entry in new}
    pairs = [
        (entry, by_reference[entry.reference]) for entry in old if entry.reference in by_reference
    ]
    known = {entry.reference for entry, _ in pairs}
    removed = [entry for entry in old if entry.reference not in known]
    added = [entry for entry in new if entry.reference not in known]
    for entry in list(removed):
        same = [each for each in added if _kind(each) == _kind(entry)]
        if not same:
            continue
        likest = max(same, key=lambda each: _likeness(entry, each))
        if _likeness(entry, likest) > 0:
            pairs.append((entry, likest))
            removed.remove(entry)
            added.remove(likest)
    return pairs, removed, added


def _kind(entry: Entry) -> str:
    return str(entry.resource["resourceType"])


def _likeness(first: Entry, second: Entry) -> float:
    """The share of facts that two entries have in common, references and ids apart."""
    ours, theirs = (
        {
            (path, value)
            for path, value in _facts(each, {}, "").items()
            if not path.endswith(("#id", "#resourceType", "reference"))
        }
        for each in (first, second)
    )
    return len(ours & theirs) / max(len(ours | theirs), 1)


def _facts(
    entry: Entry, renamed: Mapping[str, str], reference: str | None = None
) -> dict[str, str]:
    """Every value of an entry by its target. ``renamed`` references are taken for the same."""
    lead = entry.reference if reference is None else reference
    found: dict[str, str] = {}
    for steps, value in leaves(entry.resource):
        if steps == ("id",) and reference is not None:
            continue
        text = _text(value)
        found[f"{lead}#{shown(steps)}"] = renamed.get(text, text)
    if reference is None:
        found.pop(f"{lead}#id", None)
    found[f"{lead}#(create only)"] = "true" if entry.create_only else "false"
    return found


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[FactChange]:
    changes = []
    for target in dict.fromkeys((*old, *new)):
        before, after = old.get(target), new.get(target)
        if before == after:
            continue
        if before is None:
            changes.append(FactChange(Change.ADDED, target, new=after or ""))
        elif after is None:
            changes.append(FactChange(Change.REMOVED, target, old=before))
        else:
            changes.append(FactChange(Change.CHANGED, target, before, after))
    return changes


def _more(first: Mapped, second: Mapped) -> tuple[str, ...]:
    """The flags of the first that the second does not raise, told by code and target."""
    known = {_flag(flag) for flag in second.flags}
    return tuple(dict.fromkeys(_flag(flag) for flag in first.flags if _flag(flag) not in known))


def _flag(flag: Flag) -> str:
    return f"{flag.code} {flag.target} {flag.source}".strip()

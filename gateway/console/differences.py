"""What changed from one version of a resource, or of a message, to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

DIFFERENCES_MAX = 200
_OF_THE_RECORD = frozenset({"meta"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One element: its path, and its value before and after; None where there was none."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentChange:
    """What changed in a message: a field (``PID-3``), or a whole segment (``OBX``) that was
    added, removed or turned into another."""

    name: str
    before: str
    after: str


def differences(before: Any, after: Any) -> tuple[Difference, ...]:
    """The leaves that differ between two resources, in the order of the new one.

    What the record itself adds (``meta``) is left out.
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    paths = [*new, *(path for path in old if path not in new)]
    found = (
        Difference(path=path, before=old.get(path), after=new.get(path))
        for path in paths
        if old.get(path) != new.get(path)
    )
    return tuple(each for each, _ in zip(found, range(DIFFERENCES_MAX), strict=False))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if path or name not in _OF_THE_RECORD:
                yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


def changed_segments(before: Sequence[str], after: Sequence[str]) -> tuple[SegmentChange, ...]:
    """The fields and segments that differ between two HL7 v2 messages, in order."""
    found: list[SegmentChange] = []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for tag, first, last, start, end in matcher.get_opcodes():
        if tag == "equal":
            continue
        old, new = list(before[first:last]), list(after[start:end])
        for place in range(max(len(old), len(new))):
            was = old[place] if place < len(old) else ""
            now = new[place] if place < len(new) else ""
            found += _changed_fields(was, now)
    return tuple(found[:DIFFERENCES_MAX])


def _changed_fields(before: str, after: str) -> list[SegmentChange]:
    """The fields that differ; the whole segment when it is not the same one before and after."""
    name = (after or before)[:3]
    if before[:4] != after[:4] or len(before) < 4:
        return [SegmentChange(name=name, before=before, after=after)]
    # In MSH, field 1 is the separator itself (HL7 v2.9.1, 2.5.4).
    shift = 1 if name in {"MSH", "FHS", "BHS"} else 0
    pairs = zip_longest(before.split(before[3]), after.split(before[3]), fillvalue="")
    return [
        SegmentChange(name=f"{name}-{number + shift}", before=was, after=now)
        for number, (was, now) in enumerate(pairs)
        if was != now
    ]

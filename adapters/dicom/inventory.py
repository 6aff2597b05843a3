"""Everything that a study's instances say: its leaves, for the measure of retention."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from adapters.dicom.content import VALUE_TYPE, VALUE_TYPES
from adapters.dicom.dataset import Level, TooLarge
from adapters.dicom.dictionary import keyword_of, tag_of
from adapters.dicom.reading import READING_FAULTS
from adapters.dicom.study import InstanceScope, StudyScope
from adapters.dicom.values import PERSON_COMPONENTS, PERSON_GROUPS, texts
from gateway.inventory import Leaf, LeafKey
from gateway.ports import Scope

BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", ""})
CONTENT_SEQUENCE = 0x0040A730
DEPTH_MAX = 16
COMPUTED = {"ModalitiesInStudy": "Modality", "SOPClassesInStudy": "SOPClassUID"}
"""What is worked out from the instances, and from which of their elements."""

_PLACE = re.compile(r"(?:series\((\d+)\)/)?(?:instance\((\d+)\)/)?(.+)", re.ASCII)
_STEP = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:\((\d+)\))?", re.ASCII)
_CONTENT = re.compile(r"content\(1((?:\.\d+)*)\)(?:\.(.+))?\Z", re.ASCII)
_TIMEZONE = "TimezoneOffsetFromUTC"


class DicomInventory:
    """The leaves of a study (``gateway.inventory.Inventory``).

    A leaf is one value of a data element, or one component of a person name. What several
    instances say alike (the patient, the study) is one leaf. Bulk data (PS3.5 6.2: OB, OW
    and their kin, UN), group lengths and private elements (PS3.5 7.8), whose meaning is
    their vendor's, are no leaves. Keys are the outermost element's keyword, a digest of
    its bytes, and then numbers and keywords in turn.
    """

    def leaves(self, root: Scope) -> Iterator[Leaf]:
        """Every leaf, instance by instance, each once."""
        seen: set[LeafKey] = set()
        for member in cast("StudyScope", root).instances():
            for tag, keyword, digest in _elements(member):
                start: LeafKey = (keyword, digest)
                if start in seen:
                    continue
                seen.add(start)
                level = member.instance.level
                yield from _leaves(level, tag, (f"{member.path}/{keyword}", keyword, start), 0)

    def places(self, path: str, root: Scope) -> Sequence[LeafKey]:
        """The places of ``series(1)/instance(2)/SOPInstanceUID``, ``StudyDate+StudyTime``."""
        found: list[LeafKey] = []
        for part in path.split(" + "):
            match = _PLACE.fullmatch(part)
            if match is None:
                continue
            members = _members(cast("StudyScope", root), match[1], match[2])
            date, plus, time = _in_sequences(match[3], members).partition("+")
            for text in (date, time, _TIMEZONE) if plus else (date,):
                keyword = text.partition("(")[0]
                if keyword in COMPUTED:
                    found += _every(members, COMPUTED[keyword])
                else:
                    found += _places(members, text)
        return found

    def scope(self, leaf: Leaf, root: Scope) -> Scope:  # noqa: ARG002
        """The whole: what is ignored here says by its path where it stands."""
        return root

    def covers(self, path: str, root: Scope) -> Callable[[Leaf], bool]:  # noqa: ARG002
        """An element of any instance, with all that stands in it."""
        steps = [match[1] for part in path.split(".") if (match := _STEP.fullmatch(part))]

        def covers(leaf: Leaf) -> bool:
            names = [part for part in (leaf.key[0], *leaf.key[2:]) if isinstance(part, str)]
            return names[: len(steps)] == steps

        return covers


def _elements(member: InstanceScope) -> Iterator[tuple[int, str, str]]:
    """Tag, keyword and digest of an instance's elements that count."""
    try:
        level = member.instance.level
    except READING_FAULTS:
        return
    for tag in level.tags():
        keyword = _counted(level, tag)
        digest = _digest(level, tag) if keyword else ""
        if digest:
            yield tag, keyword, digest


def _counted(level: Level, tag: int) -> str:
    """The keyword of an element that counts, else empty."""
    if tag >> 16 & 1 or not tag & 0xFFFF or level.vr(tag) in BULK:
        return ""
    return str(keyword_of(tag))


def _digest(level: Level, tag: int) -> str:
    try:
        raw = level.raw(tag) or b""
    except TooLarge:
        return "too-large"
    return hashlib.sha256(raw).hexdigest()[:16] if raw.strip(b" \0") else ""


def _leaves(level: Level, tag: int, at: tuple[str, str, LeafKey], depth: int) -> Iterator[Leaf]:
    path, generic, key = at
    vr = level.vr(tag)
    try:
        if vr == "SQ":
            if depth < DEPTH_MAX:
                for number, item in enumerate(level.items(tag), 1):
                    yield from _of_item(item, (f"{path}({number})", generic, (*key, number)), depth)
            return
        values = texts(
            level.raw(tag) or b"", vr, level.sets,
            little=level.encoding.little, path=path, report=lambda *_: None,
        )  # fmt: skip
    except READING_FAULTS:
        return
    for number, value in enumerate(values or (), 1):
        if vr == "PN":
            yield from _person(value.content, (value.path, generic, (*key, number)))
        elif value.text.strip():
            yield Leaf(value.path, generic, (*key, number), len(key) + 1)


def _of_item(item: Level, at: tuple[str, str, LeafKey], depth: int) -> Iterator[Leaf]:
    path, generic, key = at
    for tag in item.tags():
        keyword = _counted(item, tag)
        if keyword and (item.length(tag) or 0) > 0:
            inner = (f"{path}.{keyword}", f"{generic}.{keyword}", (*key, keyword))
            yield from _leaves(item, tag, inner, depth + 1)


def _person(name: str, at: tuple[str, str, LeafKey]) -> Iterator[Leaf]:
    """The components of a person name's groups (PS3.5 6.2.1); the alphabetic one is its text."""
    path, generic, key = at
    for group, written in zip(PERSON_GROUPS, name.split("="), strict=False):
        lead = "" if group == PERSON_GROUPS[0] else f".{group}"
        for component, text in zip(PERSON_COMPONENTS, written.split("^"), strict=False):
            if text.strip():
                below = (*key, group, component)
                heard = len(key) if not lead else len(key) + 1
                tail = f"{lead}.{component}"
                yield Leaf(path + tail, generic + tail, below, heard)


def _members(
    study: StudyScope, series: str | None, instance: str | None
) -> Sequence[InstanceScope]:
    if series is None:
        return study.instances()
    members = study.series[int(series) - 1].members
    return (members[int(instance) - 1],) if instance is not None else members


def _in_sequences(path: str, members: Sequence[InstanceScope]) -> str:
    """A place of a content tree (``content(1.2.1)``) by the sequences that it stands in; of
    an item itself the attribute that is its text."""
    match = _CONTENT.match(path)
    if match is None:
        return path
    numbers = [int(number) for number in match[1].split(".")[1:]]
    lead = ".".join(f"ContentSequence({number})" for number in numbers)
    if match[2]:
        return f"{lead}.{match[2]}" if lead else match[2]
    try:
        level = members[0].instance.level
        for number in numbers:
            level = level.items(CONTENT_SEQUENCE)[number - 1]
    except (IndexError, *READING_FAULTS):
        return path
    said = VALUE_TYPES.get(level.text(VALUE_TYPE), "")
    return f"{lead}.{said}" if lead and said else said or lead


def _places(members: Sequence[InstanceScope], text: str) -> list[LeafKey]:
    """The key of a path, in the first instance that has something there."""
    steps = text.split(".")
    match = _STEP.fullmatch(steps[0])
    tag = tag_of(match[1]) if match else None
    if match is None or tag is None:
        return []
    for member in members:
        try:
            digest = _digest(member.instance.level, tag)
        except READING_FAULTS:
            continue
        if digest:
            return [(match[1], digest, *_rest(match[2], steps[1:]))]
    return []


def _rest(number: str | None, steps: Sequence[str]) -> LeafKey:
    """The numbers and keywords behind the outermost element."""
    key: list[str | int] = [int(number or 1)]
    for place, step in enumerate(steps):
        if step in PERSON_GROUPS or step in PERSON_COMPONENTS:
            group, *components = steps[place:]
            if group in PERSON_COMPONENTS:
                group, components = PERSON_GROUPS[0], [group]
            return (*key, group, *components)
        match = _STEP.fullmatch(step)
        if match is None:
            break
        key += [match[1], int(match[2] or 1)]
    return tuple(key)


def _every(members: Sequence[InstanceScope], keyword: str) -> list[LeafKey]:
    tag = tag_of(keyword) or 0
    found = {_digest(member.instance.level, tag): None for member in members}
    return [(keyword, digest, 1) for digest in found if digest]

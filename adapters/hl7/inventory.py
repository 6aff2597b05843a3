"""Everything that an HL7 v2 message says: its leaves, for the measure of retention."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import cast

from adapters.hl7.grammar import component_definitions, field_definition
from adapters.hl7.message import Message
from adapters.hl7.scopes import Hl7Scope, SegmentScope, root_of
from adapters.hl7.values import Hl7Value
from gateway.inventory import Leaf, LeafKey, covering
from gateway.ports import Scope, ValueState

SET_ID = "SI"
"""The data type of set ids: they count segments and say nothing (HL7 v2.9.1 section 2A.3.68)."""

_PATH = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\((?P<which>[^()]*)\))?"
    r"(?:-(?P<field>\d+)(?:\((?P<repetition>[^()]*)\))?"
    r"(?:\.(?P<component>\d+)(?:\.(?P<sub>\d+))?)?)?\Z"
)
_DATATYPE_PART = re.compile(r"([A-Z]{2,3})((?:\.\d+){1,2})")
_SAYING = (ValueState.PRESENT, ValueState.NULL)


class Hl7Inventory:
    """The leaves of a message (``gateway.inventory.Inventory``).

    A leaf is a subcomponent, or a component, repetition or field without parts, that is
    not empty; a null (``""``) says something. Keys are segment, its number, field,
    repetition, component, subcomponent, all from 1 and 1 where there are no parts.
    Encoding characters (MSH-1, MSH-2) and set ids are no leaves.
    """

    def leaves(self, root: Scope) -> Iterator[Leaf]:
        """Every leaf, in the order of the message."""
        message = root_of(cast("Hl7Scope", root)).message
        counted: dict[str, int] = {}
        for index in range(len(message.segments)):
            name = message.name(index)
            counted[name] = counted.get(name, 0) + 1
            for number in range(1, len(message.fields(index))):
                if message.is_delimiter_field(index, number) or _counts(message, name, number):
                    continue
                for place, text in enumerate(message.repetitions(index, number), 1):
                    if text:
                        value = Hl7Value(message, index, (number, place, 0, 0), text)
                        start = (name, counted[name], number, place)
                        yield from _parts(message, value, text, start)

    def places(self, path: str, root: Scope) -> Sequence[LeafKey]:  # noqa: ARG002
        """The places of ``PID-3(2).1`` or of several joined by `` + ``."""
        return tuple(key for part in path.split(" + ") if (key := _key(part)) is not None)

    def scope(self, leaf: Leaf, root: Scope) -> Scope:
        """The leaf's segment."""
        message = root_of(cast("Hl7Scope", root))
        index = message.message.positions(str(leaf.key[0]))[int(leaf.key[1]) - 1]
        return SegmentScope(message, index)

    def covers(self, path: str, root: Scope) -> Callable[[Leaf], bool]:
        """A segment, or a field or part of it: of every segment of the name and every
        repetition, unless the path says which by a number. ``XCN.10`` and ``HD.3`` are parts
        of every field, or component, of that data type in the message's version."""
        part = _DATATYPE_PART.fullmatch(path)
        if part is None:
            return _covers(path)
        version = root_of(cast("Hl7Scope", root)).message.grammar_version
        return _covers_part(version, part[1], tuple(int(each) for each in part[2].split(".")[1:]))


def _counts(message: Message, segment: str, field: int) -> bool:
    definition = field_definition(message.grammar_version, segment, field)
    return definition is not None and definition.datatype == SET_ID


def _parts(
    message: Message, value: Hl7Value, text: str, start: tuple[str, int, int, int]
) -> Iterator[Leaf]:
    """The leaves of one repetition."""
    delimiters = message.delimiters
    pieces = text.split(delimiters.component) if delimiters.component in text else [text]
    below = delimiters.subcomponent
    typed = value.has_parts
    for number, piece in enumerate(pieces, 1):
        subs = piece.split(below) if below and below in piece else [piece]
        part = value.part_at((number,))
        # What the version gives no parts is read as one text, separators included.
        sub_typed = len(subs) > 1 and part.has_parts
        for place, sub in enumerate(subs, 1):
            if not sub:
                continue
            key = (*start, number, place)
            heard = _heard(typed=typed, sub_typed=sub_typed, number=number, place=place)
            shown = part if len(pieces) > 1 or len(subs) > 1 else value
            path = shown.path + (f".{place}" if len(subs) > 1 else "")
            yield Leaf(path, _generic(start, len(pieces), number, len(subs), place), key, heard)


def _heard(*, typed: bool, sub_typed: bool, number: int, place: int) -> int:
    """A value with parts reads as its first part; one without, as all that is written."""
    if not typed:
        return 4
    if sub_typed and place > 1:
        return 6
    return 4 if number == 1 else 5


def _generic(
    start: tuple[str, int, int, int], pieces: int, number: int, subs: int, place: int
) -> str:
    name, _, field, _ = start
    path = f"{name}-{field}"
    if pieces > 1 or subs > 1:
        path += f".{number}"
    return f"{path}.{place}" if subs > 1 else path


@lru_cache(maxsize=8192)
def _key(path: str) -> LeafKey | None:
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    key: list[str | int] = [match["segment"], int(match["which"] or 1)]
    for name in ("field", "repetition", "component", "sub"):
        if match[name] is None:
            if name == "repetition" and match["field"] is not None:
                key.append(1)
                continue
            break
        key.append(int(match[name]))
    return tuple(key)


@lru_cache(maxsize=1024)
def _covers_part(version: str, datatype: str, numbers: tuple[int, ...]) -> Callable[[Leaf], bool]:
    """Whether a leaf is part ``numbers`` of a field or, one level down, of a component."""
    known: dict[LeafKey, bool] = {}

    def is_part(segment: str, field: int, component: int, sub: int) -> bool:
        definition = field_definition(version, segment, field)
        if definition is None:
            return False
        if definition.datatype == datatype:
            return (component, sub)[: len(numbers)] == numbers
        parts = component_definitions(version, definition.datatype)
        below = component <= len(parts) and parts[component - 1].datatype == datatype
        return below and numbers == (sub,)

    def covers(leaf: Leaf) -> bool:
        segment, _, field, _, component, sub = leaf.key
        key = (segment, field, component, sub)
        found = known.get(key)
        if found is None:
            found = known[key] = is_part(str(segment), int(field), int(component), int(sub))
        return found

    return covers


def _covers(path: str) -> Callable[[Leaf], bool]:
    match = _PATH.fullmatch(path)
    if match is None:
        return lambda _leaf: False
    return covering(match)

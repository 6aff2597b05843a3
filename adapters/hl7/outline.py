"""A message laid out for a person: groups, segments, fields and their parts, with names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from adapters.hl7.binding import Node
from adapters.hl7.conformance import segment_place
from adapters.hl7.grammar import (
    VARIES,
    FieldDefinition,
    component_definitions,
    field_definition,
)
from adapters.hl7.header import NULL
from adapters.hl7.message import Message
from adapters.hl7.scopes import MessageScope
from adapters.hl7.segment_names import segment_name
from adapters.hl7.values import Hl7Value

_LINE = re.compile(rb"[^\r\n]+")
_INVISIBLE = range(0xDC00, 0xDD00)


@dataclass(frozen=True, slots=True)
class Part:
    """A field's repetition, a component or a subcomponent, or a whole field that repeats.

    ``text`` is unescaped, and empty where ``parts`` say it all; ``written`` is what
    stands in the message. ``offset`` and ``length`` are in bytes, from the message's
    first. ``null`` is the explicit ``""``, which deletes.
    """

    path: str
    name: str
    datatype: str
    text: str
    written: str
    offset: int
    length: int
    null: bool = False
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentOutline:
    """One segment. ``title`` is empty for one that nobody names."""

    path: str
    name: str
    title: str
    offset: int
    length: int
    fields: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class GroupOutline:
    """One occurrence of a group, or the whole message."""

    name: str
    ordinal: int
    content: tuple[GroupOutline | SegmentOutline, ...] = field(default=())


def visible(text: str) -> str:
    """Undecodable bytes as ``‹E9›`` and control characters as ``‹0A›``; a line end is ``⏎``."""
    if text.isprintable():
        return text
    return "".join(map(_visible, text.replace("\r\n", "\n")))


def _visible(character: str) -> str:
    code = ord(character)
    if code in _INVISIBLE:
        return f"‹{code - _INVISIBLE.start:02X}›"
    if character == "\n":
        return "⏎"
    return f"‹{code:02X}›" if not character.isprintable() and character != "\u00a0" else character


def undecodable(message: Message) -> int:
    """How many bytes of a message that is only shown do not decode."""
    return sum(
        ord(c) in _INVISIBLE for line in message.segments if not line.isascii() for c in line
    )


def offsets(message: Message) -> list[int]:
    """Where each segment begins, in bytes from the message's first."""
    lines = [m.start() for m in _LINE.finditer(message.raw) if m[0].strip(b" \t")]
    if len(lines) == len(message.segments) and not message.charset.wide:
        lines[0] = message.raw.find(b"MSH", lines[0])
        return lines
    # A line feed inside a field, or wide characters: then the bytes are looked for.
    found = []
    position = 0
    for text in message.segments:
        data = message.bytes_of(text)
        begin = message.raw.find(data, position)
        begin = begin if begin >= 0 else min(position, len(message.raw))
        found.append(begin)
        position = begin + len(data)
    return found


def outline(scope: MessageScope) -> GroupOutline:
    """The whole message. Nothing of it is left out, known or not."""
    message = scope.message
    begins = offsets(message)
    return _group(scope.binding.root, message, begins, scope.structure_name)


def _group(node: Node, message: Message, begins: list[int], name: str) -> GroupOutline:
    content: list[tuple[int, GroupOutline | SegmentOutline]] = [
        (index, _segment(message, index, begins[index])) for index in node.segments
    ]
    for child in node.children:
        made = _group(child, message, begins, child.definition.name)
        content.append((_first(child), made))
    content.sort(key=lambda each: each[0])
    return GroupOutline(name, node.ordinal, tuple(made for _, made in content))


def _first(node: Node) -> int:
    inside = [*node.segments[:1], *(_first(child) for child in node.children[:1])]
    return min(inside, default=0)


def _segment(message: Message, index: int, begin: int) -> SegmentOutline:
    name, place = message.name(index), segment_place(message, index)
    length = len(message.bytes_of(message.segments[index]))
    fields = tuple(_fields(message, index, begin))
    return SegmentOutline(place, name, segment_name(name), begin, length, fields)


def _fields(message: Message, index: int, begin: int) -> Iterator[Part]:
    """The fields that are written."""
    written = message.fields(index)
    header = message.is_delimiter_field(index, 1)
    separator = _width(message, message.delimiters.field)
    position = begin + len(message.bytes_of(written[0]))
    for number in range(1, len(written)):
        # In a header segment field 1 is the separator that stands before field 2.
        position += 0 if header and number == 2 else separator
        at = position - separator if header and number == 1 else position
        if written[number]:
            yield _field(message, index, number, at)
        if not (header and number == 1):
            position += len(message.bytes_of(written[number]))


def _field(message: Message, index: int, number: int, offset: int) -> Part:
    definition = field_definition(message.grammar_version, message.name(index), number)
    repetitions = message.repetitions(index, number)
    if message.is_delimiter_field(index, number):
        place, text = f"{message.name(index)}-{number}", repetitions[0]
        length = len(message.bytes_of(text))
        return Part(place, _words(definition), "ST", text, text, offset, length)
    parts = []
    position = offset
    for ordinal, text in enumerate(repetitions, 1):
        if text:
            value = Hl7Value(message, index, (number, ordinal, 0, 0), text)
            parts.append(_value(message, value, text, definition, position))
        position += len(message.bytes_of(text)) + _width(message, message.delimiters.repetition)
    if len(parts) == 1 and len(repetitions) == 1:
        return parts[0]
    whole = message.fields(index)[number]
    return Part(
        f"{segment_place(message, index)}-{number}", _words(definition), "", "", whole, offset,
        len(message.bytes_of(whole)), parts=tuple(parts),
    )  # fmt: skip


def _value(
    message: Message, value: Hl7Value, text: str, definition: FieldDefinition | None, offset: int,
    *, level: int = 0,
) -> Part:  # fmt: skip
    """A repetition or a part of one, with what is written below it."""
    datatype = value.datatype
    delimiters = message.delimiters
    separators = (delimiters.component, delimiters.subcomponent)
    parts: list[Part] = []
    separator = separators[level] if level < len(separators) else ""
    known = component_definitions(message.grammar_version, datatype)
    if separator and text != NULL and (known or _splits(definition, text, separator)):
        position = offset
        for number, piece in enumerate(text.split(separator), 1):
            if piece:
                below = known[number - 1] if number <= len(known) else None
                part = value.part_at((number,))
                parts.append(_value(message, part, piece, below, position, level=level + 1))
            position += len(message.bytes_of(piece)) + _width(message, separator)
    return Part(
        value.path, _words(definition), datatype, "" if parts else value.text, text, offset,
        len(message.bytes_of(text)), null=text == NULL, parts=tuple(parts),
    )  # fmt: skip


def _splits(definition: FieldDefinition | None, text: str, separator: str) -> bool:
    """A field that no grammar knows is shown in the parts in which it is written."""
    unknown = definition is None or definition.datatype in {"", VARIES}
    return unknown and separator != "" and separator in text


def _width(message: Message, delimiter: str) -> int:
    """Bytes of a delimiter; 0 of one that the character set does not have: it splits nothing."""
    try:
        return len(message.bytes_of(delimiter))
    except UnicodeEncodeError:
        return 0


def _words(definition: FieldDefinition | None) -> str:
    return definition.name.replace("_", " ").capitalize() if definition else ""

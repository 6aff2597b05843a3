"""Checked paths made into functions that read values from a place in a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adapters.hl7.header import NULL, component
from adapters.hl7.message import HEADERS, Message
from adapters.hl7.paths import Path, Which
from adapters.hl7.scopes import Hl7Scope
from adapters.hl7.values import Hl7Value
from gateway.ports import Scope, Value

# The scopes are this language's own (``scopes.Hl7Scope``): the readers are the hot
# path of every mapping and take them as they are.
Read = Callable[[Scope], Sequence[Value]]


def compile_here(path: Path) -> Read:
    """A reader of ``$…``: the nearest walked repetition or a part of it."""
    parts = _numbers(path)

    def read(scope: Any) -> Sequence[Value]:
        value: Hl7Value | None = scope.value
        if value is None:
            raise TypeError("$ is read outside a repetition")
        return (_part(value, parts),)

    return read


def compile_path(path: Path) -> Read:
    """A reader of a path that names a segment."""
    if path.which.plain and path.repetition.plain:
        return _compile_plain(path)
    parts = _numbers(path)

    def read(scope: Any) -> Sequence[Value]:
        place: Hl7Scope = scope
        values = [
            _part(value, parts)
            for index in select_segments(place, path)
            for value in select_repetitions(place.message, index, path)
        ]
        if path.which.every or path.repetition.every:
            return values
        return values[:1] or (_absent(place.message, place.find(path.segment), path),)

    return read


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(number for number in (path.component, path.subcomponent) if number)


def _compile_plain(path: Path) -> Read:
    """The common case, kept short: first segment, first repetition, at most a component."""
    segment, field, component_number = path.segment, path.field, path.component
    subcomponent = path.subcomponent
    within = (field, 1, component_number, subcomponent)
    delimiters_only = segment in {"MSH", "FHS", "BHS"} and field <= 2

    def read(scope: Any) -> Sequence[Value]:
        message: Message = scope.message
        positions = scope.find(segment)
        if not positions:
            return (Hl7Value(message, -1, within, None),)
        index = positions[0]
        fields = message.split[index] or message.fields(index)
        if field >= len(fields):
            return (Hl7Value(message, index, within, None),)
        text: str | None = fields[field]
        if text and not delimiters_only:
            delimiters = message.delimiters
            if delimiters.repetition in text:
                text = text[: text.index(delimiters.repetition)]
            if component_number:
                text = component(text, delimiters.component, component_number)
                if subcomponent and text is not None:
                    text = component(text, delimiters.subcomponent, subcomponent)
        elif component_number > 1 or subcomponent > 1:
            text = None
        return (Hl7Value(message, index, within, text),)

    return read


def compile_text(path: Path) -> Callable[[Scope], str] | None:
    """The text that :func:`compile_path` reads first, without making a value of one that is
    written plainly; None for paths that choose among segments or repetitions."""
    if path.here or not path.field or not (path.which.plain and path.repetition.plain):
        return None
    segment, field, component_number = path.segment, path.field, path.component
    subcomponent = path.subcomponent
    if segment in HEADERS and field <= 2:
        return None
    within = (field, 1, component_number, subcomponent)

    def text_of(scope: Any) -> str:
        message: Message = scope.message
        positions = scope.find(segment)
        if not positions:
            return ""
        index = positions[0]
        fields = message.split[index] or message.fields(index)
        if field >= len(fields):
            return ""
        text: str | None = fields[field]
        delimiters = message.delimiters
        if text and delimiters.repetition in text:
            text = text[: text.index(delimiters.repetition)]
        if not text or text == NULL:
            return ""
        if component_number:
            text = component(text, delimiters.component, component_number)
            if subcomponent and text is not None:
                text = component(text, delimiters.subcomponent, subcomponent)
        if not text or text == NULL:
            return ""
        if (
            delimiters.component in text
            or delimiters.escape in text
            or delimiters.subcomponent in text
        ):
            return Hl7Value(message, index, within, text).text
        return text

    return text_of


def select_segments(scope: Hl7Scope, path: Path) -> Sequence[int]:
    """The segments in reach that a path's segment selector takes."""
    positions = scope.find(path.segment)
    which = path.which
    if which.number:
        return positions[which.number - 1 : which.number]
    message = scope.message
    if which.conditions:
        positions = [index for index in positions if _segment_fits(message, index, which)]
    return positions if which.every else positions[:1]


def _segment_fits(message: Message, index: int, which: Which) -> bool:
    for condition in which.conditions:
        field, *parts = condition.part
        texts = message.repetitions(index, field)
        value = Hl7Value(message, index, (field, 1, 0, 0), texts[0] if texts else None)
        if not condition.holds(_part(value, parts).text):
            return False
    return True


def select_repetitions(message: Message, index: int, path: Path) -> list[Hl7Value]:
    """The repetitions that a path's repetition selector takes, empty ones included."""
    which, field = path.repetition, path.field
    values = [
        Hl7Value(message, index, (field, number, 0, 0), text)
        for number, text in enumerate(message.repetitions(index, field), start=1)
    ]
    if which.number:
        return values[which.number - 1 : which.number]
    if which.conditions:
        values = [
            value
            for value in values
            if all(
                condition.holds(_part(value, condition.part).text) for condition in which.conditions
            )
        ]
    return values if which.every else values[:1]


def _part(value: Hl7Value, numbers: Sequence[int]) -> Hl7Value:
    return value.part_at(numbers) if numbers else value


def _absent(message: Message, positions: Sequence[int], path: Path) -> Hl7Value:
    index = positions[0] if positions else -1
    within = (path.field, path.repetition.number or 1, path.component, path.subcomponent)
    return Hl7Value(message, index, within, None)

"""A cheap look at a path: what is written there, without making values of it.

The mapping engine asks before it reads, so that an absent field costs a list look-up
and a code that it has converted before is not converted again
(:class:`gateway.ports.CompiledPath`, ``content``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from adapters.hl7.paths import Path, parse
from gateway.ports import CompiledPath, Scope, Value

_ANY_VALUE_FIELD = ("OBX", 5)
"""The field whose type another field names (OBX-2)."""


def compile_content(path: Path) -> Callable[[Scope], Hashable] | None:
    """The look of a path; None for paths of repetitions walked.

    The token is the field as written, with all its repetitions and components, and
    what else reading depends on: the message's profile and, for OBX-5, its type. Where
    a segment is chosen by its number or its fields it is those that there are.
    """
    which = path.which
    if path.here or not path.field:
        return None
    if which.number or which.conditions:
        return _of_chosen(path.segment)
    return _of_every(path) if which.every else _of_first(path)


def place_of(path: Path) -> Hashable:
    """What tells a path's content from others of the same scope."""
    which = path.which
    if path.here or not path.field:
        return None
    if which.number or which.conditions:
        return (path.segment, 0, True)
    return (path.segment, path.field, which.every)


def presence(segment: str) -> CompiledPath:
    """Whether a message has a segment at all, wherever: asked before one is walked."""

    def content(scope: Any) -> Hashable:
        return segment if scope.message.positions(segment) else None

    return CompiledPath(segment, _nothing, content=content, place=segment, everywhere=True)


def _nothing(_scope: Scope) -> Sequence[Value]:
    """A segment is no value."""
    return ()


def _of_chosen(segment: str) -> Callable[[Scope], Hashable]:
    """Segments of which one is chosen: all that they say."""

    def content(scope: Any) -> Hashable:
        positions = scope.find(segment)
        if not positions:
            return None
        message = scope.message
        lines = message.segments
        return (message.profile, tuple([lines[index] for index in positions]))

    return content


def _of_first(path: Path) -> Callable[[Scope], Hashable]:
    segment, field = path.segment, path.field
    typed = (segment, field) == _ANY_VALUE_FIELD

    def content(scope: Any) -> Hashable:
        positions = scope.find(segment)
        if not positions:
            return None
        message = scope.message
        index = positions[0]
        fields = message.split[index] or message.fields(index)
        if field >= len(fields):
            return None
        text: str = fields[field]
        if not text:
            return text
        return (message.profile, text, fields[2]) if typed else (message.profile, text)

    return content


def _of_every(path: Path) -> Callable[[Scope], Hashable]:
    """The fields of all segments; nothing when none of them has any."""
    segment, field = path.segment, path.field
    typed = (segment, field) == _ANY_VALUE_FIELD

    def content(scope: Any) -> Hashable:
        positions = scope.find(segment)
        if not positions:
            return None
        message = scope.message
        texts = []
        some = False
        for index in positions:
            fields = message.split[index] or message.fields(index)
            text = fields[field] if field < len(fields) else None
            some = some or bool(text)
            texts.append((text, fields[2]) if typed and text else text)
        return (message.profile, tuple(texts)) if some else None

    return content


def compile_contents(paths: Sequence[CompiledPath]) -> Callable[[Scope], Sequence[Hashable]]:
    """The contents of several paths in one look: each segment is found and split once.

    A token is the text alone: it counts for messages of one profile.
    """
    groups: dict[str, list[tuple[int, int, bool]]] = {}
    others: list[tuple[int, Callable[[Scope], Hashable]]] = []
    for position, compiled in enumerate(paths):
        path = parse(compiled.text)
        if path.field and path.which.plain and not path.here:
            typed = (path.segment, path.field) == _ANY_VALUE_FIELD
            groups.setdefault(path.segment, []).append((position, path.field, typed))
        elif compiled.content is not None:
            others.append((position, compiled.content))
    looks = tuple((name, tuple(wanted)) for name, wanted in groups.items())
    count = len(paths)

    def contents(scope: Any) -> Sequence[Hashable]:
        tokens: list[Hashable] = [None] * count
        message, find = scope.message, scope.find
        split = message.split
        for name, wanted in looks:
            positions = find(name)
            if not positions:
                continue
            index = positions[0]
            fields = split[index] or message.fields(index)
            length = len(fields)
            for position, field, typed in wanted:
                if field < length:
                    text = fields[field]
                    tokens[position] = (text, fields[2]) if typed and text else text
        for position, content in others:
            tokens[position] = content(scope)
        return tokens

    return contents

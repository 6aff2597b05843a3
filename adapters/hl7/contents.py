"""A cheap look at a path: what is written there, without making values of it.

The mapping engine asks before it reads, so that an absent field costs a list look-up
and a code that it has converted before is not converted again
(:class:`gateway.ports.CompiledPath`, ``content``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from adapters.hl7.paths import Path, parse
from gateway.ports import CompiledPath, Scope

_ANY_VALUE_FIELD = ("OBX", 5)
"""The field whose type another field names (OBX-2)."""


def compile_content(path: Path) -> Callable[[Scope], Hashable] | None:
    """The look of a path; None for paths that choose segments or repetitions walked.

    The token is the field as written, with all its repetitions and components, and
    what else reading depends on: the message's profile and, for OBX-5, its type.
    """
    which = path.which
    if path.here or not path.field or which.number or which.conditions:
        return None
    return _of_every(path) if which.every else _of_first(path)


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
    """The contents of several paths in one look: each segment is found and split once."""
    groups: dict[str, list[tuple[int, int, bool]]] = {}
    others: list[tuple[int, Callable[[Scope], Hashable]]] = []
    for position, compiled in enumerate(paths):
        path = parse(compiled.text)
        if path.which.plain and not path.here:
            typed = (path.segment, path.field) == _ANY_VALUE_FIELD
            groups.setdefault(path.segment, []).append((position, path.field, typed))
        elif compiled.content is not None:
            others.append((position, compiled.content))
    looks = tuple((name, tuple(wanted)) for name, wanted in groups.items())
    count = len(paths)

    def contents(scope: Any) -> Sequence[Hashable]:
        tokens: list[Hashable] = [None] * count
        message, find = scope.message, scope.find
        split, profile = message.split, message.profile
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
                    if text:
                        tokens[position] = (
                            (profile, text, fields[2]) if typed else (profile, text)
                        )
                    else:
                        tokens[position] = text
        for position, content in others:
            tokens[position] = content(scope)
        return tokens

    return contents

"""A cheap look at a path: what is written there, without making values of it.

The mapping engine asks before it reads, so that an absent field costs a list look-up
and a code that it has converted before is not converted again
(:class:`gateway.ports.CompiledPath`, ``content``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import itemgetter
from typing import Any

from adapters.hl7.binding import PLACES_MAX
from adapters.hl7.message import PADDED_FIELDS, Message
from adapters.hl7.paths import Path, parse
from adapters.hl7.scopes import GroupScope, RepetitionScope, SegmentScope
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
        positions: Sequence[int] = scope.find(segment)
        if not positions:
            return None
        message: Message = scope.message
        lines = message.segments
        return (message.profile, tuple([lines[index] for index in positions]))

    return content


def _of_first(path: Path) -> Callable[[Scope], Hashable]:
    segment, field = path.segment, path.field
    typed = (segment, field) == _ANY_VALUE_FIELD

    def content(scope: Any) -> Hashable:
        positions: Sequence[int] = scope.find(segment)
        if not positions:
            return None
        message: Message = scope.message
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
        positions: Sequence[int] = scope.find(segment)
        if not positions:
            return None
        message: Message = scope.message
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
    groups: dict[str, list[tuple[int, int]]] = {}
    others: list[tuple[int, str, Callable[[Scope], Hashable]]] = []
    for position, compiled in enumerate(paths):
        path = parse(compiled.text)
        if 0 < path.field < PADDED_FIELDS and path.which.plain and not path.here:
            groups.setdefault(path.segment, []).append((position, path.field))
        elif compiled.content is not None:
            others.append((position, path.segment, compiled.content))
    looks = [_Look(name, wanted) for name, wanted in groups.items()]
    order = [position for wanted in groups.values() for position, _ in wanted]
    asked = [(name, content) for _, name, content in others]
    order += [position for position, _, _ in others]
    # Where each path's token stands among those that are looked up segment by segment.
    rank = {position: number for number, position in enumerate(order)}
    ranks = [rank[position] for position in range(len(order))]
    # Of one place alone itemgetter would give no tuple: a second token does no harm.
    arrange = itemgetter(*ranks) if len(ranks) > 1 else itemgetter(0, 0)
    known = Places([look.name for look in looks], [name for name, _ in asked])

    def contents(scope: Any) -> Sequence[Hashable]:
        firsts, there = known.of(scope)
        message: Message = scope.message
        padded = message.padded
        tokens: list[Hashable] = []
        for number, look in enumerate(looks):
            index = firsts[number]
            if index < 0:
                tokens += look.nothing
                continue
            fields = padded[index] or message.pad(index)
            start = len(tokens)
            tokens += look.pick(fields)
            for place in look.typed:
                if tokens[start + place]:
                    tokens[start + place] = (tokens[start + place], fields[2])
        for number, (_, content) in enumerate(asked):
            tokens.append(content(scope) if there[number] else None)
        return arrange(tokens)  # type: ignore[no-any-return]

    if len(order) < len(paths):  # a path without a content: the engine asks for none
        raise ValueError("a path that has no content cannot be looked at")
    return contents


class _Look:
    """The fields that are wanted of the first segment of a name."""

    __slots__ = ("name", "nothing", "pick", "typed")

    def __init__(self, name: str, wanted: Sequence[tuple[int, int]]) -> None:
        self.name = name
        fields = [field for _, field in wanted]
        self.nothing: tuple[None, ...] = (None,) * len(fields)
        self.pick: Callable[[Sequence[str | None]], Sequence[Hashable]] = (
            itemgetter(*fields) if len(fields) > 1 else itemgetter(slice(fields[0], fields[0] + 1))
        )
        self.typed = [
            place for place, field in enumerate(fields) if (name, field) == _ANY_VALUE_FIELD
        ]


class Places:
    """Where the first segment of each name is, and whether there is one of some others.

    It follows from the names of a message's segments alone, which come again from message
    to message: what was found once is kept with their binding (``binding.Binding.places``).
    """

    __slots__ = ("_first", "_others")

    def __init__(self, first: Sequence[str], others: Sequence[str]) -> None:
        self._first = tuple(first)
        self._others = tuple(others)

    def of(self, scope: Any) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """The places for a scope."""
        if type(scope) is RepetitionScope:
            return self.of(scope.outer)
        known: dict[Hashable, Any] | None = None
        key: Hashable = None
        if type(scope) is SegmentScope:
            known, key = scope.root.binding.places, (self, scope.index)
        elif type(scope) is GroupScope:
            known, key = scope.root.binding.places, (self, scope.node())
        if known is None:
            return self._find(scope)
        found: tuple[tuple[int, ...], tuple[bool, ...]] | None = known.get(key)
        if found is None:
            if len(known) >= PLACES_MAX:
                known.clear()
            found = known[key] = self._find(scope)
        return found

    def _find(self, scope: Any) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        find = scope.find
        firsts = []
        for name in self._first:
            positions = find(name)
            firsts.append(positions[0] if positions else -1)
        message: Message = scope.message
        there = [bool(message.positions(name)) for name in self._others]
        return tuple(firsts), tuple(there)

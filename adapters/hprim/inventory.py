"""Everything that an HPRIM message says: its leaves, for the measure of retention."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import cast

from adapters.hprim.segments import PLACED, Message, Segment
from adapters.hprim.values import HprimScope, HprimValue
from gateway.inventory import Leaf, LeafKey, covering
from gateway.ports import Scope

_PATH = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{0,2})(?:\((?P<which>[^()]*)\))?"
    r"(?:-(?P<field>\d+)(?:\((?P<repetition>[^()]*)\))?"
    r"(?:\.(?P<component>\d+)(?:\.(?P<sub>\d+))?)?)?\Z"
)


class HprimInventory:
    """The leaves of a message (``gateway.inventory.Inventory``).

    As in HL7 v2: a subcomponent, or a component, repetition or field without parts, that
    is not blank. The separators (H-1) are no leaf. In the lines of HPRIM Médecin whose
    components are told by their place, each of those is one.
    """

    def leaves(self, root: Scope) -> Iterator[Leaf]:
        """Every leaf, in the order of the message."""
        message = cast("HprimScope", root).message
        for segment in _all(message.root):
            for number in range(1, len(segment.fields)):
                if segment.name == "H" and number == 1 and message.separators is not None:
                    continue
                for place, text in enumerate(message.repetitions(segment, number), 1):
                    if text.strip():
                        yield from _leaves(message, segment, (number, place), text)

    def places(self, path: str, root: Scope) -> Sequence[LeafKey]:  # noqa: ARG002
        """The places of ``OBX(2)-5(2).1`` or of several joined by `` + ``."""
        return tuple(key for part in path.split(" + ") if (key := _key(part)) is not None)

    def scope(self, leaf: Leaf, root: Scope) -> Scope:
        """The leaf's segment."""
        message = cast("HprimScope", root).message
        for segment in _all(message.root):
            if (segment.name, segment.ordinal) == leaf.key[:2]:
                return HprimScope(message, segment)
        return root

    def covers(self, path: str, root: Scope) -> Callable[[Leaf], bool]:  # noqa: ARG002
        """A segment, or a field or part of it: of every segment of the name and every
        repetition, unless the path says which by a number."""
        return _covers(path)


def _all(segment: Segment) -> Iterator[Segment]:
    """A segment and those below it, in order; no message nests deep."""
    yield segment
    for child in segment.children:
        yield from _all(child)


def _leaves(message: Message, segment: Segment, at: tuple[int, int], text: str) -> Iterator[Leaf]:
    number, place = at
    start = (segment.name, segment.ordinal, number, place)
    value = HprimValue(message, segment, (number, place, 0, 0), text)
    name = f"{segment.name}-{number}"
    if (segment.name, number) in PLACED:
        for component in sorted(c for field, c in segment.derived if field == number):
            if segment.derived[number, component].strip():
                path = f"{value.path}.{component}"
                yield Leaf(path, f"{name}.{component}", (*start, component, 1), 5)
        return
    separators = message.separators
    if separators is None:
        yield Leaf(value.path, name, (*start, 1, 1), 4)
        return
    pieces = text.split(separators.component)
    whole = value.text == message.plain(text).strip()
    for component, piece in enumerate(pieces, 1):
        subs = piece.split(separators.subcomponent) if separators.subcomponent else [piece]
        for sub, part in enumerate(subs, 1):
            if not part.strip():
                continue
            shown = f".{component}" if len(pieces) > 1 or len(subs) > 1 else ""
            shown += f".{sub}" if len(subs) > 1 else ""
            first = component == 1 and sub == 1
            heard = 4 if whole or first else 5 if sub == 1 else 6
            yield Leaf(value.path + shown, name + shown, (*start, component, sub), heard)


@lru_cache(maxsize=8192)
def _key(path: str) -> LeafKey | None:
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    key: list[str | int] = [match["segment"], int(match["which"] or 1)]
    if match["field"] is None:
        return tuple(key)
    key += [int(match["field"]), int(match["repetition"] or 1)]
    key += [int(match[name]) for name in ("component", "sub") if match[name] is not None]
    return tuple(key)


@lru_cache(maxsize=1024)
def _covers(path: str) -> Callable[[Leaf], bool]:
    match = _PATH.fullmatch(path)
    if match is None:
        return lambda _leaf: False
    return covering(match)

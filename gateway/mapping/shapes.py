"""Shapes: what is left of an entry's rules for the contents that its scope has.

Which of the contents that an entry's rules depend on are there is the entry's *pattern*.
For each pattern the rules are pruned once (:mod:`gateway.mapping.pruning`) to a
:class:`Shape`, which only does what can give something.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock

from gateway.mapping.compiling import Compiler, Item
from gateway.mapping.looking import Looking, LookingBuild, Tokens
from gateway.mapping.memory import provide
from gateway.mapping.pruning import ABSENT, EMPTY, Known
from gateway.mapping.running import Run
from gateway.ports import Scope

SHAPES_MAX = 256
"""Patterns of one entry that get a shape of their own; others are done with all rules."""

_SHAPING = Lock()
"""Shapes are made one at a time: the numbers of their memories come from one counter."""


@dataclass(slots=True)
class Shape:
    """What is left of an entry for one pattern. ``memos``: how many memories there must be."""

    identity: Callable[[Run, Scope, Item, Tokens], str]
    build: LookingBuild
    also: Sequence[Callable[[Run, Scope, Item], list[str]]]
    memos: int


MakeShape = Callable[[Known | None], Shape]
"""Makes the shape for what is known; with None that of all rules."""


class Shapes:
    """The shapes of one entry, made when the first scope of a pattern comes."""

    __slots__ = ("_compiler", "_known", "_looking", "_make", "_whole")

    def __init__(self, c: Compiler, looking: Looking, make: MakeShape) -> None:
        self._compiler = c
        self._looking = looking
        self._make = make
        self._whole = make(None)
        self._whole.memos = c.memos
        self._known: dict[Pattern, Shape] = {}

    def of(self, run: Run, scope: Scope, item: Item, tokens: Tokens) -> Shape:
        """The shape for a scope with these contents."""
        if not tokens:
            return self._whole
        pattern = pattern_of(tokens)
        shape = self._known.get(pattern)
        if shape is None:
            shape = self._shape(pattern, scope, item)
        if len(run.lasting) < shape.memos:
            provide(run.lasting, shape.memos)
        return shape

    def _shape(self, pattern: Pattern, scope: Scope, item: Item) -> Shape:
        with _SHAPING:
            if len(self._known) >= SHAPES_MAX:
                return self._whole
            shape = self._make(self._looking.known(pattern, scope, item))
            shape.memos = self._compiler.memos
            self._known[pattern] = shape
            return shape


Pattern = tuple[int | None, ...]
"""For each content whether nothing is there or it is empty; None where something is there."""

_STATES: dict[Hashable, int] = {None: ABSENT, "": EMPTY, (): EMPTY, b"": EMPTY, 0: EMPTY}
_state_of = _STATES.get


def pattern_of(tokens: Tokens) -> Pattern:
    """The pattern of some contents."""
    return tuple(map(_state_of, tokens))

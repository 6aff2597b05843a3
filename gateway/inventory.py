"""What a format's adapter implements so that the workbench can tell what mappings lose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.ports import Scope

LeafKey = tuple[str | int, ...]
"""A place in a message as steps from the outside in; a place inside another begins with it."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of a message that says something, as the measure of retention counts it.

    ``path`` is its place as ``gateway.ports.Value.path`` writes it, ``generic`` the same without
    positions. ``heard`` is the length of the shortest beginning of ``key`` whose value has
    this leaf in its ``text``: who reads that value as a text has read the leaf.
    """

    path: str
    generic: str
    key: LeafKey
    heard: int


class Inventory(Protocol):
    """Everything that a message says, whether a mapping asks for it or not."""

    def leaves(self, root: Scope) -> Iterator[Leaf]:
        """Every leaf of a message, in its order. ``docs/coverage.md`` says which count."""
        ...

    def places(self, path: str, root: Scope) -> Sequence[LeafKey]:
        """The places that a value's path names: several where it was put together, none
        for what is no place of this format."""
        ...

    def scope(self, leaf: Leaf, root: Scope) -> Scope:
        """The scope in which a condition about a leaf is asked: its segment, or the message."""
        ...

    def covers(self, path: str, root: Scope) -> Callable[[Leaf], bool]:
        """Whether a leaf is at or below a path that a mapping's ``ignore:`` gives."""
        ...


def covering(match: re.Match[str]) -> Callable[[Leaf], bool]:
    """Whether a leaf is at, or below, a path of segments and fields that was matched.

    ``match`` has the groups ``segment``, ``which``, ``field``, ``repetition``, ``component``
    and ``sub``, in which a leaf's key is written too; one without a number covers them all.
    """
    wanted: list[tuple[int, str | int]] = [(0, match["segment"])]
    for place, name in enumerate(("which", "field", "repetition", "component", "sub"), 1):
        said = match[name]
        if said is not None and said.isdigit():
            wanted.append((place, int(said)))

    def covers(leaf: Leaf) -> bool:
        return all(leaf.key[place] == value for place, value in wanted)

    return covers

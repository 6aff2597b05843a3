"""Segments to the groups of a message's structure, leniently about order.

The structure says where a segment belongs; a sender that writes it elsewhere
still gets it bound to the nearest group that can hold it, and a segment that the
structure does not know stays with the segment before it. Nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from adapters.hl7.grammar import GroupDefinition

# These say something of the segment before them, wherever that stands (2.9.1,
# chapters 2 and 7: NTE "is a common format for sending notes", PRT names the
# participants of the segment that it follows).
FOLLOWERS = frozenset({"NTE", "PRT"})
PLACES_MAX = 4_096
"""What is kept of one binding's places; beyond it begins anew."""
UNSTRUCTURED = GroupDefinition("", (), choice=False)


class Node:
    """One occurrence of a group: its own segments (indexes) and its groups, in order."""

    __slots__ = (
        "_all",
        "_beside",
        "_own",
        "children",
        "cursor",
        "definition",
        "found",
        "latest",
        "ordinal",
        "parent",
        "position",
        "segments",
    )

    def __init__(
        self, definition: GroupDefinition, parent: Node | None, position: int, ordinal: int
    ) -> None:
        self.definition = definition
        self.parent = parent
        self.position = position
        self.ordinal = ordinal
        self.cursor = -1
        self.segments: list[int] = []
        self.children: list[Node] = []
        self.found: dict[str, Sequence[int]] = {}
        """What paths from here have found, by segment name (``scopes.find_from``)."""
        self.latest: dict[int, Node] = {}
        """The last occurrence of the group at each position of the definition."""
        self._own: dict[str, list[int]] | None = None
        self._all: dict[str, list[int]] | None = None
        self._beside: dict[int, dict[str, list[int]]] = {}

    def own(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Indexes of the segments that stand directly in the group, by name."""
        if self._own is None:
            found: dict[str, list[int]] = {}
            for index in self.segments:
                found.setdefault(names[index], []).append(index)
            self._own = found
        return self._own

    def all(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Indexes of the segments in the group and in its groups, by name, in order."""
        if self._all is None:
            if not self.children:
                self._all = self.own(names)
            else:
                parts = (child.all(names) for child in self.children)
                self._all = _merged([self.own(names), *parts])
        return self._all

    def beside(self, position: int, names: Sequence[str]) -> dict[str, list[int]]:
        """:meth:`all` of the groups in this one, but for those at ``position``."""
        found = self._beside.get(position)
        if found is None:
            parts = [child.all(names) for child in self.children if child.position != position]
            found = self._beside[position] = _merged(parts)
        return found

    def groups(self, name: str) -> Iterator[Node]:
        """Occurrences of the group ``name`` within this one, in message order."""
        for child in self.children:
            if child.definition.name == name:
                yield child
            else:
                yield from child.groups(name)


def _merged(parts: Sequence[dict[str, list[int]]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for part in parts:
        for name, indexes in part.items():
            found.setdefault(name, []).extend(indexes)
    for indexes in found.values():
        indexes.sort()
    return found


class Binding:
    """Where each segment of one message's sequence of segment names belongs.

    ``node[i]`` is the group of segment ``i``; ``owner[i]`` the segment that it
    says something of: for NTE and PRT the one before them, for a segment that the
    structure does not know the last one that it does, for the others themselves.
    """

    __slots__ = ("_counts", "_current", "following", "names", "node", "owner", "places", "root")

    def __init__(self, definition: GroupDefinition | None, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.places: dict[Hashable, Any] = {}
        """What has been found out about where segments stand (``contents.Places``)."""
        self.root = Node(definition or UNSTRUCTURED, None, -1, 1)
        self.node: list[Node] = []
        self.owner: list[int] = []
        self._counts: dict[str, int] = {}
        self._current = self.root
        known = self.root.definition.contains
        subject = placed = 0
        for index, name in enumerate(self.names):
            if name in FOLLOWERS and index:
                self._current = self.node[subject]
                self.owner.append(subject)
            elif name in known or definition is None:
                self._current = self._place(name)
                subject = placed = index
                self.owner.append(index)
            else:
                self._current = self.node[placed] if index else self.root
                subject = index
                self.owner.append(placed)
            self._current.segments.append(index)
            self.node.append(self._current)
        self.following: dict[int, list[int]] = {}
        """The other segments that say something of a segment."""
        for index, owner in enumerate(self.owner):
            if owner != index:
                self.following.setdefault(owner, []).append(index)

    def of(self, owner: int, name: str) -> list[int]:
        """Segments of a name that say something of the segment ``owner``."""
        return [i for i in self.following.get(owner, ()) if self.names[i] == name]

    def _place(self, name: str) -> Node:
        """The group for the next segment: in order, then out of order, then made for it."""
        return (
            self._upwards(lambda node: self._in_order(node, name))
            or self._upwards(lambda node: self._out_of_order(node, name))
            or self._upwards(lambda node: self._within(node, name))
            or self._current
        )

    def _upwards(self, attempt: Callable[[Node], Node | None]) -> Node | None:
        node: Node | None = self._current
        while node is not None:
            found = attempt(node)
            if found is not None:
                return found
            node = node.parent
        return None

    def _in_order(self, node: Node, name: str) -> Node | None:
        """The structure's next place for the segment at or after the group's cursor."""
        definition = node.definition
        best = -1
        for position in definition.places.get(name, ()):
            if _fits(node, position):
                best = position
                break
        for position in definition.openings.get(name, ()):
            if _fits(node, position):
                if best < 0 or position < best:
                    return self._open(node, position, name)
                break
        if best < 0:
            return None
        node.cursor = best
        return node

    def _out_of_order(self, node: Node, name: str) -> Node | None:
        """A place before the cursor, which stays: what follows is still in order."""
        definition = node.definition
        if name in definition.places:
            return node
        for position in definition.openings.get(name, ()):
            cursor = node.cursor
            opened = self._open(node, position, name)
            node.cursor = max(cursor, position)
            return opened
        return None

    def _within(self, node: Node, name: str) -> Node | None:
        """Deep inside a group that does not begin with it: the last such group, else a new one."""
        for position, item in enumerate(node.definition.items):
            if item.group is None or name not in item.group.contains:
                continue
            last = node.latest.get(position)
            if last is None:
                last = self._child(node, position, item.group)
                node.cursor = max(node.cursor, position)
            return (
                self._in_order(last, name)
                or self._out_of_order(last, name)
                or self._within(last, name)
            )
        return None

    def _open(self, node: Node, position: int, name: str) -> Node:
        """A new occurrence of the group at ``position``, and in it the segment's place."""
        node.cursor = position
        group = node.definition.items[position].group
        if group is None:  # the position came from ``openings``, which names groups only
            raise AssertionError("an opening that is not a group")
        child = self._child(node, position, group)
        return self._in_order(child, name) or child

    def _child(self, node: Node, position: int, group: GroupDefinition) -> Node:
        ordinal = self._counts.get(group.name, 0) + 1
        self._counts[group.name] = ordinal
        child = Node(group, node, position, ordinal)
        node.children.append(child)
        node.latest[position] = child
        return child


def _fits(node: Node, position: int) -> bool:
    return position > node.cursor or (
        position == node.cursor and node.definition.items[position].repeats
    )


_CACHED_SEGMENTS_MAX = 200


@lru_cache(maxsize=512)
def _shared(definition: GroupDefinition | None, names: tuple[str, ...]) -> Binding:
    return Binding(definition, names)


def bind(definition: GroupDefinition | None, names: Sequence[str]) -> Binding:
    """Bind a sequence of segment names to a structure (None: one group of all).

    Messages of one sender have few shapes: bindings of short messages are shared
    by those with the same sequence. Linear in the number of segments.
    """
    if len(names) <= _CACHED_SEGMENTS_MAX:
        return _shared(definition, tuple(names))
    return Binding(definition, names)

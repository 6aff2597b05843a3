"""Places in a message from which paths are read (``gateway.ports.Scope``)."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator, Sequence

from adapters.hl7.binding import FOLLOWERS, Binding, Node, bind
from adapters.hl7.charset import ASCII, charset_named
from adapters.hl7.grammar import grammar, withdrawn_structure
from adapters.hl7.message import Message
from adapters.hl7.values import Hl7Value
from gateway.model import Flag

_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}\Z")
_FLAGS_MAX = 100


class MessageScope:
    """The whole message: every segment is in reach."""

    __slots__ = ("_binding", "find", "message", "structure")

    def __init__(self, message: Message) -> None:
        self.message = message
        # Indexes of the segments that a path beginning with a name means here.
        self.find = message.positions
        self._binding: Binding | None = None
        declared = message.text(0, 9, 3)
        self.structure = (message.text(0, 9, 1), message.text(0, 9, 2), declared)

    @property
    def path(self) -> str:
        return "message"

    @property
    def profile(self) -> object:
        """One for all messages that are read alike."""
        return self.message.profile

    @property
    def structure_name(self) -> str:
        """The structure by which the message's groups are bound, or empty."""
        return grammar(self.message.grammar_version).structure_name(*self.structure)

    @property
    def binding(self) -> Binding:
        """Segments bound to groups; made when a group, or what surrounds a place, is asked for."""
        if self._binding is None:
            message = self.message
            version, name = message.grammar_version, self.structure_name
            definition = (
                grammar(version).structure(name)
                if name
                else withdrawn_structure(version, *self.structure)
            )
            names = [message.name(index) for index in range(len(message.segments))]
            self._binding = bind(definition, names)
        return self._binding

    def source_bytes(self) -> bytes:
        """The exact bytes of the message."""
        return self.message.raw

    def reading_flags(self) -> Sequence[Flag]:
        """A character set that MSH-18 does not name, and lines that are no segment: a
        carriage return stands inside a field, whose rest no path reaches. The number of
        the line is told, never its text."""
        message = self.message
        other = () if message.charset is ASCII else self._other_charset()
        return (
            other
            + tuple(
                Flag(
                    code="not-a-segment",
                    detail=f"line {index + 1} is not a segment: a line end stands inside a field",
                )
                for name in message.names()
                if not _SEGMENT_NAME.match(name)
                for index in message.positions(name)
            )[:_FLAGS_MAX]
        )

    def _other_charset(self) -> tuple[Flag, ...]:
        """The message is read in another character set than MSH-18 names: a fallback's."""
        declared = self.message.text(0, 18).strip()
        known, taken = charset_named(declared), self.message.charset
        if not declared or (known and taken.name.partition("~")[0] == known.name):
            return ()
        detail = f"MSH-18 does not say {taken.name}, in which the message is read"
        return (Flag(code="character-set", detail=detail, source="MSH-18"),)

    def node(self) -> Node:
        """The group that this place is in."""
        return self.binding.root

    @property
    def value(self) -> Hl7Value | None:
        """What ``$`` means here."""
        return None


class GroupScope:
    """One occurrence of a group."""

    __slots__ = ("_node", "message", "root")

    def __init__(self, root: MessageScope, node: Node) -> None:
        self.root = root
        self.message = root.message
        self._node = node

    @property
    def path(self) -> str:
        return f"{self._node.definition.name}({self._node.ordinal})"

    def find(self, name: str) -> Sequence[int]:
        """As of the message, the nearest first."""
        found = self._node.found.get(name)
        return find_from(self.root.binding, self._node, name) if found is None else found

    def node(self) -> Node:
        return self._node

    def lacks(self, name: str) -> bool:
        """Whether the structure knows a segment and this occurrence of the group has none.

        A value is looked for in the groups around (MSH from anywhere); what ``each:``
        walks is not: the results of an order are not the patient's own a second time.
        """
        binding = self.root.binding
        known = name in binding.root.definition.contains
        return known and not self._node.all(binding.names).get(name)

    @property
    def value(self) -> Hl7Value | None:
        return None


class SegmentScope:
    """One segment, and around it the group that it is in."""

    __slots__ = ("index", "message", "name", "root")

    def __init__(self, root: MessageScope, index: int, name: str = "") -> None:
        self.root = root
        self.message = root.message
        self.index = index
        self.name = name or root.message.name(index)

    @property
    def path(self) -> str:
        return f"{self.name}({bisect(self.message.positions(self.name), self.index)})"

    def find(self, name: str) -> Sequence[int]:
        if name == self.name:
            return (self.index,)
        binding = self.root.binding
        if name in FOLLOWERS:
            return binding.of(self.index, name)
        node = binding.node[self.index]
        found = node.found.get(name)
        if found is None:
            found = find_from(binding, node, name)
        if name in binding.root.definition.contains:
            return found
        # Unknown to the structure: mine, or else nobody's of my kind.
        mine = binding.of(self.index, name)
        names = binding.names
        return mine or [i for i in found if names[binding.owner[i]] != self.name]

    def node(self) -> Node:
        return self.root.binding.node[self.index]

    @property
    def value(self) -> Hl7Value | None:
        return None


class BesideScope(SegmentScope):
    """One segment, walked from a place that stays around it: all other paths mean what they
    mean there, not what the segment's own group would make of them."""

    __slots__ = ("outer",)

    def __init__(self, outer: Hl7Scope, index: int, name: str) -> None:
        super().__init__(root_of(outer), index, name)
        self.outer = outer

    def find(self, name: str) -> Sequence[int]:
        if name == self.name:
            return (self.index,)
        if name in FOLLOWERS:
            return self.root.binding.of(self.index, name)
        return self.outer.find(name)

    def node(self) -> Node:
        return self.outer.node()


class RepetitionScope:
    """One repetition of a field (``$``), and around it the place that it was walked from."""

    __slots__ = ("_value", "message", "outer", "root")

    message: Message

    def __init__(self, outer: Hl7Scope, value: Hl7Value) -> None:
        self.outer = outer
        self.root: MessageScope = outer.root if not isinstance(outer, MessageScope) else outer
        self.message = outer.message
        self._value = value

    @property
    def path(self) -> str:
        return self._value.path

    def find(self, name: str) -> Sequence[int]:
        return self.outer.find(name)

    def node(self) -> Node:
        return self.outer.node()

    @property
    def value(self) -> Hl7Value | None:
        return self._value


Hl7Scope = MessageScope | GroupScope | SegmentScope | RepetitionScope


def root_of(scope: Hl7Scope) -> MessageScope:
    """The message that a place is in."""
    return scope if isinstance(scope, MessageScope) else scope.root


def groups_in(scope: Hl7Scope, name: str) -> Iterator[GroupScope]:
    """Occurrences of a group within a place, in message order."""
    root = root_of(scope)
    for node in scope.node().groups(name):
        yield GroupScope(root, node)


def segments_of_groups(scope: Hl7Scope, group: str, name: str) -> Iterator[int]:
    """Segments that stand directly in the groups of one name, in the nearest place around
    whose structure has such a group: never those of another order, when this one has none."""
    names = root_of(scope).binding.names
    node: Node | None = scope.node()
    while node is not None and not node.definition.holds(group):
        node = node.parent
    if node is not None:
        for each in node.groups(group):
            yield from each.own(names).get(name, ())


def find_from(binding: Binding, node: Node, name: str) -> Sequence[int]:
    """:func:`find_around`, worked out once for each group of a binding."""
    found = node.found.get(name)
    if found is None:
        found = node.found[name] = find_around(binding, node, name)
    return found


def find_around(binding: Binding, node: Node, name: str) -> Sequence[int]:
    """Segments that ``name`` means within a group: the nearest enclosing group wins.

    The group's own segments come first, then those of the groups in it. What the
    structure gives the group but the message does not have is absent: it is never
    taken from elsewhere. Only a segment foreign to the group is looked for in the
    groups around it, and there never in another occurrence of the same group.
    """
    names = binding.names
    came_from: Node | None = None
    current: Node | None = node
    while current is not None:
        own = current.own(names).get(name)
        if own:
            return own
        if name in current.definition.places:
            return ()
        if came_from is None:
            below = current.all(names).get(name)
        else:
            below = current.beside(came_from.position, names).get(name)
        if below:
            return below
        if name in current.definition.contains:
            return ()
        came_from, current = current, current.parent
    return ()


def cut_document(message: Message) -> str:
    """Where a document (OBX-2 ED) is cut, like ``OBX(2)-5``; empty when none is.

    A line end stands inside the field, as where Base64 came wrapped: what is left of it would
    still decode, to a document without its end. Of other fields the rest is flagged
    (:meth:`MessageScope.reading_flags`).
    """
    if all(_SEGMENT_NAME.match(name) for name in message.names()):
        return ""
    number, document = 0, False
    for index in range(len(message.segments)):
        name = message.name(index)
        if _SEGMENT_NAME.match(name):
            number += name == "OBX"
            document = name == "OBX" and message.text(index, 2, 1).strip() == "ED"
        elif document:
            return f"OBX({number})-5"
    return ""

"""A message of either form as a tree of segments with fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gateway.model import Flag

NULL = '""'

PLACED = frozenset({("ENT", 7), ("ENT", 8), ("ENT", 10), ("ENT", 11), ("ENT", 12)})
"""Lines of HPRIM Médecin whose components are told by their place (:attr:`Segment.derived`)."""


@dataclass(frozen=True, slots=True)
class Separators:
    """The five characters behind the ``H`` (HPRIM Santé 2.5 section 7.2), in this order.

    The second and third stand for the opposite of what they do in HL7 v2: ``~`` usually
    parts the components of a field and ``^`` its repetitions.
    """

    field: str = "|"
    component: str = "~"
    repetition: str = "^"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def escaped(self) -> dict[str, str]:
        """What the letter of an escape sequence stands for, as in ASTM E1238 and HL7 v2."""
        return {
            "F": self.field,
            "S": self.component,
            "R": self.repetition,
            "E": self.escape,
            "T": self.subcomponent,
        }


@dataclass(slots=True, eq=False)
class Segment:
    """One segment. ``fields[n]`` is field n as written; ``fields[0]`` the name.

    ``derived`` gives components that are not parted by a character but by their place in
    a line (HPRIM Médecin): (field, component) to text.
    """

    name: str
    fields: list[str]
    line: int
    ordinal: int = 1
    parent: Segment | None = None
    children: list[Segment] = field(default_factory=list)
    derived: dict[tuple[int, int], str] = field(default_factory=dict)

    def below(self, name: str) -> Iterator[Segment]:
        """The segments of a name at any depth below this one, in order."""
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.below(name)


@dataclass(slots=True)
class Message:
    """One message: its tree, the grammar that its version has, and what reading met."""

    version: str
    root: Segment
    raw: bytes
    encoding: str
    separators: Separators | None = None
    flags: list[Flag] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def repetitions(self, segment: Segment, number: int) -> Sequence[str]:
        """The texts of a field's repetitions; none when the field is not there."""
        if number >= len(segment.fields):
            return ()
        text = segment.fields[number]
        separators = self.separators
        if separators is None or (segment.name == "H" and number == 1):
            return (text,)
        return text.split(separators.repetition)

    def text(self, segment: Segment, number: int, component: int = 1) -> str:
        """A component of a field's first repetition, unescaped; empty when not there."""
        found = self.repetitions(segment, number)
        text = self.component(segment, number, found[0], component) if found else None
        return self.plain(text) if text is not None and text != NULL else ""

    def component(self, segment: Segment, number: int, text: str, component: int) -> str | None:
        """A component of a repetition's text as written; None when there is none."""
        if (segment.name, number) in PLACED:
            return segment.derived.get((number, component))
        if self.separators is None:
            return text if component == 1 else None
        parts = text.split(self.separators.component)
        if text == NULL:
            return NULL
        return parts[component - 1] if component <= len(parts) else None

    def plain(self, text: str) -> str:
        """A text with its escape sequences resolved; unknown ones stay as written."""
        separators = self.separators
        if separators is None or separators.escape not in text:
            return text
        escaped = separators.escaped
        pieces = text.split(separators.escape)
        result, index, last = [pieces[0]], 1, len(pieces) - 1
        while index <= last:
            letter = pieces[index]
            if index < last and letter in escaped:
                result += [escaped[letter], pieces[index + 1]]
                index += 2
            else:
                result += [separators.escape, letter]
                index += 1
        return "".join(result)

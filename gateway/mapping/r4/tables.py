"""What the checker knows of a type of FHIR R4: one table per type or backbone element.

A table is looked into once for each property that a resource has, so that everything
that can be known beforehand is in it, under names that are quick to ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.mapping.r4.constraints import Invariant
from gateway.mapping.r4.primitives import Primitive

PLAIN = 0
"""An object or a primitive value without rules of its own."""
REFERENCE = 1
"""A Reference, which may name resources of some types only."""
BOUND = 2
"""A CodeableConcept, Coding or Quantity with a required binding."""
RESOURCE = 3
CONTAINED = 4
NULLABLE = 5
"""The ``_`` sibling of a repeating primitive, in which null may stand."""


class Property:
    """One JSON property: a name, and what may stand under it.

    A value is either a ``primitive`` or an object that ``table`` describes (neither is
    set for a resource). ``right`` are texts that need no further look; it is empty for a
    choice, which must be counted. ``words`` says that a short printable text is right.
    ``named`` are what References to these ``targets`` were found to name rightly;
    ``elsewhere`` is set for those that lead to what another message brought.
    """

    __slots__ = (
        "bare",
        "choice",
        "elsewhere",
        "kind",
        "many",
        "named",
        "one",
        "primitive",
        "reference",
        "repeats",
        "right",
        "single",
        "systems",
        "table",
        "targets",
        "words",
    )

    def __init__(
        self,
        *,
        primitive: Primitive | None = None,
        table: Table | None = None,
        kind: int = PLAIN,
        repeats: bool = False,
        choice: str = "",
        bare: str = "",
        targets: frozenset[str] = frozenset(),
        systems: Mapping[str, frozenset[str]] | None = None,
        right: set[str] | None = None,
        named: set[str] | None = None,
        words: bool = False,
        elsewhere: bool = False,
    ) -> None:
        self.primitive = primitive
        self.table = table
        self.kind = kind
        # The table again where one look at the value's JSON type says that it applies.
        self.one = primitive if not repeats else None
        self.reference = table if kind == REFERENCE and not repeats else None
        self.single = table if kind == PLAIN and not repeats else None
        self.many = table if kind == PLAIN and repeats else None
        self.repeats = repeats
        self.choice = choice
        self.bare = bare
        self.targets = targets
        self.systems = systems
        self.right: set[str] = right if right is not None else set()
        self.named: set[str] = named if named is not None else set()
        self.words = words
        self.elsewhere = elsewhere


class Table:
    """One type or backbone element.

    ``required`` are properties, each with the element's name and the properties that
    stand for it (another type of a choice, the ``_`` sibling of a primitive).
    """

    __slots__ = ("first_required", "invariants", "name", "properties", "required")

    def __init__(self, name: str) -> None:
        self.name = name
        self.properties: dict[str, Property] = {}
        self.required: tuple[tuple[str, tuple[str, ...]], ...] = ()
        self.first_required: tuple[str, ...] = ()
        self.invariants: tuple[Invariant, ...] = ()

    def require(self, required: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        """Set which elements are required."""
        self.required = tuple(required)
        self.first_required = tuple(keys[0] for _, keys in required)

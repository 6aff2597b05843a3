"""What HL7 v2 defines for each version: segments, data types, structures, tables.

The definitions are hl7apy's (versions 2.1 to 2.8.2), read once per version and
kept in the shapes that checking a path and binding a message need. hl7apy's
parser is never used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import hl7apy

from adapters.hl7.structure_events import structure_candidates

VARIES = "varies"
_GROUP_PREFIX = re.compile(r"[A-Z0-9]{3}_[A-Za-z0-9]{3}_(?=.)")
# Version 2.3 of the grammar calls RESPONSE what every other version calls
# PATIENT_RESULT; the standard of 2.3 gave groups no names at all.
_RENAMED_GROUPS = {"ORU_R01_RESPONSE": "PATIENT_RESULT"}


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


VERSIONS: tuple[str, ...] = tuple(sorted(hl7apy.SUPPORTED_LIBRARIES, key=_order))


@lru_cache(maxsize=256)
def version_order(version: str) -> tuple[int, ...]:
    """A key that sorts version numbers; ``(0,)`` for what is not one."""
    try:
        return _order(version)
    except ValueError:
        return (0,)


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """A field or component: its number, name, data type, whether it repeats, its table.

    ``least`` and ``most`` are its cardinality; ``most`` is -1 without a limit and 0
    for what the version has withdrawn.
    """

    number: int
    name: str
    datatype: str
    repeats: bool
    table: str
    least: int = 0
    most: int = 1


class GroupDefinition:
    """A message structure or one of its groups, with what binding asks of it."""

    __slots__ = ("choice", "contains", "items", "name", "openings", "places", "starts")

    starts: frozenset[str]
    contains: frozenset[str]

    def __init__(self, name: str, items: Sequence[Item], *, choice: bool) -> None:
        self.name = name
        self.items = tuple(items)
        self.choice = choice
        # Segments that stand directly in the group -> their positions.
        self.places: dict[str, tuple[int, ...]] = {}
        # Segments that may begin one of its groups -> the groups' positions.
        self.openings: dict[str, tuple[int, ...]] = {}
        contains: set[str] = set()
        starts: set[str] = set()
        starting = True
        for position, item in enumerate(self.items):
            if item.group is None:
                self.places[item.name] = (*self.places.get(item.name, ()), position)
                first = {item.name}
                contains.add(item.name)
            else:
                first = set(item.group.starts)
                contains |= item.group.contains
                for segment in first:
                    self.openings[segment] = (*self.openings.get(segment, ()), position)
            if starting:
                starts |= first
                # A choice begins with any of its items; a sequence with its
                # optional items and the first required one.
                starting = choice or item.least == 0
        self.starts = frozenset(starts)
        self.contains = frozenset(contains)

    def holds(self, group: str) -> bool:
        """Whether a group of that name belongs in it, however deep."""
        inner = [item.group for item in self.items if item.group is not None]
        return any(each.name == group or each.holds(group) for each in inner)


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a structure: a segment, or a group when ``group`` is set."""

    name: str
    group: GroupDefinition | None
    least: int
    most: int

    @property
    def repeats(self) -> bool:
        return self.most != 1


class Grammar:
    """The definitions of one version. Everything is built on first use."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._library: Any = hl7apy.load_library(version)
        self._fields: dict[str, Mapping[int, FieldDefinition] | None] = {}
        self._components: dict[str, tuple[FieldDefinition, ...]] = {}
        self._structures: dict[str, GroupDefinition | None] = {}

    @cached_property
    def segments(self) -> frozenset[str]:
        """The names of the segments."""
        return frozenset(name for name in self._library.SEGMENTS if len(name) == 3)

    def fields(self, segment: str) -> Mapping[int, FieldDefinition] | None:
        """Fields of a segment by number, or None when the version has no such segment."""
        try:
            return self._fields[segment]
        except KeyError:
            pass
        found: dict[int, FieldDefinition] | None = None
        if segment in self.segments:
            found = {}
            lines = _children(self._library.SEGMENTS[segment])
            for name, reference, (least, most), _kind in lines:
                number = int(name.rpartition("_")[2])
                found[number] = _definition(number, reference, least, most)
        self._fields[segment] = found
        return found

    def components(self, datatype: str) -> tuple[FieldDefinition, ...]:
        """Components of a composite data type; empty for a primitive or unknown one."""
        try:
            return self._components[datatype]
        except KeyError:
            pass
        found = tuple(
            _definition(number, reference, least, 1)
            for number, (_, reference, (least, _), _) in enumerate(
                self._library.DATATYPES_STRUCTS.get(datatype, ()), start=1
            )
        )
        self._components[datatype] = found
        return found

    @cached_property
    def structures(self) -> frozenset[str]:
        """The names of the message structures."""
        return frozenset(self._library.MESSAGES)

    def structure(self, name: str) -> GroupDefinition | None:
        """A message structure by name (``ORU_R01``)."""
        try:
            return self._structures[name]
        except KeyError:
            pass
        reference = self._library.MESSAGES.get(name)
        found = None if reference is None else _group(name, reference)
        self._structures[name] = found
        return found

    def structure_name(self, message_type: str, event: str, declared: str) -> str:
        """Which structure a message has: MSH-9.3 if the version knows it, else by table 0354.

        Empty when the version knows none for the message type.
        """
        if declared in self.structures and declared[:3] == message_type:
            return declared
        for candidate in structure_candidates(message_type, event):
            if candidate in self.structures:
                return candidate
        same_type = sorted(name for name in self.structures if name[:3] == message_type)
        return same_type[0] if same_type else ""

    def table(self, number: str) -> frozenset[str]:
        """The codes of an HL7 table (``0003``); empty when hl7apy has none for the version."""
        tables = getattr(self._library, "TABLES", {})
        return frozenset(tables.get(f"HL7{number}", ("", ()))[1])

    def is_datatype(self, name: str) -> bool:
        """Does the version define a data type of that name?"""
        known = self._library
        return name in known.BASE_DATATYPES or name in known.DATATYPES_STRUCTS

    def length(self, datatype: str) -> int:
        """The most characters of a primitive data type; 0 where hl7apy has no limit for it."""
        return self._lengths.get(datatype, 0)

    @cached_property
    def _lengths(self) -> Mapping[str, int]:
        """hl7apy gives the lengths of primitive types only, and in their instances only."""
        examples = {"NM": 1, "SI": 1, "TN": "555-1234"}
        made = (
            (name, primitive(value=examples.get(name, "")))
            for name, primitive in self._library.BASE_DATATYPES.items()
        )
        return {name: getattr(each, "max_length", None) or 0 for name, each in made}


def _children(reference: Any) -> Any:
    """The lines of a segment. hl7apy forgets the wrapping of one (ORO in 2.1) and the
    lines of those that 2.7 names without defining."""
    if reference and isinstance(reference[0], tuple):
        return reference
    return reference[1] if len(reference) > 1 else ()


def _definition(number: int, reference: Any, least: int, most: int) -> FieldDefinition:
    # hl7apy: (kind, children, datatype, long name, table, maximum length)
    datatype = reference[2] or ""
    if datatype.upper() in {"WD", "NUL"}:  # withdrawn fields
        datatype = ""
    return FieldDefinition(
        number=number,
        name=reference[3] or "",
        datatype=datatype,
        repeats=most != 1,
        table=(reference[4] or "").removeprefix("HL7"),
        least=least,
        most=most if datatype else 0,
    )


def _group(name: str, reference: Any) -> GroupDefinition:
    items = []
    for child, child_reference, (least, most), kind in reference[1]:
        if kind == "GRP":
            short = _RENAMED_GROUPS.get(child) or _GROUP_PREFIX.sub("", child, count=1)
            items.append(Item(short, _group(short, child_reference), least, most))
        else:
            items.append(Item(child, None, least, most))
    return GroupDefinition(name, items, choice=reference[0] == "choice")


@lru_cache(maxsize=len(VERSIONS))
def grammar(version: str) -> Grammar:
    """The grammar of a version. Raises KeyError for one that hl7apy does not have."""
    if version not in VERSIONS:
        raise KeyError(version)
    return Grammar(version)


@lru_cache(maxsize=1024)
def withdrawn_structure(
    version: str, message_type: str, event: str, declared: str
) -> GroupDefinition | None:
    """The structure that the latest earlier version gave a message which this one dropped.

    ORM_O01 ends with 2.6, but its senders go on and write 2.7 into MSH-12; without its
    groups their orders could not be told apart. None when no version knows the type.
    """
    for earlier in reversed(VERSIONS[: VERSIONS.index(version)]):
        known = grammar(earlier)
        name = known.structure_name(message_type, event, declared)
        if name:
            return known.structure(name)
    return None


@lru_cache(maxsize=64)
def nearest_version(version: str) -> str:
    """The version whose grammar reads a message that says ``version``.

    Itself when known, else the highest known one that is not above it, else the
    lowest: a reader must read what the listener let in, whatever it says.
    """
    if version in VERSIONS:
        return version
    wanted = version_order(version)
    below = [known for known in VERSIONS if _order(known) <= wanted]
    if below:
        return below[-1]
    return "2.5" if wanted == (0,) else VERSIONS[0]


@lru_cache(maxsize=4096)
def field_definition(version: str, segment: str, number: int) -> FieldDefinition | None:
    """A field in a version or, if that has no such segment, in the next one that has it.

    Senders use segments of later versions (PRT of 2.7 in the French 2.5 profile);
    a Z segment and an unknown field give None.
    """
    for candidate in VERSIONS[VERSIONS.index(version) :]:
        fields = grammar(candidate).fields(segment)
        if fields is not None:
            return fields.get(number)
    return None


@lru_cache(maxsize=4096)
def component_definitions(version: str, datatype: str) -> tuple[FieldDefinition, ...]:
    """Components of a data type in a version, or in the first later one that has it."""
    for candidate in VERSIONS[VERSIONS.index(version) :]:
        components = grammar(candidate).components(datatype)
        if components:
            return components
    return ()


@lru_cache(maxsize=len(VERSIONS))
def known_types(version: str) -> tuple[frozenset[str], frozenset[str]]:
    """Message types (table 0076) and events (table 0003) that a version knows.

    What an earlier version defined stays known: the standard withdraws codes but
    asks receivers to remain compatible. hl7apy has no tables before 2.3.1; until
    there the codes come from the names of the structures and from 2.3.1's tables.
    """
    types: set[str] = set()
    events: set[str] = set()
    upto = VERSIONS[: VERSIONS.index(version) + 1]
    for candidate in (*upto, "2.3.1"):
        known = grammar(candidate)
        types |= known.table("0076")
        events |= known.table("0003")
        for structure in known.structures:
            message_type, _, event = structure.partition("_")
            types.add(message_type)
            events.add(event)
    return frozenset(types), frozenset(events - {"", "Varies", "Qnn", "Knn", "Znn"})

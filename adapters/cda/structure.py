"""What CDA R2's schema says of an element: its type, its children, its attributes.

The table ``structure.json`` is derived from the XML Schemas by
``tools/build_cda_structure.py``. Types carry the schema's names (``CD``,
``IVL_TS``, ``Observation`` for ``POCD_MT000040.Observation``); names outside
``urn:hl7-org:v3`` carry the prefixes of :data:`NAMESPACES` (``sdtc:raceCode``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

V3 = "urn:hl7-org:v3"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
NAMESPACES: dict[str, str] = {
    "": V3,
    "sdtc": "urn:hl7-org:sdtc",
    "lab": "urn:oid:1.3.6.1.4.1.19376.1.3.2",
    "ps3-20": "urn:dicom-org:ps3-20",
    "pharm": "urn:ihe:pharm:medication",
}
_PREFIX_OF = {uri: prefix for prefix, uri in NAMESPACES.items()}


def tag_of(name: str) -> str:
    """``sdtc:raceCode`` as lxml's ``{urn:hl7-org:sdtc}raceCode``. KeyError: unknown prefix."""
    prefix, _, local = name.rpartition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def name_of(tag: str) -> str:
    """lxml's tag as this notation writes it; a foreign namespace stays in braces."""
    uri, _, local = tag[1:].rpartition("}") if tag.startswith("{") else ("", "", tag)
    prefix = _PREFIX_OF.get(uri)
    if prefix is None:
        return tag
    return f"{prefix}:{local}" if prefix else local


def system_of(root: str) -> str:
    """An identifier's root as a URI: an OID, or a UUID where the root is one."""
    if root.count("-") == 4:
        return f"urn:uuid:{root.lower()}"
    return f"urn:oid:{root}"


@dataclass(frozen=True, slots=True)
class ElementType:
    """One type with everything it inherits. ``children``: name -> (type name, repeats).

    ``family`` holds the name of the type and of all it derives from.
    """

    name: str
    children: dict[str, tuple[str, bool]]
    attributes: frozenset[str]
    text: bool
    family: tuple[str, ...]

    def is_a(self, *names: str) -> bool:
        """True when the type is one of ``names`` or derives from one."""
        return any(name in self.family for name in names)


class Structure:
    """The table with inheritance resolved. Immutable once built."""

    def __init__(self, raw: dict[str, dict[str, object]], root: str) -> None:
        self.root = root
        self.types: dict[str, ElementType] = {}
        for name in raw:
            self._resolve(raw, name)
        self._derived: dict[str, list[str]] = {name: [] for name in self.types}
        for kind in self.types.values():
            for ancestor in kind.family:
                self._derived[ancestor].append(kind.name)
        self._by_child: dict[str, tuple[str, ...]] = self._types_by_child()

    def _resolve(self, raw: dict[str, dict[str, object]], name: str) -> ElementType:
        if name in self.types:
            return self.types[name]
        row = raw[name]
        base = self._resolve(raw, str(row["base"])) if row.get("base") else None
        own = row.get("children", {})
        assert isinstance(own, dict)
        children = {c: (t.rstrip("*"), t.endswith("*")) for c, t in own.items()}
        attributes = set(str(row.get("attributes", "")).split())
        if base is not None:
            attributes |= base.attributes
            if not row.get("restricts"):
                children = {**base.children, **children}
        kind = self.types[name] = ElementType(
            name=name,
            children=children,
            attributes=frozenset(attributes - set(str(row.get("without", "")).split())),
            text=bool(row.get("text")) or (base is not None and base.text),
            family=(name, *(base.family if base else ())),
        )
        return kind

    def _types_by_child(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, set[str]] = {}
        for kind in self.types.values():
            for child, (type_name, _) in kind.children.items():
                found.setdefault(child, set()).add(type_name)
        return {child: tuple(sorted(names)) for child, names in found.items()}

    def concrete(self, names: Iterable[str]) -> tuple[ElementType, ...]:
        """The types themselves and all that an ``xsi:type`` may put in their place."""
        found: dict[str, ElementType] = {}
        for name in names:
            for derived in self._derived.get(name, ()):
                found.setdefault(derived, self.types[derived])
        return tuple(found.values())

    def child(self, parents: Iterable[str], name: str) -> tuple[tuple[str, ...], bool]:
        """The declared types of child ``name`` below any of ``parents``, and if it repeats.

        No types at all means that the schema knows no such child there. The parts of a
        data type that the pharmacy extension uses may stand in either namespace.
        """
        types: dict[str, None] = {}
        repeats = False
        local = name.removeprefix("pharm:")
        for parent in self.concrete(parents):
            known = local if parent.is_a("ANY") else name
            if known in parent.children:
                type_name, many = parent.children[known]
                types[type_name] = None
                repeats = repeats or many
        return tuple(types), repeats

    def anywhere(self, name: str) -> tuple[str, ...]:
        """The types that an element of this name has anywhere in a document."""
        if name == "ClinicalDocument":
            return (self.root,)
        return self._by_child.get(name, ())

    def every(self) -> tuple[str, ...]:
        """Every type that an element may have."""
        return tuple(self.types)

    def children_of(self, types: Iterable[str]) -> tuple[str, ...]:
        """The types that children of these types may have."""
        found = {
            name: None
            for kind in self.concrete(types)
            for name, _ in kind.children.values()
            if name
        }
        return tuple(found)

    def parents_of(self, types: Iterable[str]) -> tuple[str, ...]:
        """The types that may have a child of one of these types."""
        wanted = set(types)
        return tuple(
            kind.name
            for kind in self.types.values()
            if any(child in wanted for child, _ in kind.children.values())
        )

    def has_attribute(self, types: Iterable[str], name: str) -> bool:
        """True when an element of one of the types, or of a derived one, may carry it."""
        if name == "xsi:type":
            return True
        return any(name in kind.attributes for kind in self.concrete(types))

    def has_text(self, types: Iterable[str]) -> bool:
        """True when an element of one of the types may hold text; "" is a plain string."""
        names = tuple(types)
        return "" in names or any(kind.text for kind in self.concrete(names))

    def near_child(self, parents: Iterable[str], name: str) -> str:
        """The right child, or ``child/grandchild`` when the level between was left out."""
        kinds = self.concrete(parents)
        for kind in kinds:
            for child, (type_name, _) in kind.children.items():
                below = self.types.get(type_name)
                if below is not None and name in below.children and child != "component":
                    return f"{child}/{name}"
        return _nearest(name, {child for kind in kinds for child in kind.children})

    def near_anywhere(self, name: str) -> str:
        """The element whose name is nearest in the whole schema, or empty."""
        return _nearest(name, self._by_child)

    def near_attribute(self, types: Iterable[str], name: str) -> str:
        """The attribute whose name is nearest, or empty."""
        return _nearest(name, {a for kind in self.concrete(types) for a in kind.attributes})


def _nearest(name: str, names: Iterable[str]) -> str:
    by_lower = {known.lower(): known for known in sorted(names)}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


@cache
def structure() -> Structure:
    """CDA R2 with the CI-SIS extensions, read once from the checked-in table."""
    text = files("adapters.cda").joinpath("structure.json").read_text(encoding="utf-8")
    table = json.loads(text)
    return Structure(table["types"], table["root"])

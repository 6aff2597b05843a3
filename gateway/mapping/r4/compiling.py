"""From the definitions of FHIR R4 to the checker's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import RLock

from gateway.mapping.r4.definitions import Definitions, ElementDefinition
from gateway.mapping.r4.invariants import INVARIANTS
from gateway.mapping.r4.narrative import Xhtml
from gateway.mapping.r4.primitives import (
    Absolute,
    Code,
    Primitive,
    Prohibited,
    Text,
    Words,
    primitive_checks,
)
from gateway.mapping.r4.tables import (
    BOUND,
    CONTAINED,
    NULLABLE,
    PLAIN,
    REFERENCE,
    RESOURCE,
    Property,
    Table,
)

_VALUE_SETS = "http://hl7.org/fhir/ValueSet/"
FORMS: Mapping[str, str] = {
    f"{_VALUE_SETS}mimetypes": r"[!-.0-~]+/[!-.0-:<-~]+(?: ?;[ -~]*)?",
    f"{_VALUE_SETS}currencies": "[A-Z]{3}",
}
"""The form of the codes of required value sets that the definitions do not list.

Media types as in RFC 2045 section 5.1 (BCP 13), currencies as in ISO 4217.
"""

_TERMS = frozenset({("Coding", "display"), ("Coding", "version"), ("Quantity", "unit")})
"""Strings that come again in every message and name no person."""

_SYSTEMS = frozenset({("Coding", "system"), ("Identifier", "system"), ("Quantity", "system")})
"""URIs that are absolute: R4 says so of Identifier.system and of Coding.system."""

_ELSEWHERE = (".relatesTo.target", ".link.other", ".basedOn", ".replaces")


def leads_elsewhere(path: str) -> bool:
    """Whether an element by its nature names a fact that another message brought.

    The document that this one replaces, the other record of a merged patient, the order
    that a result answers. ``path`` is without positions.
    """
    return path.endswith(_ELSEWHERE)


class Tables:
    """The tables, each made at its first use; safe to share between threads."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._primitives = primitive_checks(definitions.primitives)
        self._primitives["xhtml"] = Xhtml()
        self._made: dict[str, Table] = {}
        self._ready: dict[str, Table] = {}
        self._targets: dict[frozenset[str], set[str]] = {}
        self._term = Words("string", remembers=True)
        self._absolute = Absolute(
            "uri", definitions.primitives["oid"], definitions.primitives["uuid"]
        )
        self._bound: dict[str, Primitive] = {}
        self._lock = RLock()

    def resource(self, name: object) -> Table | None:
        """The table of a resource type, None when R4 has none of that name."""
        if type(name) is not str:
            return None
        found = self._ready.get(name)
        if found is None and name in self._definitions.resources:
            with self._lock:  # until all that it leads to is made, none but this thread sees it
                found = self._ready[name] = self._table(name)
        return found

    def _table(self, location: str) -> Table:
        """The table of a type or backbone element; recursive types meet themselves."""
        found = self._made.get(location)
        if found is not None:
            return found
        table = self._made[location] = Table(location)
        self._fill(table, location)
        return table

    def _fill(self, table: Table, location: str) -> None:
        structure = self._definitions.children(location)
        table.invariants = INVARIANTS.get(location, ())
        table.require(_required(structure.values(), self._primitives))
        properties = table.properties
        if location in self._definitions.resources:
            code = self._primitives["code"]
            properties["resourceType"] = Property(primitive=code, right=code.right)
        for element in structure.values():
            if element.maximum != 0:
                for type_name, key in element.keys().items():
                    properties[key] = self._property(location, element, type_name, key)
                    if type_name in self._primitives and type_name != "xhtml":
                        properties[f"_{key}"] = self._sibling(element, key)

    def _sibling(self, element: ElementDefinition, key: str) -> Property:
        """The ``_`` property that carries a primitive's id and extensions."""
        return Property(
            table=self._table("Element"),
            kind=NULLABLE if element.repeats else PLAIN,
            repeats=element.repeats,
            choice=_choice(element),
            bare=key,
        )

    def _property(
        self, location: str, element: ElementDefinition, type_name: str, key: str
    ) -> Property:
        primitive = self._primitive(element, type_name)
        if (location, key) in _TERMS:
            primitive = self._term
        elif (location, key) in _SYSTEMS:
            primitive = self._absolute
        choice = _choice(element)
        if primitive is not None:
            return Property(
                primitive=primitive,
                repeats=element.repeats,
                choice=choice,
                bare=key,
                right=None if choice or element.repeats else primitive.right,
                words=isinstance(primitive, Words)
                and primitive is not self._term
                and not choice
                and not element.repeats,
            )
        kind = self._kind(element, type_name)
        targets = frozenset(element.targets)
        return Property(
            table=None
            if kind in (RESOURCE, CONTAINED)
            else self._object_table(location, element, type_name),
            kind=kind,
            repeats=element.repeats,
            choice=choice,
            bare=key,
            targets=targets,
            elsewhere=kind == REFERENCE and leads_elsewhere(f"{location}.{key}"),
            systems=element.systems,
            # What one element may name, another with the same targets may name as well.
            named=self._targets.setdefault(targets, set()) if kind == REFERENCE else None,
        )

    def _object_table(self, location: str, element: ElementDefinition, type_name: str) -> Table:
        if element.location:
            return self._table(element.location)
        if type_name == "Quantity" and element.simple:
            reason = "a SimpleQuantity has no comparator"
            return self._variant("SimpleQuantity", "Quantity", "comparator", Prohibited(reason))
        if type_name == "Extension" and location != "Extension":
            return self._variant("Extension (outermost)", "Extension", "url", self._absolute)
        return self._table(type_name)

    def _variant(self, name: str, base: str, key: str, primitive: Primitive) -> Table:
        """The table of a type in which one element is another than in the type itself.

        SimpleQuantity has no comparator (sqty-1); the url of an extension that is not part of
        another is absolute (R4 «Extensibility», 2.4.1).
        """
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = Table(name)
            self._fill(found, base)
            found.properties[key] = Property(primitive=primitive, right=primitive.right)
        return found

    def _primitive(self, element: ElementDefinition, type_name: str) -> Primitive | None:
        if element.location or type_name not in self._primitives:
            return None
        url = element.binding
        if type_name != "code" or not url:
            return self._primitives[type_name]
        found = self._bound.get(url)
        if found is None:
            if element.codes is not None:
                found = Code(element.codes)
            elif url in FORMS:
                found = Text("code", FORMS[url], remembers=True)
            else:
                found = self._primitives["code"]
            self._bound[url] = found
        return found

    def _kind(self, element: ElementDefinition, type_name: str) -> int:
        if element.location:
            return PLAIN
        if type_name == "Resource":
            return CONTAINED if element.name == "contained" else RESOURCE
        if type_name in self._definitions.resources:
            return RESOURCE
        if type_name == "Reference":
            return REFERENCE
        if element.systems is not None:
            return BOUND
        return PLAIN


def _choice(element: ElementDefinition) -> str:
    """The name of a choice of several types, else empty."""
    return element.name if element.choice and len(element.types) > 1 else ""


def _required(
    elements: Iterable[ElementDefinition], primitives: Mapping[str, Primitive]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Per required element its name and the properties that satisfy it."""
    return tuple(
        (
            element.name,
            tuple(
                name
                for type_name, key in element.keys().items()
                for name in ((key, f"_{key}") if type_name in primitives else (key,))
            ),
        )
        for element in elements
        if element.required
    )

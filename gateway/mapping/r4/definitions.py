"""What FHIR R4 (4.0.1) says of every resource and datatype, element by element.

``definitions.json`` beside this file is made by ``tools/build_r4_definitions.py``.
Its ``types`` hold, for each type, only what the type itself adds to its base; an
element is ``types`` (FHIR type names, or one ``#Type.path`` for a content
reference), ``min``, ``max`` (null is ``*``), ``targets`` (resource types that a
Reference may name; absent when any), ``binding`` (the URL of a *required* value
set) and ``simple`` (its Quantity is a SimpleQuantity, which has no comparator).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

_STEP = re.compile(r"(_?[A-Za-z][A-Za-z0-9]*(?:\[x\])?)(?:\[\d+\])?")


class UnknownPath(Exception):
    """A FHIR path that R4 does not know.

    ``args[0]`` says what is wrong; ``suggestion`` is the nearest right path or empty.
    """

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class ElementDefinition:
    """One element. ``maximum`` is None for ``*``.

    ``location`` is where its children are defined when it has none of its own type
    (``Observation.component`` for a backbone element or a content reference), else
    empty. ``systems`` gives the codes of a required binding by code system, None when
    there is no required binding or the definitions do not enumerate it. ``targets``
    is empty when a Reference may name any resource.
    """

    name: str
    types: tuple[str, ...]
    minimum: int
    maximum: int | None
    location: str
    targets: tuple[str, ...]
    binding: str
    systems: Mapping[str, frozenset[str]] | None
    simple: bool

    @property
    def choice(self) -> bool:
        """Whether the JSON name carries the type (``value[x]`` is ``valueQuantity``)."""
        return self.name.endswith("[x]")

    @property
    def repeats(self) -> bool:
        """Whether the element is an array in JSON."""
        return self.maximum is None or self.maximum > 1

    @property
    def required(self) -> bool:
        """Whether its parent must have it."""
        return self.minimum > 0

    @property
    def codes(self) -> frozenset[str] | None:
        """The codes of a required binding whatever their system, or None."""
        if self.systems is None:
            return None
        return frozenset().union(*self.systems.values())

    def keys(self) -> dict[str, str]:
        """The JSON property name for each type."""
        return {name: choice_key(self.name, name) for name in self.types}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a resolved path: the JSON property and whether it is an array.

    ``key`` is ``value[x]`` as long as the path has not chosen a type.
    """

    key: str
    repeats: bool


@dataclass(frozen=True, slots=True)
class ResolvedPath:
    """What R4 says of a path.

    ``types`` has several names only for an open choice (``Observation.value``).
    ``repeats`` and ``required`` are of the last element itself; ``steps`` tells of
    those on the way. ``codes`` and ``systems`` are the required binding (None when
    there is none, or its value set is not enumerated); ``targets`` the resources that
    a Reference may name, empty for any.
    """

    path: str
    types: tuple[str, ...]
    repeats: bool
    required: bool
    codes: frozenset[str] | None
    systems: Mapping[str, frozenset[str]] | None
    targets: tuple[str, ...]
    steps: tuple[Step, ...]
    element: ElementDefinition

    @property
    def choice(self) -> bool:
        """Whether a type must still be chosen before a value can be written."""
        return bool(self.steps) and self.steps[-1].key.endswith("[x]")

    def key(self, type_name: str) -> str:
        """The JSON property for a value of that type. Raises UnknownPath."""
        if type_name not in self.types:
            expected = ", ".join(self.types)
            raise UnknownPath(f"{self.path} cannot be a {type_name}; it is {expected}")
        return choice_key(self.steps[-1].key, type_name)


@dataclass(frozen=True, slots=True)
class Structure:
    """A resource or datatype with all its direct elements, inherited ones included."""

    name: str
    kind: str
    base: str
    abstract: bool
    elements: Mapping[str, ElementDefinition]


@lru_cache(maxsize=4096)
def choice_key(name: str, type_name: str) -> str:
    """``value[x]`` and ``dateTime`` are ``valueDateTime``; other names stay."""
    if not name.endswith("[x]"):
        return name
    return name[:-3] + type_name[0].upper() + type_name[1:]


class Definitions:
    """The R4 definitions. Immutable once loaded; safe to share between threads."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.version: str = table["fhirVersion"]
        self.primitives: Mapping[str, str] = table["primitives"]
        self._types: Mapping[str, Any] = table["types"]
        self._systems: dict[str, Mapping[str, frozenset[str]]] = {}
        self._sets: Mapping[str, Mapping[str, list[str]]] = table["valueSets"]
        self._children: dict[str, Mapping[str, ElementDefinition]] = {}
        self.resources: frozenset[str] = frozenset(
            name
            for name, row in self._types.items()
            if row["kind"] == "resource" and not row.get("abstract")
        )
        self.datatypes: frozenset[str] = frozenset(
            name for name, row in self._types.items() if row["kind"] == "complex-type"
        )

    @staticmethod
    @cache
    def load() -> Definitions:
        """The checked-in table; read once per process (about 10 ms)."""
        text = Path(__file__).with_name("definitions.json").read_text(encoding="utf-8")
        return Definitions(json.loads(text))

    def resource(self, name: str) -> Structure:
        """A resource type. Raises UnknownPath when R4 has none of that name."""
        if name not in self.resources:
            raise UnknownPath(f"R4 has no resource {name}", _nearest(name, self.resources))
        return self.type(name)

    def type(self, name: str) -> Structure:
        """A resource or complex datatype, abstract ones included. Raises UnknownPath."""
        row = self._types.get(name)
        if row is None:
            raise UnknownPath(f"R4 has no type {name}", _nearest(name, self._types))
        return Structure(
            name, row["kind"], row["base"], bool(row.get("abstract")), self.children(name)
        )

    def children(self, location: str) -> Mapping[str, ElementDefinition]:
        """The direct elements of a type or of a backbone element, by name, in order.

        ``location`` is a type name (``Quantity``) or a path (``Observation.component``).
        Raises UnknownPath.
        """
        found = self._children.get(location)
        if found is None:
            found = self._children[location] = self._read(location)
        return found

    def element(self, location: str, name: str) -> ElementDefinition:
        """One element of a type or backbone; ``name`` as in :meth:`resolve`.

        Raises UnknownPath.
        """
        return self._find(location, name)[0]

    def resolve(self, path: str) -> ResolvedPath:
        """Look a path up: ``Observation.referenceRange.low.value``.

        A choice may be written open (``value[x]``, ``value``) or typed
        (``valueQuantity``); an index (``[0]``) is allowed and ignored; ``_birthDate``
        is the sibling that carries a primitive's extensions. Raises UnknownPath with a
        suggestion.
        """
        name, *rest = path.split(".")
        if name not in self._types:
            raise UnknownPath(f"R4 has no type {name}", _nearest(name, self._types))
        if not rest:
            raise UnknownPath(f"{path} names a type, not an element of it")
        location, walked = name, name
        steps: list[Step] = []
        for position, text in enumerate(rest):
            match = _STEP.fullmatch(text)
            if match is None:
                raise UnknownPath(f"{text!r} is not an element name (in {path})")
            element, types, key = self._step(location, walked, match.group(1))
            steps.append(Step(key, element.repeats))
            walked = f"{walked}.{text}"
            if position + 1 == len(rest):
                break
            location = self._descend(element, types, walked)
        codes = None if key.startswith("_") else element.codes
        return ResolvedPath(
            path=path,
            types=types,
            repeats=element.repeats,
            required=element.required,
            codes=codes,
            systems=element.systems if codes is not None else None,
            targets=element.targets,
            steps=tuple(steps),
            element=element,
        )

    def _step(
        self, location: str, walked: str, name: str
    ) -> tuple[ElementDefinition, tuple[str, ...], str]:
        bare = name.removeprefix("_")
        try:
            element, types = self._find(location, bare)
        except UnknownPath as unknown:
            hint = f"{walked}.{unknown.suggestion}" if unknown.suggestion else ""
            raise UnknownPath(f"{walked} has no element {name}", hint) from None
        key = choice_key(element.name, types[0]) if len(types) == 1 else element.name
        if bare == name:
            return element, types, key
        if any(kind not in self.primitives for kind in types):
            raise UnknownPath(f"{walked}.{bare} is no primitive and has no {name}", bare)
        return element, ("Element",), f"_{key}"

    def _find(self, location: str, name: str) -> tuple[ElementDefinition, tuple[str, ...]]:
        children = self.children(location)
        element = children.get(name) or children.get(f"{name}[x]")
        if element is not None:
            return element, element.types
        for candidate in children.values():
            if candidate.choice and name.startswith(candidate.name[:-3]):
                for kind, key in candidate.keys().items():
                    if key == name:
                        return candidate, (kind,)
        known = [child.name.removesuffix("[x]") for child in children.values()]
        known += [key for child in children.values() for key in child.keys().values()]
        raise UnknownPath(f"{location} has no element {name}", _nearest(name, known))

    def _descend(self, element: ElementDefinition, types: tuple[str, ...], walked: str) -> str:
        if element.location:
            return element.location
        if len(types) > 1:
            raise UnknownPath(f"{walked} is a choice of {', '.join(types)}; name one of them")
        if types[0] == "Resource":
            raise UnknownPath(f"{walked} may hold any resource; a path cannot go into it")
        if types[0] in self.primitives:
            raise UnknownPath(f"{walked} is a {types[0]} and has no elements")
        return types[0]

    def _read(self, location: str) -> Mapping[str, ElementDefinition]:
        type_name, _, prefix = location.partition(".")
        row = self._types.get(type_name)
        if row is None:
            raise UnknownPath(f"R4 has no type {type_name}", _nearest(type_name, self._types))
        if prefix and prefix not in row["elements"]:
            raise UnknownPath(f"{type_name} has no element {prefix}")
        base = row["elements"][prefix]["types"][0] if prefix else row["base"]
        children = dict(self.children(base)) if base else {}
        lead = f"{prefix}." if prefix else ""
        for path, described in row["elements"].items():
            name = path.removeprefix(lead)
            if path.startswith(lead) and "." not in name:
                children[name] = self._define(f"{type_name}.{path}", name, described)
        return children

    def _define(self, path: str, name: str, described: Mapping[str, Any]) -> ElementDefinition:
        types: tuple[str, ...] = tuple(described["types"])
        location = ""
        if types[0].startswith("#"):
            location = types[0][1:]
            owner, _, inner = location.partition(".")
            types = tuple(self._types[owner]["elements"][inner]["types"])
        elif types[0] in ("BackboneElement", "Element"):
            location = path
        binding = described.get("binding", "")
        return ElementDefinition(
            name=name,
            types=types,
            minimum=described["min"],
            maximum=described["max"],
            location=location,
            targets=tuple(described.get("targets", ())),
            binding=binding,
            systems=self._value_set(binding),
            simple=bool(described.get("simple")),
        )

    def _value_set(self, url: str) -> Mapping[str, frozenset[str]] | None:
        if url not in self._sets:
            return None
        found = self._systems.get(url)
        if found is None:
            found = {system: frozenset(codes) for system, codes in self._sets[url].items()}
            self._systems[url] = found
        return found


def _nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like the wrong one, or empty."""
    import difflib

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), "")

"""What a rule writes to: one element of FHIR R4, as the compiler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.mapping.r4.definitions import (
    Definitions,
    ElementDefinition,
    UnknownPath,
    choice_key,
)
from gateway.value_class import value_class

CLINICAL_FREE = frozenset({"system", "url", "use", "profile", "rank", "reference"})
"""Elements that may hold a constant without a written reason: they name, they do not say."""


@value_class(frozen=True, slots=True)
class Target:
    """One element. ``key`` is its JSON property, ``value[x]`` while the type is open.

    ``path`` is for people and flags. ``location`` is where the definitions keep the
    children of a backbone element. ``codes`` is None without a required binding.
    ``names_only`` elements say nothing clinical (the type that a reference names).
    """

    path: str
    key: str
    types: tuple[str, ...]
    repeats: bool = False
    required: bool = False
    location: str = ""
    codes: frozenset[str] | None = None
    systems: Mapping[str, frozenset[str]] | None = None
    references: tuple[str, ...] = ()
    simple: bool = False
    names_only: bool = False

    @property
    def open(self) -> bool:
        """Whether a choice has not been made yet."""
        return len(self.types) > 1

    @property
    def name(self) -> str:
        """The element's name as an author writes it."""
        return self.key.removesuffix("[x]")

    @property
    def free(self) -> bool:
        """Whether a constant needs no reason here."""
        return self.names_only or self.key in CLINICAL_FREE

    def item(self) -> Target:
        """One repetition of it."""
        return self._with(self.key, self.types, repeats=False) if self.repeats else self

    def typed(self, kind: str) -> Target:
        """The same element with its type chosen."""
        if self.types == (kind,):
            return self
        return self._with(choice_key(self.key, kind), (kind,), repeats=self.repeats)

    def _with(self, key: str, types: tuple[str, ...], *, repeats: bool) -> Target:
        # dataclasses.replace asks for every field by its name: a tenth of a check's time.
        return Target(
            self.path, key, types, repeats, self.required, self.location, self.codes,
            self.systems, self.references, self.simple, self.names_only,
        )  # fmt: skip

    def key_of(self, kind: str) -> str:
        """The JSON property for a value of that type."""
        return choice_key(self.key, kind)


def text_target(path: str) -> Target:
    """A target for plain texts that go into no element (keys, authorities, options)."""
    return Target(path=path, key=path, types=("string",))


def child(definitions: Definitions, parent: Target, name: str) -> Target:
    """An element of a target with one type. Raises UnknownPath."""
    where = parent.location or parent.types[0]
    found = element(definitions, where, name, parent.path)
    if parent.types == ("Reference",) and name == "type":
        return replace(found, names_only=True)
    return found


def element(definitions: Definitions, where: str, name: str, path: str) -> Target:
    """An element of a type or backbone element; ``_name`` is a primitive's sibling."""
    bare = name.removeprefix("_")
    definition = definitions.element(where, bare)
    types, key = definition.types, definition.name
    if definition.choice:
        chosen = [kind for kind, found in definition.keys().items() if found == bare]
        if chosen:
            types, key = (chosen[0],), bare
    if bare != name:
        return _sibling(definitions, definition, types, name, path)
    if len(types) == 1 and key.endswith("[x]"):
        key = choice_key(key, types[0])
    return Target(
        path=f"{path}.{name}",
        key=key,
        types=types,
        repeats=definition.repeats,
        required=definition.required,
        location=definition.location,
        codes=definition.codes,
        systems=definition.systems,
        references=definition.targets,
        simple=definition.simple,
    )


def _sibling(
    definitions: Definitions,
    definition: ElementDefinition,
    types: tuple[str, ...],
    name: str,
    path: str,
) -> Target:
    if any(kind not in definitions.primitives for kind in types):
        raise UnknownPath(f"{name[1:]} is no primitive and has no {name}", name[1:])
    return Target(path=f"{path}.{name}", key=name, types=("Element",), repeats=definition.repeats)


def required_children(definitions: Definitions, where: str) -> dict[str, ElementDefinition]:
    """The elements that R4 requires of a type or backbone element, by name."""
    return {name: found for name, found in definitions.children(where).items() if found.required}

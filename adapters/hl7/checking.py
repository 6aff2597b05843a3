"""Paths, segments and groups checked against the grammars of the declared versions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from adapters.hl7.grammar import (
    VARIES,
    VERSIONS,
    FieldDefinition,
    Grammar,
    GroupDefinition,
    component_definitions,
    grammar,
)
from adapters.hl7.paths import Path
from gateway.ports import PathError

_GROUP_SUGGESTION_CUTOFF = 0.5


def check_versions(versions: Sequence[str]) -> tuple[str, ...]:
    """The declared versions, lowest first. Raises PathError for one without a grammar."""
    return _known_versions(tuple(versions))


@lru_cache(maxsize=256)
def _known_versions(versions: tuple[str, ...]) -> tuple[str, ...]:
    if not versions:
        return VERSIONS
    for version in versions:
        if version not in VERSIONS:
            near = difflib.get_close_matches(version, VERSIONS, n=1)
            raise PathError(
                f"HL7 version {version!r} is not one of {', '.join(VERSIONS)}",
                near[0] if near else "",
            )
    return tuple(version for version in VERSIONS if version in versions)


@lru_cache(maxsize=4096)
def grammars_of(segment: str, versions: tuple[str, ...]) -> tuple[Grammar, ...]:
    """The grammars that define a segment: of the declared versions or, if none of
    them does, of the first later one that does (segments adopted before their time).

    Empty for a Z segment. Raises PathError for a name that no version knows.
    """
    if segment.startswith("Z"):
        return ()
    found = tuple(g for g in map(grammar, versions) if g.fields(segment) is not None)
    if found:
        return found
    for version in VERSIONS[VERSIONS.index(versions[0]) :]:
        if grammar(version).fields(segment) is not None:
            return (grammar(version),)
    names = set().union(*(grammar(version).segments for version in versions))
    near = difflib.get_close_matches(segment, sorted(names), n=1)
    raise PathError(f"HL7 {_spell(versions)} has no segment {segment}", near[0] if near else "")


def check_path(path: Path, versions: Sequence[str]) -> str:
    """The data type that a path naming a segment leads to; empty when versions differ.

    Right in one declared version is right. Raises PathError that says what the
    newest declared version has instead.
    """
    grammars = grammars_of(path.segment, versions)
    for condition in path.which.conditions:
        if not grammars:
            continue
        _check_parts(path, grammars, condition.part[0], condition.part[1:])
    if any(len(condition.part) > 2 for condition in path.repetition.conditions):
        raise PathError(f"{path.text!r} compares deeper than a subcomponent")
    if not path.field or not grammars:
        return ""
    for condition in path.repetition.conditions:
        _check_parts(path, grammars, path.field, condition.part)
    parts = tuple(n for n in (path.component, path.subcomponent) if n)
    return _check_parts(path, grammars, path.field, parts)


def _check_parts(
    path: Path, grammars: Sequence[Grammar], field: int, parts: tuple[int, ...]
) -> str:
    """Is ``segment-field.parts`` right in one of the grammars?"""
    failure: PathError | None = None
    datatypes: set[str] = set()
    for known in reversed(grammars):
        try:
            definition = _field(path, known, field)
            datatypes.add(_descend(path, known, definition, parts))
        except PathError as error:
            failure = failure or error
    if datatypes:
        return datatypes.pop() if len(datatypes) == 1 else ""
    raise failure or PathError(f"{path.text!r} is not known")


def _field(path: Path, known: Grammar, number: int) -> FieldDefinition:
    fields = known.fields(path.segment) or {}
    definition = fields.get(number)
    if definition is not None:
        return definition
    last = max(fields, default=0)
    if number < last:
        raise PathError(f"{path.segment}-{number} is withdrawn in {known.version}")
    for version in VERSIONS[VERSIONS.index(known.version) + 1 :]:
        if number in (grammar(version).fields(path.segment) or {}):
            since = f"; {path.segment}-{number} is there since {version}"
            raise PathError(f"{path.segment} has {last} fields in {known.version}{since}")
    raise PathError(
        f"{path.segment} has {last} fields in {known.version}",
        f"{path.segment}-{last}" if last else "",
    )


def _descend(path: Path, known: Grammar, definition: FieldDefinition, parts: Iterable[int]) -> str:
    """The data type at the end of ``parts`` below a field."""
    datatype = definition.datatype
    place = f"{path.segment}-{definition.number}"
    for number in parts:
        if datatype in {VARIES, ""} or datatype.startswith("CM"):
            return ""  # no grammar says what is in it
        components = component_definitions(known.version, datatype)
        if not components:
            if number == 1:
                continue
            raise PathError(f"{place} is {datatype} in {known.version} and has no parts", place)
        if number > len(components):
            raise PathError(
                f"{datatype} has {len(components)} components in {known.version}",
                f"{place}.{len(components)}",
            )
        datatype = components[number - 1].datatype
        place += f".{number}"
    return datatype


def check_here(path: Path, segment: str, field: int, versions: Sequence[str]) -> str:
    """Check ``$…`` within a scope that walks the repetitions of ``segment-field``."""
    absolute = Path(
        path.text,
        segment=segment,
        field=field,
        component=path.component,
        subcomponent=path.subcomponent,
    )
    return check_path(absolute, versions)


def check_group(name: str, versions: Sequence[str], outer: str) -> None:
    """Is there a group of that name in a structure (within the group ``outer``, if any)?

    Raises PathError with the nearest name.
    """
    known: set[str] = set()
    for version in versions:
        names = group_names(version)
        within = names.get(outer, frozenset()) if outer else frozenset(names)
        if name in within:
            return
        known |= within
    place = f" within {outer}" if outer else ""
    plain = re.sub(r"^[A-Z0-9]{3}_[A-Z0-9]{3}_", "", name)
    near = difflib.get_close_matches(plain, sorted(known), 1, _GROUP_SUGGESTION_CUTOFF)
    raise PathError(f"HL7 {_spell(versions)} has no group {name!r}{place}", near[0] if near else "")


@lru_cache(maxsize=len(VERSIONS))
def group_names(version: str) -> dict[str, frozenset[str]]:
    """Every group of every structure of a version, with the groups below it."""
    found: dict[str, set[str]] = {}
    known = grammar(version)
    for structure in known.structures:
        definition = known.structure(structure)
        if definition is not None:
            for outer, inner in _pairs(definition):
                found.setdefault(outer, set()).add(inner)
    found.pop("", None)
    return {name: frozenset(inner - {""}) for name, inner in found.items()}


def _pairs(definition: GroupDefinition) -> Iterator[tuple[str, str]]:
    """(group, group below it at any depth); a group without groups gives (name, "")."""
    for item in definition.items:
        if item.group is None:
            continue
        yield item.name, ""
        for outer, inner in _pairs(item.group):
            yield outer, inner
            if inner == "":
                yield item.name, outer


@lru_cache(maxsize=4096)
def groups_with(version: str, segment: str) -> frozenset[str]:
    """Groups of a version in which a segment stands directly; "" for a structure itself."""
    found: set[str] = set()
    known = grammar(version)
    for structure in known.structures:
        definition = known.structure(structure)
        if definition is not None:
            _collect(definition, "", segment, found)
    return frozenset(found)


def _collect(definition: GroupDefinition, name: str, segment: str, found: set[str]) -> None:
    if segment in definition.places:
        found.add(name)
    for item in definition.items:
        if item.group is not None and segment in item.group.contains:
            _collect(item.group, item.name, segment, found)


def _spell(versions: Sequence[str]) -> str:
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"

"""Places in a resource: ``name[0].given[1]`` and the values that stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.mapping.r4.definitions import Definitions, UnknownPath

Steps = tuple[str | int, ...]

_PART = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)((?:\[\d+\])*)\Z")
_ENTRY = re.compile(r"([A-Z][A-Za-z]+)(?:\[(\d+)\]|/([A-Za-z0-9.\-]+))?(?:\.(.+))?\Z")


class NoTarget(ValueError):
    """A text that names no place of an entry. ``args[0]`` says what one looks like."""


def entry_and_path(target: str) -> tuple[str, int | None, str, Steps]:
    """``Observation[2].valueQuantity.value`` as type, number, id and steps.

    The number counts the entries of the type from 0; without one (None) all are meant. The
    id is set for ``Observation/<id>.value``. Raises NoTarget.
    """
    match = _ENTRY.fullmatch(target.strip())
    if match is None:
        raise NoTarget(
            f"{target!r} names no element: Observation[0].valueQuantity.value is how one looks "
            "(and --becomes asks for a place of the message)"
        )
    kind, number, identifier, path = match.groups()
    steps = parse(path) if path else ()
    _check(kind, steps)
    return kind, int(number) if number is not None else None, identifier or "", steps


def _check(kind: str, steps: Steps) -> None:
    """Raises NoTarget where R4 has no such resource or no such element."""
    definitions, path = Definitions.load(), f"{kind}.{shown(steps)}"
    try:
        definitions.resource(kind)
        if steps and not {"resourceType", "contained"} & set(steps):
            definitions.resolve(path)
    except UnknownPath as wrong:
        hint = f"; did you mean {wrong.suggestion}?" if wrong.suggestion else ""
        raise NoTarget(f"{wrong}{hint}") from None


def parse(path: str) -> Steps:
    """``name[0].family`` as ``("name", 0, "family")``. Raises NoTarget."""
    steps: list[str | int] = []
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if match is None:
            raise NoTarget(f"{part!r} is no element of FHIR: name[0].family is how one looks")
        steps.append(match[1])
        steps += [int(number) for number in re.findall(r"\d+", match[2])]
    return tuple(steps)


def shown(steps: Steps) -> str:
    """The steps as people write them."""
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def canonical(steps: Steps) -> Steps:
    """The same for the only one and the first of several: without 0."""
    return tuple(step for step in steps if step != 0 or isinstance(step, str))


def leaves(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Every text, number and truth value of a resource with its place, in order."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*steps, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*steps, index))
    elif value is not None:
        yield steps, value


def value_at(value: Any, steps: Steps) -> Any:
    """What stands at some steps; None when nothing does.

    A choice is found by its name alone (``value`` for ``valueQuantity``), a first
    repetition without its number.
    """
    for step in steps:
        if isinstance(step, int):
            if isinstance(value, list):
                value = value[step] if step < len(value) else None
            elif step:
                return None
            continue
        if isinstance(value, list):
            value = value[0] if value else None
        value = _element(value, step) if isinstance(value, dict) else None
        if value is None:
            return None
    return value


def property_of(parent: Mapping[str, Any], name: str) -> str:
    """The property of an element by its name: itself, or of a choice whichever is there."""
    if name in parent:
        return name
    choices = (key for key in parent if key.startswith(name) and key[len(name) :][:1].isupper())
    return next(choices, name)


def _element(parent: Mapping[str, Any], name: str) -> Any:
    return parent.get(property_of(parent, name))

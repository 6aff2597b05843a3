"""The FHIR attributes of the tables: ``participant[1].individual(Practitioner.name)``."""

from __future__ import annotations

import re
from dataclasses import dataclass

TEXT_MAX = 300

_NAME = re.compile(r"\s*(?P<name>[A-Za-z][A-Za-z0-9]*)(?:\[(?P<index>[^\]]*)\])?")
_WITH_VALUE = re.compile(r'(?P<attribute>.*?)\s*=\s*"(?P<value>[^"]*)"\s*')
_INSTANCE = re.compile(r"\[(?P<index>\d+)\]\.?")


class AttributeUnreadable(Exception):
    """An attribute that is not of the tables' own notation; ``args[0]`` says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One element. ``index`` tells siblings apart; ``resource`` is what a reference leads to."""

    name: str
    index: str = ""
    resource: str = ""


@dataclass(frozen=True, slots=True)
class Attribute:
    """The steps from the resource (or data type) down. ``value`` is one written with ``=``."""

    steps: tuple[Step, ...]
    value: str = ""


def read_attribute(text: str) -> Attribute:
    """Read an attribute; no steps are the value itself (``$this``, ``$value``).

    Raises AttributeUnreadable.
    """
    text = text.strip()
    if len(text) > TEXT_MAX:
        raise AttributeUnreadable("the attribute is too long")
    value = ""
    with_value = _WITH_VALUE.fullmatch(text)
    if with_value is not None:
        text, value = with_value["attribute"], with_value["value"]
    instance = _INSTANCE.match(text)
    if instance is not None:
        if instance["index"] != "1":
            raise AttributeUnreadable("makes a second value out of one of the source")
        text = text[instance.end() :]
    if text in ("$this", "$value", ""):
        return Attribute((), value)
    steps = _steps(text)
    for step in steps:
        if step.index and step.index != "each" and not step.index.isdigit():
            raise AttributeUnreadable(f"[{step.index}] means several elements at once")
    return Attribute(tuple(steps), value)


def _steps(rest: str) -> list[Step]:
    steps: list[Step] = []
    depth = 0
    while rest:
        match = _NAME.match(rest)
        if match is None:
            raise AttributeUnreadable(f"the attribute cannot be read at {rest[:20]!r}")
        step = Step(match["name"], match["index"] or "")
        rest = rest[match.end() :].lstrip()
        if rest.startswith("("):
            inner = _NAME.match(rest, 1)
            if inner is None or not inner["name"][0].isupper():
                raise AttributeUnreadable(f"{rest[:20]!r} names no resource")
            step = Step(step.name, step.index, inner["name"])
            rest, depth = rest[inner.end() :].lstrip(), depth + 1
        steps.append(step)
        rest, depth = _closed(rest, depth)
        if rest and not rest.startswith("."):
            raise AttributeUnreadable(f"the attribute cannot be read at {rest[:20]!r}")
        if rest == ".":
            raise AttributeUnreadable("the attribute ends with a point")
        rest = rest[1:].lstrip()
    if depth:
        raise AttributeUnreadable("a bracket of the attribute is not closed")
    return steps


def _closed(rest: str, depth: int) -> tuple[str, int]:
    while rest.startswith(")"):
        if not depth:
            raise AttributeUnreadable("a bracket of the attribute closes nothing")
        rest, depth = rest[1:].lstrip(), depth - 1
    return rest, depth

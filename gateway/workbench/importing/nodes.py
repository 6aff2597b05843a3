"""The rules that are imported, before they are written: a tree whose parts can be taken out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.workbench.importing.rows import CodeRow, MapRow, MessageRow

Row = MapRow | MessageRow | CodeRow


@dataclass(slots=True, eq=False)
class Rule:
    """A rule that is written on one line, and the rows that it comes from."""

    body: dict[str, object]
    rows: list[Row]
    dead: bool = False


@dataclass(slots=True, eq=False)
class Object:
    """A rule with ``set:``. ``head`` holds the keys before it (each, when, resource, id)."""

    head: dict[str, object]
    parts: dict[str, Node]
    rows: list[Row] = field(default_factory=list)
    dead: bool = False
    also: list[Object] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Several:
    """A list of rules, or (``first``) the first of them that gives something."""

    options: list[Node]
    first: bool
    dead: bool = False


Node = Rule | Object | Several


def is_alive(node: Node) -> bool:
    """Whether anything of it is left to be written."""
    if node.dead:
        return False
    if isinstance(node, Rule):
        return True
    if isinstance(node, Several):
        return any(is_alive(option) for option in node.options)
    return any(is_alive(part) for part in node.parts.values())


def rules_of(node: Node) -> Iterator[Rule]:
    """Every rule that is written."""
    if not is_alive(node):
        return
    if isinstance(node, Rule):
        yield node
        return
    inner: list[Node] = list(node.options if isinstance(node, Several) else node.parts.values())
    if isinstance(node, Object):
        inner += node.also
    for part in inner:
        yield from rules_of(part)


def rows_of(node: Node) -> Iterator[Row]:
    """The rows of every rule that is written, each row once for each rule."""
    for rule in rules_of(node):
        yield from rule.rows

"""The rules that are imported, before they are written: a tree whose parts can be taken out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.mapping.targets import CLINICAL_FREE
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


def gathered(node: Object) -> Object:
    """An object of constants under one condition: the condition is the object's.

    Constants that a condition takes away would leave a url or a system that says nothing.
    """
    whens: set[str] = set()
    for name, part in node.parts.items():
        if isinstance(part, Rule) and "const" in part.body:
            when = part.body.get("when")
        elif isinstance(part, Object) and "when" in part.head and "resource" not in part.head:
            when = part.head["when"]
        else:
            return node
        if when or name not in CLINICAL_FREE:
            whens.add(str(when or ""))
    if len(whens) != 1 or not (when := next(iter(whens))) or "when" in node.head:
        return node
    for part in node.parts.values():
        (part.body if isinstance(part, Rule) else part.head).pop("when", None)  # type: ignore[union-attr]
    node.head["when"] = when
    return node


def different(leaves: list[Rule]) -> list[Rule]:
    """The rules without those that say the same constant once more."""
    said: set[tuple[object, object]] = set()
    kept = []
    for leaf in leaves:
        same = (leaf.body["const"], leaf.body.get("when")) if "const" in leaf.body else None
        if same is None or same not in said:
            kept.append(leaf)
        if same is not None:
            said.add(same)
    return kept


def bare_extensions(node: Node) -> Iterator[Object]:
    """Objects with a url and neither a value nor extensions."""
    if not is_alive(node) or isinstance(node, Rule):
        return
    if isinstance(node, Several):
        for option in node.options:
            yield from bare_extensions(option)
        return
    alive = [name for name, part in node.parts.items() if is_alive(part)]
    if "url" in alive and not any(name.startswith(("value", "extension")) for name in alive):
        yield node
    for part in node.parts.values():
        yield from bare_extensions(part)

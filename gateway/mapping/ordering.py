"""The order of evaluation: an entry is made before what refers to it."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.trees import entry_name

_NOTHING: frozenset[str] = frozenset()


def made_in(node: Node) -> frozenset[str]:
    """Names of the entries that a rule makes, at any depth."""
    if isinstance(node, Text):
        return _NOTHING
    if isinstance(node, Many):
        parts = [made_in(item) for item in node.items if not isinstance(item, Text)]
    else:
        parts = [made_in(inner) for inner in node.items.values() if not isinstance(inner, Text)]
        if "resource" in node.items:
            parts.append(frozenset((entry_name(node),)))
    parts = [part for part in parts if part]
    return parts[0].union(*parts[1:]) if parts else _NOTHING


def referred_in(node: Node) -> set[str]:
    """Names that ``ref:`` asks for, at any depth."""
    found: set[str] = set()
    if isinstance(node, Many):
        for item in node.items:
            found |= referred_in(item)
    elif isinstance(node, Table):
        for key, inner in node:
            if key == "ref":
                items = inner.items if isinstance(inner, Many) else (inner,)
                found |= {item.text for item in items if isinstance(item, Text)}
            else:
                found |= referred_in(inner)
    return found


def in_order(rules: Iterable[tuple[str, Node]]) -> list[tuple[str, Node]]:
    """The rules as written, but each after those whose entries it refers to.

    Rules that refer to each other's entries stay as written: the reference that
    comes too early then gives nothing.
    """
    given = list(rules)
    if len(given) < 2:
        return given
    made = [made_in(node) for _, node in given]
    if not any(made):
        return given
    waiting = [
        (name, node, own, referred_in(node)) for (name, node), own in zip(given, made, strict=True)
    ]
    ordered: list[tuple[str, Node]] = []
    while waiting:
        chosen = 0
        for index, (_, _, own, wanted) in enumerate(waiting):
            others = [made for i, (_, _, made, _) in enumerate(waiting) if i != index]
            if not any((wanted - own) & made for made in others):
                chosen = index
                break
        name, node, _, _ = waiting.pop(chosen)
        ordered.append((name, node))
    return ordered

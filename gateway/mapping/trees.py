"""Trees of rules: merging one over another, and what an entry is called."""

from __future__ import annotations

from gateway.mapping.document import Node, Table, Text

RULES_BELOW = ("first", "all", "items", "also")
"""Keys whose value is a list of rules."""
MAPS_BELOW = ("set", "cases")
"""Keys whose value is a map of rules."""
RULE_BELOW = ("unit", "encoding", "declared", "title", "creation", "language")
"""Keys whose value is a rule."""


def merge(base: Table, over: Table) -> Table:
    """The keys of both; ``over`` wins, and maps of rules are merged target by target."""
    items = dict(base.items)
    for key, value in over:
        below = items.get(key)
        if key in MAPS_BELOW and isinstance(below, Table) and isinstance(value, Table):
            items[key] = Table(
                {**below.items, **value.items}, value.place, {**below.places, **value.places}
            )
        else:
            items[key] = value
    return Table(items, over.place, {**base.places, **over.places})


def entry_name(node: Node) -> str:
    """How references and sites call an entry: its name, else its resource type."""
    if not isinstance(node, Table):
        return ""
    name = node.get("name") or node.get("resource")
    return name.text if isinstance(name, Text) else ""


def texts_in(node: Node) -> set[str]:
    """Every text in a tree, among them the names of the tables that its rules use."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Text):
            found.add(each.text)
        elif isinstance(each, Table):
            waiting.extend(each.items.values())
        else:
            waiting.extend(each.items)
    return found

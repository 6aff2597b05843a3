"""A site's changes: by target path, never by copying a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gateway.mapping.document import Document, Many, Node, Table, Text
from gateway.mapping.findings import Findings, Place, nearest
from gateway.mapping.trees import entry_name, merge

_STEP = re.compile(r"([^\[\]]+)(?:\[(\d+)\])?")


@dataclass(frozen=True, slots=True)
class Overlay:
    """One change of a site: what, at which target path, and where that is written."""

    action: str
    path: str
    value: Node | None
    place: Place


@dataclass(slots=True)
class Source:
    """One mapping file with what a site changes in it."""

    name: str
    document: Document
    root: Table
    overlays: list[Overlay] = field(default_factory=list)
    overlay_documents: list[Document] = field(default_factory=list)


def read_overlay(document: Document, findings: Findings) -> tuple[str, list[Overlay]] | None:
    """A site file: the mapping it extends and its changes."""
    root, changes = document.root, []
    extends = root.get("extends")
    if not isinstance(extends, Text):
        findings.error(
            root.place, "missing-key", "a site file needs extends: with a mapping's name"
        )
        return None
    known = ("extends", "override", "append", "remove", "note")
    for key, node in root:
        if key not in known:
            findings.error(root.places[key], "unknown-key", f"no {key!r} here", nearest(key, known))
        elif key in ("override", "append") and isinstance(node, Table):
            changes += [Overlay(key, path, value, node.places[path]) for path, value in node]
        elif key == "remove" and isinstance(node, Many):
            changes += [
                Overlay(key, item.text, None, item.place)
                for item in node.items
                if isinstance(item, Text)
            ]
        elif key not in ("extends", "note"):
            findings.error(node.place, "wrong-shape", "override and append are maps, remove a list")
    return extends.text, changes


def apply_to_definitions(source: Source, findings: Findings) -> None:
    """Apply the site's changes that name a block or a type of this file."""
    for overlay in source.overlays:
        if not names_definition(source, overlay.path):
            continue
        first, _, rest = overlay.path.partition(".")
        for kind in ("blocks", "types"):
            section = source.root.get(kind)
            if isinstance(section, Table) and first in section.items:
                changed = _change(section.items[first], rest, overlay, findings)
                section = section.with_items({**section.items, first: changed})
                source.root = source.root.with_items({**source.root.items, kind: section})


def names_definition(source: Source, path: str) -> bool:
    """Whether a target path starts at a block or type of the file, not at an entry."""
    first = path.partition(".")[0]
    for kind in ("blocks", "types"):
        section = source.root.get(kind)
        if isinstance(section, Table) and first in section.items:
            return True
    return False


def change_entries(entries: list[Node], overlay: Overlay, findings: Findings) -> list[Node]:
    """The entries with one change made to the one that its path names."""
    first, _, rest = overlay.path.partition(".")
    matching = [index for index, node in enumerate(entries) if entry_name(node) == first]
    if len(matching) != 1:
        names = [entry_name(node) for node in entries]
        what = "names several entries" if matching else "names no entry, block or type"
        findings.error(overlay.place, "unknown-target", f"{first!r} {what}", nearest(first, names))
        return entries
    index = matching[0]
    if not rest and overlay.action == "remove":
        if _is_final(entries[index]):
            findings.error(overlay.place, "final", f"{first} is final")
            return entries
        return entries[:index] + entries[index + 1 :]
    changed = list(entries)
    changed[index] = _change(entries[index], rest, overlay, findings)
    return changed


def _is_final(node: Node) -> bool:
    final = node.get("final") if isinstance(node, Table) else None
    return isinstance(final, Text) and final.text == "true"


def _change(node: Node, path: str, overlay: Overlay, findings: Findings) -> Node:
    """The node with the change made at ``path`` below it."""
    if _is_final(node):
        findings.error(overlay.place, "final", f"a rule on the way of {overlay.path} is final")
        return node
    if not path:
        return _changed_here(node, overlay, findings)
    step, _, rest = path.partition(".")
    match = _STEP.fullmatch(step)
    name, index = (match[1], match[2]) if match else (step, None)
    table = node if isinstance(node, Table) else Table({"from": node}, node.place)
    holder, holder_key = _holder(table, name)
    if holder is None:
        known = _below(table)
        findings.error(
            overlay.place, "unknown-target", f"{overlay.path}: nothing called {name!r} there",
            nearest(name, known),
        )  # fmt: skip
        return node
    below = holder.items.get(name)
    if overlay.action == "remove" and not rest and index is None:
        if below is None:
            findings.error(overlay.place, "unknown-target", f"{overlay.path} is not there")
            return node
        if _is_final(below):
            findings.error(overlay.place, "final", f"{overlay.path} is final")
            return node
        kept = {key: value for key, value in holder.items.items() if key != name}
        return _put(table, holder_key, holder.with_items(kept))
    if below is None:
        if rest or overlay.value is None:
            findings.error(overlay.place, "unknown-target", f"{overlay.path} is not there")
            return node
        added: Node = overlay.value
    elif index is not None:
        added = _change_item(below, int(index), rest, overlay, findings)
    else:
        added = _change(below, rest, overlay, findings)
    items = {**holder.items, name: added}
    return _put(table, holder_key, holder.with_items(items, {name: overlay.place}))


def _change_item(node: Node, index: int, rest: str, overlay: Overlay, findings: Findings) -> Node:
    if not isinstance(node, Many) or index >= len(node.items):
        findings.error(overlay.place, "unknown-target", f"{overlay.path}: no item {index} there")
        return node
    items = list(node.items)
    if overlay.action == "remove" and not rest:
        del items[index]
    else:
        items[index] = _change(items[index], rest, overlay, findings)
    return Many(tuple(items), node.place)


def _holder(table: Table, name: str) -> tuple[Table | None, str]:
    """Where a step of a target path lives: among the targets, else among the rule's keys."""
    targets = table.get("set")
    if isinstance(targets, Table) and (name in targets.items or name not in _RULE_KEYS):
        return targets, "set"
    if name in table.items or name in _RULE_KEYS:
        return table, ""
    return None, ""


_RULE_KEYS = frozenset(
    [
        "from",
        "first",
        "all",
        "join",
        "const",
        "reason",
        "set",
        "switch",
        "cases",
        "ref",
        "resource",
        "refer",
        "id",
        "flag",
        "detail",
        "skip",
        "when",
        "each",
        "as",
        "table",
        "translate",
        "unit",
        "missing",
        "invalid",
        "unknown",
        "note",
        "also",
        "check",
        "create_only",
        "name",
        "rows",
        "encoding",
        "declared",
        "title",
        "creation",
        "language",
        "hand_over",
        "otherwise",
        "else",
    ]
)


def _below(table: Table) -> list[str]:
    targets = table.get("set")
    inner = list(targets.items) if isinstance(targets, Table) else []
    return [*inner, *table.items]


def _put(table: Table, key: str, changed: Table) -> Table:
    return table.with_items({**table.items, key: changed}) if key else changed


def _changed_here(node: Node, overlay: Overlay, findings: Findings) -> Node:
    value = overlay.value
    if overlay.action == "override" and value is not None:
        return value
    if overlay.action == "append" and value is not None:
        if isinstance(node, Many):
            more = value.items if isinstance(value, Many) else (value,)
            return Many((*node.items, *more), node.place)
        if isinstance(node, Table) and isinstance(value, Table):
            return merge(node, value)
        if isinstance(node, Text) and isinstance(value, Table):  # rows for a table named here
            return Table({"name": node, "rows": value}, node.place)
    findings.error(
        overlay.place, "wrong-shape", f"{overlay.action} does not fit what is at {overlay.path}"
    )
    return node

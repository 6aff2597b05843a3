"""From files to one mapping's tree: ``use:`` taken in, the site's changes applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.findings import Findings, nearest
from gateway.mapping.overlays import Source, change_entries, names_definition
from gateway.mapping.trees import MAPS_BELOW, RULE_BELOW, RULES_BELOW, merge

USE_DEPTH_MAX = 20


@dataclass(slots=True)
class Assembled:
    """One mapping with everything it uses, expanded. ``sources`` are all that went in."""

    source: Source
    entries: list[Node]
    types: dict[str, Table]
    sources: list[Source]


def assemble(source: Source, sources: Mapping[str, Source], findings: Findings) -> Assembled:
    """Take in what a mapping uses and apply the site's changes to its entries."""
    used = used_sources(source, sources, findings)
    types: dict[str, Table] = {}
    blocks: dict[str, Node] = {}
    for part in reversed(used):  # nearest last: the file's own definitions win
        _collect(part, "blocks", blocks, findings, own=part is source)
    expander = _Expander(blocks, findings)
    shapes: dict[str, Node] = {}
    for part in reversed(used):
        _collect(part, "types", shapes, findings, own=part is source)
    for name, node in shapes.items():
        expanded = expander.rule(node)
        if isinstance(expanded, Table):
            types[name] = expanded
        else:
            findings.error(node.place, "wrong-shape", f"type {name} must be a map")
    listed = source.root.get("entries")
    entries = [expander.rule(entry) for entry in listed.items] if isinstance(listed, Many) else []
    for overlay in source.overlays:
        if not names_definition(source, overlay.path):
            entries = change_entries(entries, overlay, findings)
    return Assembled(source, entries, types, used)


def used_sources(source: Source, sources: Mapping[str, Source], findings: Findings) -> list[Source]:
    """The file and all it uses, each once, itself first."""
    found: list[Source] = []

    def walk(part: Source, trail: tuple[str, ...]) -> None:
        if part in found:
            return
        found.append(part)
        listed = part.root.get("use")
        for item in _texts(listed):
            other = sources.get(item.text)
            if item.text in trail:
                findings.error(
                    item.place, "cyclic-use", f"{' → '.join((*trail, item.text))} goes round"
                )
            elif other is None:
                findings.error(
                    item.place, "unknown-mapping", f"no mapping {item.text!r}",
                    nearest(item.text, sources),
                )  # fmt: skip
            else:
                walk(other, (*trail, item.text))

    walk(source, (source.name,))
    return found


def _texts(node: Node | None) -> Iterable[Text]:
    if isinstance(node, Text):
        return (node,)
    if isinstance(node, Many):
        return tuple(item for item in node.items if isinstance(item, Text))
    return ()


def _collect(
    part: Source, key: str, into: dict[str, Node], findings: Findings, *, own: bool
) -> None:
    section = part.root.get(key)
    if section is None:
        return
    if not isinstance(section, Table):
        findings.error(section.place, "wrong-shape", f"{key}: is a map of names")
        return
    for name, node in section:
        before = into.get(name)
        if before is not None and not own and before.place.file != node.place.file:
            findings.error(
                section.places[name],
                "defined-twice",
                f"{name} is also in {before.place.label}:{before.place.line}",
                "define it in the file itself, or use one of the two files",
            )
        into[name] = node


class _Expander:
    """Replaces ``use: block`` by the block with the rule's own keys over it."""

    def __init__(self, blocks: Mapping[str, Node], findings: Findings) -> None:
        self._blocks = blocks
        self._findings = findings
        self._expanded: dict[str, Table] = {}
        self._rounds = 0

    def rule(self, node: Node, trail: tuple[str, ...] = ()) -> Node:
        if isinstance(node, Many):
            return Many(tuple(self.rule(item, trail) for item in node.items), node.place)
        if isinstance(node, Text):
            return node
        merged = self._used(node, trail)
        items: dict[str, Node] = {}
        for key, value in merged:
            if key in MAPS_BELOW and isinstance(value, Table):
                below = {name: self.rule(inner, trail) for name, inner in value}
                items[key] = value.with_items(below)
            elif key in RULES_BELOW or key in RULE_BELOW:
                items[key] = self.rule(value, trail)
            else:
                items[key] = value
        return merged.with_items(items)

    def _used(self, node: Table, trail: tuple[str, ...]) -> Table:
        wanted = list(_texts(node.get("use")))
        if "use" in node.items and not wanted:
            self._findings.error(node.items["use"].place, "wrong-shape", "use: names blocks")
        own = {key: value for key, value in node.items.items() if key != "use"}
        base = node.with_items({})
        for name in wanted:
            expanded = self._expanded.get(name.text) or self._block(name, trail)
            if expanded is not None:
                base = merge(base, expanded)
        return merge(base, node.with_items(own)) if wanted else node

    def _block(self, name: Text, trail: tuple[str, ...]) -> Table | None:
        """A block with what it uses; None when there is no such block (reported)."""
        if name.text in trail or len(trail) > USE_DEPTH_MAX:
            self._findings.error(name.place, "cyclic-use", f"block {name.text} uses itself")
            self._rounds += 1
            return None
        block = self._blocks.get(name.text)
        if not isinstance(block, Table):
            self._findings.error(
                name.place, "unknown-block", f"no block {name.text!r}",
                nearest(name.text, self._blocks),
            )  # fmt: skip
            return None
        before = self._rounds
        expanded = self.rule(block, (*trail, name.text))
        assert isinstance(expanded, Table)
        if self._rounds == before:  # the same from wherever it is used
            self._expanded[name.text] = expanded
        return expanded

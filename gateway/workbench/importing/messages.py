"""Message maps to mappings: which entries, in which group, and what refers to what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.mapping.r4.definitions import UnknownPath
from gateway.mapping.targets import element
from gateway.workbench.importing.conditions import NotTranslated, translate
from gateway.workbench.importing.identities import entry_identity, has_own_key
from gateway.workbench.importing.items import type_name
from gateway.workbench.importing.maps import Maps
from gateway.workbench.importing.nodes import Node, Object, Rule, Several
from gateway.workbench.importing.rows import MessageRow

EVENTS: dict[str, list[str]] = {
    "ADT_A01": ["A01", "A04", "A08", "A13"],
    "ADT_A05": ["A05", "A14", "A28", "A31"],
    "ADT_A06": ["A06", "A07"],
    "ADT_A09": ["A09", "A10", "A12"],
    "ADT_A11": ["A11"],
    "MDM_T02": ["T02", "T04", "T06", "T08", "T10"],
    "SIU_S12": ["S12", "S13", "S14", "S15", "S16", "S17", "S18", "S19", "S20", "S21", "S22",
                "S23", "S24", "S26"],
}  # fmt: skip
"""The trigger events of a message structure (HL7 v2.5.1, table 0354) that its map is for."""

_TARGET = re.compile(r"(?P<resource>[A-Z][A-Za-z]+)(?:\[(?P<index>\d+)\])?")
_REFERENCE = re.compile(
    r"(?P<from>[A-Z][A-Za-z]+(?:\[\d+\])?)\.(?P<element>[a-z][A-Za-z]*)(?:\[\d+\])?"
    r"(?:\.(?P<inner>[a-z][A-Za-z]*)(?:\[\d+\])?)?\.reference\s*=\s*"
    r"(?P<to>[A-Z][A-Za-z]+(?:\[\d+\])?)\.id"
)
NOT_ENTRIES = {
    "Bundle": "entries go to the record one by one, in no Bundle",
    "MessageHeader": "the journal keeps the message and how it travelled",
}


@dataclass(slots=True)
class Made:
    """An entry being made: where its segment stands and which maps have gone into it."""

    node: Object
    name: str
    segment: str
    group: tuple[str, ...]
    repeats: bool
    row: MessageRow
    maps: set[str] = field(default_factory=set)


@dataclass(slots=True)
class MessageMaps:
    """Makes the mapping of each message map. ``blocks`` are the segment maps that can be used."""

    maps: Maps
    blocks: Mapping[str, Object]

    def entries(self, name: str) -> list[Object]:
        """The entries of one message map, those of a group below the one that leads it."""
        rows = self.maps.tables.messages[name]
        groups = _groups(rows)
        made: list[Made] = []
        for row in rows:
            if row.mapping and row.target:
                self._row(row, made, groups)
        for row in rows:
            self._references(row, made)
        return _nested(made, groups)

    def _row(
        self, row: MessageRow, made: list[Made], groups: Mapping[tuple[str, ...], bool]
    ) -> None:
        todo = self.maps.todo
        target = _TARGET.fullmatch(row.target.strip())
        if target is None:
            todo.row(row, "entry", "the target is not one resource")
            return
        if target["resource"] in NOT_ENTRIES:
            todo.row(row, "entry", NOT_ENTRIES[target["resource"]])
            return
        mapping = self._map_named(row.mapping)
        if mapping is None:
            todo.row(row, "entry", f"there is no segment map {row.mapping} that can be used")
            return
        if not row.condition and (row.narrative or row.fhirpath):
            todo.row(row, "condition", "the condition is prose", row.narrative or row.fhirpath)
            return
        try:
            when = translate(row.condition, "", _located, self.maps.known) if row.condition else ""
        except NotTranslated as wrong:
            todo.row(row, "condition", str(wrong), row.condition)
            return
        self._add(row, mapping, when, made, groups)

    def _add(
        self,
        row: MessageRow,
        mapping: str,
        when: str,
        made: list[Made],
        groups: Mapping[tuple[str, ...], bool],
    ) -> None:
        segment = mapping.partition("[")[0]
        path = tuple(row.identifier.strip().split("."))
        group = path[:-1] if path[-1] == segment else path
        name = _entry_name(row.target)
        before = next((each for each in reversed(made) if each.name == name), None)
        if before is not None and mapping not in before.maps and before.segment != segment:
            self._merge(before, mapping, when)
            return
        number = sum(each.name == name or each.name.startswith(f"{name}-") for each in made)
        shown = name if not number else f"{name}-{number + 1}"
        head: dict[str, object] = {"name": shown, "use": type_name(mapping)}
        if when:
            head["when"] = when
        head["id"] = entry_identity(segment)
        if not has_own_key(segment):
            self.maps.todo.row(
                row, "identity", f"nothing of {segment} tells one entry from another"
            )
        entry = Object(head, {}, [row])
        repeats = "{" in row.syntax
        made.append(Made(entry, name, segment, _known(group, groups), repeats, row, {mapping}))

    def _merge(self, made: Made, mapping: str, when: str) -> None:
        """What a further segment says of a resource, beside what the first one says."""
        made.maps.add(mapping)
        for name, plain in self.blocks[mapping].parts.items():
            own = made.node.parts.get(name) or self._of_block(made, name)
            part = _conditional(plain, when)
            made.node.parts[name] = part if own is None else self._both(made, name, own, part)

    def _of_block(self, made: Made, name: str) -> Node | None:
        block = str(made.node.head["use"])
        for mapping, node in self.blocks.items():
            if type_name(mapping) == block:
                return node.parts.get(name)
        return None

    def _both(self, made: Made, name: str, first: Node, second: Node) -> Node:
        if isinstance(first, Rule) and isinstance(second, Rule) and first.body == second.body:
            return first
        resource = _TARGET.match(made.name)
        kind = resource["resource"] if resource else made.name
        try:
            target = element(self.maps.definitions, kind, name, kind)
        except UnknownPath:
            return first
        options = [first, second]
        if isinstance(first, Several) and first.first is not target.repeats:
            options = [*first.options, second]
        return Several(options, first=not target.repeats)

    def _references(self, row: MessageRow, made: list[Made]) -> None:
        """``Observation[1].subject.reference=Patient[1].id`` as ``subject: {ref: Patient}``."""
        for match in _REFERENCE.finditer(row.references):
            source, wanted = _entry_name(match["from"]), _entry_name(match["to"])
            if wanted not in {each.name for each in made}:
                continue
            for each in made:
                if each.name == source:
                    self._refer(each, match["element"], match["inner"], wanted, row)

    def _refer(
        self, made: Made, name: str, inner: str | None, wanted: str, row: MessageRow
    ) -> None:
        found = _TARGET.match(made.name)
        kind = found["resource"] if found else made.name
        try:
            target = element(self.maps.definitions, kind, name, kind)
            last = (
                target if not inner
                else element(
                    self.maps.definitions, target.location or target.types[0], inner, target.path
                )
            )  # fmt: skip
        except UnknownPath as wrong:
            self.maps.todo.row(row, "target", str(wrong), row.references)
            return
        if last.types != ("Reference",):
            self.maps.todo.row(row, "target", f"{last.path} is no Reference", row.references)
            return
        rule: Node = Rule({"ref": wanted}, [row])
        if inner:
            rule = Object({}, {inner: rule}, [row])
        own = made.node.parts.get(name) or self._of_block(made, name)
        if own is None or (name in ("subject", "patient", "beneficiary") and not inner):
            made.node.parts[name] = rule
        else:
            made.node.parts[name] = self._both(made, name, rule, own)

    def _map_named(self, mapping: str) -> str | None:
        folded = re.sub(r"[^a-z0-9]+", "", mapping.casefold())
        for name in self.blocks:
            if re.sub(r"[^a-z0-9]+", "", name.casefold()) == folded:
                return name
        return None


def _conditional(node: Node, when: str) -> Node:
    """A part of a segment that counts under a condition only."""
    if not when:
        return node
    if isinstance(node, Several):
        return Several([_conditional(option, when) for option in node.options], node.first)
    if isinstance(node, Rule):
        own = node.body.get("when")
        both = f"({when}) and ({own})" if own else when
        return Rule({**node.body, "when": both}, node.rows)
    own = node.head.get("when")
    both = f"({when}) and ({own})" if own else when
    return Object({**node.head, "when": both}, node.parts, node.rows)


_ALWAYS_VALUED = {"PID": "PID-3", "ORC": "ORC-1", "PV1": "PV1-2", "OBR": "OBR-4"}
"""A field that HL7 v2.5.1 requires of a segment, which tells whether the segment is there."""


def _located(text: str) -> str:
    text = text.upper()
    if text in _ALWAYS_VALUED:
        return _ALWAYS_VALUED[text]
    return text if "-" in text or "." not in text else text.replace(".", "-", 1)


def _entry_name(target: str) -> str:
    """``Patient[1]`` is Patient, ``Patient[2]`` Patient2."""
    found = _TARGET.fullmatch(target.strip())
    if found is None:
        return target
    index = found["index"]
    return found["resource"] + (index if index and index != "1" else "")


def _groups(rows: tuple[MessageRow, ...]) -> dict[tuple[str, ...], bool]:
    """The groups of a message by their path, and whether they repeat."""
    found: dict[tuple[str, ...], bool] = {}
    for row in rows:
        path = tuple(row.identifier.strip().split("."))
        if not row.identifier.startswith("/") and set(row.syntax) <= set("[{ ") and row.syntax:
            found[path] = found.get(path, False) or "{" in row.syntax
    return found


def _known(group: tuple[str, ...], groups: Mapping[tuple[str, ...], bool]) -> tuple[str, ...]:
    return tuple(
        part for index, part in enumerate(group) if group[: index + 1] in groups or index == 0
    )


def _repeating(
    group: tuple[str, ...], groups: Mapping[tuple[str, ...], bool]
) -> list[tuple[str, ...]]:
    """The repeating groups around, from the outside in."""
    return [
        group[: index + 1] for index in range(len(group)) if groups.get(group[: index + 1], False)
    ]


def _nested(made: list[Made], groups: Mapping[tuple[str, ...], bool]) -> list[Object]:
    """The entries as a tree: what stands in a repeating group belongs to the entry that leads it.

    A reference finds the nearest entry around it, so without the tree the second order's
    results would refer to the first order.
    """
    leads: dict[tuple[str, ...], Made] = {}
    for each in made:
        around = _repeating(each.group, groups)
        if around and not each.repeats and "when" not in each.node.head:
            leads.setdefault(around[-1], each)
    top: list[Object] = []
    for each in made:
        around = _repeating(each.group, groups)
        lead, depth = None, 0
        for index, group in enumerate(around):
            found = leads.get(group)
            if found is not None and found is not each:
                lead, depth = found, index + 1
        steps: list[object] = [{"group": group[-1]} for group in around[depth:]]
        if each.repeats:
            steps.append({"segment": each.segment})
        if steps:
            head = dict(each.node.head)
            each.node.head.clear()
            each.node.head.update(
                {"name": head.pop("name"), "use": head.pop("use"),
                 "each": steps[0] if len(steps) == 1 else steps, **head}
            )  # fmt: skip
        (lead.node.also if lead is not None else top).append(each.node)
    return top

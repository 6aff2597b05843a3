"""Rows that give a value: constants, paths and what they are put together of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.mapping.targets import Target
from gateway.workbench.importing.conditions import NotTranslated
from gateway.workbench.importing.items import (
    SIMPLE_TYPES,
    Item,
    component,
    table_name,
    type_name,
)
from gateway.workbench.importing.nodes import Rule
from gateway.workbench.importing.rows import MapRow

if TYPE_CHECKING:
    from gateway.workbench.importing.maps import Maps

_LITERAL = re.compile(r'"\s*([^"]*?)\s*"')
_JOINED = re.compile(r'(?P<path>[A-Z][A-Z0-9]{1,2}[-.][0-9.]+)|"(?P<text>[^"]*)"')


class Leaves:
    """Makes the rules of values for some maps."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps

    def make(self, item: Item, target: Target) -> Rule | None:
        """The rule of one row; None when it cannot be imported (it is on the list then)."""
        row = item.row
        note = {"note": row.narrative} if row.narrative else {}
        literal = _LITERAL.fullmatch(row.assignment)
        if item.value or literal is not None:
            value = item.value or (literal[1] if literal is not None else "")
            return self._constant(item, target, value, note)
        if row.assignment:
            return self._assigned(item, note)
        return self._read(item, target, note)

    def _constant(
        self, item: Item, target: Target, value: str, note: Mapping[str, object]
    ) -> Rule | None:
        if not all(kind in self._maps.definitions.primitives for kind in target.types):
            reason = f"a text for {target.path}, which is {', '.join(target.types)}"
            self._maps.todo.row(item.row, "assignment", reason, item.row.assignment)
            return None
        body: dict[str, object] = {"const": value}
        # A url or system alone says nothing: it stands and falls with what is beside it.
        when = "" if target.free else item.when
        if not when and not target.free and "$" not in item.path and "-" in item.path:
            when = f"{item.path} exists"
        if when:
            body["when"] = when
        if not target.free:
            body["reason"] = f"v2-to-FHIR {item.row.file}, line {item.row.number}"
        return Rule({**body, **note}, [item.row])

    def _assigned(self, item: Item, note: Mapping[str, object]) -> Rule | None:
        """``XTN.6+" "+XTN.7``: paths with one text between them."""
        parts = [part.strip() for part in item.row.assignment.split("+")]
        found = [_JOINED.fullmatch(part) for part in parts]
        paths = [match["path"] for match in found[::2] if match is not None and match["path"]]
        between = {match["text"] for match in found[1::2] if match is not None}
        whole = len(paths) == len(found[::2]) and len(between) <= 1 and all(found)
        if not whole or None in between or not paths:
            reason = "the assignment is prose or a formula"
            self._maps.todo.row(item.row, "assignment", reason, item.row.assignment)
            return None
        try:
            located = [item.locate(path) for path in paths]
        except NotTranslated as wrong:
            self._maps.todo.row(item.row, "assignment", str(wrong), item.row.assignment)
            return None
        when = {"when": item.when} if item.when else {}
        body = {"all": located, "join": next(iter(between), ""), **when, **note}
        return Rule(body, [item.row])

    def _read(self, item: Item, target: Target, note: Mapping[str, object]) -> Rule | None:
        row, path = item.row, item.path
        if path.partition("$")[2] == "" and "-" not in path and "$" not in path:
            self._maps.todo.row(row, "path", "names a segment, not a field to take the value from")
            return None
        kind = row.fhir_type if target.open and row.fhir_type in target.types else target.types[0]
        if target.open and kind not in target.types[:1] and kind != row.fhir_type:
            kind = ""
        if target.open and kind != row.fhir_type:
            self._maps.todo.row(row, "target", f"{target.path} does not say its type")
            return None
        body: dict[str, object] = {"from": path}
        if target.open:
            body["as"] = kind
        if kind in self._maps.definitions.primitives:
            return self._primitive(item, target, body, note)
        return self._complex(item, target, kind, body, note)

    def _primitive(
        self, item: Item, target: Target, body: dict[str, object], note: Mapping[str, object]
    ) -> Rule | None:
        row = item.row
        options = self._components(item, target, body)
        if options is None:
            return None
        when = {"when": item.when} if item.when else {}
        if row.vocabulary:
            table = self._table(row, target)
            if table is None:
                return None
            for option in options:
                option["table"] = table
        elif target.key == "system" and target.types[0] == "uri":
            # HL7's tables say only that the name goes there; R4 wants an absolute URI.
            of_identifier = "identifier" in target.path.casefold()
            for option in options:
                option["as"] = "IdentifierSystem" if of_identifier else "CodeSystemUri"
        if len(options) == 1:
            inner = options[0].pop("when", "")
            both = " and ".join(f"({each})" for each in (item.when, inner) if each)
            chosen = both if item.when and inner else item.when or inner
            return Rule({**options[0], **({"when": chosen} if chosen else {}), **note}, [row])
        return Rule({"first": options, **when, **note}, [row])

    def _components(
        self, item: Item, target: Target, body: dict[str, object]
    ) -> list[dict[str, object]] | None:
        """The components that a data type map takes for a primitive, as sources of rules."""
        row, name = item.row, self._maps.map_named(item.row.mapping) if item.row.mapping else None
        if name is None or not self._maps.is_primitive(self._maps.kind_of(name) or ""):
            # A composite without a map of its own for this type: its first component.
            if row.datatype not in SIMPLE_TYPES and row.mapping:
                try:
                    body["from"] = component(item.path, "1")
                except NotTranslated as wrong:
                    self._maps.todo.row(row, "path", str(wrong))
                    return None
            return [body]
        found: list[dict[str, object]] = []
        simple = name.partition("[")[0] in SIMPLE_TYPES
        for inner in self._maps.expanded(name, item.path, "", self._maps.tables.datatypes[name]):
            if inner.steps:
                self._maps.todo.row(inner.row, "target", f"is no value of {target.path}")
                continue
            if inner.row.assignment and not _LITERAL.fullmatch(inner.row.assignment):
                self._maps.todo.row(inner.row, "assignment", "is a formula", inner.row.assignment)
                continue
            made = {**body, "from": item.path if simple else inner.path}
            if inner.when:
                made["when"] = inner.when
            found.append(made)
        # A row without a condition is the rule, those with one are what else it may be.
        found.sort(key=lambda option: "when" in option)
        if not found:
            self._maps.todo.row(row, "data type", f"{name} takes no component as the value")
        return found or None

    def _complex(
        self, item: Item, target: Target, kind: str, body: dict[str, object],
        note: Mapping[str, object],
    ) -> Rule | None:  # fmt: skip
        row = item.row
        name = self._maps.map_named(row.mapping) if row.mapping else None
        if name is None:
            reason = f"no data type map {row.mapping}" if row.mapping else (
                f"no data type map says how {row.datatype or 'it'} becomes {kind}"
            )  # fmt: skip
            self._maps.todo.row(row, "data type", reason)
            return None
        if self._maps.kind_of(name) != kind:
            self._maps.todo.row(row, "data type", f"{name} does not give {kind}")
            return None
        self._maps.types_used[name] = None
        body["as"] = type_name(name)
        if row.vocabulary:
            table = self._table(row, target)
            if table is None:
                return None
            if kind == "CodeableConcept":
                body["translate"] = {"table": table, "unknown": "keep-and-flag"}
            elif kind == "Coding":
                body |= {"from": component(item.path, "1"), "as": "Coding", "table": table,
                         "unknown": "keep-and-flag"}  # fmt: skip
        if item.when:
            body["when"] = item.when
        return Rule({**body, **note}, [row])

    def _table(self, row: MapRow, target: Target) -> str | None:
        name = self._maps.codes_named(row.vocabulary)
        if name is None:
            self._maps.todo.row(
                row, "vocabulary", f"there is no map of the code system {row.vocabulary}"
            )
            return None
        self._maps.codes_used.setdefault(name, []).append(target)
        return table_name(name)

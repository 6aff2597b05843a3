"""Segment and data type maps to rules of the mapping language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway.mapping.r4.definitions import Definitions, UnknownPath
from gateway.mapping.targets import Target, element
from gateway.workbench.importing.attributes import AttributeUnreadable, read_attribute
from gateway.workbench.importing.conditions import NotTranslated, translate
from gateway.workbench.importing.identities import inner_identity
from gateway.workbench.importing.items import Item, component
from gateway.workbench.importing.leaves import Leaves
from gateway.workbench.importing.nodes import Node, Object, Rule, Several, different, gathered
from gateway.workbench.importing.rows import MapRow, Tables
from gateway.workbench.importing.todo import Todo

_FIELD = re.compile(r"(?P<segment>[A-Z][A-Z0-9]{2})[-.](?P<field>\d+)(?P<rest>(?:\.\d+)*)")
_COMPONENT = re.compile(r"(?P<type>[A-Z][A-Z0-9]{1,2})[-.](?P<component>\d+(?:\.\d+)?)")
DEPTH_MAX = 8
ADVICE = frozenset({"If mapped to FHIR, use Code System and Display", "If positive"})
"""Prose in the column of conditions that is none: the first tells how to translate a code, the
second what the conversion to a positive number checks by itself."""


@dataclass(slots=True)
class Maps:
    """All maps and what was used of them. ``todo`` takes what could not be imported."""

    tables: Tables
    definitions: Definitions
    todo: Todo
    known: Callable[[str], bool]
    types_used: dict[str, None] = field(default_factory=dict)
    codes_used: dict[str, list[Target]] = field(default_factory=dict)
    _folded: dict[str, str] = field(default_factory=dict)
    _codes_folded: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._folded = {_folded(name): name for name in self.tables.datatypes}
        self._codes_folded = {_folded(name): name for name in self.tables.codes}

    # --- maps ---------------------------------------------------------------------------

    def segment(self, name: str) -> Object | None:
        """The block of a segment map: ``PID[Patient]``; None when nothing can be written."""
        resource = re.split(r"[-.]", name.partition("[")[2].rstrip("]"))[0]
        rows = self.tables.segments[name]
        try:
            self.definitions.resource(resource)
        except UnknownPath as wrong:
            self.todo.rows(rows, "target", str(wrong))
            return None
        items = [item for row in rows if (item := self._segment_item(row, name)) is not None]
        target = Target(resource, resource, (resource,))
        return Object({"resource": resource}, self._parts(items, target, 0))

    def datatype(self, name: str) -> tuple[str, Object] | None:
        """A type of a data type map with its FHIR type; None when nothing can be written."""
        kind = self.kind_of(name)
        if kind is None or self._is_resource(kind) or self.is_primitive(kind):
            return None
        items = list(self.expanded(name, "$", "", self.tables.datatypes[name]))
        parts = self._parts(items, Target(kind, kind, (kind,)), 0)
        return kind, Object({"type": kind}, parts)

    def refer_to_patient(
        self, resource: str, parts: dict[str, Node], *, required: bool = False
    ) -> None:
        """Whose resource it is: the message maps say it in words, or not at all.

        ``required``: only where R4 requires it, because a reference alone makes a resource.
        """
        for name in ("subject", "patient", "beneficiary"):
            try:
                target = element(self.definitions, resource, name, resource)
            except UnknownPath:
                continue
            known = target.types == ("Reference",) and "Patient" in target.references
            if known and name not in parts and (target.required or not required):
                parts[name] = Rule({"ref": "Patient"}, [])
                return

    def kind_of(self, mapping: str) -> str | None:
        """The FHIR type or resource of a map's name: ``CX[Identifier]`` is Identifier."""
        target = mapping.partition("[")[2].rstrip("]")
        name = re.split(r"[-.]", target)[0]
        for known in (name, name[:1].upper() + name[1:], name[:1].lower() + name[1:]):
            if self.is_primitive(known) or self._is_type(known) or self._is_resource(known):
                return known
        return None

    def is_primitive(self, name: str) -> bool:
        return name in self.definitions.primitives

    def _is_type(self, name: str) -> bool:
        try:
            self.definitions.children(name)
        except UnknownPath:
            return False
        return "." not in name

    def _is_resource(self, name: str) -> bool:
        try:
            self.definitions.resource(name)
        except UnknownPath:
            return False
        return True

    def map_named(self, mapping: str) -> str | None:
        """The data type map that a row names, whatever its case; None when there is none."""
        return self._folded.get(_folded(mapping))

    def codes_named(self, vocabulary: str) -> str | None:
        """The code system map that a row names; None when there is none."""
        return self._codes_folded.get(_folded(vocabulary))

    # --- rows ---------------------------------------------------------------------------

    def _segment_item(self, row: MapRow, name: str) -> Item | None:
        if not row.attribute:
            return None
        segment = name.partition("[")[0]
        path = row.identifier if "-" in row.identifier else segment
        own = _FIELD.fullmatch(row.identifier.replace(" ", ""))
        if own is not None:
            path = f"{own['segment']}-{own['field']}{own['rest']}"

        def locate(text: str) -> str:
            found = _FIELD.fullmatch(text.upper())
            if found is not None:
                return f"{found['segment']}-{found['field']}{found['rest']}"
            inner = _COMPONENT.fullmatch(text.upper())
            if inner is None:
                return text.upper()
            if inner["type"] != row.datatype.upper():
                raise NotTranslated(f"{text} is no component of {row.datatype or 'the field'}")
            return component(path, inner["component"])

        return self._item(row, path, locate, "")

    def expanded(self, name: str, base: str, when: str, rows: Iterable[MapRow]) -> Iterable[Item]:
        """The rows of a data type map as items below a path."""
        datatype = name.partition("[")[0]

        def locate(text: str) -> str:
            found = _COMPONENT.fullmatch(text.upper())
            if found is None or found["type"] != datatype:
                raise NotTranslated(f"{text} is no component of {datatype}")
            return component(base, found["component"])

        for row in rows:
            if not row.attribute:
                continue
            try:
                path = locate(row.identifier) if row.identifier else base
            except NotTranslated as wrong:
                self.todo.row(row, "path", str(wrong))
                continue
            item = self._item(row, path, locate, when)
            if item is None:
                continue
            # Some maps begin their attributes with the type itself: Quantity.unit.
            if len(item.steps) > 1 and item.steps[0].name == self.kind_of(name):
                item = replace(item, steps=item.steps[1:])
            yield item

    def _item(
        self, row: MapRow, path: str, locate: Callable[[str], str], outer: str
    ) -> Item | None:
        prose = row.narrative or row.fhirpath
        if not row.condition and prose and prose not in ADVICE:
            self.todo.row(row, "condition", "the condition is prose", prose)
            return None
        try:
            attribute = read_attribute(row.attribute)
        except AttributeUnreadable as wrong:
            self.todo.row(row, "attribute", str(wrong))
            return None
        when = outer
        if row.condition:
            try:
                own = translate(row.condition, row.identifier, locate, self.known)
            except NotTranslated as wrong:
                self.todo.row(row, "condition", str(wrong), row.condition)
                return None
            when = f"({outer}) and ({own})" if outer and own else outer or own
        return Item(row, attribute.steps, path, when, attribute.value, locate)

    # --- elements -----------------------------------------------------------------------

    def _parts(self, items: list[Item], parent: Target, depth: int) -> dict[str, Node]:
        groups: dict[str, list[Item]] = {}
        for item in items:
            if not item.steps:
                reason = "names the whole resource or type, not an element of it"
                self.todo.row(item.row, "target", reason)
                continue
            groups.setdefault(self._named(item, parent), []).append(item)
        parts: dict[str, Node] = {}
        for name, group in groups.items():
            where = parent.location or parent.types[0]
            try:
                target = element(self.definitions, where, name, parent.path)
            except UnknownPath as wrong:
                hint = f"; did you mean {wrong.suggestion}?" if wrong.suggestion else ""
                self.todo.rows([item.row for item in group], "target", f"{wrong}{hint}")
                continue
            node = self._element(group, target, depth)
            if node is not None:
                parts[name] = node
        return parts

    def _named(self, item: Item, parent: Target) -> str:
        """The element's JSON name; ``birthDate.extension`` is ``_birthDate``."""
        name = item.steps[0].name
        if len(item.steps) > 1 and item.steps[1].name == "extension":
            try:
                found = element(
                    self.definitions, parent.location or parent.types[0], name, parent.path
                )
            except UnknownPath:
                return name
            if all(kind in self.definitions.primitives for kind in found.types):
                return f"_{name}"
        return name

    def _element(self, items: list[Item], target: Target, depth: int) -> Node | None:
        """All rows of one element: one rule, or one for each sibling that the tables number."""
        groups: dict[str, list[Item]] = {}
        for item in items:
            groups.setdefault(item.steps[0].index if target.repeats else "", []).append(item)
        made = [
            node
            for group in groups.values()
            if (node := self._one(group, target, depth)) is not None
        ]
        if not made:
            return None
        return made[0] if len(made) == 1 else Several(made, first=False)

    def _one(self, items: list[Item], target: Target, depth: int) -> Node | None:
        if depth > DEPTH_MAX:
            self.todo.rows([item.row for item in items], "target", "more than eight levels deep")
            return None
        if target.types == ("Extension",) and _two_urls(items):
            reason = "one extension of the table has two urls"
            self.todo.rows([item.row for item in items], "assignment", reason)
            return None
        inner, head = self._each(items, target)
        leads = [item for item in inner if self._resource_of(item, target)]
        rest = [item for item in inner if not self._resource_of(item, target)]
        options: list[Node] = self._references(leads, target, head, depth)
        here = [item for item in rest if len(item.steps) == 1]
        below = [item for item in rest if len(item.steps) > 1]
        if below:
            for item in here:
                below += self._opened(item, target)
            node = self._object(below, target, head, depth)
            if node is not None:
                options.append(node)
        else:
            leaves_of = Leaves(self)
            leaves = [leaf for item in here if (leaf := leaves_of.make(item, target)) is not None]
            options += [self._with_each(leaf, head, target) for leaf in different(leaves)]
        if not options:
            return None
        if len(options) == 1:
            return options[0]
        return Several(options, first=not (target.repeats and leads))

    def _with_each(self, leaf: Rule, head: Mapping[str, object], target: Target) -> Rule:
        """A leaf over the repetitions of its field reads them all, without ``each``."""
        if not head:
            return leaf
        source, body = leaf.body.get("from"), dict(leaf.body)
        if isinstance(source, str) and source.startswith("$") and target.repeats:
            body["from"] = f"{head['each']}{source[1:]}"
            when = body.get("when")
            if isinstance(when, str) and "$" in when:
                return Rule({"each": head["each"], **leaf.body}, leaf.rows)
            return Rule(body, leaf.rows)
        return Rule({"each": head["each"], **leaf.body}, leaf.rows)

    def _each(self, items: list[Item], target: Target) -> tuple[list[Item], dict[str, object]]:
        """One for each repetition, when a repeating element is filled by one repeating field."""
        fields = {
            found[0]
            for item in items
            if (found := re.match(r"[A-Z][A-Z0-9]{2}-\d+", item.path)) is not None
        }
        if len(fields) != 1 or not target.repeats:
            return items, {}
        (name,) = fields
        whole = all(item.path.startswith(name) for item in items)
        if not whole or not any(item.row.repeats for item in items):
            return items, {}
        pattern = re.compile(rf"\b{name}(?![\d(])")
        moved = [
            replace(
                item,
                path=f"${item.path[len(name) :]}",
                when=pattern.sub("$", item.when),
                locate=_moved(item.locate, pattern),
            )
            for item in items
        ]
        return moved, {"each": f"{name}(*)"}

    def _resource_of(self, item: Item, target: Target) -> str:
        """The resource that a row makes here, or empty."""
        if item.steps[0].resource:
            return item.steps[0].resource
        if len(item.steps) == 1 and target.types == ("Reference",) and item.row.mapping:
            kind = self.kind_of(item.row.mapping)
            if kind is not None and self._is_resource(kind):
                return kind
        return ""

    def _references(
        self, items: list[Item], target: Target, head: Mapping[str, object], depth: int
    ) -> list[Node]:
        """The resources that a Reference leads to, one for each resource and condition."""
        groups: dict[tuple[str, str], list[Item]] = {}
        for item in items:
            if "Reference" not in target.types or target.open:
                self.todo.row(item.row, "target", f"{target.path} is no Reference in R4")
                continue
            own = item.when if item.row.condition else ""
            groups.setdefault((self._resource_of(item, target), own), []).append(item)
        made: list[Node] = []
        for (resource, when), group in groups.items():
            if not self._is_resource(resource):
                rows = [item.row for item in group]
                self.todo.rows(rows, "target", f"R4 has no resource {resource}")
                continue
            inside: list[Item] = []
            for item in group:
                if len(item.steps) > 1:
                    inside.append(replace(item, steps=item.steps[1:]))
                else:
                    inside += self._opened(item, target)
            parts = self._parts(inside, Target(resource, resource, (resource,)), depth + 1)
            self.refer_to_patient(resource, parts, required=True)
            identity = inner_identity(group[0].path, group[0].row.datatype)
            keys = {"resource": resource, **head, **({"when": when} if when else {})}
            made.append(Object({**keys, "id": identity}, parts, [item.row for item in group]))
        return made

    def _opened(self, item: Item, target: Target) -> list[Item]:
        """A row with a data type map as the rows of that map, below the row's path."""
        name = self.map_named(item.row.mapping) if item.row.mapping else None
        if name is None:
            reason = f"no data type map {item.row.mapping}" if item.row.mapping else (
                f"no data type map says what of {item.row.datatype} goes to {target.path}"
            )  # fmt: skip
            self.todo.row(item.row, "data type", reason)
            return []
        return [
            replace(inner, steps=(item.steps[0], *inner.steps)) if not item.steps[0].resource
            and not self._resource_of(item, target) else inner
            for inner in self.expanded(name, item.path, item.when, self.tables.datatypes[name])
        ]  # fmt: skip

    def _object(
        self, items: list[Item], target: Target, head: Mapping[str, object], depth: int
    ) -> Node | None:
        if target.open:
            self.todo.rows(
                [item.row for item in items], "target", f"{target.path} does not say its type"
            )
            return None
        inside = [replace(item, steps=item.steps[1:]) for item in items]
        parts = self._parts(inside, target.item(), depth + 1)
        if not parts:
            return None
        return gathered(Object(dict(head), parts, [item.row for item in items]))


def _two_urls(items: list[Item]) -> bool:
    """Whether rows give one extension several urls: a slip of the hand in the table."""
    urls = {
        item.row.assignment
        for item in items
        if len(item.steps) > 1 and item.steps[1].name == "url" and not item.row.condition
    }
    return len(urls) > 1


def _moved(locate: Callable[[str], str], pattern: re.Pattern[str]) -> Callable[[str], str]:
    return lambda text: pattern.sub("$", locate(text))


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.casefold())

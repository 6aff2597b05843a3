"""What the shipped HL7 v2 mappings say, as facts: which field goes to which element."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.mapping import packaged_mappings
from gateway.mapping.assemble import Assembled, assemble
from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.findings import Findings
from gateway.mapping.loading import Loader
from gateway.mapping.r4.definitions import Definitions

PATH = re.compile(r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\([^)]*\))?-(?P<field>\d+)(?:\([^)]*\))?"
                   r"(?P<rest>(?:\.\d+)*)")  # fmt: skip

_PART = re.compile(r"\$(?P<rest>(?:\.\d+)+)")


@dataclass(frozen=True, slots=True)
class Fact:
    """A shipped rule: which field goes to which element, where the rule stands, what it notes."""

    resource: str
    target: tuple[str, ...]
    source: str
    rest: str
    place: str
    note: str


@dataclass(slots=True)
class Shipped:
    """Everything that the shipped HL7 v2 mappings say."""

    facts: list[Fact] = field(default_factory=list)
    types: list[Fact] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    events: dict[str, set[str]] = field(default_factory=dict)
    """The resources that the mappings of a message make, by «ADT A01»."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    by_field: dict[str, list[Fact]] = field(default_factory=dict)


class Reader:
    """Walks the rules of assembled mappings."""

    def __init__(self) -> None:
        self.shipped = Shipped()
        self._definitions = Definitions.load()
        self._seen: set[Fact] = set()

    def read(self) -> Shipped:
        """All mappings of HL7 v2 that are shipped."""
        findings = Findings()
        loader = Loader(findings)
        loader.read_folder(packaged_mappings(), skip=packaged_mappings() / "sites")
        for source in loader.sources.values():
            declared = source.root.get("source")
            form = declared.get("format") if isinstance(declared, Table) else None
            if not isinstance(form, Text) or form.text != "hl7v2":
                continue
            self._ignored(source.root)
            assembled = assemble(source, loader.sources, findings)
            made: set[str] = set()
            for entry in assembled.entries:
                self._entry(entry, made)
            if isinstance(declared, Table):
                self._events(declared, made)
            self._types(assembled)
        for name, table in loader.tables.items():
            if name.startswith("hl7/"):
                self.shipped.codes[name] = {code: row.code for code, row in table.rows.items()}
        for fact in self.shipped.facts:
            self.shipped.by_field.setdefault(fact.source, []).append(fact)
        return self.shipped

    def _events(self, declared: Table, made: set[str]) -> None:
        match = declared.get("match")
        if not isinstance(match, Table):
            return
        kinds = _texts(match.get("MSH-9.1"))
        for kind in kinds:
            for event in _texts(match.get("MSH-9.2")) or ["*"]:
                self.shipped.events.setdefault(f"{kind} {event}", set()).update(made)

    def _ignored(self, root: Table) -> None:
        listed = root.get("ignore")
        for item in listed.items if isinstance(listed, Many) else ():
            if isinstance(item, Table) and "when" not in item.items:
                path, reason = item.get("path"), item.get("reason")
                if isinstance(path, Text) and isinstance(reason, Text):
                    self.shipped.ignored.setdefault(path.text, reason.text)

    def _types(self, assembled: Assembled) -> None:
        for name, node in assembled.types.items():
            before = len(self.shipped.facts)
            self._rule(node, name, (), "$", set())
            self.shipped.types += self.shipped.facts[before:]
            del self.shipped.facts[before:]

    def _entry(self, node: Node, made: set[str]) -> None:
        if not isinstance(node, Table):
            return
        kind = node.get("resource")
        resource = kind.text if isinstance(kind, Text) else ""
        made.add(resource)
        item = _each(node, "")
        body = node.get("set")
        for name, rule in body if isinstance(body, Table) else ():
            self._rule(rule, resource, (name,), item, made)
            for place in _const_places(rule):
                self._add(Fact(resource, (name,), "", "", place, ""))
        also = node.get("also")
        for inner in also.items if isinstance(also, Many) else (also,):
            if inner is not None:
                self._entry(inner, made)

    def _rule(
        self, node: Node, resource: str, target: tuple[str, ...], item: str, made: set[str]
    ) -> None:
        if isinstance(node, Text):
            self._fact(node.text, resource, target, item, node)
            return
        if isinstance(node, Many):
            for inner in node.items:
                self._rule(inner, resource, target, item, made)
            return
        item = _each(node, item)
        if node.get("resource") is not None:
            kind = node.items["resource"]
            self._fact(item, resource, target, "", node)
            self._under(node, resource, target, item)
            self._entry(node, made)
            if isinstance(kind, Text):
                body = node.get("set")
                for name, rule in body if isinstance(body, Table) else ():
                    self._rule(rule, resource, (*target, name), item, set())
            return
        for key in ("from", "all", "switch", "when", "unit", "encoding", "declared", "title"):
            for text in _all_texts(node.get(key)):
                paths = [text] if key != "when" else re.findall(r"[A-Z$][A-Z0-9]*[-.][\d.]+", text)
                for path in paths:
                    self._fact(path, resource, target, item, node)
        if "each" in node.items and "set" not in node.items:
            self._fact(item, resource, target, "", node)
        source = node.get("from")
        if isinstance(source, Text) and "set" in node.items:
            item = _resolved(source.text, item)
        for key in ("first", "all", "items"):
            below = node.get(key)
            if below is not None:
                self._rule(below, resource, target, item, made)
        for key in ("set", "cases"):
            below = node.get(key)
            before = len(self.shipped.facts)
            for name, rule in below if isinstance(below, Table) else ():
                deeper = (*target, name) if key == "set" else target
                self._rule(rule, resource, deeper, item, made)
            if key == "set" and isinstance(below, Table):
                self._constants(below, resource, target, before)

    def _constants(self, body: Table, resource: str, target: tuple[str, ...], before: int) -> None:
        """A constant of an object goes with the fields that the object is made of."""
        sources = {(fact.source, fact.rest) for fact in self.shipped.facts[before:]}
        for name, rule in body:
            if isinstance(rule, Table) and "const" in rule.items:
                for source, rest in sorted(sources):
                    told = rule.get("note") or rule.get("reason")
                    note = told.text if isinstance(told, Text) else ""
                    place = f"{rule.place.label}:{rule.place.line}"
                    self._add(Fact(resource, (*target, name), source, rest, place, note))

    def _under(self, node: Table, resource: str, target: tuple[str, ...], item: str) -> None:
        """The keys of a resource that a reference leads to: what it is told apart by."""
        for text in _all_texts(node.get("id")):
            self._fact(text, resource, target, item, node)

    def _fact(
        self, text: str, resource: str, target: tuple[str, ...], item: str, node: Node
    ) -> None:
        path = _resolved(text, item)
        found = PATH.fullmatch(path) or PATH.match(path)
        part = _PART.fullmatch(path)
        if found is None and part is None:
            return
        source = f"{found['segment']}-{found['field']}" if found is not None else "$"
        rest = found["rest"] if found is not None else part["rest"] if part is not None else ""
        note = ""
        if isinstance(node, Table):
            told = node.get("note") or node.get("reason")
            note = told.text if isinstance(told, Text) else ""
        fact = Fact(resource, target, source, (rest or "").lstrip("."),
                    f"{node.place.label}:{node.place.line}", note)  # fmt: skip
        self._add(fact)

    def _add(self, fact: Fact) -> None:
        if fact not in self._seen:
            self._seen.add(fact)
            self.shipped.facts.append(fact)


def _const_places(rule: Node) -> Iterator[str]:
    """Where a rule gives a constant, itself or as one of several."""
    if isinstance(rule, Table):
        if "const" in rule.items:
            yield f"{rule.place.label}:{rule.place.line}"
        for key in ("first", "cases"):
            below = rule.get(key)
            inner = below.items if isinstance(below, Many) else (
                list(below.items.values()) if isinstance(below, Table) else [])  # fmt: skip
            for each in inner:
                yield from _const_places(each)
    elif isinstance(rule, Many):
        for each in rule.items:
            yield from _const_places(each)


def _each(node: Table, item: str) -> str:
    each = node.get("each")
    last = each.items[-1] if isinstance(each, Many) and each.items else each
    return _resolved(last.text, item) if isinstance(last, Text) else item


def _resolved(text: str, item: str) -> str:
    text = text.strip()
    if text.startswith("$") and item and item != "$":
        return item + text[1:]
    return text


def _texts(node: Node | None) -> list[str]:
    if isinstance(node, Text):
        return [node.text]
    return [item.text for item in node.items if isinstance(item, Text)] if isinstance(
        node, Many) else []  # fmt: skip


def _all_texts(node: Node | None) -> Iterator[str]:
    if isinstance(node, Text):
        yield node.text
    elif isinstance(node, Many):
        for inner in node.items:
            yield from _all_texts(inner)
    elif isinstance(node, Table):
        for _, inner in node:
            yield from _all_texts(inner)

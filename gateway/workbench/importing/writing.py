"""YAML as people write mappings: blocks outside, one rule a line inside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from gateway.workbench.importing.items import type_name
from gateway.workbench.importing.nodes import Node, Object, Rule, Several, is_alive

VERSIONS = ("2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8")
VERSION = "1.0.0"
FOLDER = "v2-to-fhir"

_DEFAULTS = "defaults: {missing: drop, invalid: flag, unknown: flag}"
_PLAIN = re.compile(r"[A-Za-z$_/][A-Za-z0-9_./$()*@-]*|[0-9][0-9.]*")
_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_.-]*")


def scalar(text: str) -> str:
    """A text as a YAML scalar, quoted where it must be."""
    if _PLAIN.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def key(text: str) -> str:
    """A text as a YAML key."""
    return text if _PLAIN_KEY.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def flow(value: object) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(str(value))


class Writer:
    """Lines of one file, and which node each line comes from."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.nodes: dict[int, Node] = {}

    def text(self) -> str:
        """The file."""
        return "\n".join(self.lines) + "\n"

    def line(self, depth: int, text: str, node: Node | None = None) -> None:
        """One line at a depth; ``node`` is what a finding there is about."""
        self.lines.append("  " * depth + text if text else "")
        if node is not None:
            self.nodes[len(self.lines)] = node

    def block(self, depth: int, name: str, value: Mapping[str, object] | Sequence[object]) -> None:
        """``name:`` with a value on the same line."""
        self.line(depth, f"{key(name)}: {flow(value)}")

    def parts(self, depth: int, parts: Mapping[str, Node]) -> None:
        """The elements of a ``set:``."""
        for name, node in parts.items():
            if is_alive(node):
                self._part(depth, f"{key(name)}:", node)

    def _part(self, depth: int, lead: str, node: Node) -> None:
        if isinstance(node, Rule):
            self.line(depth, f"{lead} {_rule(node)}", node)
        elif isinstance(node, Object):
            self.line(depth, lead, node)
            self.object(depth + 1, node)
        else:
            self._several(depth, lead, node)

    def _several(self, depth: int, lead: str, node: Several) -> None:
        options = [option for option in node.options if is_alive(option)]
        if len(options) == 1 and (node.first or isinstance(options[0], Rule)):
            self._part(depth, lead, options[0])
            return
        self.line(depth, lead, node)
        if node.first:
            depth += 1
            self.line(depth, "first:", node)
        for option in options:
            self._item(depth + 1, option)

    def _item(self, depth: int, node: Node) -> None:
        if isinstance(node, Rule):
            self.line(depth, f"- {_rule(node)}", node)
            return
        at = len(self.lines)
        if isinstance(node, Several):
            options = [option for option in node.options if is_alive(option)]
            if len(options) == 1:
                self._item(depth, options[0])
                return
            self.line(depth + 1, "first:" if node.first else "items:", node)
            for option in options:
                self._item(depth + 2, option)
        else:
            self.object(depth + 1, node)
        first = self.lines[at]
        self.lines[at] = "  " * depth + "- " + first.lstrip()

    def object(self, depth: int, node: Object) -> None:
        """The keys of an object's rule (or of an entry) and its ``set:``."""
        for name, value in node.head.items():
            self.line(depth, f"{key(name)}: {flow(value)}", node)
        if any(is_alive(part) for part in node.parts.values()):
            self.line(depth, "set:", node)
            self.parts(depth + 1, node.parts)
        inner = [entry for entry in node.also if not entry.dead]
        if inner:
            self.line(depth, "also:", node)
            for entry in inner:
                self.entry(depth + 1, entry)

    def entry(self, depth: int, node: Object) -> None:
        """One item of ``entries:`` or ``also:``."""
        at = len(self.lines)
        self.object(depth + 1, node)
        self.lines[at] = "  " * depth + "- " + self.lines[at].lstrip()


def _rule(node: Rule) -> str:
    body = node.body
    if list(body) == ["from"]:
        return scalar(str(body["from"]))
    return flow(body)


def quoted(code: str) -> str:
    """A text between quotation marks."""

    return json.dumps(code, ensure_ascii=False)


def written(text: str) -> Writer:
    """A text that is there already, as lines."""
    writer = Writer()
    writer.lines = text.removesuffix("\n").split("\n")
    return writer


def head(writer: Writer, name: str, match: Mapping[str, object] | None = None) -> None:
    """The first keys of a mapping file."""
    writer.line(0, f"mapping: {scalar(name)}")
    writer.line(0, f"version: {scalar(VERSION)}")
    writer.line(0, "source:")
    writer.line(1, "format: hl7v2")
    writer.line(1, f"versions: [{', '.join(quoted(each) for each in VERSIONS)}]")
    if match is not None:
        writer.block(1, "match", match)
    writer.line(0, _DEFAULTS)


def block_file(name: str, block: Object) -> Writer:
    """The file of one segment map."""
    writer = Writer()
    writer.line(0, f"# Imported from the segment map {name} of HL7's v2-to-FHIR tables.")
    head(writer, f"{FOLDER}.{type_name(name)}")
    writer.line(0, "blocks:")
    writer.line(1, f"{key(type_name(name))}:", block)
    writer.object(2, block)
    return writer

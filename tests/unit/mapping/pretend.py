"""A small source language for tests: messages are dicts, paths are their keys.

``{"A": "x", "B": ["1", "2"], "G": [{"C": "c1"}, {"C": "c2"}]}``: ``A`` is a value,
``B`` two, ``G`` a group that ``each: {group: G}`` walks; inside it ``C`` is the
group's and ``A`` still the message's. ``A.2`` is the second of the parts that ``^``
separates. ``""`` is empty, ``'""'`` null, a missing key absent. With
``contents=True`` the language also gives the contents of paths.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.mapping import Library, MappingContext, MappingError, Program
from gateway.model import Format, Mapped
from gateway.ports import CompiledPath, CompiledScope, PathError, Scope, Value, ValueState

NAMES = ("A", "B", "C", "D", "E", "F", "TYPE", "KEY", "OWNER", "NAME", "DATE", "FILE")
GROUPS = ("G", "H")
_PATH = re.compile(r"([A-Z]+)(?:\((\d+)\))?(?:\.(\d+))?")


class PretendValue:
    """One text with its place."""

    datatype = ""

    def __init__(self, text: str | None, path: str) -> None:
        self._text = text
        self.path = path

    @property
    def state(self) -> ValueState:
        if self._text is None:
            return ValueState.ABSENT
        if self._text == "":
            return ValueState.EMPTY
        return ValueState.NULL if self._text == '""' else ValueState.PRESENT

    @property
    def text(self) -> str:
        return (self._text or "") if self.state is ValueState.PRESENT else ""

    def part(self, path: str) -> Value:
        parts = (self._text or "").split("^")
        number = int(path)
        found = parts[number - 1] if number <= len(parts) else None
        return PretendValue(found, f"{self.path}.{path}")

    def parts(self, path: str) -> Sequence[Value]:
        part = self.part(path)
        return () if part.state is ValueState.ABSENT else (part,)

    def raw(self) -> bytes:
        return (self._text or "").encode()


class PretendScope:
    """A dict, and the one around it."""

    def __init__(self, content: Mapping[str, Any], path: str, outer: PretendScope | None) -> None:
        self.content = content
        self.path = path
        self.outer = outer

    def find(self, name: str) -> tuple[list[str], str]:
        if name in self.content:
            value = self.content[name]
            return (value if isinstance(value, list) else [value]), self.path
        return self.outer.find(name) if self.outer is not None else ([], self.path)

    def source_bytes(self) -> bytes:
        return repr(self.content).encode()


class PretendLanguage:
    """The paths above."""

    format = Format.HL7V2

    def __init__(self, *, contents: bool = False) -> None:
        self._contents = contents

    def root(self, versions: Sequence[str]) -> object:
        return "root"

    def path(self, text: str, *, versions: Sequence[str], within: object) -> CompiledPath:
        match = _PATH.fullmatch(text)
        if match is None or match[1] not in NAMES:
            near = difflib.get_close_matches(text.upper(), NAMES, 1, 0.1)
            raise PathError(f"{text!r} is no path", near[0] if near else "")
        name, number, part = match[1], match[2], match[3]

        def read(scope: Scope) -> Sequence[Value]:
            assert isinstance(scope, PretendScope)
            texts, place = scope.find(name)
            values: list[Value] = [
                PretendValue(text, f"{place}{name}({position})")
                for position, text in enumerate(texts, 1)
            ]
            if number:
                values = values[int(number) - 1 : int(number)]
            return [value.part(part) for value in values] if part else values

        def content(scope: Scope) -> Hashable:
            assert isinstance(scope, PretendScope)
            texts, _ = scope.find(name)
            return tuple(texts) if any(texts) else None

        return CompiledPath(text, read, content=content if self._contents else None)

    def scope(
        self, spec: Mapping[str, str], *, versions: Sequence[str], within: object
    ) -> CompiledScope:
        name = spec.get("group", "")
        if name not in GROUPS:
            raise PathError(f"no group {name!r}", GROUPS[0])

        def walk(scope: Scope) -> Iterator[Scope]:
            assert isinstance(scope, PretendScope)
            for position, inner in enumerate(scope.content.get(name, ()), 1):
                yield PretendScope(inner, f"{name}({position}).", scope)

        return CompiledScope(name, walk, name)

    def contents(
        self, paths: Sequence[CompiledPath]
    ) -> Callable[[Scope], Sequence[Hashable]] | None:
        if not self._contents:
            return None
        looks = [path.content for path in paths]
        return lambda scope: [look(scope) if look is not None else None for look in looks]

    def facts(self, root: Scope) -> Mapping[str, str]:
        return {"version": "1", "kind": "pretend"}


HEAD = """\
mapping: test
version: 1.0.0
source: {format: hl7v2, versions: []}
"""

TABLE = """\
table: colours
version: "1"
source: a test
licence: none
system: http://example.org/colours
rows: {R: red, G: {code: green, display: Green}}
"""


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write mapping files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def load(
    folder: Path,
    body: str,
    *,
    contents: bool = False,
    site: str | None = None,
    more: Mapping[str, str] | None = None,
) -> Program:
    """The program of one mapping (its head is given) beside the table of colours."""
    write(folder, {"test.yaml": HEAD + body, "colours.yaml": TABLE, **(more or {})})
    language = PretendLanguage(contents=contents)
    library = Library.load([folder], {Format.HL7V2: language}, site=site)
    return library.program("test")


def findings(folder: Path, body: str, **more: str) -> list[str]:
    """``line:column code`` of every finding of a mapping; at least one is expected."""
    try:
        load(folder, body, more=more)
    except MappingError as wrong:
        return [f"{each.line}:{each.column} {each.code}" for each in wrong.findings]
    return []


def run(
    program: Program,
    message: Mapping[str, Any],
    *,
    trace: bool = False,
    context: MappingContext | None = None,
) -> Mapped:
    """Run a program on a message."""
    used = context or MappingContext(zone="Europe/Paris", source="test")
    return program.run(PretendScope(message, "", None), used, trace=trace)


def resources(mapped: Mapped) -> list[dict[str, Any]]:
    """The resources without their ids, for short comparisons."""
    return [
        {key: value for key, value in entry.resource.items() if key != "id"}
        for entry in mapped.entries
    ]


def codes(mapped: Mapped) -> list[str]:
    """The codes of all flags, in order."""
    return [flag.code for flag in mapped.flags]

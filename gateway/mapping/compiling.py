"""What the compilers of rules share: the language, the definitions, the findings."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.mapping.conditions import ConditionError, Content, Read, Test, compile_condition
from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.findings import Findings, Place, nearest
from gateway.mapping.observing import watched_reader, watched_table, watched_test
from gateway.mapping.pruning import Prune
from gateway.mapping.r4.definitions import Definitions, UnknownPath
from gateway.mapping.running import Run
from gateway.mapping.tables import CodeTable
from gateway.mapping.targets import Target
from gateway.ports import (
    CompiledPath,
    PathError,
    Scope,
    SourceLanguage,
    Value,
    ValueState,
    WholeSource,
)
from gateway.value_class import value_class

Item = Value | None
Fn = Callable[[Run, Scope, Item], Any]

Paths = tuple[CompiledPath, ...] | None

TYPE_DEPTH_MAX = 12

POLICIES = ("missing", "invalid", "unknown")

_PART = re.compile(r"\$(?:\.|/|(?=@))(.+)")


@value_class(frozen=True, slots=True)
class At:
    """Where a rule stands: the scope's kind for paths, and whether ``$`` is a value here.

    ``scoped`` is false inside a type, which knows only its ``$``. ``loose``: what
    ``$`` is does not follow from the scope (an entry for each value of a path).
    """

    within: Any
    item: bool = False
    scoped: bool = True
    loose: bool = False
    types: tuple[str, ...] = ()

    def inside(self, within: object) -> At:
        """In a new scope."""
        return At(within)

    def with_item(self, *, loose: bool) -> At:
        """The same place with a current item."""
        return At(self.within, item=True, scoped=self.scoped, loose=loose, types=self.types)


@dataclass(slots=True)
class Compiled:
    """A rule made into a closure.

    ``many``: gives a list (never an empty one) or None. ``choice``: gives pairs of
    JSON key and value, because the target is an open choice. ``constant``: says
    nothing about the source. ``fixed`` is the value itself of a plain constant.
    ``needs``: without content at any of these paths the rule gives nothing and does
    nothing. ``reads``: the contents of these paths and the context alone make the
    result. Either is None when it is not known. ``lasting``: what is made is of few
    kinds and of no patient. ``bare`` is ``run`` without its own memory, ``gate`` the
    condition that it stands under, ``choice_of`` the switch that it is, ``refers`` the
    names of the entries that it only refers to. ``prune`` gives what is left of it where
    some paths have no content (:mod:`gateway.mapping.pruning`): those of ``needs``,
    ``reads`` and ``asks``, and of the ``parts`` that it is made of.
    """

    run: Fn
    many: bool = False
    choice: bool = False
    constant: bool = False
    fixed: Any = None
    needs: Paths = None
    reads: Paths = None
    lasting: bool = False
    bare: Fn | None = None
    gate: Gate | None = None
    choice_of: Choice | None = None
    refers: tuple[str, ...] = ()
    asks: Paths = None
    parts: Sequence[Compiled] = ()
    prune: Prune | None = None


@dataclass(slots=True)
class Gate:
    """A rule's ``when``: ``inner`` is the rule behind it."""

    test: Test
    reads: Paths
    inner: Compiled


@dataclass(slots=True)
class Choice:
    """A ``switch:`` over one path with a content: the case for each content seen so far."""

    path: CompiledPath
    choose: Callable[[Scope, Item], Fn]
    known: dict[Hashable, Fn]


@dataclass(slots=True)
class Reader:
    """A path made into a function. ``first`` gives one value or None where that is quicker."""

    text: str
    read: Callable[[Scope, Item], Sequence[Value]]
    scope_read: Callable[[Scope], Sequence[Value]] | None = None
    content: Callable[[Scope], Hashable] | None = None
    text_of: Callable[[Scope], str] | None = None
    part: str = ""
    whole: bool = False
    needs: Paths = None
    reads: Paths = None


class WholeValue:
    """The message itself as a value: ``source()``."""

    datatype = ""
    path = "source()"
    text = ""

    def __init__(self, root: Scope) -> None:
        self._root = root

    @property
    def state(self) -> ValueState:
        """Present when the root scope can hand over its bytes."""
        return ValueState.PRESENT if isinstance(self._root, WholeSource) else ValueState.ABSENT

    def part(self, path: str) -> Value:
        """It has no parts."""
        raise ValueError(f"source() has no part {path}")

    def parts(self, path: str) -> Sequence[Value]:
        """It has no parts."""
        raise ValueError(f"source() has no parts {path}")

    def raw(self) -> bytes:
        """The exact bytes of the message."""
        return self._root.source_bytes() if isinstance(self._root, WholeSource) else b""


class JoinedValue:
    """Several texts joined into one value."""

    datatype = ""

    def __init__(self, text: str, values: Sequence[Value]) -> None:
        self.text = text
        self.state = ValueState.PRESENT
        self._values = values

    @property
    def path(self) -> str:
        """The places of all texts, joined by ``+``."""
        return " + ".join(value.path for value in self._values)

    def part(self, path: str) -> Value:
        """It has no parts."""
        raise ValueError(f"joined texts have no part {path}")

    def parts(self, path: str) -> Sequence[Value]:
        """It has no parts."""
        raise ValueError(f"joined texts have no parts {path}")

    def raw(self) -> bytes:
        """The joined text in UTF-8."""
        return self.text.encode()


@dataclass(slots=True)
class Compiler:
    """One mapping under compilation. Errors go to ``findings``; nothing is raised."""

    language: SourceLanguage
    versions: tuple[str, ...]
    definitions: Definitions
    findings: Findings
    tables: Mapping[str, CodeTable]
    types: Mapping[str, Table]
    defaults: Mapping[str, Mapping[str, Node]]
    traced: bool = False
    """Whether the rules note where each value came from."""
    watched: bool = False
    """Whether they tell a watch of all that they do (:mod:`gateway.mapping.observing`), too."""
    entries: dict[str, str] = field(default_factory=dict)
    """Resource type of every entry by its name, nested ones included."""
    tables_used: dict[str, None] = field(default_factory=dict)
    memos: int = 0
    """How many rules remember what they made (:mod:`gateway.mapping.memory`)."""
    shapes: dict[Any, Any] = field(default_factory=dict)
    """Types compiled once, by name and the traits of the element that matter to them."""
    used_versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The versions for what is written in other files than the mapping's own, by file."""
    _cache: dict[tuple[str, Hashable, tuple[str, ...]], CompiledPath | PathError] = field(
        default_factory=dict
    )

    # --- findings ------------------------------------------------------------------

    def error(self, place: Place, code: str, message: str, suggestion: str = "") -> None:
        """Add an error."""
        self.findings.error(place, code, message, suggestion)

    def unknown_keys(self, table: Table, known: Sequence[str], what: str) -> None:
        """Report every key that is not one of ``known``."""
        for key in table.items:
            if key not in known:
                self.error(
                    table.places.get(key, table.place),
                    "unknown-key",
                    f"{what} has no {key!r}",
                    nearest(key, known),
                )

    def text(self, table: Table, key: str) -> str | None:
        """A key's text; None when it is not there (or, reported, is no text)."""
        node = table.get(key)
        if node is None:
            return None
        if not isinstance(node, Text):
            self.error(node.place, "wrong-shape", f"{key}: is a text")
            return None
        return node.text

    def yes(self, table: Table, key: str) -> bool:
        """A key that is ``true`` or ``false``."""
        text = self.text(table, key)
        if text not in (None, "true", "false"):
            self.error(table.items[key].place, "wrong-shape", f"{key}: is true or false")
        return text == "true"

    def texts(self, node: Node | None) -> list[Text]:
        """A text or a list of texts; anything else is reported."""
        if node is None:
            return []
        found = node.items if isinstance(node, Many) else (node,)
        wrong = [item for item in found if not isinstance(item, Text)]
        for item in wrong:
            self.error(item.place, "wrong-shape", "a text is expected here")
        return [item for item in found if isinstance(item, Text)]

    # --- paths ---------------------------------------------------------------------

    def versions_at(self, place: Place) -> tuple[str, ...]:
        """The versions in one of which a path that is written here must exist."""
        return self.used_versions.get(place.file, self.versions)

    def reader(self, node: Text, at: At) -> Reader | None:
        """Compile a path; None when it is wrong (reported)."""
        found = self._reader(node, at)
        return watched_reader(found, node.place) if self.watched and found else found

    def _reader(self, node: Text, at: At) -> Reader | None:
        text = node.text.strip()
        if text == "source()":
            return Reader(text, lambda scope, _item: (WholeValue(scope),), whole=True)
        if at.item and text.startswith("$"):
            return self._part(node, text, at)
        if not at.scoped:
            self.error(
                node.place,
                "path",
                f"a type reads only its own value: {text!r} does not begin with $",
            )
            return None
        versions = self.versions_at(node.place)
        key = (text, at.within, versions)
        found = self._cache.get(key)
        if found is None:
            try:
                found = self.language.path(text, versions=versions, within=at.within)
            except PathError as wrong:
                found = wrong
            self._cache[key] = found
        if isinstance(found, PathError):
            hint = f"did you mean {found.suggestion}?" if found.suggestion else ""
            self.error(node.place, "path", str(found), hint)
            return None
        read = found.read
        return Reader(
            text,
            lambda scope, _item: read(scope),
            scope_read=read,
            content=found.content,
            text_of=found.text_of,
            needs=(found,) if found.content is not None else None,
            reads=(found,) if found.content is not None and found.recurs else None,
        )

    def _part(self, node: Text, text: str, at: At) -> Reader | None:
        reads = None if at.loose else ()
        if text == "$":
            return Reader(text, _the_item, reads=reads)
        match = _PART.fullmatch(text)
        if match is None:
            self.error(node.place, "path", f"{text!r} is no part: $, $.1, $@code or $/name")
            return None
        part = match[1]

        def read(_scope: Scope, item: Item) -> Sequence[Value]:
            return item.parts(part) if item is not None else ()

        return Reader(text, read, part=part, reads=reads)

    def condition(self, node: Node, at: At) -> tuple[Test, Paths] | None:
        """Compile a condition, and the paths that it reads; None when wrong (reported)."""
        if not isinstance(node, Text):
            self.error(node.place, "wrong-shape", "a condition is a text")
            return None
        wrong = False
        reads: list[Paths] = []

        def read(path: str, offset: int) -> tuple[Read, Content | None]:
            nonlocal wrong
            reader = self.reader(Text(path, node.place.after(offset)), at)
            if reader is None or reader.whole:
                wrong = True
                return (lambda _scope, _item: ()), None
            reads.append(reader.reads)
            return reader.read, reader.content

        try:
            test = compile_condition(node.text, read)
        except ConditionError as error:
            self.error(node.place.after(error.at), "condition", str(error), error.suggestion)
            return None
        if self.watched:
            test = watched_test(test, node)
        return None if wrong else (test, together(reads))

    # --- targets -------------------------------------------------------------------

    def unknown_element(self, place: Place, wrong: UnknownPath) -> None:
        """Report an element that R4 does not know."""
        hint = f"did you mean {wrong.suggestion}?" if wrong.suggestion else ""
        self.error(place, "unknown-element", str(wrong), hint)

    def policy_node(self, which: str, rule: Table) -> Node | None:
        """The policy of a rule: its own, else the default of the file that it stands in."""
        return rule.get(which) or self.defaults.get(rule.place.file, {}).get(which)

    def type_of(self, name: str) -> str:
        """The FHIR type of a type defined in YAML."""
        kind = self.types[name].get("type")
        return kind.text if isinstance(kind, Text) else name

    def table(self, node: Text) -> CodeTable | None:
        """A terminology table by name; None when there is none (reported)."""
        found = self.tables.get(node.text)
        if found is None:
            self.error(
                node.place, "unknown-table", f"no table {node.text!r}",
                nearest(node.text, self.tables),
            )  # fmt: skip
            return None
        self.tables_used[node.text] = None
        return watched_table(found) if self.watched else found


def _the_item(_scope: Scope, item: Item) -> Sequence[Value]:
    return (item,) if item is not None else ()


def together(parts: Iterable[Paths]) -> Paths:
    """The paths of several rules, each once; None when one of them is not known."""
    found: dict[str, CompiledPath] = {}
    for paths in parts:
        if paths is None:
            return None
        found.update({path.text: path for path in paths})
    return tuple(found.values())


def fits(target: Target, kind: str) -> bool:
    """Whether a FHIR type (or a backbone element's location) may stand at a target."""
    return kind in target.types or (bool(target.location) and kind == target.location)

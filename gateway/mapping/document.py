"""YAML read safely: text scalars, no duplicates, no anchors, every node with its place.

PyYAML's constructors turn ``NO`` into false, ``01`` into 1 and keep the last of two
equal keys in silence, so only its composer is used here and the nodes are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gateway.mapping.findings import Findings, Place
from gateway.value_class import value_class

FILE_BYTES_MAX = 4 * 1024 * 1024
DEPTH_MAX = 40
NODES_MAX = 500_000


@value_class(frozen=True, slots=True)
class Text:
    """A scalar, always as its text."""

    text: str
    place: Place


@value_class(frozen=True, slots=True)
class Many:
    """A sequence."""

    items: tuple[Node, ...]
    place: Place


@value_class(frozen=True, slots=True)
class Table:
    """A map in the order it was written; ``places`` are those of the keys."""

    items: dict[str, Node]
    place: Place
    places: dict[str, Place] = field(default_factory=dict)

    def get(self, key: str) -> Node | None:
        """The value at a key, or None."""
        return self.items.get(key)

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        return iter(self.items.items())

    def with_items(self, items: dict[str, Node], places: dict[str, Place] | None = None) -> Table:
        """The same map with other items (what a block or a site changed)."""
        return Table(items, self.place, {**self.places, **(places or {})})


Node = Text | Many | Table


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its bytes' place in a digest, and its root."""

    path: Path
    label: str
    data: bytes
    root: Table


def read_document(path: Path, label: str, findings: Findings) -> Document | None:
    """Read one file; None when it cannot be used, and ``findings`` says why.

    ``label`` is the path inside the mappings folder. Files above 4 MiB, deeper than
    40 levels or of more than 500,000 nodes are refused.
    """
    read = _read(path, label, findings)
    if read is None:
        return None
    root, data = read
    if not isinstance(root, Table):
        findings.error(root.place, "not-a-map", "a mapping file is a map at its top")
        return None
    return Document(path, label, data, root)


def read_list(path: Path, label: str, findings: Findings) -> tuple[Node, ...]:
    """Read a file that is a list at its top (tests); empty when it cannot be used."""
    read = _read(path, label, findings)
    if read is None:
        return ()
    if not isinstance(read[0], Many):
        findings.error(read[0].place, "not-a-list", "a test file is a list of tests")
        return ()
    return read[0].items


def compose(text: str, label: str, findings: Findings) -> Node | None:
    """Read a text that is in no file yet; None when it cannot be used."""
    return _Composer(label, label, findings).compose(text)


def _read(path: Path, label: str, findings: Findings) -> tuple[Node, bytes] | None:
    start = Place(str(path), label, 1, 1)
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            findings.error(start, "too-large", f"{size} bytes; a file has at most {FILE_BYTES_MAX}")
            return None
        data = path.read_bytes()
        text = data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        findings.error(
            Place(str(path), label, line, 1), "not-utf-8", "the file is not UTF-8 from here on"
        )
        return None
    except OSError as wrong:
        findings.error(start, "unreadable", f"cannot be read: {wrong.strerror}")
        return None
    root = _Composer(str(path), label, findings).compose(text)
    return (root, data) if root is not None else None


class _TooMuch(Exception):
    """Deeper or longer than a mapping file may be."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place


class _Composer:
    """YAML text to nodes, from the parser's events (no construction, no recursion bombs)."""

    def __init__(self, file: str, label: str, findings: Findings) -> None:
        self._file = file
        self._label = label
        self._findings = findings
        self._count = 0

    def compose(self, text: str) -> Node | None:
        before = self._findings.count
        try:
            events = yaml.parse(text, Loader=_LOADER)
            root = self._document(iter(events))
        except yaml.MarkedYAMLError as wrong:
            place = self._at(wrong.problem_mark or wrong.context_mark)
            what = ", ".join(part for part in (wrong.context, wrong.problem) if part)
            tab = "\t" in "".join(text.splitlines()[place.line - 1 : place.line])
            hint = "indent with blanks, not tabs" if tab else ""
            self._findings.error(place, "not-yaml", what, hint)
            return None
        except _TooMuch as much:
            self._findings.error(
                much.place, "too-large", f"more than {DEPTH_MAX} levels or {NODES_MAX} values"
            )
            return None
        except yaml.YAMLError as wrong:
            self._findings.error(
                Place(self._file, self._label, 1, 1), "not-yaml", str(wrong).splitlines()[0]
            )
            return None
        return root if self._findings.count == before else None

    def _document(self, events: Iterator[yaml.Event]) -> Node | None:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent):
                continue
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._findings.error(
                        self._at(event.start_mark), "second-document", "one file, one document"
                    )
                    return root
                root = self._node(next(events), events, 0)
        if root is None:
            self._findings.error(Place(self._file, self._label, 1, 1), "empty", "nothing in it")
        return root

    def _at(self, mark: Any) -> Place:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        return Place(self._file, self._label, line, column)

    def _node(self, event: Any, events: Iterator[yaml.Event], depth: int) -> Node:
        place = self._at(event.start_mark)
        self._count += 1
        if depth > DEPTH_MAX or self._count > NODES_MAX:
            raise _TooMuch(place)
        if isinstance(event, yaml.AliasEvent):
            self._findings.error(
                place, "alias", "anchors and aliases are not read", "share a block with use:"
            )
            return Text("", place)
        if event.anchor is not None:
            self._findings.error(
                place, "anchor", f"anchor &{event.anchor} is not read", "share a block with use:"
            )
        if event.tag is not None and event.tag != "!":
            self._findings.error(place, "tag", f"tag {event.tag} is not read; leave it out")
        if isinstance(event, yaml.ScalarEvent):
            return Text(event.value, place)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(following := next(events), yaml.SequenceEndEvent):
                items.append(self._node(following, events, depth + 1))
            return Many(tuple(items), place)
        return self._table(place, events, depth)

    def _table(self, place: Place, events: Iterator[yaml.Event], depth: int) -> Table:
        items: dict[str, Node] = {}
        places: dict[str, Place] = {}
        while not isinstance(following := next(events), yaml.MappingEndEvent):
            key = self._node(following, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Text):
                self._findings.error(key.place, "key", "a key is a text")
            elif key.text == "<<":
                self._findings.error(
                    key.place, "merge-key", "merge keys are not read", "share a block with use:"
                )
            elif key.text in items:
                first = places[key.text]
                self._findings.error(
                    key.place,
                    "duplicate-key",
                    f"{key.text!r} stands here and at {first.line}:{first.column}",
                )
            else:
                items[key.text] = value
                places[key.text] = key.place
        return Table(items, place, places)


_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

"""The tests that stand beside a mapping: ``name.test.yaml`` beside ``name.yaml``."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.mapping.document import Many, Node, Table, Text, read_list
from gateway.mapping.findings import Findings, MappingError, nearest
from gateway.mapping.library import Library
from gateway.mapping.running import MappingContext, MappingRejected
from gateway.mapping.serialise import dumps
from gateway.model import Format, Mapped, Payload
from gateway.ports import Reader, Unreadable

GIVEN_BYTES_MAX = 16 * 1024 * 1024

_KEYS = (
    "name", "format", "context", "given", "given_file", "encoding", "expect", "absent", "flags",
    "attachments", "embedded", "rejected", "unmapped", "note", "overrides",
)  # fmt: skip
_GIVEN = ("format", "context", "given", "given_file", "encoding")
"""What a test that overrides another takes from it."""
_STEP = re.compile(r"\[(-?\d+)\]|([^.\[\]]+)")
_MISSING = object()

Encode = Callable[[str], Sequence[Payload]]
"""The text of ``given`` to the payloads that a reader takes."""


@dataclass(frozen=True, slots=True)
class TwinResult:
    """One test of one file. ``differences`` is empty when it passed.

    ``noted``: it passed before, with the same files and the same program, and was not run
    again. ``mapping`` is the digest of the mapping that took its message.
    """

    file: str
    line: int
    name: str
    differences: tuple[str, ...] = field(default=())
    noted: bool = False
    mapping: str = field(default="", compare=False, repr=False)

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.differences


def run_twins(
    library: Library,
    readers: Mapping[Format, Reader],
    *,
    encoders: Mapping[Format, Encode] | None = None,
    files: Sequence[Path] | None = None,
    mappings: Container[str] | None = None,
    each: Callable[[TwinResult], None] = lambda _: None,
) -> list[TwinResult]:
    """Run the tests beside the library's mappings (or those in ``files``).

    A test whose format has no reader here is left out. ``encoders`` turns the text of
    ``given`` into payloads; without one, lines end in CR for HL7 v2 and the text is
    UTF-8. With ``mappings`` only those tests count whose message one of these takes (by its
    digest). ``each`` is told every result as it is there. Raises MappingError when a test
    file itself is wrong.
    """
    findings = Findings()
    results: list[TwinResult] = []
    desk = _Desk(library, readers, encoders or {}, findings, mappings)
    for path in library.twins if files is None else files:
        for node in tests_in(path, findings):
            result = _Twin(desk, path, node).run()
            if result is not None:
                results.append(result)
                each(result)
    if findings.failed:
        raise MappingError(findings.all())
    return results


def tests_in(path: Path, findings: Findings) -> list[Table]:
    """The tests of a file."""
    nodes = read_list(path, path.name, findings)
    for node in nodes:
        if not isinstance(node, Table):
            findings.error(node.place, "wrong-shape", "a test is a map")
    return [node for node in nodes if isinstance(node, Table)]


def name_of(test: Table) -> str:
    """What a test is called."""
    return _text(test.get("name")) or "(no name)"


def overridden_by(test: Table) -> tuple[str, str]:
    """The test in whose place it stands: its file (empty when not said) and name, or nothing."""
    file, _, name = _text(test.get("overrides")).rpartition("#")
    return file, name


def is_called(path: Path, test: Table, file: str, name: str) -> bool:
    """Whether a test is the one that ``overrides:`` names."""
    return name_of(test) == name and path.as_posix().endswith(f"/{file}" if file else "")


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every test is run with."""

    library: Library
    readers: Mapping[Format, Reader]
    encoders: Mapping[Format, Encode]
    findings: Findings
    mappings: Container[str] | None

    def overridden(self, node: Table) -> tuple[Path, Table] | None:
        """The test in whose place one stands, and its file; None when there is none (reported)."""
        wanted = overridden_by(node)
        tests = [(path, test) for path in self.library.twins for test in tests_in(path, Findings())]
        found = [each for each in tests if is_called(*each, *wanted) and each[1] != node]
        if len(found) == 1:
            return found[0]
        names = [name_of(test) for _, test in tests]
        what = f"{len(found)} tests are" if found else "no test is"
        hint = "say FILE.test.yaml#NAME" if found else nearest(wanted[1], names)
        self.findings.error(
            node.items["overrides"].place, "unknown-test", f"{what} called {wanted[1]!r}", hint
        )
        return None


class _NotAsked(Exception):
    """Another mapping takes the message."""


class _Twin:
    """One test."""

    def __init__(self, desk: _Desk, path: Path, node: Table) -> None:
        self._desk = desk
        self._path = path
        self._node = node
        self._given, self._beside = node, path
        self._differences: list[str] = []
        self._mapping = ""

    def run(self) -> TwinResult | None:
        node = self._node
        if node.get("overrides") is not None:
            found = self._desk.overridden(node)
            if found is None:
                return None
            self._beside, over = found[0], node.items
            given = {k: v for k, v in found[1].items.items() if k in _GIVEN}
            if over.keys() & {"given", "given_file"}:
                self._beside = self._path
                given = {k: v for k, v in given.items() if k not in ("given", "given_file")}
            self._given = node.with_items({**given, **over})
        for key in node.items:
            if key not in _KEYS:
                self._desk.findings.error(
                    node.places[key], "unknown-key", f"a test has no {key!r}", nearest(key, _KEYS)
                )
        name = name_of(node)
        kind = self._format()
        reader = self._desk.readers.get(kind)
        if reader is None:
            return None
        try:
            mapped = self._map(kind, reader)
        except _NotAsked:
            return None
        except (MappingRejected, Unreadable) as refusal:
            if _text(node.get("rejected")) != "true":
                self._differences.append(f"refused: {refusal}")
        else:
            if mapped is not None:
                self._compare(mapped)
        return TwinResult(
            str(self._path), node.place.line, name, tuple(self._differences), mapping=self._mapping
        )

    def _format(self) -> Format:
        """The test's own format, else that of the mapping beside it, else HL7 v2."""
        named = _text(self._given.get("format"))
        if named:
            return Format(named)
        beside = self._beside.with_name(self._beside.name.replace(".test.yaml", ".yaml"))
        for program in self._desk.library.programs:
            if Path(program.file) == beside:
                return program.format
        for kind in Format:
            folders = self._beside.parts
            if kind.value in folders or kind.value.removesuffix("v2") in folders:
                return kind
        return Format.HL7V2

    def _map(self, kind: Format, reader: Reader) -> Mapped | None:
        payloads = self._payloads(kind)
        encoding = _text(self._given.get("encoding"))
        root = reader.read(payloads, encoding=encoding)
        program = self._desk.library.match(root, kind)
        asked = self._desk.mappings
        if asked is not None and (program is None or program.digest not in asked):
            raise _NotAsked
        if program is None:
            if _text(self._node.get("unmapped")) != "true":
                self._differences.append("no mapping is for this message")
            return None
        self._mapping = program.digest
        context = self._context()
        mapped = program.run(root, context)
        again = program.run(reader.read(payloads, encoding=encoding), context)
        if _bytes_of(mapped) != _bytes_of(again):
            self._differences.append("two runs gave different entries")
        if _text(self._node.get("rejected")) == "true":
            self._differences.append("was not refused")
        return mapped

    def _payloads(self, kind: Format) -> Sequence[Payload]:
        given = self._given.get("given")
        if isinstance(given, Text):
            encode = self._desk.encoders.get(kind)
            if encode is not None:
                return encode(given.text)
            text = given.text.replace("\n", "\r") if kind is Format.HL7V2 else given.text
            return [Payload.from_bytes(text.encode())]
        listed = self._given.get("given_file")
        nodes = _items(listed) or ((listed,) if listed is not None else ())
        payloads = []
        for node in nodes:
            path = self._beside.parent / _text(node)
            if path.stat().st_size > GIVEN_BYTES_MAX:
                raise Unreadable(f"a test message has at most {GIVEN_BYTES_MAX} bytes")
            payloads.append(Payload.from_bytes(path.read_bytes()))
        if not payloads:
            self._desk.findings.error(
                self._node.place, "missing-key", "a test needs given: or given_file:"
            )
        return payloads

    def _context(self) -> MappingContext:
        node = self._given.get("context")
        if not isinstance(node, Table):
            return MappingContext(zone="Europe/Paris", source="test")
        listed = node.get("authorities")
        authorities = {k: _text(v) for k, v in listed} if isinstance(listed, Table) else {}
        return MappingContext(
            zone=_text(node.get("zone")) if node.get("zone") else "Europe/Paris",
            authorities=authorities,
            source=_text(node.get("source")) or "test",
        )

    # --- comparison ----------------------------------------------------------------

    def _compare(self, mapped: Mapped) -> None:
        by_type: dict[str, list[Any]] = {}
        for entry in mapped.entries:
            by_type.setdefault(entry.resource["resourceType"], []).append(entry)
        expect = self._node.get("expect")
        for kind, wanted in expect if isinstance(expect, Table) else ():
            if isinstance(wanted, Table):
                self._expect(kind, by_type.get(kind, []), wanted)
        for node in _items(self._node.get("absent")):
            kind, _, path = _text(node).partition("[")
            found = _at([entry.resource for entry in by_type.get(kind, [])], f"[{path}")
            if found is not _MISSING:
                self._differences.append(f"{_text(node)} is there: {_shown(found)}")
        flags = self._node.get("flags")
        if flags is not None:
            wanted_flags = sorted(_text(node) for node in _items(flags))
            found_flags = sorted(flag.code for flag in mapped.flags)
            if wanted_flags != found_flags:
                self._differences.append(f"flags are {found_flags}, expected {wanted_flags}")
        for key, count in (
            ("attachments", len(mapped.attachments)),
            ("embedded", len(mapped.embedded)),
        ):
            text = _text(self._node.get(key))
            if text and int(text) != count:
                self._differences.append(f"{key}: {count}, expected {text}")

    def _expect(self, kind: str, entries: list[Any], wanted: Table) -> None:
        resources = [entry.resource for entry in entries]
        for path, node in wanted:
            if path == "count":
                if len(entries) != int(_text(node)):
                    self._differences.append(f"{kind}: {len(entries)}, expected {_text(node)}")
            elif path == "create_only":
                modes = {entry.create_only for entry in entries}
                if modes != {_text(node) == "true"}:
                    self._differences.append(f"{kind}: create_only is not {_text(node)}")
            else:
                found = _at(resources, path)
                if found is _MISSING or _as_texts(found) != _plain(node):
                    expected = _shown(_plain(node))
                    self._differences.append(f"{kind}{path}: {_shown(found)}, expected {expected}")


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Text) else ""


def _items(node: Node | None) -> tuple[Node, ...]:
    return node.items if isinstance(node, Many) else ()


def _at(value: Any, path: str) -> Any:
    """The value at ``[0].code.coding[0].code``."""
    for match in _STEP.finditer(path):
        index, name = match[1], match[2]
        try:
            value = value[int(index)] if index is not None else value[name]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return value


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "(nothing)"
    return str(value) if isinstance(value, str) else dumps(value).decode()


def _as_texts(value: Any) -> Any:
    """A value as a test writes it: every leaf a text."""
    if isinstance(value, dict):
        return {key: _as_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_texts(inner) for inner in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _plain(node: Node) -> Any:
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Many):
        return [_plain(item) for item in node.items]
    return {key: _plain(value) for key, value in node}


def _bytes_of(mapped: Mapped) -> bytes:
    return dumps([[entry.resource, entry.create_only] for entry in mapped.entries])

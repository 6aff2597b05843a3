"""The import as a whole: read, make, check with the compiler, take out, write."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.mapping.findings import Finding, MappingError
from gateway.mapping.library import Library
from gateway.mapping.r4.definitions import Definitions
from gateway.mapping.targets import required_children
from gateway.model import Format
from gateway.ports import PathError, SourceLanguage
from gateway.workbench.importing.codes import code_table
from gateway.workbench.importing.identities import entry_identity
from gateway.workbench.importing.items import table_name, type_name
from gateway.workbench.importing.maps import Maps
from gateway.workbench.importing.messages import EVENTS, MessageMaps
from gateway.workbench.importing.nodes import (
    Node,
    Object,
    Rule,
    bare_extensions,
    is_alive,
    rows_of,
    rules_of,
)
from gateway.workbench.importing.rows import MapRow, Tables, read_tables
from gateway.workbench.importing.todo import Todo
from gateway.workbench.importing.writing import (
    FOLDER,
    VERSIONS,
    Writer,
    block_file,
    flow,
    head,
    key,
    written,
)

ROUNDS_MAX = 40


@dataclass(frozen=True, slots=True)
class Imported:
    """What came out. ``files`` are texts by path, ``findings`` what the check says of them."""

    files: dict[str, str]
    counts: dict[str, int]
    todo: Todo
    findings: tuple[Finding, ...]

    def write(self, folder: Path) -> None:
        """Write every file below a folder, those of an import before replaced."""
        for label, text in self.files.items():
            path = folder / label
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")


def import_tables(
    folder: Path, languages: Mapping[Format, SourceLanguage], *, sender: str
) -> Imported:
    """The tables of a folder as mapping files, checked with the compiler.

    ``sender`` (MSH-3.1) is the only one for whose messages the mappings count, so that
    beside the shipped mappings there is no doubt which one is meant. Every rule that the
    compiler refuses is taken out and listed. The same tables give the same files, byte for
    byte. Raises TablesUnreadable.
    """
    tables = read_tables(folder)
    return _Import(tables, languages, sender).run()


class _Import:
    def __init__(
        self, tables: Tables, languages: Mapping[Format, SourceLanguage], sender: str
    ) -> None:
        self._tables = tables
        self._languages = {Format.HL7V2: languages[Format.HL7V2]}
        self._sender = sender
        self._todo = Todo()
        self._maps = Maps(tables, Definitions.load(), self._todo, self._is_known)
        self._blocks: dict[str, Object] = {}
        self._types: dict[str, tuple[str, Object]] = {}
        self._entries: dict[str, list[Object]] = {}
        self._unusable: set[str] = set()
        self._codes: dict[str, str] = {}
        self._code_rows = 0

    def _is_known(self, path: str) -> bool:
        """Whether a version of HL7 v2 that is read has a field."""
        field = re.match(r"[A-Z][A-Z0-9]{2}-\d+", path)
        language = self._languages[Format.HL7V2]
        if field is None:
            return True
        try:
            language.path(field[0], versions=VERSIONS, within=language.root(VERSIONS))
        except PathError:
            return False
        return True

    def run(self) -> Imported:
        self._make_blocks()
        self._make_types()
        self._make_codes()
        findings = self._checked(with_messages=False)
        usable = {name: block for name, block in self._blocks.items() if self._is_usable(name)}
        messages = MessageMaps(self._maps, usable)
        for name in self._tables.messages:
            self._entries[name] = messages.entries(name)
            for entry in self._entries[name]:
                self._complete(entry)
        findings = self._checked(with_messages=True)
        files = {label: writer.text() for label, writer in self._files(checking=False).items()}
        counts = self._counts(files)
        files |= self._lists(counts)
        return Imported(dict(sorted(files.items())), counts, self._todo, findings)

    # --- making -------------------------------------------------------------------------

    def _make_blocks(self) -> None:
        for name in self._tables.segments:
            block = self._maps.segment(name)
            if block is None or not block.parts:
                continue
            self._maps.refer_to_patient(str(block.head["resource"]), block.parts)
            self._blocks[name] = block

    def _make_types(self) -> None:
        """The types that rules use, and those that these use."""
        done: set[str] = set()
        while wanted := [name for name in self._maps.types_used if name not in done]:
            for name in wanted:
                done.add(name)
                made = self._maps.datatype(name)
                if made is None:
                    kind = self._maps.kind_of(name)
                    self._kill_uses(name, f"{name} cannot be made a type ({kind or 'unknown'})")
                else:
                    self._types[name] = made

    def _kill_uses(self, name: str, reason: str) -> None:
        for node in (*self._blocks.values(), *(made[1] for made in self._types.values())):
            for rule in list(rules_of(node)):
                if rule.body.get("as") == type_name(name):
                    self._kill(rule, "data type", reason)

    def _make_codes(self) -> None:
        for name, rows in sorted(self._tables.codes.items()):
            text, count = code_table(name, rows, self._maps.codes_used.get(name, []), self._todo)
            if count:
                self._codes[name] = text
                self._code_rows += count
            elif name in self._maps.codes_used:
                self._kill_table(name)

    def _kill_table(self, name: str) -> None:
        for node in (*self._blocks.values(), *(made[1] for made in self._types.values())):
            for rule in list(rules_of(node)):
                if table_name(name) in flow(rule.body):
                    self._kill(rule, "vocabulary", f"the map of {name} gives no code at all")

    # --- checking -----------------------------------------------------------------------

    def _is_usable(self, name: str) -> bool:
        return name not in self._unusable and is_alive(self._blocks[name])

    def _checked(self, *, with_messages: bool) -> tuple[Finding, ...]:
        """Compile what would be written; take out what is refused until nothing is."""
        findings: tuple[Finding, ...] = ()
        for _ in range(ROUNDS_MAX):
            self._empty_extensions()
            writers = self._files(checking=not with_messages)
            findings = self._findings(writers)
            errors = [each for each in findings if each.severity == "error"]
            if not errors or not self._take_out(errors, writers):
                break
        return findings

    def _empty_extensions(self) -> None:
        """Extensions of which only the url is left say nothing: R4 (ext-1) forbids them."""
        for node in (*self._blocks.values(), *(made[1] for made in self._types.values())):
            while empty := next(bare_extensions(node), None):
                self._kill(empty, "rule", "nothing but the url is left of the extension")

    def _findings(self, writers: Mapping[str, Writer]) -> tuple[Finding, ...]:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            for label, writer in writers.items():
                path = root / label
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(writer.text(), encoding="utf-8")
            try:
                library = Library.load([root], self._languages)
            except MappingError as error:
                return tuple(_relative(each, root) for each in error.findings)
        return tuple(_relative(each, root) for each in library.findings)

    def _take_out(self, errors: Iterable[Finding], writers: Mapping[str, Writer]) -> bool:
        done = False
        for error in errors:
            writer = writers.get(error.file)
            node = writer.nodes.get(error.line) if writer is not None else None
            if node is None or node.dead:
                continue
            hint = f" ({error.suggestion})" if error.suggestion else ""
            block = next((name for name, each in self._blocks.items() if each is node), None)
            if block is not None:
                self._unusable.add(block)
            kind = "entry" if block is not None or _is_entry(node) else (
                "path" if error.code == "path" else "rule"
            )  # fmt: skip
            self._kill(node, kind, f"{error.message}{hint}")
            done = True
        return done

    def _kill(self, node: Node, kind: str, reason: str) -> None:
        rows = dict.fromkeys(rows_of(node))
        if isinstance(node, Object) and not rows:
            rows = dict.fromkeys(node.rows)
        for row in rows:
            self._todo.row(row, kind, reason)
        node.dead = True

    # --- writing ------------------------------------------------------------------------

    def _files(self, *, checking: bool) -> dict[str, Writer]:
        files: dict[str, Writer] = {}
        for name, text in self._codes.items():
            files[f"{FOLDER}/terminology/{type_name(name)}.yaml"] = written(text)
        files[f"{FOLDER}/datatypes.yaml"] = self._datatypes_file()
        for name, block in self._blocks.items():
            if is_alive(block) and not block.dead:
                files[f"{FOLDER}/segments/{type_name(name)}.yaml"] = block_file(name, block)
        if checking:
            files[f"{FOLDER}/checking.yaml"] = self._checking_file()
        else:
            for name, entries in self._entries.items():
                if any(not entry.dead for entry in entries):
                    files[f"{FOLDER}/messages/{name}.yaml"] = self._message_file(name, entries)
        return files

    def _datatypes_file(self) -> Writer:
        writer = Writer()
        writer.line(0, "# Imported from the data type maps of HL7's v2-to-FHIR tables.")
        head(writer, f"{FOLDER}.datatypes")
        writer.line(0, "types:")
        for name, (_, node) in sorted(self._types.items()):
            if is_alive(node):
                writer.line(1, f"{key(type_name(name))}:", node)
                writer.object(2, node)
        if writer.lines[-1] == "types:":
            writer.lines[-1] = "types: {}"
        return writer

    def _uses(self, blocks: Iterable[str]) -> list[str]:
        return [f"{FOLDER}.datatypes", *(f"{FOLDER}.{type_name(name)}" for name in blocks)]

    def _checking_file(self) -> Writer:
        """One entry for every block and every type, so that all of them are compiled."""
        writer = Writer()
        head(writer, f"{FOLDER}.checking", match={"MSH-9.1": ["ADT"]})
        alive = [name for name, node in self._blocks.items() if is_alive(node) and not node.dead]
        writer.block(0, "use", self._uses(alive))
        writer.line(0, "entries:")
        writer.line(1, "- resource: Patient")
        writer.block(2, "id", entry_identity("PID"))
        writer.line(2, "set:")
        writer.line(3, "active: {const: 'true', reason: checking}")
        for name in alive:
            block = self._blocks[name]
            writer.line(1, f"- name: {type_name(name)}", block)
            writer.line(2, f"use: {type_name(name)}", block)
            writer.block(2, "id", entry_identity(name.partition("[")[0]))
            missing = self._required(str(block.head["resource"]), block.parts)
            if missing:
                writer.block(2, "set", {each: {"skip": "checking"} for each in missing})
        return writer

    def _required(self, resource: str, parts: Mapping[str, Node]) -> list[str]:
        """The elements that R4 requires of a resource and that nothing fills."""
        alive = {name for name, part in parts.items() if is_alive(part)}
        return [
            name
            for name, found in required_children(self._maps.definitions, resource).items()
            if not alive & {name, *found.keys().values()} and name.removesuffix("[x]") not in alive
        ]

    def _complete(self, entry: Object) -> None:
        """A place for every element that R4 requires and the tables leave out."""
        block = next(
            (
                (name, each)
                for name, each in self._blocks.items()
                if type_name(name) == entry.head.get("use")
            ),
            None,
        )
        if block is not None:
            resource = str(block[1].head["resource"])
            for name in self._required(resource, {**block[1].parts, **entry.parts}):
                reason = f"R4 requires {resource}.{name}, and the tables give it no value"
                entry.parts[name.removesuffix("[x]")] = Rule({"skip": reason}, list(entry.rows))
                for row in entry.rows:
                    self._todo.row(row, "entry", reason)
        for inner in entry.also:
            self._complete(inner)

    def _message_file(self, name: str, entries: list[Object]) -> Writer:
        writer = Writer()
        writer.line(0, f"# Imported from the message map {name} of HL7's v2-to-FHIR tables.")
        writer.line(0, "# todo.md lists what the tables leave to a person; look at the ids first.")
        kind, _, event = name.partition("_")
        match = {
            "MSH-9.1": [kind],
            "MSH-9.2": EVENTS.get(name, [event]),
            "MSH-3.1": [self._sender],
        }
        head(writer, f"{FOLDER}.{name}", match=match)
        used = {use for entry in entries for use in _blocks_of(entry)}
        alive = [block for block in self._blocks if type_name(block) in used]
        writer.block(0, "use", self._uses(alive))
        writer.line(0, "entries:")
        for entry in entries:
            if not entry.dead:
                writer.entry(1, entry)
        return writer

    def _counts(self, files: Mapping[str, str]) -> dict[str, int]:
        alive = [
            *(node for name, node in self._blocks.items() if self._is_usable(name)),
            *(node for _, node in self._types.values()),
        ]
        rows = {row for node in alive for row in rows_of(node) if isinstance(row, MapRow)}
        return {
            "tables": self._tables.files,
            "rows": self._tables.rows,
            "rows_imported": len(rows),
            "files": len(files),
            "messages": sum(label.startswith(f"{FOLDER}/messages/") for label in files),
            "entries": sum(_count(entries) for entries in self._entries.values()),
            "segments": sum(label.startswith(f"{FOLDER}/segments/") for label in files),
            "types": sum(is_alive(node) for _, node in self._types.values()),
            "terminology_tables": len(self._codes),
            "codes": self._code_rows,
            "conditions_translated": sum(
                bool(row.condition) for row in rows
            ),
            "conditions_of_prose": self._tables.narrative_conditions(),
            "tasks": len(self._todo.tasks()),
        }  # fmt: skip

    def _lists(self, counts: Mapping[str, int]) -> dict[str, str]:
        import json

        told: dict[str, Any] = {
            "counts": dict(counts), "kinds": self._todo.counts(), "tasks": self._todo.as_json(),
        }  # fmt: skip
        return {
            "todo.md": self._todo.as_markdown(),
            "todo.json": json.dumps(told, ensure_ascii=False, indent=1) + "\n",
        }


def _blocks_of(entry: Object) -> Iterable[str]:
    if not entry.dead:
        yield str(entry.head.get("use", ""))
        for inner in entry.also:
            yield from _blocks_of(inner)


def _is_entry(node: Node) -> bool:
    return isinstance(node, Object) and "id" in node.head


def _count(entries: Iterable[Object]) -> int:
    return sum(1 + _count(entry.also) for entry in entries if not entry.dead)


def _relative(finding: Finding, root: Path) -> Finding:
    from dataclasses import replace

    path = Path(finding.file)
    label = path.relative_to(root).as_posix() if path.is_relative_to(root) else finding.file
    return replace(finding, file=label)

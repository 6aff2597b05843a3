"""From read mappings to compiled programs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from gateway.mapping.assemble import Assembled, assemble, used_sources
from gateway.mapping.checked import CheckedMappings, digest_of
from gateway.mapping.compiling import POLICIES, At, Compiler
from gateway.mapping.document import Document, Many, Node, Table, Text
from gateway.mapping.entries import Entry, compile_entry
from gateway.mapping.findings import Findings, MappingError, Place, nearest
from gateway.mapping.loading import Loader
from gateway.mapping.matching import find_ambiguities
from gateway.mapping.ordering import in_order
from gateway.mapping.overlays import Source, apply_to_definitions
from gateway.mapping.program import Ignored, Match, Program, Rules
from gateway.mapping.r4.definitions import Definitions
from gateway.mapping.trees import entry_name, texts_in
from gateway.model import Format
from gateway.ports import CompiledPath, PathError, SourceLanguage

_SOURCE_KEYS = ("format", "versions", "match")


Progress = Callable[[int, int], None]
"""Told how many mappings are done, and of how many."""


class Builder:
    """Compiles every mapping of a loader that has entries and a language.

    A mapping that is among those ``checked`` is compiled when its first message comes.
    """

    def __init__(
        self,
        loader: Loader,
        languages: Mapping[Format, SourceLanguage],
        findings: Findings,
        checked: CheckedMappings | None,
        progress: Progress,
    ) -> None:
        self._progress = progress
        self._checked = checked
        self._known = checked.known() if checked is not None else frozenset()
        self._good: list[str] = []
        self._named: dict[str, frozenset[str]] = {}
        self._complete = False
        self._loader = loader
        self._languages = languages
        self._findings = findings
        self._definitions = Definitions.load()

    def compile(self) -> list[Program]:
        """Compile every mapping that has entries and a language."""
        for source in self._loader.sources.values():
            apply_to_definitions(source, self._findings)
        defaults = {
            source.document.root.place.file: self._defaults(source.root)
            for source in self._loader.sources.values()
        }
        programs = []
        for source in self._loader.sources.values():
            program = self._program(source, defaults)
            if program is not None:
                programs.append(program)
        self._check(programs)
        find_ambiguities(programs, self._findings)
        return programs

    def _check(self, programs: Sequence[Program]) -> None:
        """Compile what was not checked before: all of its faults, now."""
        for number, program in enumerate(programs):
            self._progress(number, len(programs))
            self._once(program.digest, partial(getattr, program, "rules"))
        if self._checked is not None and not self._findings.failed:
            self._checked.add(self._good)
        self._complete = True

    def _once(self, content: str, find_faults: Callable[[], object]) -> None:
        """Look for faults in files of this content, unless there were none before."""
        digest = digest_of(content)
        if digest in self._known:
            return
        before = self._findings.count
        find_faults()
        # What had to be said is said again at the next check.
        if self._findings.count == before:
            self._good.append(digest)

    def _defaults(self, root: Table) -> dict[str, Node]:
        node = root.get("defaults")
        if node is None:
            return {}
        if not isinstance(node, Table):
            self._findings.error(node.place, "wrong-shape", "defaults: is a map of policies")
            return {}
        for key in node.items:
            if key not in POLICIES:
                self._findings.error(
                    node.places[key], "unknown-key", f"no policy {key!r}", nearest(key, POLICIES)
                )
        return node.items

    def _program(
        self, source: Source, defaults: Mapping[str, Mapping[str, Node]]
    ) -> Program | None:
        read = self._read_source(source)
        if read is None:
            return None
        kind, versions, match_node = read
        language = self._languages.get(kind)
        if language is None:
            return None
        compiler = Compiler(
            language, versions, self._definitions, self._findings, self._loader.tables,
            {}, defaults,
        )  # fmt: skip
        version = compiler.text(source.root, "version")
        if version is None:
            compiler.error(source.root.place, "missing-key", "a mapping needs version:")
        digest = self._digest(used_sources(source, self._loader.sources, self._findings))
        # What was right in one of the versions is likely to be right in the last: then the
        # definitions of the others need not be read.
        right = versions[-1:] if digest_of(digest) in self._known else ()
        match = self._match(compiler, match_node, right)
        if source.root.get("entries") is None or version is None or match is None:
            self._once(digest, lambda: self._rules(source, compiler))
            return None
        return Program(
            name=source.name,
            version=version,
            digest=digest,
            file=str(source.document.path),
            format=kind,
            match=match,
            compile=partial(self._checked_rules, source, compiler),
        )

    def _checked_rules(self, source: Source, compiler: Compiler) -> Rules:
        """The rules of a mapping whose files were found right before.

        Raises MappingError when they are not, after all.
        """
        rules = self._rules(source, compiler)
        if self._complete and self._findings.failed:
            raise MappingError(self._findings.all())
        return rules

    def _rules(self, source: Source, compiler: Compiler) -> Rules:
        assembled = assemble(source, self._loader.sources, self._findings)
        compiler.types = assembled.types
        compiler.used_versions = _used_versions(assembled.sources)
        for node in assembled.entries:
            _collect_entries(compiler, node)
        ignored = self._ignored(compiler, assembled.sources)
        entries = _compile_entries(compiler, assembled)
        return Rules(
            entries, ignored, partial(_compile_traced, compiler, assembled), compiler.memos
        )

    def _read_source(self, source: Source) -> tuple[Format, tuple[str, ...], Table | None] | None:
        node = source.root.get("source")
        if not isinstance(node, Table):
            self._findings.error(source.root.place, "missing-key", "a mapping needs source:")
            return None
        for key in node.items:
            if key not in _SOURCE_KEYS:
                self._findings.error(
                    node.places[key], "unknown-key", f"source: has no {key!r}",
                    nearest(key, _SOURCE_KEYS),
                )  # fmt: skip
        name = node.get("format")
        known = [kind.value for kind in Format]
        if not isinstance(name, Text) or name.text not in known:
            place = name.place if name is not None else node.place
            self._findings.error(place, "wrong-shape", f"format: is one of {', '.join(known)}")
            return None
        match = node.get("match")
        if match is not None and not isinstance(match, Table):
            self._findings.error(match.place, "wrong-shape", "match: is a map of paths")
            match = None
        versions = self._read_versions(Format(name.text), node.get("versions"))
        return (Format(name.text), versions, match) if versions is not None else None

    def _read_versions(self, kind: Format, node: Node | None) -> tuple[str, ...] | None:
        """The versions that a mapping names; None when the format has none such (reported)."""
        if node is None:
            return ()
        items = node.items if isinstance(node, Many) else [node]
        texts = [item for item in items if isinstance(item, Text)]
        if not isinstance(node, Many) or len(texts) < len(items):
            hint = f'["{node.text}"]' if isinstance(node, Text) else ""
            self._findings.error(node.place, "wrong-shape", "versions: is a list of texts", hint)
            return None
        language, sound = self._languages.get(kind), True
        for text in texts:
            try:
                if language is not None:
                    language.root((text.text,))
            except PathError as wrong:
                hint = f"did you mean {wrong.suggestion}?" if wrong.suggestion else ""
                self._findings.error(text.place, "version", str(wrong), hint)
                sound = False
        return tuple(text.text for text in texts) if sound else None

    def _match(
        self, compiler: Compiler, node: Table | None, right: tuple[str, ...]
    ) -> Match | None:
        """What chooses the mapping. Its paths are likely to be right in the versions ``right``."""
        paths, values = [], []
        within = compiler.language.root(compiler.versions)
        for path, wanted in node or ():
            place = node.places[path] if node is not None else wanted.place
            try:
                paths.append(_compiled(compiler, path, within, right))
            except PathError as wrong:
                compiler.error(place, "path", str(wrong), wrong.suggestion)
                return None
            values.append(frozenset(text.text for text in compiler.texts(wanted)))
        return Match(tuple(paths), tuple(values))

    def _ignored(self, compiler: Compiler, sources: Sequence[Source]) -> tuple[Ignored, ...]:
        """What is left out on purpose: the mapping's own list and those of what it uses."""
        lists = [source.root.get("ignore") for source in sources]
        found = []
        at = At(compiler.language.root(compiler.versions))
        for node in (item for each in lists if isinstance(each, Many) for item in each.items):
            if not isinstance(node, Table):
                compiler.error(node.place, "wrong-shape", "ignore: holds {path, reason, when}")
                continue
            compiler.unknown_keys(node, ("path", "reason", "when"), "ignore:")
            path, reason = node.get("path"), compiler.text(node, "reason")
            if not isinstance(path, Text) or not reason:
                compiler.error(node.place, "missing-key", "what is ignored needs path: and reason:")
                continue
            if not (source_is_segment(path.text) or _DATATYPE_PART.fullmatch(path.text)):
                compiler.reader(path, at)
            when = node.get("when")
            asked = compiler.condition(when, at) if when is not None else None
            test = asked[0] if asked is not None else None
            found.append(Ignored(path.text, reason, compiler.text(node, "when") or "", test))
        return tuple(found)

    def _digest(self, sources: Sequence[Source]) -> str:
        """SHA-256 over the labels and bytes of all that goes into the mapping: its files,
        those that it uses, the site's changes, and every table that one of them names."""
        parts: dict[str, bytes] = {}
        tables: set[str] = set()
        for source in sources:
            for document in (source.document, *source.overlay_documents):
                parts[document.label] = document.data
                tables |= self._tables_of(document)
        for name in tables:
            for label in self._loader.tables[name].files:
                parts[label] = self._loader.documents[label].data
        digest = hashlib.sha256()
        for label in sorted(parts):
            digest.update(f"{label}\0{len(parts[label])}\0".encode())
            digest.update(parts[label])
        return digest.hexdigest()

    def _tables_of(self, document: Document) -> frozenset[str]:
        """The tables that a file may name."""
        found = self._named.get(document.label)
        if found is None:
            found = frozenset(texts_in(document.root) & self._loader.tables.keys())
            self._named[document.label] = found
        return found


def _compiled(
    compiler: Compiler, path: str, within: object, right: tuple[str, ...]
) -> CompiledPath:
    """A path of ``match:``. Raises PathError."""
    if right:
        with suppress(PathError):
            return compiler.language.path(path, versions=right, within=within)
    return compiler.language.path(path, versions=compiler.versions, within=within)


_DATATYPE_PART = re.compile(r"[A-Z]{2,3}(\.\d+){1,2}")
"""An ignored part of an HL7 v2 data type, wherever it is used (``XCN.10``)."""


def source_is_segment(text: str) -> bool:
    """Whether an ignored path is a whole segment of HL7 v2 or HPRIM (``NK1``, ``H``)."""
    return 1 <= len(text) <= 3 and text.isupper() and text.isalnum()


def _used_versions(sources: Sequence[Source]) -> dict[str, tuple[str, ...]]:
    """By file the versions that the paths written in it may be of: for the files that the
    first of these uses, and for a site's changes of them.

    A rule of a used file may name what only one of that file's versions has, and is written
    for mappings of other versions too: all that are named count. What the mapping itself
    writes is held against its own versions, and is not here.
    """
    both = _versions_of(sources)
    return {
        document.root.place.file: both
        for source in sources[1:]
        for document in (source.document, *source.overlay_documents)
    }


def _versions_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """The versions that the files name, each once; none when one of them names none."""
    found: dict[str, None] = {}
    for source in sources:
        declared = source.root.get("source")
        listed = declared.get("versions") if isinstance(declared, Table) else None
        if not isinstance(listed, Many):
            return ()
        found.update({item.text: None for item in listed.items if isinstance(item, Text)})
    return tuple(found)


def _collect_entries(compiler: Compiler, node: Node) -> None:
    """Note the name and type of every entry, nested ones too."""
    if isinstance(node, Many):
        for item in node.items:
            _collect_entries(compiler, item)
    elif isinstance(node, Table):
        kind = node.get("resource")
        if isinstance(kind, Text):
            name = entry_name(node)
            if compiler.entries.setdefault(name, kind.text) != kind.text:
                compiler.error(node.place, "defined-twice", f"two entries are called {name}")
        for inner in node.items.values():
            _collect_entries(compiler, inner)


def _compile_entries(compiler: Compiler, assembled: Assembled) -> list[Entry]:
    at = At(compiler.language.root(compiler.versions))
    _unique_names(compiler, assembled)
    found = [
        compile_entry(compiler, node, at)
        for _, node in in_order(("", node) for node in assembled.entries)
    ]
    return [entry for entry in found if entry is not None]


def _unique_names(compiler: Compiler, assembled: Assembled) -> None:
    seen: dict[str, Place] = {}
    for node in assembled.entries:
        name = entry_name(node)
        if name and name in seen:
            compiler.error(node.place, "defined-twice", f"two entries are called {name}",
                           "give one of them a name:")  # fmt: skip
        seen[name] = node.place


def _compile_traced(compiler: Compiler, assembled: Assembled, watched: bool) -> Sequence[Entry]:
    """The same rules compiled once more so that they record their provenance."""
    again = replace(compiler, traced=True, watched=watched)
    return _compile_entries(again, assembled)

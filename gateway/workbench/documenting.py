"""A mapping as a table from source to target that a clinician can read and sign."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.mapping import Library, MappingError, Program
from gateway.mapping.assemble import Assembled, assemble
from gateway.mapping.compiling import POLICIES
from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.findings import Findings
from gateway.mapping.loading import Loader
from gateway.mapping.overlays import apply_to_definitions
from gateway.mapping.trees import entry_name

DEPTH_MAX = 30

_TELLING = ("from", "each", "when", *POLICIES)
"""Keys by which an object is more than its elements, and has a line of its own."""


@dataclass(frozen=True, slots=True)
class Line:
    """One rule: what it fills, from where, how, under which condition, and where it stands.

    ``failing`` tells what happens with a value that is missing, invalid or unknown.
    """

    target: str
    source: str
    how: str = ""
    when: str = ""
    failing: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of a mapping, or one of its types."""

    title: str
    note: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """One mapping: its name, version and digest, and all that it does."""

    name: str
    version: str
    digest: str
    format: str
    matches: tuple[str, ...]
    entries: tuple[Section, ...]
    types: tuple[Section, ...]
    tables: tuple[tuple[str, str, str], ...]
    """Name, version and source of every table that it uses."""
    ignored: tuple[tuple[str, str, str], ...]
    """Path, condition and reason of everything that is left out on purpose."""


def describe(
    library: Library,
    folders: Sequence[Path],
    *,
    sites: Path | None = None,
    site: str | None = None,
    names: Sequence[str] = (),
) -> list[Described]:
    """Describe the mappings of a library that was loaded from these folders and this site.

    ``names`` chooses some of them. Raises KeyError for a name that is no mapping of the
    library, MappingError when the folders have changed since and cannot be read any more.
    """
    findings = Findings()
    loader = Loader(findings)
    for folder in folders:
        loader.read_folder(folder, skip=sites or folder / "sites")
    if site:
        loader.read_site(sites or folders[0] / "sites", site)
    for source in loader.sources.values():
        apply_to_definitions(source, findings)
    if findings.failed:
        raise MappingError(findings.all())
    wanted = [library.program(name) for name in names] if names else library.programs
    described = []
    for program in wanted:
        assembled = assemble(loader.sources[program.name], loader.sources, findings)
        described.append(_described(program, assembled, loader))
    return described


def _described(program: Program, assembled: Assembled, loader: Loader) -> Described:
    entries = [_entry(node) for node in assembled.entries if isinstance(node, Table)]
    used: dict[str, None] = {}
    types = _types(assembled, used)
    for node in assembled.entries:
        _tables(node, used)
    matches = [
        f"{path.text} is {' or '.join(sorted(values))}"
        for path, values in zip(program.match.paths, program.match.values, strict=True)
    ]
    return Described(
        name=program.name,
        version=program.version,
        digest=program.digest,
        format=program.format.value,
        matches=tuple(matches),
        entries=tuple(entries),
        types=tuple(types),
        tables=tuple(
            (name, loader.tables[name].version, _source_of(loader, name))
            for name in sorted(used)
            if name in loader.tables
        ),
        ignored=tuple((rule.path, rule.when, rule.reason) for rule in program.ignored),
    )


def _source_of(loader: Loader, table: str) -> str:
    files = loader.tables[table].files
    return "; ".join(_text(loader.documents[label].root.get("source")) for label in files)


def _types(assembled: Assembled, tables: dict[str, None]) -> Iterator[Section]:
    """The types that the entries use, by name or as the type of the target."""
    for name, node in sorted(assembled.types.items()):
        _tables(node, tables)
        lines = tuple(_lines(node, "", 0))
        yield Section(f"{name} ({_text(node.get('type')) or name})", _text(node.get("note")), lines)


def _tables(node: Node, found: dict[str, None]) -> None:
    if isinstance(node, Many):
        for item in node.items:
            _tables(item, found)
    elif isinstance(node, Table):
        for key, value in node:
            if key in ("table", "translate"):
                name = value if isinstance(value, Text) else None
                if isinstance(value, Table):
                    inner = value.get("name") or value.get("table")
                    name = inner if isinstance(inner, Text) else None
                if name is not None:
                    found[name.text] = None
            _tables(value, found)


def _entry(node: Table) -> Section:
    lines = [*_identity(node.get("id"), entry_name(node))]
    body = node.get("set")
    if isinstance(body, Table):
        for name, rule in body:
            lines += _lines(rule, name, 1)
    for also in _items(node.get("also")):
        if isinstance(also, Table):
            inner = _entry(also)
            lines += [Line(f"+ {inner.title}", "", when=inner.note), *inner.lines]
    title = _text(node.get("resource"))
    name = entry_name(node)
    walked = _walked(node)
    parts = [f"one for each {walked}" if walked else "", _condition(node), _text(node.get("note"))]
    if _text(node.get("create_only")) == "true":
        parts.append("taken only when the record has none")
    shown = f"{title} ({name})" if name != title else title
    return Section(shown, "; ".join(part for part in parts if part), tuple(lines))


def _identity(node: Node | None, name: str) -> Iterator[Line]:
    for item in _items(node):
        if isinstance(item, Table):
            key, by = _source(item.get("key")), _source(item.get("authority"))
            how = f"derived from the key, given by {by}"
            other = item.get("otherwise")
            failing = f"otherwise: {_source(other)}" if other is not None else ""
            yield Line(f"{name}.id", key, how, failing=failing, rule=str(item.place))


def _lines(node: Node, target: str, depth: int) -> Iterator[Line]:
    """The lines of one rule, those of an object's elements in their place."""
    if depth > DEPTH_MAX:
        return
    if isinstance(node, Many):
        for number, item in enumerate(node.items):
            yield from _lines(item, f"{target}[{number}]", depth + 1)
        return
    if isinstance(node, Text):
        yield Line(target, node.text, rule=str(node.place))
        return
    if isinstance(node.get("cases"), Table):
        yield from _cases(node, target, depth)
    elif node.get("first") is not None or node.get("items") is not None:
        yield from _several(node, target, depth)
    else:
        yield from _object(node, target, depth)


def _cases(node: Table, target: str, depth: int) -> Iterator[Line]:
    yield Line(
        target, f"by {_text(node.get('switch'))}", when=_condition(node), rule=str(node.place)
    )
    cases = node.get("cases")
    for label, case in cases if isinstance(cases, Table) else ():
        for line in _lines(case, target, depth + 1):
            when = " and ".join(part for part in (f"it is {label}", line.when) if part)
            yield replace(line, when=when)


def _several(node: Table, target: str, depth: int) -> Iterator[Line]:
    yield _line(node, target)
    key = "first" if node.get("first") is not None else "items"
    for number, item in enumerate(_items(node.get(key)), 1):
        way = f"{number}. " if key == "first" else ""
        for line in _lines(item, target, depth + 1):
            yield replace(line, source=way + line.source)


def _object(node: Table, target: str, depth: int) -> Iterator[Line]:
    below = node.get("set")
    if not isinstance(below, Table) or any(key in node.items for key in _TELLING):
        yield _line(node, target)
    if isinstance(below, Table):
        if node.get("resource") is not None:
            yield from _identity(node.get("id"), entry_name(node))
        for name, inner in below:
            yield from _lines(inner, f"{target}.{name}" if target else name, depth + 1)


def _line(node: Table, target: str) -> Line:
    failing = [
        f"{which}: {_source(node.get(which))}" for which in POLICIES if node.get(which) is not None
    ]
    reason = _text(node.get("reason"))
    if reason:
        failing.append(reason)
    return Line(
        target, _said(node), _how(node), _condition(node), "; ".join(failing), str(node.place)
    )


def _said(node: Table) -> str:
    walked = _walked(node)
    lead = f"each {walked}: " if walked else ""
    for key, name in (
        ("from", ""), ("all", "all of "), ("first", "the first of"), ("items", "all of"),
        ("const", "always "), ("ref", "reference to "),
        ("refer", "reference to another message's "),
        ("resource", "an entry of its own: "), ("flag", "nothing, flagged "),
        ("skip", "nothing: "),
    ):  # fmt: skip
        if node.get(key) is not None:
            rest = "" if key in ("first", "items") else _source(node.get(key))
            return f"{lead}{name}{rest}".strip()
    return lead.rstrip(": ")


def _how(node: Table) -> str:
    parts = []
    for key, name in (("as", "as "), ("table", "table "), ("translate", "translated by "),
                      ("unit", "unit from "), ("join", "joined by ")):  # fmt: skip
        if node.get(key) is not None:
            parts.append(f"{name}{_source(node.get(key))!r}" if key == "join" else
                         f"{name}{_source(node.get(key))}")  # fmt: skip
    return ", ".join(parts)


def _walked(node: Table) -> str:
    each = node.get("each")
    return _source(each) if each is not None else ""


def _condition(node: Table) -> str:
    return _text(node.get("when"))


def _source(node: Node | None) -> str:
    """A node in one line, as the author wrote it but without its punctuation."""
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Many):
        return ", ".join(_source(item) for item in node.items)
    if isinstance(node, Table):
        return ", ".join(f"{key} {_source(value)}" for key, value in node)
    return ""


def _items(node: Node | None) -> Sequence[Node]:
    if isinstance(node, Many):
        return node.items
    return (node,) if node is not None else ()


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Text) else ""

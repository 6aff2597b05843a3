"""Terminology tables: codes to codes, as data, with a site's rows over the base's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.mapping.document import Document, Node, Table, Text
from gateway.mapping.findings import Findings, Place, nearest

_KEYS = ("table", "version", "source", "licence", "system", "fold", "rows", "note")
_ROW_KEYS = ("code", "display", "system", "note")


@dataclass(frozen=True, slots=True)
class Row:
    """What one code becomes. ``system`` and ``display`` may be empty."""

    code: str
    system: str
    display: str
    place: Place

    def coding(self) -> dict[str, str]:
        """The row as a FHIR Coding."""
        made = {"system": self.system, "code": self.code, "display": self.display}
        return {key: value for key, value in made.items() if value}


@dataclass(frozen=True, slots=True)
class CodeTable:
    """One table. ``fold`` tables compare codes without regard to case.

    ``files`` are the labels of every file whose rows are in it.
    """

    name: str
    version: str
    system: str
    rows: Mapping[str, Row]
    place: Place
    fold: bool = False
    files: tuple[str, ...] = field(default_factory=tuple)

    def find(self, code: str) -> Row | None:
        """The row of a code, or None. Blanks around the code do not count."""
        row = self.rows.get(code)
        if row is None:
            code = code.strip()
            row = self.rows.get(code.casefold() if self.fold else code)
        return row

    def with_rows(self, rows: Mapping[str, Row], files: Iterable[str] = ()) -> CodeTable:
        """The same table with rows added; equal codes are replaced."""
        return CodeTable(
            self.name,
            self.version,
            self.system,
            {**self.rows, **rows},
            self.place,
            self.fold,
            tuple(dict.fromkeys((*self.files, *files))),
        )


def read_table(document: Document, findings: Findings) -> CodeTable | None:
    """A table from its file; None (and findings) when it is not one."""
    root = document.root
    for key, _ in root:
        if key not in _KEYS:
            findings.error(
                root.places[key], "unknown-key", f"a table has no {key!r}", nearest(key, _KEYS)
            )
    name, version = root.get("table"), root.get("version")
    if not isinstance(name, Text) or not isinstance(version, Text):
        findings.error(root.place, "missing-key", "a table needs table: and version: as texts")
        return None
    for key in ("source", "licence"):
        if not isinstance(root.get(key), Text):
            findings.error(root.place, "missing-key", f"a table needs {key}: (where it comes from)")
    system = root.get("system")
    rows = root.get("rows")
    if not isinstance(rows, Table):
        findings.error(root.place, "missing-key", "a table needs rows:, a map of codes")
        return None
    fold = root.get("fold")
    folded = isinstance(fold, Text) and fold.text == "true"
    default = system.text if isinstance(system, Text) else ""
    found = read_rows(rows, default, findings, fold=folded)
    return CodeTable(name.text, version.text, default, found, name.place, folded, (document.label,))


def read_rows(rows: Table, system: str, findings: Findings, *, fold: bool) -> dict[str, Row]:
    """Rows ``code: code`` or ``code: {code, display, system}``."""
    found: dict[str, Row] = {}
    for code, node in rows:
        key = code.casefold() if fold else code
        if key in found:
            findings.error(rows.places[code], "duplicate-key", f"{code!r} stands twice")
        row = _row(node, system, rows.places[code], findings)
        if row is not None:
            found[key] = row
    return found


def _row(node: Node, system: str, place: Place, findings: Findings) -> Row | None:
    if isinstance(node, Text):
        return Row(node.text, system, "", place)
    if not isinstance(node, Table):
        findings.error(node.place, "wrong-shape", "a row is a code or {code, display, system}")
        return None
    values = {}
    for key, value in node:
        if key not in _ROW_KEYS or not isinstance(value, Text):
            findings.error(
                node.places[key], "unknown-key", f"a row has no {key!r}", nearest(key, _ROW_KEYS)
            )
            return None
        values[key] = value.text
    if not values.get("code"):
        findings.error(node.place, "missing-key", "a row needs its code:")
        return None
    return Row(values["code"], values.get("system", system), values.get("display", ""), place)

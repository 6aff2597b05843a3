"""From folders to named mappings, tables and tests; nothing is compiled here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gateway.mapping.document import Document, Text, read_document
from gateway.mapping.findings import Findings, Place, nearest
from gateway.mapping.overlays import Source, read_overlay
from gateway.mapping.tables import CodeTable, read_table

FILES_MAX = 5_000

_KEYS = (
    "mapping", "version", "source", "use", "defaults", "types", "blocks", "entries", "ignore",
    "note",
)  # fmt: skip


def files_named_yaml(folder: Path) -> tuple[list[Path], list[OSError]]:
    """Everything below a folder that is called ``*.yaml``, in order, links to folders not
    followed; and why folders could not be looked into."""
    closed: list[OSError] = []
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=closed.append):
        for name in (*folders, *names):
            path = Path(parent) / name
            try:
                if name.endswith(".yaml"):
                    path.lstat()
                    found.append(path)
            except OSError as error:
                closed.append(error)
    return sorted(found), closed


class Loader:
    """Mapping files, tables and a site's changes, read and named. One use."""

    def __init__(self, findings: Findings) -> None:
        self.tables: dict[str, CodeTable] = {}
        self.twins: list[Path] = []
        self.sources: dict[str, Source] = {}
        self.documents: dict[str, Document] = {}
        self._findings = findings

    # --- reading -------------------------------------------------------------------

    def read_folder(self, folder: Path, skip: Path) -> None:
        """Read every mapping and table below a folder, sites left out."""
        if not folder.is_dir():
            self._findings.error(Place(str(folder), "", 1, 1), "unreadable", "no such folder")
            return
        for path in self._yaml_files(folder):
            if path.is_relative_to(skip):
                continue
            self._read(path, path.relative_to(folder).as_posix())

    def _yaml_files(self, folder: Path) -> Iterable[Path]:
        named, closed = files_named_yaml(folder)
        for error in closed:
            place = Place(str(error.filename), "", 1, 1)
            self._findings.error(place, "unreadable", f"it cannot be looked into: {error.strerror}")
        for path in named:
            if path.is_symlink() and not path.exists():
                label = path.relative_to(folder).as_posix()
                what = "it points to a file that is not there"
                self._findings.error(Place(str(path), label, 1, 1), "unreadable", what)
        found = [path for path in named if path.is_file()]
        if len(found) > FILES_MAX:
            place = Place(str(folder), "", 1, 1)
            self._findings.error(place, "too-large", f"more than {FILES_MAX} files")
            return ()
        return found

    def _read(self, path: Path, label: str) -> None:
        if path.name.endswith(".test.yaml"):
            self.twins.append(path)
            return
        document = read_document(path, label, self._findings)
        if document is None:
            return
        self.documents[label] = document
        if document.root.get("table") is not None:
            table = read_table(document, self._findings)
            if table is not None:
                self._add_table(table)
        elif document.root.get("mapping") is not None:
            self._add_mapping(document)
        else:
            self._findings.error(
                document.root.place, "missing-key", "neither mapping: nor table: is there"
            )

    def _add_table(self, table: CodeTable) -> None:
        before = self.tables.get(table.name)
        if before is not None:
            self._findings.error(
                table.place, "defined-twice",
                f"table {table.name} is also in {before.place.label}:{before.place.line}",
            )  # fmt: skip
        self.tables[table.name] = table

    def _add_mapping(self, document: Document) -> None:
        root = document.root
        for key in root.items:
            if key not in _KEYS:
                self._findings.error(
                    root.places[key], "unknown-key", f"a mapping has no {key!r}",
                    nearest(key, _KEYS),
                )  # fmt: skip
        name = root.items["mapping"]
        if not isinstance(name, Text):
            self._findings.error(name.place, "wrong-shape", "mapping: is a name")
            return
        before = self.sources.get(name.text)
        if before is not None:
            self._findings.error(
                name.place, "defined-twice", f"{name.text} is also in {before.document.label}"
            )
            return
        self.sources[name.text] = Source(name.text, document, root)

    def read_site(self, sites: Path, site: str) -> None:
        """Read one site's tables and changes over what is there."""
        folder = sites / site
        if "/" in site or site.startswith(".") or not folder.is_dir():
            place = Place(str(folder), "", 1, 1)
            self._findings.error(place, "unknown-site", f"no folder for the site {site!r}")
            return
        for path in self._yaml_files(folder):
            label = f"sites/{site}/{path.relative_to(folder).as_posix()}"
            if path.name.endswith(".test.yaml"):
                self.twins.append(path)
                continue
            document = read_document(path, label, self._findings)
            if document is None:
                continue
            self.documents[label] = document
            if document.root.get("table") is not None:
                self._overlay_table(document)
            elif document.root.get("mapping") is not None:
                self._add_mapping(document)
            else:
                self._overlay_mapping(document)

    def _overlay_table(self, document: Document) -> None:
        table = read_table(document, self._findings)
        if table is None:
            return
        before = self.tables.get(table.name)
        over = before.with_rows(table.rows, table.files) if before is not None else table
        self.tables[table.name] = over

    def _overlay_mapping(self, document: Document) -> None:
        read = read_overlay(document, self._findings)
        if read is None:
            return
        name, changes = read
        source = self.sources.get(name)
        if source is None:
            self._findings.error(
                document.root.items["extends"].place, "unknown-mapping", f"no mapping {name!r}",
                nearest(name, self.sources),
            )  # fmt: skip
            return
        source.overlays += changes
        source.overlay_documents.append(document)

"""The rows of the v2-to-FHIR tables, as HL7 publishes them in CSV.

The tables stand in four folders: ``messages`` (which segment makes which resource),
``segments`` and ``datatypes`` (which field or component goes to which element) and
``codesystems`` (which code becomes which). Two lines of headings come first; the first
cell of the first line often holds a slip of the hand, so the second line is what counts.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES_MAX = 8 << 20
FILES_MAX = 2_000
ROWS_MAX = 20_000

_SEGMENT_NAME = re.compile(r"_R4__(?P<name>.+?)_-_")
_CODES_NAME = re.compile(r"Concept_Map__(?P<name>.+?)_-_")


class TablesUnreadable(Exception):
    """The folder does not hold the tables, or a file of it cannot be read."""


@dataclass(frozen=True, slots=True)
class MapRow:
    """One row of a segment's or data type's map. ``number`` is the line in the sheet.

    ``identifier`` is the field or component (``PID-5``, ``CX.4``), ``maximum`` -1 when it
    repeats; ``attribute`` the FHIR element, ``mapping`` the data type map (``XPN[HumanName]``).
    """

    file: str
    number: int
    identifier: str
    name: str
    datatype: str
    maximum: str
    condition: str
    fhirpath: str
    narrative: str
    attribute: str
    fhir_type: str
    mapping: str
    vocabulary: str
    assignment: str
    comment: str

    @property
    def repeats(self) -> bool:
        """Whether the field may repeat."""
        return self.maximum == "-1"


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One row of a message's map: a segment in its group and the resource that it fills."""

    file: str
    number: int
    identifier: str
    syntax: str
    condition: str
    fhirpath: str
    narrative: str
    target: str
    mapping: str
    references: str


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One row of a code system's map. ``target`` is empty where HL7 gives none."""

    file: str
    number: int
    code: str
    text: str
    condition: str
    narrative: str
    target: str
    display: str
    system: str


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of a folder, by the name that the others call them: ``PID[Patient]``."""

    messages: dict[str, tuple[MessageRow, ...]]
    segments: dict[str, tuple[MapRow, ...]]
    datatypes: dict[str, tuple[MapRow, ...]]
    codes: dict[str, tuple[CodeRow, ...]]
    rows: int
    files: int

    def narrative_conditions(self) -> int:
        """The rows whose condition is prose alone, in all four folders."""
        found = 0
        for messages in self.messages.values():
            found += sum(_is_prose(row) for row in messages)
        for maps in (*self.segments.values(), *self.datatypes.values()):
            found += sum(_is_prose(row) for row in maps)
        for codes in self.codes.values():
            found += sum(bool(row.narrative) and not row.condition for row in codes)
        return found


def _is_prose(row: MapRow | MessageRow) -> bool:
    return bool(row.narrative) and not row.condition and not row.fhirpath


def read_tables(folder: Path) -> Tables:
    """All tables below a folder, or below its ``mappings``. Raises TablesUnreadable."""
    root = folder / "mappings" if (folder / "mappings").is_dir() else folder
    kinds = ("messages", "segments", "datatypes", "codesystems")
    if not any((root / kind).is_dir() for kind in kinds):
        raise TablesUnreadable(
            f"{folder}: no folder messages, segments, datatypes or codesystems; give the folder "
            "mappings of a copy of github.com/HL7/v2-to-fhir"
        )
    found = {kind: list(_files(root / kind)) for kind in kinds}
    messages, segments, datatypes, codes = {}, {}, {}, {}
    for path in found["messages"]:
        messages[_name(path)] = tuple(_message_rows(path, root))
    for path in found["segments"]:
        segments[_map_name(path)] = tuple(_map_rows(path, root))
    for path in found["datatypes"]:
        datatypes[_map_name(path)] = tuple(_map_rows(path, root))
    for path in found["codesystems"]:
        codes[_codes_name(path)] = tuple(_code_rows(path, root))
    every = (*messages.values(), *segments.values(), *datatypes.values(), *codes.values())
    return Tables(
        messages, segments, datatypes, codes, sum(len(rows) for rows in every), len(every)
    )


def _files(folder: Path) -> Iterator[Path]:
    paths = sorted(folder.glob("*.csv")) if folder.is_dir() else []
    if len(paths) > FILES_MAX:
        raise TablesUnreadable(f"{folder}: more than {FILES_MAX} files")
    yield from paths


def _name(path: Path) -> str:
    found = _SEGMENT_NAME.search(path.name)
    return found["name"] if found else path.stem


def _map_name(path: Path) -> str:
    """``PID_Patient`` of the file's name as the maps are called: ``PID[Patient]``."""
    source, _, target = _name(path).partition("_")
    return f"{source}[{target}]"


def _codes_name(path: Path) -> str:
    """``AddressType_Use`` of the file's name as the maps call it: ``AddressType[Use]``."""
    found = _CODES_NAME.search(path.name)
    source, mark, target = (found["name"] if found else path.stem).partition("_")
    return f"{source}[{target}]" if mark else source


def _cells(path: Path) -> Iterator[tuple[int, list[str], dict[str, int]]]:
    """Line number, cells and the columns by heading, for every row below the headings."""
    if path.stat().st_size > FILE_BYTES_MAX:
        raise TablesUnreadable(f"{path}: larger than {FILE_BYTES_MAX} bytes")
    columns: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=False)
            for number, cells in enumerate(reader, 1):
                if number > ROWS_MAX:
                    raise TablesUnreadable(f"{path}: more than {ROWS_MAX} rows")
                if number == 2:
                    columns = _columns(cells)
                elif number > 2 and any(cell.strip() for cell in cells):
                    yield number, cells, columns
    except (UnicodeDecodeError, csv.Error) as fault:
        raise TablesUnreadable(f"{path}: not a table in UTF-8 and CSV: {fault}") from None


_HEADINGS = {
    "computable": "antlr", "computable antlr": "antlr", "computable - antlr": "antlr",
    "computable fhirpath": "fhirpath", "computable - fhirpath": "fhirpath",
    "fhir attribute/ data type": "fhir attribute", "derived mapping": "assignment",
    "cardinality - maximum": "cardinality - max",
}  # fmt: skip


def _columns(cells: list[str]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for index, cell in enumerate(cells):
        heading = " ".join(cell.split()).casefold()
        if heading.startswith("vocabulary mapping"):
            heading = "vocabulary"
        heading = _HEADINGS.get(heading, heading)
        if not heading:
            continue
        # Data type, code system and code stand twice: first that of v2, then that of FHIR.
        columns[heading if heading not in columns else f"fhir {heading}"] = index
    return columns


def _cell(cells: list[str], columns: dict[str, int], heading: str) -> str:
    index = columns.get(heading)
    return cells[index].strip() if index is not None and index < len(cells) else ""


def _map_rows(path: Path, root: Path) -> Iterator[MapRow]:
    label = path.relative_to(root).as_posix()
    for number, cells, columns in _cells(path):
        yield MapRow(
            label,
            number,
            *(
                _cell(cells, columns, heading)
                for heading in (
                    "identifier", "name", "data type", "cardinality - max", "antlr", "fhirpath",
                    "narrative", "fhir attribute", "fhir data type", "data type mapping",
                    "vocabulary", "assignment", "comments",
                )
            ),
        )  # fmt: skip


def _message_rows(path: Path, root: Path) -> Iterator[MessageRow]:
    label = path.relative_to(root).as_posix()
    for number, cells, columns in _cells(path):
        yield MessageRow(
            label,
            number,
            *(
                _cell(cells, columns, heading)
                for heading in (
                    "identifier", "syntax", "antlr", "fhirpath", "narrative", "primary target",
                    "segment map", "references",
                )
            ),
        )  # fmt: skip


def _code_rows(path: Path, root: Path) -> Iterator[CodeRow]:
    label = path.relative_to(root).as_posix()
    for number, cells, columns in _cells(path):
        yield CodeRow(
            label,
            number,
            *(
                _cell(cells, columns, heading)
                for heading in (
                    "code",
                    "text",
                    "antlr",
                    "narrative",
                    "fhir code",
                    "display",
                    "fhir code system",
                )
            ),
        )

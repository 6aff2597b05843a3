"""Write docs/v2-to-fhir.md: the shipped HL7 v2 mappings beside HL7's v2-to-FHIR tables.

    python tools/build_comparison.py [--check]

The tables are read from ../shared/corpora/v2-to-fhir. A row is «same» when a shipped rule takes the
row's field to the row's element, «elsewhere» when it takes it to another one, «not mapped» when
no rule reads it. Reasons stand where the mapping is: ``note:`` and ``reason:`` of a rule, the
``ignore:`` lists; what concerns many rows at once is in docs/v2-to-fhir-reasons.yaml.
With ``--check`` nothing is written; exit 1 when the page is out of date.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from shipped_rules import PATH, Fact, Reader, Shipped

from gateway.mapping.r4.definitions import Definitions, UnknownPath
from gateway.workbench.importing.attributes import AttributeUnreadable, read_attribute
from gateway.workbench.importing.rows import CodeRow, MapRow, MessageRow, Tables, read_tables

REPOSITORY = Path(__file__).resolve().parent.parent
TABLES = REPOSITORY.parent / "shared" / "corpora" / "v2-to-fhir"
PAGE = REPOSITORY / "docs" / "v2-to-fhir.md"
REASONS = REPOSITORY / "docs" / "v2-to-fhir-reasons.yaml"
SAME, ELSEWHERE, NOT_MAPPED = "same", "elsewhere", "not mapped"


# --- reasons -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reason:
    """Why rows differ or are not mapped: patterns with ``*`` for map, field and element."""

    map: str
    row: str
    target: str
    reason: str

    def fits(self, name: str, row: str, target: str) -> bool:
        """Whether it is about a row."""
        pairs = ((self.map, name), (self.row, row), (self.target, target))
        return all(_fits(pattern, text) for pattern, text in pairs)


def _fits(pattern: str, text: str) -> bool:
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None


def read_reasons() -> tuple[list[Reason], dict[str, str]]:
    """The reasons for many rows, and which shipped type stands for which data type map."""
    told = yaml.safe_load(REASONS.read_text(encoding="utf-8"))
    reasons = [
        Reason(each.get("map", "*"), each.get("row", "*"), each.get("target", "*"), each["reason"])
        for each in told["reasons"]
    ]
    return reasons, told["types"]


# --- comparing ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the page."""

    map: str
    row: str
    target: str
    status: str
    here: str
    reason: str


class Comparison:
    """The official rows beside the shipped facts."""

    def __init__(self, tables: Tables, shipped: Shipped) -> None:
        self._tables = tables
        self._shipped = shipped
        self._definitions = Definitions.load()
        self._reasons, self._types = read_reasons()
        self._numbers = table_numbers(tables)

    def segments(self) -> Iterator[Line]:
        """Every row of a segment map that has an element."""
        for name, rows in sorted(self._tables.segments.items()):
            resource = re.split(r"[-.]", name.partition("[")[2].rstrip("]"))[0]
            for row in rows:
                if row.attribute:
                    yield self._segment(name, resource, row)

    def _segment(self, name: str, resource: str, row: MapRow) -> Line:
        found = PATH.match(row.identifier)
        source = f"{found['segment']}-{found['field']}" if found is not None else ""
        facts = self._shipped.by_field.get(source, [])
        wanted = self._steps(row)
        if not source:  # a constant of the whole segment: whatever fills the element here
            facts = [
                fact
                for fact in self._shipped.facts
                if fact.resource == resource and self._agrees(resource, fact.target, wanted)
            ]
        return self._line(name, resource, row, wanted, facts, source)

    def datatypes(self) -> Iterator[Line]:
        """Every row of a data type map for which there is a type of the same kind here."""
        for name, rows in sorted(self._tables.datatypes.items()):
            kinds = self._types.get(name, "").split()
            for row in rows:
                if not row.attribute:
                    continue
                number = re.sub(r"^[A-Z]+[.-]", "", row.identifier)
                facts = [
                    fact
                    for fact in self._shipped.types
                    if fact.resource in kinds and number and fact.rest.split(".")[0] == number
                ]
                yield self._line(name, kinds[0] if kinds else "", row, self._steps(row), facts, "")

    def _steps(self, row: MapRow) -> tuple[str, ...]:
        try:
            steps = read_attribute(row.attribute).steps
        except AttributeUnreadable:
            return tuple(re.findall(r"[a-z][A-Za-z]*", row.attribute))[:1]
        return tuple(step.name for step in steps)

    def _line(
        self, name: str, resource: str, row: MapRow, wanted: tuple[str, ...],
        facts: Sequence[Fact], source: str,
    ) -> Line:  # fmt: skip
        # A type may leave a part to another: CodeableConcept.coding to FirstCoding.
        parts = [fact for fact in facts if fact.source == "$" and fact.resource != resource]
        own = [fact for fact in facts if fact.resource == resource]
        same = [fact for fact in own if self._agrees(resource, fact.target, wanted)]
        same += [fact for fact in parts if self._agrees("", fact.target, wanted[1:])]
        if same:
            return self._made(name, row, SAME, same[0], "")
        if facts:
            best = (own or list(facts))[0]
            return self._made(name, row, ELSEWHERE, best, self._why(name, row, best.note))
        reason = self._ignored(source, row) or self._why(name, row, "")
        return Line(name, row.identifier, row.attribute, NOT_MAPPED, "", reason)

    def _made(self, name: str, row: MapRow, status: str, fact: Fact, reason: str) -> Line:
        target = ".".join((fact.resource, *fact.target))
        return Line(name, row.identifier, row.attribute, status, f"{target} (`{fact.place}`)",
                    reason)  # fmt: skip

    def _why(self, name: str, row: MapRow, note: str) -> str:
        if note:
            return note
        for reason in self._reasons:
            if reason.fits(name, row.identifier, row.attribute):
                return reason.reason
        return ""

    def _ignored(self, source: str, row: MapRow) -> str:
        for path, reason in self._shipped.ignored.items():
            if path in (source, source.partition("-")[0], row.identifier):
                return reason
        return ""

    def _agrees(self, resource: str, have: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
        """Whether two targets are the same element, as far down as both go."""
        if not wanted:
            return not have
        for mine, theirs in zip(have, wanted, strict=False):
            if self._element(resource, mine) != self._element(resource, theirs):
                return False
            resource = ""
        return bool(have)

    def _element(self, resource: str, name: str) -> str:
        """An element's name without the type of a choice: effectiveDateTime is effective."""
        name = name.lstrip("_").strip()
        if resource:
            try:
                return self._definitions.element(resource, name).name.removesuffix("[x]")
            except UnknownPath:
                pass
        return re.sub(r"^(value|effective|onset|deceased|collected|occurrence|performed|"
                      r"medication|timing|multipleBirth|asNeeded)[A-Z].*", r"\1", name)  # fmt: skip

    def messages(self) -> Iterator[Line]:
        """Every row of a message map that makes a resource."""
        for name, rows in sorted(self._tables.messages.items()):
            kind, _, event = name.partition("_")
            made = self._shipped.events.get(f"{kind} {event}", set())
            for row in rows:
                if row.target and row.mapping:
                    yield self._message(name, row, made)

    def _message(self, name: str, row: MessageRow, made: set[str]) -> Line:
        segment = row.mapping.partition("[")[0]
        resource = re.split(r"[\[.(]", row.target)[0]
        reads = [
            fact
            for source, facts in self._shipped.by_field.items()
            if source.partition("-")[0] == segment
            for fact in facts
            if fact.resource == resource
        ]
        if resource in made and reads:
            return Line(name, row.identifier, row.target, SAME, f"{resource} from {segment}", "")
        here = ""
        status, reason = NOT_MAPPED, ""
        for pattern in self._reasons:
            if pattern.fits(name, segment, row.target) or pattern.fits(row.mapping, "", row.target):
                reason = reason or pattern.reason
                break
        reason = reason or self._shipped.ignored.get(segment, "")
        return Line(name, row.identifier, row.target, status, here, reason)

    def codes(self) -> Iterator[tuple[str, str, Counter[str], list[str]]]:
        """Each code system map: its table here, how many codes of each status, the others."""
        for name, rows in sorted(self._tables.codes.items()):
            mapped = [row for row in rows if row.code and row.target]
            if mapped:
                yield self._code_table(name, mapped)

    def _code_table(
        self, name: str, rows: Iterable[CodeRow]
    ) -> tuple[str, str, Counter[str], list[str]]:
        listed = list(rows)
        official: dict[str, set[str]] = {}
        for row in listed:
            official.setdefault(row.code, set()).add(row.target)
        number = next((n for row in listed if (n := self._numbers.get((row.file, row.number)))), "")
        candidates = {
            table: codes
            for table, codes in self._shipped.codes.items()
            if number and re.fullmatch(rf"hl7/{number}(-.*)?", table)
        }
        best, agreeing = "", -1
        for table, codes in sorted(candidates.items()):
            same = sum(codes.get(code, codes.get(code.casefold())) in targets
                       for code, targets in official.items())  # fmt: skip
            if same > agreeing:
                best, agreeing = table, same
        counts: Counter[str] = Counter()
        others: list[str] = []
        codes = candidates.get(best, {}) if agreeing > 0 else {}
        for code, targets in sorted(official.items()):
            mine = codes.get(code, codes.get(code.casefold()))
            status = SAME if mine in targets else ELSEWHERE if mine is not None else NOT_MAPPED
            counts[status] += 1
            if status is ELSEWHERE:
                others.append(f"{code} is {mine} here, {' or '.join(sorted(targets))} there")
            elif status is NOT_MAPPED and codes:
                others.append(f"{code} is not in the table here")
        return name, best if codes else "", counts, others


def table_numbers(tables: Tables) -> dict[tuple[str, int], str]:
    """The HL7 table number of each code row, from the sheet's third column."""
    found: dict[tuple[str, int], str] = {}
    for rows in tables.codes.values():
        for file in {row.file for row in rows}:
            with (TABLES / "mappings" / file).open(encoding="utf-8-sig", newline="") as stream:
                for number, cells in enumerate(csv.reader(stream), 1):
                    match = re.search(r"HL7(\d{4})", cells[2]) if len(cells) > 2 else None
                    if match is not None:
                        found[file, number] = match[1]
    return found


# --- the page ----------------------------------------------------------------------------------


def page() -> str:
    """The whole page."""
    comparison = Comparison(read_tables(TABLES), Reader().read())
    segments, messages = list(comparison.segments()), list(comparison.messages())
    datatypes = list(comparison.datatypes())
    out = [
        "# Our HL7 v2 mappings beside HL7's v2-to-FHIR tables",
        "",
        "HL7 publishes tables that say where each field of HL7 v2 goes in FHIR R4",
        "(https://build.fhir.org/ig/HL7/v2-to-fhir/). This page compares the mappings that are",
        "shipped with them, row by row. *same*: a rule here takes the field to that element.",
        "*elsewhere*: the field is read, and goes to another element. *not mapped*: no rule reads",
        "it. Conditions are not compared: 173 of the tables' are prose.",
        "",
        "Made by `python tools/build_comparison.py`. `ecluse mapping import` makes mapping files of",
        "the same tables.",
        "",
        "| tables | rows | same | elsewhere | not mapped |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, lines in (("messages", messages), ("segments", segments), ("data types", datatypes)):
        out.append(f"| {title} | {len(lines)} | {_counted(lines)} |")
    codes = list(comparison.codes())
    total: Counter[str] = Counter()
    for _, _, counts, _ in codes:
        total += counts
    out.append(f"| codes | {total.total()} | {total[SAME]} | {total[ELSEWHERE]} | "
               f"{total[NOT_MAPPED]} |")  # fmt: skip
    out += _section("Messages", messages, "segment")
    out += _section("Segments", segments, "field")
    out += _section("Data types", datatypes, "component")
    out += _code_section(codes)
    return "\n".join(out) + "\n"


def _counted(lines: Iterable[Line]) -> str:
    counts = Counter(line.status for line in lines)
    return f"{counts[SAME]} | {counts[ELSEWHERE]} | {counts[NOT_MAPPED]}"


def _section(title: str, lines: Sequence[Line], what: str) -> Iterator[str]:
    yield from ("", f"## {title}")
    maps: dict[str, list[Line]] = {}
    for line in lines:
        maps.setdefault(line.map, []).append(line)
    for name, rows in maps.items():
        yield from ("", f"### {name}", "")
        reasons = {row.reason for row in rows}
        if len(reasons) == 1 and all(row.status == NOT_MAPPED for row in rows):
            yield f"{len(rows)} rows, none mapped: {_cell(rows[0].reason)}."
            continue
        yield f"| {what} | element | here | |"
        yield "|---|---|---|---|"
        for row in rows:
            told = "; ".join(part for part in (row.here, _cell(row.reason)) if part)
            yield f"| {_cell(row.row)} | {_cell(row.target)} | {row.status} | {told} |"


def _code_section(codes: Iterable[tuple[str, str, Counter[str], list[str]]]) -> Iterator[str]:
    yield from ("", "## Code systems", "", "| map | table here | same | elsewhere | not here | |",
                "|---|---|---:|---:|---:|---|")  # fmt: skip
    for name, table, counts, others in codes:
        shown = "; ".join(others[:12]) + (f"; {len(others) - 12} more" if len(others) > 12 else "")
        where = f"`{table}`" if table else "none: codes go as they are"
        yield (f"| {name} | {where} | {counts[SAME]} | {counts[ELSEWHERE]} | "
               f"{counts[NOT_MAPPED]} | {_cell(shown)} |")  # fmt: skip


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").rstrip(".")


def unexplained() -> list[str]:
    """The rows that differ, or are not mapped, and of which nothing says why."""
    comparison = Comparison(read_tables(TABLES), Reader().read())
    lines = (*comparison.messages(), *comparison.segments(), *comparison.datatypes())
    return [
        f"{line.map} {line.row} {line.target}: {line.status} {line.here}".strip()
        for line in lines
        if line.status != SAME and not line.reason
    ]


def main(arguments: Sequence[str]) -> int:
    """Write or check the page; the exit code."""
    if not TABLES.is_dir():
        print(f"the tables are not there (looked in {TABLES})")
        return 1
    text = page()
    for line in unexplained():
        print("no reason:", line)
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in arguments:
        print("out of date: v2-to-fhir.md")
        return 1
    PAGE.write_text(text, encoding="utf-8")
    print("written: v2-to-fhir.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

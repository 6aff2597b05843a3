"""Code system maps to terminology tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.mapping.targets import Target
from gateway.workbench.importing.items import table_name
from gateway.workbench.importing.rows import CodeRow
from gateway.workbench.importing.todo import Task, Todo
from gateway.workbench.importing.writing import VERSION, flow, key, quoted, scalar

_LICENCE = "CC0-1.0 (HL7 Terminology, FHIR R4)"


def code_table(
    name: str, rows: Iterable[CodeRow], uses: list[Target], todo: Todo
) -> tuple[str, int]:
    """A code system map as a file's text, and how many codes it has; ``todo`` takes the rest."""
    bound = [use.codes for use in uses if use.codes is not None and use.types == ("code",)]
    lines: list[str] = []
    seen: dict[str, CodeRow] = {}
    left: dict[str, list[CodeRow]] = {}
    for row in rows:
        reason = _unusable_code(row, bound, seen)
        if reason:
            left.setdefault(reason, []).append(row)
            continue
        if not row.code or row.code in seen:
            continue
        seen[row.code] = row
        value = {"code": row.target, "display": row.display, "system": row.system.strip()}
        shown = {part: " ".join(text.split()) for part, text in value.items() if text}
        lines.append(
            f"  {key(row.code) if _is_plain(row.code) else quoted(row.code)}: {flow(shown)}"
        )
    for reason, without in left.items():
        first = without[0]
        codes = ", ".join(row.code for row in without)
        todo.add(Task("vocabulary", first.file, first.number, name, "", codes, reason))
    head = [
        f"# Imported from the code system map {name} of HL7's v2-to-FHIR tables.",
        f"table: {table_name(name)}",
        f"version: {scalar(VERSION)}",
        f"source: {scalar(f'HL7 v2-to-FHIR, concept map {name}')}",
        f"licence: {scalar(_LICENCE)}",
        "rows:",
    ]
    return "\n".join([*head, *lines]) + "\n", len(lines)


def _unusable_code(row: CodeRow, bound: list[frozenset[str]], seen: Mapping[str, CodeRow]) -> str:
    """Why a code's row cannot be taken over, or empty."""
    if not row.code:
        return ""
    if row.condition or (row.narrative and not row.target):
        return "the condition is prose"
    if not row.target:
        return "the table gives no FHIR code"
    if any(row.target not in codes for codes in bound):
        return f"{row.target} is not of the codes that R4 binds there"
    before = seen.get(row.code)
    if before is not None and (before.target, before.system) != (row.target, row.system):
        return f"the code stands twice; {before.target} of row {before.number} is taken"
    return ""


def _is_plain(code: str) -> bool:
    return code.isalnum() and not code[0].isdigit()

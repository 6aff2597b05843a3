"""What the tables leave to a person, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from gateway.workbench.importing.nodes import Row
from gateway.workbench.importing.rows import CodeRow, MapRow, MessageRow

KINDS = {
    "condition": "Conditions that are prose, or not of the simple shapes",
    "assignment": "Values that a formula or prose makes",
    "attribute": "Attributes that cannot be read",
    "target": "Elements that R4 does not have there",
    "path": "Places that HL7 v2 does not have there",
    "data type": "Data types without a map",
    "vocabulary": "Codes that cannot be taken over",
    "entry": "Resources that cannot be made as they stand",
    "rule": "Rules that the check refuses",
    "identity": "Identities to choose",
}


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do: the row it is about, why it is not imported, and the text that says it."""

    kind: str
    file: str
    row: int
    source: str
    target: str
    text: str
    reason: str


class Todo:
    """Collects the tasks; each row is listed once for each reason."""

    def __init__(self) -> None:
        self._tasks: dict[Task, None] = {}

    def row(self, row: Row, kind: str, reason: str, text: str = "") -> None:
        """Add a row. ``text`` is the condition or assignment, as the table has it."""
        if isinstance(row, CodeRow):
            source, target = row.code, f"{row.system}|{row.target}" if row.target else ""
        elif isinstance(row, MessageRow):
            source, target = row.identifier, row.target
        else:
            source, target = row.identifier, row.attribute
        own = text or row.condition or row.narrative
        if not own and isinstance(row, MapRow):
            own = row.assignment
        self.add(Task(kind, row.file, row.number, source, target, own, reason))

    def rows(self, rows: Iterable[Row], kind: str, reason: str) -> None:
        """Add rows, those of them that go to an element, for one reason."""
        for row in rows:
            if not isinstance(row, MapRow) or row.attribute:
                self.row(row, kind, reason)

    def add(self, task: Task) -> None:
        """Add a task."""
        self._tasks[task] = None

    def tasks(self) -> list[Task]:
        """All tasks, by kind, file and row."""
        order = list(KINDS)
        return sorted(
            self._tasks, key=lambda t: (order.index(t.kind), t.file, t.row, t.reason, t.target)
        )

    def counts(self) -> dict[str, int]:
        """How many tasks of each kind."""
        found = Counter(task.kind for task in self._tasks)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def as_json(self) -> list[dict[str, Any]]:
        """The tasks as plain values."""
        return [asdict(task) for task in self.tasks()]

    def as_markdown(self) -> str:
        """The tasks as a page with a box to tick for each."""
        lines = [
            "# What the v2-to-FHIR tables leave to a person",
            "",
            "Made by `ecluse mapping import`. Each line is a row of the tables that is not in the",
            "imported files, and why. `todo.json` holds the same for programs.",
        ]
        kind = ""
        for task in self.tasks():
            if task.kind != kind:
                kind = task.kind
                lines += ["", f"## {KINDS[kind]} ({self.counts()[kind]})", ""]
            what = " → ".join(part for part in (task.source, task.target) if part)
            told = f" «{_line(task.text)}»" if task.text else ""
            lines.append(
                f"- [ ] `{task.file}` row {task.row}: {_line(what)}: {_line(task.reason)}.{told}"
            )
        return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")

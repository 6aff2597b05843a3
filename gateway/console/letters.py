"""Dead letters as rows and pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from deadletter.selection import Item, Report, Verdict
from gateway.console.rows import kind_label
from gateway.journal import deadletters, deliveries
from gateway.journal.tables import message
from gateway.journal.values import DeadLetter, DeadLetterFilter
from gateway.model import Format
from gateway.shapes import explanation
from gateway.wording import STAGES

PLAN_ROWS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter with its cause explained and its message's labels."""

    id: int
    message_id: int
    delivery_id: int | None
    fingerprint: str
    title: str
    code: str
    stage: str
    source: str
    kind_label: str
    control_id: str
    detail: str
    location: str
    protocol_code: str
    meaning: str
    remedy: str
    attempts: int
    buried_at: datetime
    open: bool
    resolution: str
    resolved_at: datetime | None
    reason: str
    actor: str
    child_message_id: int | None
    destination: str
    assignee: str
    repairable: bool
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an action would do: the first rows, and how many more."""

    count: int
    rows: tuple[Letter, ...]

    @property
    def more(self) -> int:
        """Those that are not listed."""
        return self.count - len(self.rows)


def read_letters(connection: Connection, found: Sequence[DeadLetter]) -> list[Letter]:
    """Dead letters with the labels of their messages."""
    wanted = {each.message_id for each in found}
    known: dict[int, Any] = {
        row.id: row
        for row in connection.execute(
            select(message.c.id, message.c.control_id, message.c.format).where(
                message.c.id.in_(wanted)
            )
        )
    }
    owners = deadletters.owners(connection, (each.fingerprint for each in found))
    return [
        _letter(each, known.get(each.message_id), owners.get(each.fingerprint, ""))
        for each in found
    ]


def _letter(letter: DeadLetter, row: Any, owner: str) -> Letter:
    words = explanation(letter.cause.code)
    form = Format(row.format) if row is not None else None
    return Letter(
        id=letter.id,
        message_id=letter.message_id,
        delivery_id=letter.delivery_id,
        fingerprint=letter.fingerprint,
        title=words["title"],
        code=letter.cause.code.value,
        stage=STAGES[letter.stage],
        source=letter.source,
        kind_label=kind_label(form, letter.kind),
        control_id=row.control_id if row is not None else "",
        detail=letter.cause.detail,
        location=letter.cause.location,
        protocol_code=letter.cause.protocol_code,
        meaning=words["means"],
        remedy=words["do"],
        attempts=letter.attempts,
        buried_at=letter.buried_at,
        open=letter.resolved_at is None,
        resolution=letter.resolution.value if letter.resolution else "",
        resolved_at=letter.resolved_at,
        reason=letter.reason,
        actor=letter.actor,
        child_message_id=letter.child_message_id,
        destination=letter.destination,
        assignee=letter.assignee or owner,
        repairable=form is Format.HL7V2,
    )


def plan(connection: Connection, report: Report, count: int) -> Plan:
    """A dry run's report with its first letters and what would happen to each; ``count`` is of
    how many."""
    items = report.items[:PLAN_ROWS]
    by_id = {each.dead_letter_id: each for each in items}
    found = deadletters.page(
        connection,
        DeadLetterFilter(resolved=None, ids=tuple(by_id)),
        limit=PLAN_ROWS,
    ) if by_id else []  # fmt: skip
    order = {number: place for place, number in enumerate(by_id)}
    rows = sorted(read_letters(connection, found), key=lambda each: order[each.id])
    return Plan(
        count=count,
        rows=tuple(replace(row, effect=_effect(connection, by_id[row.id])) for row in rows),
    )


def _effect(connection: Connection, item: Item) -> str:
    if item.verdict is Verdict.WITHHELD:
        return "stays here: the patient's permission forbids it now"
    if item.verdict is Verdict.GONE:
        return "nothing: it was settled already"
    if item.verdict is Verdict.DISCARDED:
        return "goes nowhere; its bytes stay readable"
    if item.delivery_id is None:
        return "is read again from its bytes, with the mappings of today"
    row = deliveries.get(connection, item.delivery_id)
    return f"is sent again to {row.destination}" if row is not None else "is sent again"


RESULTS = {
    Verdict.REPLAYED: "on its way again",
    Verdict.REPAIRED: "replaced by a repaired copy",
    Verdict.DISCARDED: "discarded",
    Verdict.WITHHELD: "stayed: the patient's permission forbids it now",
    Verdict.GONE: "had been settled already",
}
"""What an action did with one dead letter, in words."""

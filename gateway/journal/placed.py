"""Which entries stand at destinations elsewhere, as far as we put them there.

A destination that replaces entries by name cannot know which of two contents is the later one:
after a dead letter is replayed, an older content may go after a newer one. So what was put is
noted with the message's place in the order of arrival, in the transaction that marks the
delivery delivered.

Such a note is needed for as long as a message that came before may still go: while its bytes or
its entries are kept, or while it is unresolved. Afterwards a purge takes the note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, tuple_

from gateway.bulk import Statement, insert_rows
from gateway.journal import tables
from gateway.journal.retention import UNRESOLVED
from gateway.journal.tables import KEY_MAX

ROWS_LOOKED_AT = 5_000
"""Notes that one transaction of a purge looks at."""

_COLUMNS = ("destination", "reference", "sequence", "revision", "provisional")
_FOUND = Statement(
    "SELECT reference, sequence, revision, provisional FROM placed"
    " WHERE destination = :destination AND reference = ANY(:references text)"
)
_LATER = "(destination, reference) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _COLUMNS[2:]
)


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry's content at a destination: of which message and reading, and whether it came
    from one that is no authority for it (``Entry.create_only``)."""

    sequence: int
    revision: int
    provisional: bool

    def gives_way_to(self, other: Placed) -> bool:
        """Whether another content takes its place (the rule of ``record.precedence``)."""
        if other.provisional != self.provisional:
            return self.provisional
        if other.sequence == self.sequence:
            return other.revision >= self.revision
        earlier = other.sequence < self.sequence
        return earlier if self.provisional else not earlier


def found(
    connection: Connection, destination: str, references: Iterable[str]
) -> Mapping[str, Placed]:
    """What stands there of these entries."""
    wanted = sorted({each for each in references if len(each) <= KEY_MAX})
    if not wanted:
        return {}
    rows = _FOUND.rows(connection, destination=destination, references=wanted)
    return {row[0]: Placed(row[1], row[2], bool(row[3])) for row in rows}


def note(connection: Connection, destination: str, put: Sequence[tuple[str, Placed]]) -> None:
    """Note what was put there."""
    rows = {
        reference: (destination, reference, each.sequence, each.revision, int(each.provisional))
        for reference, each in put
        if len(reference) <= KEY_MAX
    }
    insert_rows(
        connection,
        tables.placed,
        [rows[reference] for reference in sorted(rows)],
        columns=_COLUMNS,
        conflict=_LATER,
    )


def first_that_may_go(connection: Connection) -> int:
    """The place in the order of arrival before which no message can go again.

    A repaired copy has its parent's place, any other message that of its own number. Where
    nothing can go at all, it is the place after the last one.
    """
    message, content, normalised = tables.message, tables.content, tables.normalised
    unresolved = [state.value for state in UNRESOLVED]
    # First, so that what arrives meanwhile comes after it.
    last = connection.execute(select(func.max(message.c.id))).scalar_one()
    if last is None:
        last = connection.execute(select(func.max(tables.placed.c.sequence))).scalar_one()
    asked = [select(func.min(kept.c.message_id)) for kept in (content, normalised)]
    asked += [select(func.min(message.c.id)).where(message.c.state == each) for each in unresolved]
    asked += [
        select(func.min(message.c.sequence))
        .outerjoin(content, content.c.message_id == message.c.id)
        .outerjoin(normalised, normalised.c.message_id == message.c.id)
        .where(
            message.c.parent_id.is_not(None),
            content.c.message_id.is_not(None)
            | normalised.c.message_id.is_not(None)
            | message.c.state.in_(unresolved),
        )
    ]
    found = [connection.execute(each).scalar_one() for each in asked]
    return min((place for place in found if place is not None), default=(last or 0) + 1)


def forget(
    connection: Connection, before: int, after: tuple[str, str]
) -> tuple[int, tuple[str, str] | None]:
    """Delete the notes of messages whose place is before ``before``, among those that follow the
    destination and reference ``after``: how many went, and where the next step begins (None:
    there is no next)."""
    table = tables.placed
    key = tuple_(table.c.destination, table.c.reference)
    found = connection.execute(
        select(table.c.destination, table.c.reference, table.c.sequence)
        .where(key > after)
        .order_by(table.c.destination, table.c.reference)
        .limit(ROWS_LOOKED_AT)
    ).all()
    if not found:
        return 0, None
    last = (found[-1].destination, found[-1].reference)
    gone = 0
    if any(each.sequence < before for each in found):
        old = delete(table).where(key > after, key <= last, table.c.sequence < before)
        gone = connection.execute(old).rowcount
    return gone, last if len(found) == ROWS_LOOKED_AT else None

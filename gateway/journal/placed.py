"""Which entries stand at destinations elsewhere, as far as we put them there.

A destination that replaces entries by name cannot know which of two contents is the later one:
after a dead letter is replayed, an older content may go after a newer one. So what was put is
noted with the message's place in the order of arrival, in the transaction that marks the
delivery delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.bulk import Statement, insert_rows
from gateway.journal import tables
from gateway.journal.tables import KEY_MAX

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

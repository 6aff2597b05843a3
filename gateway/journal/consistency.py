"""Whether everything that was accepted is somewhere, and will go on from there.

Each check counts what must not be, and gives some of the numbers. All go along indexes; none
reads more rows into memory than it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, text

SHOWN = 5

_CHECKS: dict[str, tuple[str, str]] = {
    "stranded-messages": (
        "received messages whose lane nobody will look at",
        "SELECT m.id FROM message AS m JOIN lane AS l ON l.name = m.lane"
        " WHERE m.state = 'received' AND l.next_at IS NULL AND l.lease_owner IS NULL",
    ),
    "laneless-messages": (
        "received messages without a lane",
        "SELECT m.id FROM message AS m WHERE m.state = 'received'"
        " AND NOT EXISTS (SELECT 1 FROM lane AS l WHERE l.name = m.lane)",
    ),
    "stranded-deliveries": (
        "pending deliveries whose lane nobody will look at",
        "SELECT d.id FROM delivery AS d JOIN lane AS l ON l.name = d.lane"
        " WHERE d.state = 'pending' AND l.next_at IS NULL AND l.lease_owner IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM standstill AS s WHERE s.kind = 'destination'"
        "   AND s.name = d.destination AND s.mode = 'draining' AND s.id = (SELECT max(n.id)"
        "   FROM standstill AS n WHERE n.kind = s.kind AND n.name = s.name))",
    ),
    "laneless-deliveries": (
        "pending deliveries without a lane",
        "SELECT d.id FROM delivery AS d WHERE d.state = 'pending'"
        " AND NOT EXISTS (SELECT 1 FROM lane AS l WHERE l.name = d.lane)",
    ),
    "routed-without-deliveries": (
        "messages on their way of which no delivery is",
        "SELECT m.id FROM message AS m WHERE m.state = 'routed' AND NOT EXISTS"
        " (SELECT 1 FROM delivery AS d WHERE d.message_id = m.id AND d.state = 'pending')",
    ),
    "dead-without-letter": (
        "dead messages that no dead letter tells of",
        "SELECT m.id FROM message AS m WHERE m.state = 'dead' AND NOT EXISTS"
        " (SELECT 1 FROM dead_letter AS x WHERE x.message_id = m.id AND x.resolved_at IS NULL)",
    ),
    "without-content": (
        "messages whose bytes have no row, and that no purge has taken",
        "SELECT m.id FROM message AS m LEFT JOIN content AS c ON c.message_id = m.id"
        " WHERE c.message_id IS NULL AND (m.state NOT IN"
        "  ('delivered', 'gathered', 'refused', 'discarded', 'replaced') OR m.id >"
        "  coalesce((SELECT up_to FROM purge_mark WHERE part = 'content'), 0))",
    ),
    "without-entries": (
        "pending deliveries whose entries are not kept",
        "SELECT d.id FROM delivery AS d WHERE d.state = 'pending' AND NOT EXISTS"
        " (SELECT 1 FROM normalised AS n WHERE n.message_id = d.message_id)",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that must not be: how often, and some of the numbers."""

    check: str
    what: str
    count: int
    examples: tuple[int, ...]


def check(connection: Connection) -> Iterator[Finding]:
    """What is not as it must be."""
    for name, (what, query) in _CHECKS.items():
        count = connection.execute(
            text(f"SELECT count(*) FROM ({query}) AS found")  # noqa: S608 - our own text
        ).scalar_one()
        if count:
            shown = connection.execute(text(f"{query} ORDER BY 1 LIMIT {SHOWN}")).scalars()
            yield Finding(check=name, what=what, count=int(count), examples=tuple(shown))


CHECKS = len(_CHECKS)

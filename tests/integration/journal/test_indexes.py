"""What is asked for all the time is answered by an index, whatever the number of rows.

The statements are taken from the functions themselves as they run, and the
database is asked how it would go about them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, event, func, insert, select

from gateway import bulk
from gateway.journal import (
    convoy,
    deadletters,
    deliveries,
    gatherings,
    lanes,
    ledger,
    messages,
    tables,
)
from gateway.journal.append import _PROBE_SQLITE
from gateway.journal.deadletters import DeadLetterFilter
from gateway.journal.deliveries import NewDelivery
from gateway.journal.messages import MessageFilter
from gateway.journal.states import DeliveryState, MessageState
from gateway.model import Identifier
from tests.integration.journal.bench import Bench

Statement = tuple[str, object]


@contextmanager
def recorded(connection: Connection) -> Iterator[list[Statement]]:
    statements: list[Statement] = []

    def note(
        _connection: object, _cursor: object, text: str, values: object, *_more: object
    ) -> None:
        statements.append((text, values))

    driver_of = bulk.sqlite_driver
    own = driver_of(connection)

    class Driver:
        """SQLite's own connection, to which most of the journal speaks without SQLAlchemy."""

        def execute(self, text: str, values: Any) -> sqlite3.Cursor:
            statements.append((text, values))
            return own.execute(text, values)

    def driver(asking: Connection) -> Any:
        # Only this connection's: another thread's statements are not this database's.
        return Driver() if asking is connection else driver_of(asking)

    event.listen(connection, "before_cursor_execute", note)
    try:
        with patch.object(bulk, "sqlite_driver", driver):
            yield statements
    finally:
        event.remove(connection, "before_cursor_execute", note)


def plan(bench: Bench, work: Callable[[Connection], object], table: str) -> str:
    """How the database reads a table, for each statement of the work that does."""
    with bench.journal.write() as connection:
        with recorded(connection) as statements:
            work(connection)
        explained = []
        if bench.journal.dialect == "postgresql":
            # On a small table reading all of it is right; it must not be so at a million rows.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        prefix = "EXPLAIN QUERY PLAN" if bench.journal.dialect == "sqlite" else "EXPLAIN"
        for text, values in statements:
            if f"FROM {table}" in text or f"UPDATE {table}" in text:
                if bench.journal.dialect == "sqlite":
                    driver = bulk.sqlite_driver(connection)
                    rows = driver.execute(f"{prefix} {text}", values).fetchall()  # type: ignore[arg-type]
                else:
                    rows = connection.exec_driver_sql(f"{prefix} {text}", values).all()  # type: ignore[arg-type]
                explained.append("\n".join(str(row[-1]) for row in rows))
    assert explained, "no statement reads the table"
    return "\n\n".join(explained)


def prepared(bench: Bench) -> int:
    for _ in range(20):
        bench.route(bench.message(), "p")
        bench.message()
    with bench.journal.write() as connection:
        ids = deliveries.insert(
            connection,
            [
                NewDelivery(
                    message_id=100 + number,
                    lane=f"p{number}@record",
                    patient_id=f"p{number}",
                    destination="record",
                    sequence=1,
                    idempotency_key=f"k{number}",
                )
                for number in range(400)
            ],
        )
        deliveries.start_attempts(connection, ids)
        connection.execute(
            insert(tables.waiting),
            [
                {"message_id": 100 + n, "system": "urn:oid:1", "value": str(n), "type": "PI"}
                for n in range(400)
            ],
        )
        if bench.journal.dialect == "postgresql":
            # SQLite is never analysed by us, and must do right without.
            connection.exec_driver_sql("ANALYZE")
    return bench.lease("p@record")


def settle_any(connection: Connection) -> None:
    first = connection.execute(select(func.min(tables.delivery.c.id))).scalar_one()
    deliveries.settle(connection, first, outcome="again", state=DeliveryState.PENDING)


CASES: dict[str, tuple[str, str, Callable[[Bench, Connection, int], object]]] = {
    "claim messages": (
        "message",
        "ix_message_lane_received",
        lambda b, c, t: messages.claim(c, "p@record", t, 32),
    ),
    "claim deliveries": (
        "delivery",
        "ix_delivery_lane_pending",
        lambda b, c, t: deliveries.claim(c, "p@record", t, 1, b.clock() - timedelta(days=1)),
    ),
    "lanes that are due": ("lane", "ix_lane_room", lambda b, c, t: lanes.due(c, b.clock())),
    "is there a message in the lane": (
        "message",
        "ix_message_lane_received",
        lambda b, c, t: lanes.next_due(c, "p@record", b.clock()),
    ),
    "the head of the lane": (
        "delivery",
        "ix_delivery_lane_pending",
        lambda b, c, t: lanes.next_due(c, "p@record", b.clock()),
    ),
    "what gathers in the lane": (
        "gathering",
        "ix_gathering_lane_due",
        lambda b, c, t: lanes.next_due(c, "p@record", b.clock()),
    ),
    "page of a state": (
        "message",
        "ix_message_state",
        lambda b, c, t: messages.page(c, MessageFilter(states=(MessageState.DEAD,))),
    ),
    "page of a source": (
        "message",
        "ix_message_state",
        lambda b, c, t: messages.page(c, MessageFilter(source="lab")),
    ),
    "page of a control id": (
        "message",
        "control_id",
        lambda b, c, t: messages.page(c, MessageFilter(source="lab", control_id="C1")),
    ),
    "counts": ("message", "ix_message_state", lambda b, c, t: messages.counts(c)),
    "repeats": ("message", "ix_message_repeated", lambda b, c, t: ledger._repeats(c)),
    "children": ("message", "ix_message_child", lambda b, c, t: ledger._children(c)),
    "carried": ("message", "ix_message_carrier", lambda b, c, t: ledger._carried(c)),
    "members of a study": (
        "message",
        "ix_message_group",
        lambda b, c, t: gatherings.members(c, "ct", "1.2.3"),
    ),
    "a study of all sources": (
        "message",
        "ix_message_group",
        lambda b, c, t: gatherings.study(c, "ct", "1.2.3"),
    ),
    "messages of a patient": (
        "message",
        "ix_message_patient",
        lambda b, c, t: messages.page(c, MessageFilter(patient_id="p")),
    ),
    "life of a message": ("event", "ix_event_message", lambda b, c, t: messages.events(c, 1)),
    "deliveries of a message": (
        "delivery",
        "ix_delivery_message",
        lambda b, c, t: deliveries.of_message(c, 1),
    ),
    "deliveries of a merged patient": (
        "delivery",
        "ix_delivery_patient_pending",
        lambda b, c, t: deliveries.move_lane(c, "nobody", "p"),
    ),
    "heads of many lanes": (
        "delivery",
        "ix_delivery_lane_pending",
        lambda b, c, t: convoy.claim_all(c, {"p@record": t}, each=4, limit=64, now=b.clock()),
    ),
    "what the deliveries of messages say": (
        "delivery",
        "ix_delivery_message",
        lambda b, c, t: deliveries.conclude(c, [1, 2]),
    ),
    "ends of attempts": (
        "attempt",
        "attempt_",  # the unique key, which each database calls by another name
        lambda b, c, t: settle_any(c),
    ),
    "who waits": (
        "waiting",
        "ix_waiting_identifier",
        lambda b, c, t: messages.release(c, [Identifier(system="s", value="v")]),
    ),
    "dead letters": (
        "dead_letter",
        "ix_dead_letter_open",
        lambda b, c, t: deadletters.page(c, DeadLetterFilter(), limit=5),
    ),
    "dead letters of a source": (
        "dead_letter",
        "ix_dead_letter_open",
        lambda b, c, t: deadletters.page(c, DeadLetterFilter(source="lab"), limit=5),
    ),
    "dead letters of a cause": (
        "dead_letter",
        "ix_dead_letter_open",
        lambda b, c, t: deadletters.page(c, DeadLetterFilter(code="unreadable"), limit=5),
    ),
    "dead letters of a person": (
        "dead_letter",
        "ix_dead_letter_open",
        lambda b, c, t: deadletters.page(c, DeadLetterFilter(assignee="anne"), limit=5),
    ),
    "settled dead letters": (
        "dead_letter",
        "ix_dead_letter_settled",
        lambda b, c, t: deadletters.page(c, DeadLetterFilter(resolved=True), limit=5),
    ),
    "groups of dead letters": (
        "dead_letter_group",
        "ix_dead_letter_group_open",
        lambda b, c, t: deadletters.groups(c),
    ),
    "dead letters of a fingerprint": (
        "dead_letter",
        "ix_dead_letter_unresolved",
        lambda b, c, t: deadletters.page(c, DeadLetterFilter(fingerprint="f")),
    ),
}


def test_indexes_answer(bench: Bench) -> None:
    token = prepared(bench)
    wrong = {}
    for case, (table, index, work) in CASES.items():
        found = plan(bench, lambda connection, work=work: work(bench, connection, token), table)  # type: ignore[misc]
        right = index in found
        if bench.journal.dialect == "sqlite":
            # A few rows may be sorted; what has no bound is read in order.
            few = case in {
                "members of a study",
                "a study of all sources",
                "page of a control id",
                "heads of many lanes",
                "groups of dead letters",
            }
            right = right and (few or "TEMP B-TREE FOR ORDER BY" not in found)
            # The tables stand there by their own names or by those that a statement gives them.
            right = right and not re.search(rf"^SCAN ({table}|[a-uw-z])$", found, re.MULTILINE)
        if not right:
            wrong[case] = found
    assert wrong == {}


def test_duplicates_are_found_by_the_unique_key(sqlite_bench: Bench) -> None:
    with sqlite_bench.journal.write() as connection:
        rows = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + _PROBE_SQLITE, ("[]",)).all()
    found = [row[-1] for row in rows if " m " in row[-1]]
    assert len(found) == 2
    assert all("USING" in line and "INDEX" in line and "source=?" in line for line in found), found

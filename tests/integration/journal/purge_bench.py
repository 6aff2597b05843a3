"""What the tests of purges do to a journal, and what they ask it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from gateway.housekeeping import Purging
from gateway.journal import (
    chain,
    consistency,
    deadletters,
    deliveries,
    messages,
    purges,
)
from gateway.journal.chain import Fault, Verified
from gateway.journal.journal import Journal
from gateway.journal.purges import Purge
from gateway.journal.retention import Ending, Part, Policy
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.writer import GroupWriter
from gateway.model import Cause, CauseCode, Stage
from tests.integration.journal.bench import Bench

DAY = 86_400.0
LARGE = 70_000
ALL = dict.fromkeys(Ending, 30)
BYTES = Policy({Part.CONTENT: ALL, Part.NORMALISED: ALL})
EVERYTHING = Policy({Part.CONTENT: ALL, Part.NORMALISED: ALL, Part.MESSAGE: ALL})
_keys = itertools.count(1)


def unnamed(_connection: Connection, _digests: Sequence[str]) -> Iterable[str]:
    """A record that names no document."""
    return ()


def purge(bench: Bench, policy: Policy, **options: object) -> Purge:
    """A whole purge; as it is at its end."""
    with bench.journal.write() as connection:
        begun = purges.begin(connection, f"test {next(_keys)}", policy, actor="anna")
    worker = Purging(bench.journal, unnamed, **options)  # type: ignore[arg-type]
    for _ in range(1_000):
        if begun.ended_at is not None:
            return begun
        after = worker.step(begun)
        assert after is not None
        begun = after
    raise AssertionError("the purge does not end")


def accept(bench: Bench, count: int, **fields: object) -> list[int]:
    """Messages as a process accepts them, with their links."""
    writer = GroupWriter(bench.journal, batch_max=3)
    writer.start()
    waiting = [
        writer.submit(
            bench.received(**fields),  # type: ignore[arg-type]
            state=MessageState.RECEIVED, lane="in:lab",
        )
        for _ in range(count)
    ]  # fmt: skip
    found = [each.result(timeout=30).message_id for each in waiting]
    writer.stop()
    return found


def deliver(bench: Bench, message_id: int) -> None:
    (number,) = bench.route(message_id, f"p{message_id}")
    with bench.journal.write() as connection:
        deliveries.settle(connection, number, outcome="delivered", state=DeliveryState.DELIVERED)
        deliveries.conclude(connection, [message_id])


def move(bench: Bench, message_id: int, to: MessageState) -> None:
    with bench.journal.write() as connection:
        messages.move(connection, message_id, to, event="x", stage=Stage.IDENTIFY)


def bury(bench: Bench, message_id: int) -> int:
    cause = Cause(code=CauseCode.MAPPING_FAILED, detail="no", location="PID-3")
    with bench.journal.write() as connection:
        return deadletters.bury(connection, message_id, Stage.NORMALISE, cause)


def faults(journal: Journal) -> list[Fault]:
    with journal.read() as connection:
        return list(chain.verify(connection, Verified()))


def in_order(bench: Bench) -> None:
    assert faults(bench.journal) == []
    with bench.journal.read() as connection:
        assert list(consistency.check(connection)) == []


def account(bench: Bench) -> object:
    with bench.journal.read() as connection:
        return messages.ledger(connection)


def ids(bench: Bench, table: str) -> set[int]:
    key = "id" if table == "message" else "message_id"
    with bench.journal.read() as connection:
        return set(connection.execute(text(f"SELECT {key} FROM {table}")).scalars())


def mix(bench: Bench) -> dict[str, list[int]]:
    """Messages that ended in every way, and some that did not, all of them 100 days ago; the
    month has changed, so that PostgreSQL may end it."""
    given = accept(bench, 18)
    names = ("delivered", "refused", "discarded", "held", "dead", "received")
    found = {name: given[3 * place : 3 * place + 3] for place, name in enumerate(names)}
    for each in found["delivered"]:
        deliver(bench, each)
    for each in found["refused"]:
        move(bench, each, MessageState.REFUSED)
    for each in found["discarded"]:
        move(bench, each, MessageState.DISCARDED)
    for each in found["held"]:
        move(bench, each, MessageState.HELD)
    for each in found["dead"]:
        bury(bench, each)
    bench.clock.advance(100 * DAY)
    return found


def accept_study(bench: Bench, count: int, source: str = "ct") -> list[int]:
    writer = GroupWriter(bench.journal, batch_max=2)
    writer.start()
    waiting = [
        writer.submit(
            bench.received(source=source, group="1"), state=MessageState.GATHERING,
            lane=f"in:{source}", group_due_at=bench.clock(),
        )
        for _ in range(count)
    ]  # fmt: skip
    found = [each.result(timeout=30).message_id for each in waiting]
    writer.stop()
    return found

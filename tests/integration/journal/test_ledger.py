"""The account of every source adds up, and buttons act once."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import pytest

from gateway.journal import deadletters, deliveries, gatherings, messages, operations
from gateway.journal.deadletters import Resolution
from gateway.journal.messages import LedgerLine
from gateway.journal.states import DeliveryState, MessageState
from gateway.model import Cause, CauseCode, Payload, Stage
from tests.integration.journal.bench import Bench

M = MessageState
CAUSE = Cause(code=CauseCode.UNREADABLE)


def adds_up(line: LedgerLine) -> bool:
    n = asdict(line)
    parts = ("held", "unmapped", "pending", "delivered", "dead", "discarded")
    return bool(
        n["received"] == n["accepted"] + n["refused"] + n["duplicates"]
        and n["accepted"] == sum(n[part] for part in parts)
    )


def lines(bench: Bench) -> dict[str, LedgerLine]:
    with bench.journal.read() as connection:
        found = messages.ledger(connection)
    assert all(adds_up(line) for line in found.values())
    return found


def move(bench: Bench, message_id: int, to: MessageState) -> None:
    with bench.journal.write() as connection:
        messages.move(connection, message_id, to, event="x", stage=Stage.ROUTE, cause=CAUSE)


def test_every_message_is_somewhere(bench: Bench) -> None:
    for to in (M.UNMAPPED, M.ROUTED, M.DELIVERED, M.DEAD, M.DISCARDED, M.HELD, M.REFUSED):
        move(bench, bench.message(), to)
    bench.append(bench.received(), state=M.REFUSED, cause=CAUSE)
    twice = bench.received()
    bench.append(twice, twice)
    bench.append(twice)
    assert lines(bench)["lab"] == LedgerLine(
        received=11,
        accepted=7,
        refused=2,
        held=1,
        unmapped=1,
        pending=2,
        delivered=1,
        dead=1,
        discarded=1,
        duplicates=2,
    )


def test_a_repaired_message_counts_once(bench: Bench) -> None:
    dead = bench.message()
    with bench.journal.write() as connection:
        letter = deadletters.bury(connection, dead, Stage.NORMALISE, CAUSE)
        child = messages.append_child(
            connection,
            bench.journal.blobs,
            dead,
            Payload.from_bytes(b"mended"),
            actor="anne",
            reason="r",
        )
        deadletters.resolve(
            connection, letter, Resolution.REPLAYED, actor="anne", child_message_id=child.id
        )
    assert lines(bench)["lab"] == LedgerLine(received=1, accepted=1, pending=1, replayed=1)
    delivery_id = bench.route(child.id, "p")[0]
    with bench.journal.write() as connection:
        deliveries.settle(
            connection, delivery_id, outcome="delivered", state=DeliveryState.DELIVERED
        )
        deliveries.conclude(connection, [child.id])
    assert lines(bench)["lab"] == LedgerLine(received=1, accepted=1, delivered=1, replayed=1)


def test_the_instances_of_a_study_are_where_their_carrier_is(bench: Bench) -> None:
    due_at = bench.clock() + timedelta(seconds=1)
    bench.append(
        *(bench.received(source="ct", group="1") for _ in range(5)),
        state=M.GATHERING,
        due_at=due_at,
    )
    assert lines(bench)["ct"] == LedgerLine(received=5, accepted=5, pending=5)
    with bench.journal.write() as connection:
        carrier = gatherings.close(connection, "ct", "1", due_at)
    assert carrier is not None
    move(bench, carrier, M.HELD)
    assert lines(bench)["ct"] == LedgerLine(received=5, accepted=5, held=5)
    move(bench, carrier, M.RECEIVED)
    move(bench, carrier, M.DELIVERED)
    assert lines(bench)["ct"] == LedgerLine(received=5, accepted=5, delivered=5)


def test_counts_are_by_source_and_state(bench: Bench) -> None:
    bench.message()
    move(bench, bench.message(), M.DEAD)
    bench.message(source="ward")
    with bench.journal.read() as connection:
        assert messages.counts(connection) == {
            ("lab", M.RECEIVED): 1,
            ("lab", M.DEAD): 1,
            ("ward", M.RECEIVED): 1,
        }


def test_a_button_that_is_pressed_twice_acts_once(bench: Bench) -> None:
    with bench.journal.write() as connection:
        assert operations.begin(connection, "form-1", actor="anne", what="replay 7")
        operations.finish(connection, "form-1", {"replayed": 1})
    with bench.journal.write() as connection:
        assert not operations.begin(connection, "form-1", actor="anne", what="replay 7")
        assert operations.begin(connection, "form-2", actor="anne", what="replay 7")
    with bench.journal.read() as connection:
        first, second = (operations.get(connection, key) for key in ("form-1", "form-2"))
        assert operations.get(connection, "form-3") is None
    assert first is not None
    assert second is not None
    assert (first.actor, first.what, first.at) == ("anne", "replay 7", bench.clock())
    assert (first.result, second.result) == ({"replayed": 1}, None)


def test_a_press_that_failed_may_be_repeated(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError), bench.journal.write() as connection:  # noqa: PT012
        operations.begin(connection, "form", actor="anne", what="replay 7")
        _ = 1 / 0
    with bench.journal.write() as connection:
        assert operations.begin(connection, "form", actor="anne", what="replay 7")
        with pytest.raises(LookupError):
            operations.finish(connection, "other", {})
        with pytest.raises(ValueError):
            operations.begin(connection, "", actor="anne", what="x")

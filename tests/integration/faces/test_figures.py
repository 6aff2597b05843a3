"""Figures for the faces, on both databases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway import figures
from gateway.api.metrics import Exposition
from gateway.journal import deadletters, deliveries, messages
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import NewDelivery
from gateway.journal.writer import GroupWriter
from gateway.model import Cause, CauseCode, Format, Identifier, Payload, Received, Stage

NOW = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def journal(journal_url: str, tmp_path: Path) -> Iterator[Journal]:
    made = Journal(journal_url, blob_directory=tmp_path / "blobs", now=lambda: NOW)
    made.migrate()
    with contextlib.closing(made):
        yield made


def arrive(journal: Journal, *ages: timedelta, source: str = "lab") -> list[int]:
    """Messages that came so long ago; their numbers."""
    writer = GroupWriter(journal)
    writer.start()
    futures = [
        writer.submit(
            Received(
                source=source, format=Format.HL7V2, payload=Payload.from_bytes(f"{n}".encode()),
                received_at=NOW - age, control_id=f"{source}{n}",
            ),
            state=MessageState.RECEIVED, lane=f"in:{source}",
        )
        for n, age in enumerate(ages)
    ]  # fmt: skip
    numbers = [future.result(20).message_id for future in futures]
    writer.stop()
    return numbers


def test_arrivals_fall_into_their_slots(journal: Journal) -> None:
    minute = timedelta(minutes=1)
    arrive(journal, 70 * minute, 59.5 * minute, 0.5 * minute, timedelta(seconds=1))
    arrive(journal, 30 * minute, source="scanner")
    with journal.read() as connection:
        found = figures.arrivals(connection, NOW)
    assert found.window == timedelta(hours=1)
    lab = found.by_source["lab"]
    assert len(lab) == figures.BARS
    assert (lab[0], lab[-1], sum(lab)) == (1, 2, 3)
    assert sum(found.by_source["scanner"]) == 1


def test_when_rows_are_many_the_window_gets_shorter(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "ARRIVALS_ROWS_MAX", 3)
    ages = [timedelta(minutes=40), timedelta(minutes=12), timedelta(minutes=9),
            timedelta(minutes=8)]  # fmt: skip
    arrive(journal, *ages)
    with journal.read() as connection:
        found = figures.arrivals(connection, NOW)
    assert found.window == timedelta(minutes=10)
    assert sum(found.by_source["lab"]) == 2


def test_an_empty_journal_has_figures(journal: Journal) -> None:
    with journal.read() as connection:
        assert figures.arrivals(connection, NOW).by_source == {}
        assert figures.held_rooms(connection, NOW) == []
        assert figures.lateness(connection) == []
        assert figures.last_answers(connection, ["record"]) == {}
        assert figures.attempts(connection) == {}
        assert figures.received_by_format(connection) == {}


def test_held_messages_are_counted_by_age(journal: Journal) -> None:
    numbers = arrive(
        journal, timedelta(minutes=5), timedelta(hours=5), timedelta(hours=6), timedelta(days=3),
        timedelta(days=30),
    )  # fmt: skip
    cause = Cause(code=CauseCode.IDENTITY_AWAITED)
    with journal.write() as connection:
        for number in numbers:
            messages.hold(connection, number, [Identifier(system="s", value="v")], cause)
    with journal.read() as connection:
        (room,) = figures.held_rooms(connection, NOW)
        assert figures.held_by_cause(connection) == {"identity-awaited": 5}
    assert room.count == 5
    assert room.oldest_at == NOW - timedelta(days=30)
    assert [count for _, count in room.ages] == [1, 2, 1, 1]


def test_queues_and_answers_are_read_by_destination(journal: Journal) -> None:
    (number,) = arrive(journal, timedelta(minutes=5))
    with journal.write() as connection:
        made = deliveries.insert(
            connection,
            [
                NewDelivery(
                    message_id=number, lane=f"p@{name}", patient_id="p", destination=name,
                    sequence=number, idempotency_key=name,
                    due_at=NOW - timedelta(seconds=90),
                )
                for name in ("record", "pacs")
            ],
        )  # fmt: skip
        deliveries.start_attempts(connection, made, at=NOW)
        deliveries.settle(
            connection, made[0], outcome="delivered", state=DeliveryState.DELIVERED, at=NOW
        )
    with journal.read() as connection:
        (queue,) = figures.lateness(connection)
        answers = figures.last_answers(connection, ["record", "pacs"])
        attempts = figures.attempts(connection)
    assert (queue.destination, queue.pending) == ("pacs", 1)
    assert queue.oldest_due == NOW - timedelta(seconds=90)
    assert answers == {"record": ("delivered", NOW)}
    assert attempts == {("record", "delivered"): 1}


def test_a_repaired_copy_did_not_arrive(journal: Journal) -> None:
    (number,) = arrive(journal, timedelta(minutes=5))
    with journal.write() as connection:
        cause = Cause(code=CauseCode.UNREADABLE)
        deadletters.bury(connection, number, Stage.NORMALISE, cause)
        messages.append_child(
            connection, journal.blobs, number, Payload.from_bytes(b"x"), actor="a", reason="r"
        )
    with journal.read() as connection:
        assert figures.received_by_format(connection) == {("lab", "hl7v2"): 1}
        assert figures.dead_by_cause(connection) == {"unreadable": 1}
        assert figures.open_dead_letters(connection) == 1
        assert sum(figures.arrivals(connection, NOW).by_source["lab"]) == 1


def test_a_journal_that_is_away_is_a_metric_not_a_fault(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable() -> None:
        raise JournalUnavailable("the database is away")

    assert b"ecluse_journal_up 1.0" in Exposition(journal).text()
    monkeypatch.setattr(journal, "read", unavailable)
    away = Exposition(journal).text()
    assert b"ecluse_journal_up 0.0" in away
    assert b"ecluse_build_info" in away


def test_what_was_never_tried_is_late_too(journal: Journal) -> None:
    """No worker, a destination that is left alone: nothing is tried, and nothing has a time."""
    (number,) = arrive(journal, timedelta(minutes=5))
    with journal.write() as connection:
        deliveries.insert(
            connection,
            [NewDelivery(
                message_id=number, lane="p@pacs", patient_id="p", destination="pacs",
                sequence=number, idempotency_key="k",
            )],
            at=NOW - timedelta(hours=3),
        )  # fmt: skip
    with journal.read() as connection:
        (queue,) = figures.lateness(connection)
    assert queue.oldest_due == NOW - timedelta(hours=3)

"""Faults of the machine: the journal going away, bytes that cannot be read. No message is blamed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from gateway.journal import deliveries
from gateway.journal.journal import JournalUnavailable
from gateway.journal.states import MessageState
from gateway.model import Again, Cause, CauseCode, Delivery, Outcome
from tests.integration.pipeline.rig import Rig, ToyRecord, ToyRemote, national

WHO = {"patient": [national(1)]}


def test_the_journal_going_away_in_the_middle_counts_against_nobody(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.journal import messages

    receipt = rig.send({**WHO, "facts": ["a"]})
    really = messages.store_all

    def away(*_: object) -> None:
        raise JournalUnavailable("disk full")

    monkeypatch.setattr(messages, "store_all", away)
    for _ in range(5):
        with pytest.raises(JournalUnavailable):
            rig.drainer.drain("in:lab")
    assert rig.message(receipt).starts == 0
    monkeypatch.setattr(messages, "store_all", really)
    conclude = deliveries.conclude
    rig.drainer.drain("in:lab")

    def gone(*_: object, **__: object) -> None:
        raise JournalUnavailable("disk full")

    monkeypatch.setattr(deliveries, "conclude", gone)
    lane = rig.delivery(receipt).lane
    for _ in range(5):
        with pytest.raises(JournalUnavailable):
            rig.drainer.drain(lane)
    monkeypatch.setattr(deliveries, "conclude", conclude)
    rig.settle()
    assert rig.state(receipt) is MessageState.DELIVERED
    assert rig.facts() == ["a"]


def test_an_outcome_that_the_journal_could_not_keep_at_once_is_kept_after_all(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = ToyRemote()
    rig = make_rig(destinations=[remote])
    receipt = rig.send({**WHO, "facts": ["a"]})
    rig.drainer.drain("in:lab")
    conclude = deliveries.conclude
    failures = [JournalUnavailable("gone")]

    def once(*given: object, **named: object) -> object:
        if failures:
            raise failures.pop()
        return conclude(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(deliveries, "conclude", once)
    with pytest.raises(JournalUnavailable):
        rig.drainer.drain(rig.delivery(receipt).lane)
    assert rig.state(receipt) is MessageState.DELIVERED
    assert remote.calls == ["a"]


def test_a_connection_that_breaks_inside_the_record_counts_against_nobody(
    make_rig: Callable[..., Rig], journal_url: str
) -> None:
    if not journal_url.startswith("postgresql"):
        pytest.skip("SQLite has no connection that breaks")
    broken = []

    class Breaking(ToyRecord):
        """Loses the connection of its first attempts, and says that it can be tried again."""

        def deliver(self, delivery: Delivery, connection: Connection | None) -> Outcome:
            assert connection is not None
            if len(broken) < 3:
                broken.append(delivery.id)
                with contextlib.suppress(OperationalError):
                    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
                return Again(cause=Cause(code=CauseCode.DESTINATION_UNAVAILABLE, detail="lost"))
            return super().deliver(delivery, connection)

    rig = make_rig(destinations=lambda journal: [Breaking(journal)])
    receipt = rig.send({**WHO, "facts": ["a"]})
    rig.drainer.drain("in:lab")
    lane = rig.delivery(receipt).lane
    for _ in range(3):
        with contextlib.suppress(JournalUnavailable):
            rig.drainer.drain(lane)
    assert broken
    rig.settle()
    assert rig.state(receipt) is MessageState.DELIVERED
    assert rig.facts() == ["a"]


def test_bytes_that_the_machine_cannot_read_are_tried_again_but_not_for_ever(rig: Rig) -> None:
    failures = [OSError(24, "too many open files")] * 2

    def fail() -> None:
        if failures:
            raise failures.pop()

    rig.reader.bombs["io"] = fail
    passing = rig.send({**WHO, "bomb": "io", "facts": ["a"]})
    after = rig.send({**WHO, "facts": ["b"]})
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match="EMFILE"):
            rig.drainer.drain("in:lab")
    rig.settle()
    assert rig.facts() == ["a", "b"]
    assert rig.state(passing) is rig.state(after) is MessageState.DELIVERED
    failures += [OSError(5, "input/output error")] * 9
    lasting = rig.send({**WHO, "bomb": "io", "facts": ["c"]})
    after = rig.send({**WHO, "facts": ["d"]})
    for _ in range(5):
        with pytest.raises(JournalUnavailable):
            rig.drainer.drain("in:lab")
    rig.settle()
    assert rig.code(lasting) is CauseCode.UNFINISHED_ATTEMPTS
    assert rig.state(after) is MessageState.DELIVERED

"""The group writer: one commit for many, no promise before it, nobody harmed by another."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.journal import messages, submission, writer
from gateway.journal.arrival import Arrival, prepare
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.messages import MessageFilter
from gateway.journal.states import MessageState
from gateway.journal.values import Appended
from gateway.journal.writer import GroupWriter
from gateway.model import Payload, Received
from tests.eventually import eventually
from tests.integration.journal.bench import Bench

WAIT = 30


@pytest.fixture
def group_writer(journal: Journal) -> Iterator[GroupWriter]:
    made = GroupWriter(journal)
    made.start()
    yield made
    made.stop()


def submit(group_writer: GroupWriter, received: Received, lane: str = "") -> Future[Appended]:
    return group_writer.submit(
        received, state=MessageState.RECEIVED, lane=lane or f"in:{received.source}"
    )


def total(bench: Bench) -> int:
    with bench.journal.read() as connection:
        return sum(messages.counts(connection).values())


def test_what_was_promised_can_be_seen(bench: Bench, group_writer: GroupWriter) -> None:
    """At the moment the future resolves, another connection finds the bytes."""
    seen: list[bool] = []

    def look(future: Future[Appended]) -> None:
        with bench.journal.read() as connection:
            message = messages.get(connection, future.result().message_id)
        seen.append(message is not None and message.body == b"promised")

    future = submit(group_writer, bench.received(b"promised"))
    future.add_done_callback(look)
    future.result(WAIT)
    eventually(lambda: seen)
    assert seen == [True]
    assert not future.cancel()


def test_sixteen_submitters_share_commits_and_lose_nothing(
    bench: Bench, group_writer: GroupWriter
) -> None:
    commits: list[int] = []
    real = group_writer._commit

    def counting(group: Any, *, alone: bool) -> object:
        appended = real(group, alone=alone)
        commits.append(len(appended))
        return appended

    group_writer._commit = counting  # type: ignore[assignment, method-assign]
    kept: dict[int, bytes] = {}
    lock = threading.Lock()

    def work(number: int) -> None:
        for turn in range(25):
            body = b"%d/%d " % (number, turn) + os.urandom(300)
            received = replace(bench.received(body, source=f"s{number}"), control_id=str(turn))
            appended = submit(group_writer, received).result(WAIT)
            assert not appended.duplicate
            with lock:
                kept[appended.message_id] = body

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(kept) == total(bench) == 400
    with bench.journal.read() as connection:
        for message_id, body in kept.items():
            message = messages.get(connection, message_id)
            assert message is not None
            assert message.body == body
        order = {
            source: [m.control_id for m in messages.page(connection, MessageFilter(source=source))]
            for source in (f"s{number}" for number in range(16))
        }
    assert all(found == [str(n) for n in reversed(range(25))] for found in order.values())
    assert sum(commits) == 400
    assert len(commits) < 300


def test_what_comes_while_a_commit_waits_for_its_turn_goes_with_it(sqlite_bench: Bench) -> None:
    waiting = GroupWriter(sqlite_bench.journal)
    waiting.start()
    with sqlite_bench.journal.write():
        found = [submit(waiting, sqlite_bench.received())]
        eventually(lambda: not waiting._queue)
        found += [submit(waiting, sqlite_bench.received()) for _ in range(5)]
        # One that cannot be written settles alone, and costs the others nothing.
        wrong = submit(waiting, replace(sqlite_bench.received(), source="x" * 10_000))
    assert len({future.result(WAIT).message_id for future in found}) == 6
    assert isinstance(wrong.exception(WAIT), ValueError)
    waiting.stop()
    with sqlite_bench.journal.read() as connection:
        times = {one.changed_at for one in messages.page(connection, MessageFilter())}
    assert len(times) == 1


def test_retries_of_many_connections_at_once_are_one_message(
    bench: Bench, group_writer: GroupWriter
) -> None:
    received = bench.received(b"again and again")
    found = [submit(group_writer, received) for _ in range(60)]
    results = [future.result(WAIT) for future in found]
    assert len({appended.message_id for appended in results}) == 1
    assert sum(not appended.duplicate for appended in results) == 1
    assert {appended.answer for appended in results} == {b"AA"}
    with bench.journal.read() as connection:
        message = messages.get(connection, results[0].message_id)
    assert message is not None
    assert message.arrivals == 60


def test_large_messages_go_to_the_blobs_and_keep_their_place(
    bench: Bench, group_writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large message holds its own lane up, never another one."""
    go_on = threading.Event()
    real = bench.journal.blobs.put

    def slow(data: bytes) -> str:
        assert go_on.wait(WAIT)
        return real(data)

    monkeypatch.setattr(bench.journal.blobs, "put", slow)
    body = os.urandom(300_000)
    large = submit(group_writer, bench.received(body))
    behind = submit(group_writer, bench.received(b"behind"))
    second = submit(group_writer, bench.received(os.urandom(70_000)))
    last = submit(group_writer, bench.received(b"last"))
    other = submit(group_writer, bench.received(b"other", source="ward"))
    other.result(WAIT)
    assert not large.done()
    assert not behind.done()
    go_on.set()
    ids = [future.result(WAIT).message_id for future in (large, behind, second, last)]
    assert ids == sorted(ids)
    with bench.journal.read() as connection:
        message = messages.get(connection, ids[0])
    assert message is not None
    assert message.body is None
    assert messages.payload(bench.journal, message).read() == body


@pytest.mark.parametrize("size", [100, 500_000])
def test_a_spooled_file_belongs_to_the_journal(
    bench: Bench, group_writer: GroupWriter, tmp_path: Path, size: int
) -> None:
    spooled, data = tmp_path / "spooled", os.urandom(size)
    for _ in range(2):
        spooled.write_bytes(data)
        received = replace(bench.received(control_id="A"), payload=Payload.from_file(spooled))
        appended = submit(group_writer, received).result(WAIT)
        assert not spooled.exists()
    assert appended.duplicate
    with bench.journal.read() as connection:
        message = messages.get(connection, appended.message_id)
    assert message is not None
    assert messages.payload(bench.journal, message).read() == data


def test_a_blob_that_cannot_be_kept_fails_alone(
    bench: Bench, group_writer: GroupWriter, tmp_path: Path
) -> None:
    gone = replace(
        bench.received(),
        payload=Payload(hashlib.sha256(b"").hexdigest(), 100_000, path=tmp_path / "gone"),
    )
    failing, behind = submit(group_writer, gone), submit(group_writer, bench.received(b"behind"))
    with pytest.raises(JournalUnavailable):
        failing.result(WAIT)
    assert not behind.result(WAIT).duplicate
    lying = replace(bench.received(), payload=Payload("0" * 64, 100_000, data=b"x" * 100_000))
    with pytest.raises(ValueError):
        submit(group_writer, lying).result(WAIT)
    assert total(bench) == 1


def test_a_program_that_errs_is_told_through_the_future(
    bench: Bench, group_writer: GroupWriter
) -> None:
    future = group_writer.submit(bench.received(), state=MessageState.DELIVERED, lane="in:lab")
    with pytest.raises(ValueError):
        future.result(WAIT)
    assert total(bench) == 0


def test_a_full_queue_says_so_at_once_and_keeps_what_it_took(bench: Bench) -> None:
    small = GroupWriter(bench.journal, batch_max=2, queue_max=5)
    small.start()
    try:
        with bench.journal.write():
            # The writer waits for this transaction (on SQLite); the queue fills up.
            taken = [submit(small, bench.received()) for _ in range(5)]
            refused = [submit(small, bench.received()) for _ in range(3)]
            if bench.journal.dialect == "sqlite":
                for future in refused:
                    with pytest.raises(JournalUnavailable):
                        future.result(0)
        assert len({future.result(WAIT).message_id for future in taken}) == 5
        assert not submit(small, bench.received()).result(WAIT).duplicate
    finally:
        small.stop()


def test_bytes_in_memory_are_bounded(
    bench: Bench, group_writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_BYTES_MAX", 1000)
    go_on = threading.Event()
    real = group_writer._commit

    def slow(group: Any, *, alone: bool) -> object:
        assert go_on.wait(WAIT)
        return real(group, alone=alone)

    group_writer._commit = slow  # type: ignore[assignment, method-assign]
    alone = submit(group_writer, bench.received(b"x" * 5000))
    refused = submit(group_writer, bench.received(b"y"))
    with pytest.raises(JournalUnavailable):
        refused.result(0)
    go_on.set()
    alone.result(WAIT)
    # The room is given back a moment after the answer.
    eventually(lambda: submit(group_writer, bench.received(b"z")).exception(WAIT) is None)


def test_stopping_writes_what_was_taken(bench: Bench) -> None:
    stopping = GroupWriter(bench.journal)
    with pytest.raises(JournalUnavailable):
        submit(stopping, bench.received()).result(0)
    stopping.start()
    with pytest.raises(RuntimeError):
        stopping.start()
    found = [submit(stopping, bench.received(os.urandom(n))) for n in (10, 80_000) * 20]
    stopping.stop()
    assert all(future.done() for future in found)
    assert len({future.result(0).message_id for future in found}) == 40
    with pytest.raises(JournalUnavailable):
        submit(stopping, bench.received()).result(0)
    stopping.stop()


def test_one_message_that_the_database_refuses_costs_its_neighbours_nothing(
    bench: Bench, group_writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(received: Received, **arguments: object) -> Arrival:
        arrival = prepare(received, **arguments)  # type: ignore[arg-type]
        if received.control_id == "poison":
            arrival.row[arrival.row.index("ORU^R01")] = None
        return arrival

    monkeypatch.setattr(submission, "prepare", poisoned)
    with bench.journal.write():
        found = [
            submit(group_writer, bench.received(control_id=name))
            for name in ("a", "b", "poison", "c", "d")
        ]
    errors = [future.exception(WAIT) for future in found]
    assert [type(error) for error in errors] == [
        type(None),
        type(None),
        JournalUnavailable,
        type(None),
        type(None),
    ]
    assert total(bench) == 4


def test_whoever_is_told_of_a_commit_cannot_stop_the_writer(bench: Bench) -> None:
    told: list[set[str]] = []

    def on_commit(names: set[str]) -> None:
        told.append(names)
        raise ConnectionError("the broker is away")

    telling = GroupWriter(bench.journal, on_commit=on_commit)
    telling.start()
    try:
        received = bench.received()
        submit(telling, received).result(WAIT)
        eventually(lambda: told == [{"in:lab"}])
        submit(telling, received).result(WAIT)
        submit(telling, bench.received(source="ward")).result(WAIT)
        eventually(lambda: told == [{"in:lab"}, {"in:ward"}])
    finally:
        telling.stop()


def test_sizes_make_sense(journal: Journal) -> None:
    for wrong in ({"batch_max": 0}, {"queue_max": 0}):
        with pytest.raises(ValueError):
            GroupWriter(journal, **wrong)

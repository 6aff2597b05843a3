"""What is kept beside messages goes after them, and not before: on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from gateway.housekeeping import Purging
from gateway.journal import (
    asked_commitments,
    commitments,
    gatherings,
    messages,
    purges,
    remnants,
    replaying,
    studies,
)
from gateway.journal.purges import Purge
from gateway.journal.replaying import Job, JobState, Pace
from gateway.journal.retention import Ending, Part, Policy
from gateway.journal.states import MessageState
from gateway.journal.writer import GroupWriter
from gateway.model import Stage
from tests.integration.journal.bench import Bench

DAY = 86_400.0
ALL = dict.fromkeys(Ending, 30)
BYTES = Policy({Part.CONTENT: ALL, Part.NORMALISED: ALL})
EVERYTHING = Policy({Part.CONTENT: ALL, Part.NORMALISED: ALL, Part.MESSAGE: ALL})


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remnants, "ROWS_LOOKED_AT", 2)


def purge(bench: Bench, policy: Policy, key: str) -> Purge:
    """A purge from whole messages on: the months of the shared database are let be."""
    with bench.journal.write() as connection:
        begun = purges.begin(connection, key, policy, actor="anna")
        begun = purges.note(connection, begun, {"stage": "message"}, {})
    worker = Purging(bench.journal, lambda _connection, _digests: ())
    while begun.ended_at is None:
        after = worker.step(begun)
        assert after is not None
        begun = after
    return begun


def study(bench: Bench, uid: str) -> int:
    """A study of one instance, read and let go; its message. Accepted in a link of its own."""
    writer = GroupWriter(bench.journal, batch_max=1)
    writer.start()
    message_id = (
        writer.submit(
            bench.received(source="ct", group=uid), state=MessageState.GATHERING, lane="in:ct",
            group_due_at=bench.clock(),
        )
        .result(timeout=30)
        .message_id
    )  # fmt: skip
    writer.stop()
    with bench.journal.write() as connection:
        assert gatherings.close(connection, "ct", uid, bench.clock()) == message_id
    return message_id


def ended(bench: Bench, message_id: int, to: MessageState) -> None:
    with bench.journal.write() as connection:
        messages.move(connection, message_id, to, event="x", stage=Stage.ROUTE)


def evidence(bench: Bench, uid: str, *, days: int = 1, state: str = studies.COMPLETE) -> None:
    now = bench.clock()
    with bench.journal.write() as connection:
        studies.put(connection, studies.Evidence(
            source="ct", reference=f"step-{uid}", study=uid, kind=studies.STEP, state=state,
            expected=(), body=b"", created_at=now, changed_at=now,
            until=now + timedelta(days=days), fulfilled_at=None,
        ))  # fmt: skip


def replay(bench: Bench, key: str, message_ids: list[int], *, over: bool) -> Job:
    with bench.journal.write() as connection:
        job, _ = replaying.begin(
            connection,
            key,
            {},
            Pace(per_second=0, ramp=(), stop_percent=0),
            actor="anna",
            reason="",
        )
        replaying.write_items(connection, job, [(each, each, None) for each in message_ids])
        if over:
            assert replaying.change(connection, job, active=None, state=JobState.DONE.value)
    return job


def keys(bench: Bench, table: str, column: str) -> list[object]:
    with bench.journal.read() as connection:
        found = connection.execute(text(f"SELECT {column} FROM {table} ORDER BY {column}"))
        return list(found.scalars())


def test_what_is_beside_messages_goes_after_them(bench: Bench) -> None:
    gone = [study(bench, f"1.{number}") for number in range(5)]
    held = study(bench, "2")
    for uid in ("1.0", "1.1", "2"):
        evidence(bench, uid)
    evidence(bench, "3", state=studies.OPEN)  # of which nothing ever came
    evidence(bench, "4", days=90)  # waits long
    for each in gone:
        ended(bench, each, MessageState.DISCARDED)
    ended(bench, held, MessageState.HELD)
    over = replay(bench, "over", [*gone, held], over=True)
    open_one = replay(bench, "open", gone[:1], over=False)
    every_study = [f"1.{number}" for number in range(5)] + ["2"]

    bench.clock.advance(100 * DAY)
    # While metadata are kept for ever, so is what belongs to them.
    purge(bench, BYTES, "bytes")
    assert keys(bench, "gathering", "group_key") == every_study
    assert keys(bench, "study_evidence", "group_key") == ["1.0", "1.1", "2", "3", "4"]
    assert len(keys(bench, "replay_item", "message_id")) == 7
    assert keys(bench, "unindexed", "message_id") == [*gone, held]

    done = purge(bench, EVERYTHING, "all")
    assert keys(bench, "message", "id") == [held]
    assert keys(bench, "gathering", "group_key") == ["2"]
    # The last waited until ten days ago: as long as metadata are kept it stays.
    assert keys(bench, "study_evidence", "group_key") == ["2", "4"]
    assert keys(bench, "unindexed", "message_id") == [held]
    with bench.journal.read() as connection:
        left = replaying.items(connection, over.id)
        assert [each.message_id for each in left] == [held]
        # A replay that is not over keeps what it counts by; who replayed what is kept for ever.
        assert len(replaying.items(connection, open_one.id)) == 1
        assert {each.id for each in replaying.jobs(connection)} == {over.id, open_one.id}
    names = ("gathering", "study_evidence", "replay_item", "unindexed")
    assert [done.counts[name] for name in names] == [5, 3, 5, 5]

    bench.clock.advance(30 * DAY)
    purge(bench, EVERYTHING, "later")
    assert keys(bench, "study_evidence", "group_key") == ["2"]


def test_a_study_that_may_get_more_keeps_its_gathering(bench: Bench) -> None:
    old = study(bench, "1")
    ended(bench, old, MessageState.DISCARDED)
    announced = study(bench, "2")
    ended(bench, announced, MessageState.DISCARDED)
    bench.clock.advance(100 * DAY)
    evidence(bench, "2", state=studies.OPEN)
    # An image of the first comes late, and is waited for again.
    bench.append(
        bench.received(source="ct", group="1"),
        state=MessageState.GATHERING,
        lane="in:ct",
        due_at=bench.clock(),
    )
    purge(bench, EVERYTHING, "all")
    assert keys(bench, "gathering", "group_key") == ["1", "2"]
    assert keys(bench, "study_evidence", "group_key") == ["2"]
    with bench.journal.read() as connection:
        found = gatherings.get(connection, "ct", "1")
    assert found is not None
    assert (found.instances, found.round) == (2, 1)


def asked_to_commit(bench: Bench, uid: str, state: str = "") -> commitments.Commitment:
    """A request for storage commitment, answered or given up when ``state`` says so."""
    now = bench.clock()
    request = commitments.Commitment(
        source="ct", transaction_uid=uid, peer="CT1", own_title="ECLUSE",
        instances=(("1.2", "1.3"),), created_at=now,
    )  # fmt: skip
    with bench.journal.write() as connection:
        assert commitments.ask(connection, request, now)
        if state:
            commitments.settle(connection, request, state=state, attempts=1, due_at=None, now=now)
    return request


def test_requests_for_commitment_go_once_they_are_answered(bench: Bench) -> None:
    waits = asked_to_commit(bench, "1.1")
    asked_to_commit(bench, "1.2", commitments.REPORTED)
    asked_to_commit(bench, "1.3", commitments.GIVEN_UP)
    # Ours of a delivery that is under way, or that a person ended.
    with bench.journal.write() as connection:
        asked_commitments.put(
            connection, "1.4", peer="PACS", own_title="ECLUSE", instances=[("1.2", "1.3")],
            at=bench.clock(),
        )  # fmt: skip
    bench.clock.advance(20 * DAY)
    asked_to_commit(bench, "1.5", commitments.REPORTED)
    bench.clock.advance(20 * DAY)
    purge(bench, BYTES, "bytes")
    assert keys(bench, "storage_commitment", "transaction_uid") == [f"1.{n}" for n in range(1, 6)]

    done = purge(bench, EVERYTHING, "all")
    assert keys(bench, "storage_commitment", "transaction_uid") == ["1.1", "1.4", "1.5"]
    assert done.counts["storage_commitment"] == 2
    with bench.journal.write() as connection:
        due = commitments.due(connection, "ct", bench.clock())
        assert [each.transaction_uid for each in due] == ["1.1"]
        commitments.settle(
            connection,
            waits,
            state=commitments.REPORTED,
            attempts=1,
            due_at=None,
            now=bench.clock(),
        )

    bench.clock.advance(400 * DAY)
    purge(bench, EVERYTHING, "later")
    assert keys(bench, "storage_commitment", "transaction_uid") == []

"""Evidence of complete studies and commitment requests, on each database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from gateway.journal import commitments, gatherings, lanes, studies
from gateway.journal.commitments import Commitment
from gateway.journal.states import MessageState
from gateway.journal.studies import Evidence
from tests.integration.journal.bench import Bench

STUDY = "1.2.3"


def instance(bench: Bench, uid: str) -> None:
    due_at = bench.clock() + timedelta(seconds=10)
    received = bench.received(source="ct", group=STUDY, control_id=uid)
    bench.append(replace(received, kind="1.2.840"), state=MessageState.GATHERING, due_at=due_at)


def evidence(bench: Bench, state: str, *expected: str, wait: float = 100.0) -> Evidence:
    now = bench.clock()
    return Evidence(
        source="ct", reference="9.1", study=STUDY, kind=studies.STEP, state=state,
        expected=expected, body=b"\x01", created_at=now, changed_at=now,
        until=now + timedelta(seconds=wait),
    )  # fmt: skip


def test_a_study_waits_for_what_is_missing_and_no_longer_than_that(bench: Bench) -> None:
    instance(bench, "1.1")
    with bench.journal.write() as connection:
        studies.put(connection, evidence(bench, studies.COMPLETE, "1.1", "1.2"))
    later = bench.clock.advance(20)
    with bench.journal.write() as connection:
        assert gatherings.close(connection, "ct", STUDY, later) is None
        found = gatherings.get(connection, "ct", STUDY)
        assert found is not None
        assert found.due_at == later + timedelta(seconds=80)
    with bench.journal.read() as connection:
        (account,) = studies.accounts(connection, sources=["ct"], waiting=True)
        assert (account.instances, account.expected, account.missing) == (1, 2, 1)
        assert studies.held(connection, "ct", ["1.1", "1.2"]) == {"1.1": ("1.2.840", STUDY, False)}
    instance(bench, "1.2")
    with bench.journal.write() as connection:
        studies.fulfil(connection, "ct", STUDY, later)
    with bench.journal.write() as connection:
        assert lanes.due(connection, later) != []
        assert gatherings.close(connection, "ct", STUDY, later) is not None
        assert studies.unfulfilled(connection, "ct") == []


def test_patience_ends(bench: Bench) -> None:
    instance(bench, "1.1")
    with bench.journal.write() as connection:
        studies.put(connection, evidence(bench, studies.OPEN, wait=15))
    with bench.journal.write() as connection:
        now = bench.clock.advance(12)
        assert gatherings.close(connection, "ct", STUDY, now) is None
        studies.put_off(connection, "ct", STUDY, now + timedelta(seconds=1))
    with bench.journal.write() as connection:
        assert gatherings.close(connection, "ct", STUDY, bench.clock.advance(5)) is not None
        known = studies.get(connection, "ct", "9.1")
    assert known is not None
    assert (known.state, known.body) == (studies.OPEN, b"\x01")


def test_a_commitment_request_is_kept_once_and_tried_when_it_is_due(bench: Bench) -> None:
    now = bench.clock()
    request = Commitment(
        source="ct", transaction_uid="7.7", peer="CT1", own_title="ECLUSE",
        instances=(("1.2.840", "1.1"),), created_at=now,
    )  # fmt: skip
    with bench.journal.write() as connection:
        assert commitments.ask(connection, request, now)
        assert not commitments.ask(connection, request, now)
        assert commitments.due(connection, "ct", now) == [request]
        assert commitments.waiting(connection, "ct") == 1
        due_at = now + timedelta(seconds=5)
        commitments.settle(
            connection, request, state=commitments.WAITING, attempts=1, due_at=due_at, now=now
        )
        assert commitments.due(connection, "ct", now) == []
        assert commitments.due(connection, "ct", due_at)[0].attempts == 1
        commitments.settle(
            connection, request, state=commitments.REPORTED, attempts=2, due_at=None, now=due_at
        )
        assert commitments.waiting(connection, "ct") == 0


def test_a_study_is_quiet_since_its_last_instance(bench: Bench) -> None:
    instance(bench, "1.1")
    with bench.journal.read() as connection:
        assert studies.quiet_since(connection, "ct", bench.clock() - timedelta(seconds=1)) == []
        assert studies.quiet_since(connection, "ct", bench.clock()) == [(STUDY, 1)]

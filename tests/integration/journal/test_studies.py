"""Evidence of complete studies and commitment requests, on each database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from adapters.dicom.ledger import PerformedStep
from gateway.journal import commitments, gatherings, lanes, studies, study_reports
from gateway.journal.commitments import Commitment
from gateway.journal.states import MessageState
from gateway.journal.studies import Evidence
from gateway.studies import SourceStudies
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


def test_a_report_ends_an_open_step_though_instances_are_missing(bench: Bench) -> None:
    quiet, patience = {"ct": timedelta(seconds=10)}, {"ct": timedelta(hours=1)}
    ledger = SourceStudies(bench.journal, "ct", quiet, patience)
    instance(bench, "1.1")
    step = PerformedStep(
        uid="9.2", study=STUDY, status="IN PROGRESS", instances=(), body=b"\x01", scheduled=()
    )
    assert ledger.create_step(step)
    ledger.counted(STUDY, ["1.1", "1.2"])
    with bench.journal.write() as connection:
        now = bench.clock()
        assert not study_reports.came(
            connection, "ct", STUDY, 7, now=now, settle=timedelta(seconds=1)
        )
    instance(bench, "1.2")
    ledger.arrived(STUDY, "1.2")
    with bench.journal.write() as connection:
        assert gatherings.close(connection, "ct", STUDY, bench.clock()) is not None


def test_studies_that_wait_keep_no_other_from_being_counted(bench: Bench) -> None:
    quiet, patience = {"ct": timedelta(seconds=10)}, {"ct": timedelta(hours=1)}
    ledger = SourceStudies(bench.journal, "ct", quiet, patience)
    for number in range(25):
        received = bench.received(source="ct", group=f"1.2.{number}", control_id=f"1.2.{number}.1")
        due_at = bench.clock() + timedelta(hours=1)
        bench.append(received, state=MessageState.GATHERING, due_at=due_at)
        bench.clock.advance(0.01)
    bench.clock.advance(10)
    first, second = ledger.uncounted(), ledger.uncounted()
    assert len(first) == 20
    assert {*first, *second} == {f"1.2.{number}" for number in range(25)}
    assert ledger.uncounted() == []


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

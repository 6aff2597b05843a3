"""Versions of the mappings, drafts, sweeps and reprocessings in both databases."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from gateway.journal import drafts, mappings, reprocessing, sweeps
from gateway.journal.drafts import DraftRefused
from gateway.journal.journal import Journal
from gateway.journal.mappings import Action, Conflict, NewVersion
from gateway.journal.reprocessing import Busy, Failure, JobState, Selection, Step


def new(name: str, *, edited: tuple[str, ...] = ()) -> NewVersion:
    return NewVersion(
        digest=name * 64, content=name.encode(), manifest={"base/a.yaml": name}, site="chu",
        mappings={"hl7.adt": "1.0.0"}, release="1", tests=3, edited=edited,
    )  # fmt: skip


def deploy(journal: Journal, name: str, expected: int) -> int:
    with journal.write() as connection:
        number = mappings.keep(connection, new(name))
        mappings.deploy(
            connection, number, expected=expected, action=Action.DEPLOY, actor="a", reason="b"
        )
    return number


def test_versions_are_numbered_by_what_they_hold(journal: Journal) -> None:
    with journal.read() as connection:
        assert mappings.latest(connection) is None
    first = deploy(journal, "a", 0)
    second = deploy(journal, "b", first)
    assert deploy(journal, "a", second) == first, "the same files, the same number"
    with journal.read() as connection:
        last = mappings.latest(connection)
        assert last is not None
        assert (last.version, last.previous, last.actor) == (first, second, "a")
        assert [each.version for each in mappings.deployments(connection)] == [first, second, first]
        found = mappings.version(connection, second)
        assert found is not None
        assert (found.manifest, found.kept) == ({"base/a.yaml": "b"}, True)
        assert mappings.content(connection, second) == b"b"
        assert mappings.content(connection, 99) is None


def test_only_one_of_many_follows(journal: Journal) -> None:
    first = deploy(journal, "a", 0)
    with journal.write() as connection:
        others = [mappings.keep(connection, new(name)) for name in "bcd"]
    outcomes: list[int] = []

    def run(number: int) -> None:
        try:
            with journal.write() as connection:
                mappings.deploy(
                    connection, number, expected=first, action=Action.DEPLOY, actor="", reason=""
                )
        except Conflict as conflict:
            outcomes.append(conflict.current)

    threads = [threading.Thread(target=run, args=[number]) for number in others]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    with journal.read() as connection:
        last = mappings.latest(connection)
        assert last is not None
        assert outcomes == [last.version] * 2
        assert len(mappings.deployments(connection)) == 2


def test_old_files_go_and_the_history_stays(journal: Journal) -> None:
    numbers, expected = [], 0
    for name in "abcdef":
        expected = deploy(journal, name, expected)
        numbers.append(expected)
    with journal.write() as connection:
        mappings.deploy(
            connection, numbers[0], expected=expected, action=Action.ROLLBACK, actor="", reason=""
        )
        assert mappings.forget_old(connection, 2) == 3
    with journal.read() as connection:
        kept = [each.number for each in mappings.versions(connection) if each.kept]
        assert kept == [numbers[5], numbers[4], numbers[0]], "what is in force is always kept"
        assert len(mappings.deployments(connection)) == 7
    assert deploy(journal, "b", numbers[0]) == numbers[1]
    with journal.read() as connection:
        assert mappings.content(connection, numbers[1]) == b"b", "kept again"


def test_drafts_are_kept_and_the_oldest_makes_room(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "DRAFTS_MAX", 3)
    ids = []
    for number in range(5):
        with journal.write() as connection:
            at = datetime(2026, 1, 1, 8, number, tzinfo=UTC)
            ids.append(drafts.begin(connection, base=number, actor="a", at=at))
    with journal.write() as connection:
        drafts.save(connection, ids[4], {"sites/a/b.yaml": "x", "sites/a/c.yaml": None}, base=7)
        with pytest.raises(DraftRefused):
            drafts.save(connection, ids[4], {"a": "x" * 1_000_001}, base=7)
    with journal.read() as connection:
        assert {each.id for each in drafts.drafts(connection)} == set(ids[2:])
        found = drafts.get(connection, ids[4])
        assert found is not None
        assert (found.base, found.files["sites/a/c.yaml"]) == (7, None)
    with journal.write() as connection:
        drafts.drop(connection, ids[4])
        assert drafts.get(connection, ids[4]) is None


def test_a_sweep_is_for_what_is_loaded(journal: Journal) -> None:
    with journal.write() as connection:
        assert sweeps.position(connection, "a" * 64) == 0
        sweeps.note(connection, "a" * 64, 12, done=False)
        assert sweeps.position(connection, "a" * 64) == 12
        sweeps.note(connection, "a" * 64, 20, done=True)
        assert sweeps.position(connection, "a" * 64) is None
        assert sweeps.position(connection, "b" * 64) == 0, "other mappings look anew"


def test_a_job_is_one_and_its_steps_count_once(journal: Journal) -> None:
    wanted = Selection(source="lab", since=datetime(2026, 1, 1, tzinfo=UTC), ids=(1, 2))
    with journal.write() as connection:
        job, fresh = reprocessing.begin(
            connection, "k", wanted, actor="a", reason="r", loaded="x" * 64, version=2
        )
        assert fresh
        assert job.selection == wanted
    with journal.write() as connection:
        same, fresh = reprocessing.begin(
            connection, "k", wanted, actor="b", reason="r", loaded="x" * 64, version=2
        )
        assert (same.id, fresh) == (job.id, False)
        with pytest.raises(Busy) as busy:
            reprocessing.begin(
                connection, "other", wanted, actor="a", reason="r", loaded="", version=2
            )
        assert busy.value.job_id == job.id
    step = Step(position=5, counts={"examined": 5}, failures=[Failure(message_id=3, code="x")])
    with journal.write() as connection:
        assert reprocessing.advance(connection, job, step)
        assert not reprocessing.advance(connection, job, step), "another did this step"
    with journal.write() as connection:
        assert reprocessing.settle(
            connection, job.id, [JobState.RUNNING], JobState.PAUSED, note="n"
        )
        found = reprocessing.get(connection, job.id)
        assert found is not None
        assert (found.position, found.counts["examined"], found.note) == (5, 5, "n")
        assert found.failures == (Failure(message_id=3, code="x"),)
        assert not reprocessing.advance(connection, found, Step(position=9, counts={}))
        assert reprocessing.settle(connection, job.id, reprocessing.ACTIVE, JobState.STOPPED)
        assert reprocessing.active(connection) is None
        _, fresh = reprocessing.begin(
            connection, "other", wanted, actor="a", reason="r", loaded="", version=2
        )
        assert fresh
    with journal.write() as connection:
        reprocessing.note_revision(connection, 7, 1)
        reprocessing.note_revision(connection, 7, 2)
        assert reprocessing.revision(connection, 7) == 2
        assert reprocessing.revision(connection, 8) == 0

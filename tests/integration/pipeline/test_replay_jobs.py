"""Replays as jobs: paced, in order, halting by themselves, durable, submitted once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deadletter import triage
from deadletter.jobs import CannotReplay, ReplayRunner, Replays, checked_pace
from gateway.breaker import BreakerPolicy, DestinationPolicy
from gateway.journal import desk_actions, replaying
from gateway.journal.journal import Journal
from gateway.journal.replaying import End, Job, JobState, Pace
from gateway.journal.values import DeadLetterFilter
from gateway.model import Again, Cause, CauseCode, Refused
from gateway.retry import RetryPolicy
from tests.integration.pipeline.rig import HeldClock, Rig, ToyRemote, national, recorded

ONE_DATABASE = pytest.mark.parametrize("journal_url", ["sqlite"], indirect=True)
"""For what is decided in Python, whichever the database."""

ALL = DeadLetterFilter()
QUICK = Pace()
NEVER = Cause(code=CauseCode.DESTINATION_REFUSED, detail="422")


def dead(rig: Rig, count: int, patients: int = 3) -> None:
    for n in range(count):
        rig.submit({"patient": [national(n % patients)], "facts": [f"f{n}"], "broken": True})
    rig.send({"patient": [national(99)], "facts": ["good"]})
    rig.settle()
    assert triage.count(rig.journal) == count


def submit(rig: Rig, pace: Pace = QUICK, key: str = "k", wanted: DeadLetterFilter = ALL) -> Job:
    return Replays(rig.journal).submit(wanted, pace, actor="anne", key=key, reason="mended")[0]


def look(rig: Rig, job: Job) -> Job:
    with rig.journal.read() as connection:
        found = replaying.get(connection, job.id)
    assert found is not None
    return found


def run(rig: Rig, job: Job, *, rounds: int = 60, forward: float = 0) -> Job:
    """Steps and drains until the job rests."""
    runner = ReplayRunner(rig.journal)
    for _ in range(rounds):
        runner.step()
        rig.settle()
        found = look(rig, job)
        if not found.active or found.state in (JobState.HALTED, JobState.PAUSED):
            break
        if forward:
            assert isinstance(rig.clock, HeldClock)
            rig.clock.forward(seconds=forward)
    return look(rig, job)


def test_all_go_in_the_order_of_their_lanes(rig: Rig) -> None:
    dead(rig, 230)
    rig.library.program.repaired = True
    done = run(rig, submit(rig))
    assert done.state is JobState.DONE
    assert done.counts == {"selected": 230, "released": 230, "delivered": 230}
    assert triage.count(rig.journal) == 0
    order: dict[str, list[int]] = {}
    for patient, _, sequence in recorded(rig.journal):
        order.setdefault(patient, []).append(sequence)
    assert all(numbers == sorted(numbers) for numbers in order.values())
    with rig.journal.read() as connection:
        told = [(each.what.value, each.actor, each.number)
                for each in desk_actions.page(connection, job_id=done.id)]  # fmt: skip
    assert told == [("done", "anne", 230), ("replay", "anne", 230)]


@ONE_DATABASE
def test_the_ramp_waits_for_each_step(rig: Rig) -> None:
    dead(rig, 40)
    rig.library.program.repaired = True
    job = submit(rig, Pace(ramp=(1, 5, 25)))
    runner = ReplayRunner(rig.journal)
    released = []
    for _ in range(12):
        runner.step()
        runner.step()
        released.append(look(rig, job).counts.get("released", 0))
        rig.settle()
    steps = sorted(set(released))
    assert steps[-4:] == [1, 6, 31, 40]
    assert look(rig, job).state is JobState.DONE


@ONE_DATABASE
def test_it_halts_when_the_first_step_fails_again(rig: Rig) -> None:
    dead(rig, 40)
    job = run(rig, submit(rig, Pace(ramp=(1, 5, 25))))
    assert job.state is JobState.HALTED
    assert "1 of 1 failed again" in job.note
    assert job.counts == {"selected": 40, "released": 1, "failed": 1}
    assert triage.count(rig.journal) == 40
    rig.library.program.repaired = True
    again = Replays(rig.journal).resume(job.id, actor="bob")
    assert again.state is JobState.RUNNING
    done = run(rig, job)
    assert done.state is JobState.DONE
    assert done.counts["delivered"] == 39
    # The one that failed again is a dead letter of its own, for another replay.
    assert triage.count(rig.journal) == 1


@ONE_DATABASE
def test_it_halts_above_the_share_of_failures_after_the_ramp(rig: Rig) -> None:
    dead(rig, 300, patients=30)
    job = run(rig, submit(rig, Pace(stop_percent=10)))
    assert job.state is JobState.HALTED
    assert job.counts["released"] < 300
    assert job.waiting > 0


@ONE_DATABASE
def test_few_failures_do_not_halt_it(rig: Rig) -> None:
    dead(rig, 60)
    rig.library.program.repaired = True
    for n in range(3):
        rig.destinations[0].answers[f"f{n}"] = [Refused(cause=NEVER)]
    job = run(rig, submit(rig, Pace(stop_percent=10)))
    assert job.state is JobState.DONE
    assert (job.counts["delivered"], job.counts["failed"]) == (57, 3)


@ONE_DATABASE
def test_a_destination_that_is_away_again_halts_it(make_rig: Callable[..., Rig]) -> None:
    remote = ToyRemote()
    rig = make_rig(destinations=[remote], policy=RetryPolicy(attempts_max=2))
    # With a breaker nothing would be attempted any more: that is another test's.
    steadfast = DestinationPolicy(breaker=BreakerPolicy(failures=0))
    rig.drainer = rig.new_drainer(treatment={remote.name: steadfast})
    away = Again(cause=Cause(code=CauseCode.DESTINATION_UNAVAILABLE))
    remote.always = away
    for n in range(10):
        rig.send({"patient": [national(n)], "facts": [f"f{n}"]})
    for _ in range(10):
        rig.settle()
        assert isinstance(rig.clock, HeldClock)
        rig.clock.forward(hours=1)
    assert triage.count(rig.journal) == 10
    job = run(rig, submit(rig, Pace(ramp=(2,))), rounds=5)
    assert job.state is JobState.HALTED
    assert "all 2 that are on their way are being tried again" in job.note
    remote.always = None
    rig.clock.forward(hours=1)
    Replays(rig.journal).resume(job.id, actor="anne")
    done = run(rig, job, forward=1)
    assert done.counts["delivered"] == 10
    assert len(remote.kept) == 10


@ONE_DATABASE
def test_the_rate_is_kept(rig: Rig, clock: HeldClock) -> None:
    dead(rig, 30)
    rig.library.program.repaired = True
    job = submit(rig, Pace(per_second=2.0))
    runner = ReplayRunner(rig.journal)
    runner.step()
    seen = []
    for _ in range(6):
        clock.forward(seconds=1)
        runner.step()
        runner.step()
        rig.settle()
        seen.append(look(rig, job).counts.get("released", 0))
    assert seen == [2, 4, 6, 8, 10, 12]
    clock.forward(hours=1)
    runner.step()
    assert look(rig, job).counts["released"] == 14, "a pause is not made up for at once"


@ONE_DATABASE
def test_a_person_pauses_resumes_and_cancels(rig: Rig) -> None:
    dead(rig, 20)
    rig.library.program.repaired = True
    replays = Replays(rig.journal)
    job = submit(rig, Pace(ramp=(3,)))
    runner = ReplayRunner(rig.journal)
    runner.step()
    runner.step()
    assert replays.pause(job.id, actor="bob").state is JobState.PAUSED
    assert replays.pause(job.id, actor="bob").note == "paused by bob"
    rig.settle()
    runner.step()
    paused = look(rig, job)
    assert paused.counts == {"selected": 20, "released": 3, "delivered": 3}
    runner.step()
    assert look(rig, job).counts["released"] == 3
    replays.resume(job.id, actor="bob")
    runner.step()
    replays.cancel(job.id, actor="bob")
    done = run(rig, job)
    assert done.state is JobState.CANCELLED
    assert not done.active
    assert done.counts["cancelled"] == 20 - done.counts["released"]
    assert triage.count(rig.journal) == done.counts["cancelled"]
    with pytest.raises(CannotReplay, match="is cancelled"):
        replays.resume(job.id, actor="bob")
    with pytest.raises(CannotReplay, match="there is no replay"):
        replays.pause(99, actor="bob")
    with rig.journal.read() as connection:
        told = [each.what.value for each in desk_actions.page(connection, job_id=job.id)]
    assert told == ["cancel", "resume", "pause", "replay"]


def test_submitted_twice_is_one_job(rig: Rig) -> None:
    dead(rig, 3)
    replays = Replays(rig.journal)
    one, new = replays.submit(ALL, QUICK, actor="anne", key="press")
    two, again = replays.submit(ALL, QUICK, actor="anne", key="press")
    assert (new, again) == (True, False)
    assert one.id == two.id
    rig.library.program.repaired = True
    assert run(rig, one).counts["delivered"] == 3
    assert replays.submit(ALL, QUICK, actor="anne", key="press")[0].state is JobState.DONE


def test_two_gateways_do_not_do_a_step_twice(rig: Rig) -> None:
    dead(rig, 12)
    rig.library.program.repaired = True
    job = submit(rig, Pace(ramp=(4, 4)))
    one, other = ReplayRunner(rig.journal), ReplayRunner(rig.journal)
    for _ in range(20):
        one.step()
        other.step()
        rig.settle()
    done = look(rig, job)
    assert done.counts == {"selected": 12, "released": 12, "delivered": 12}
    assert len(recorded(rig.journal)) == 13


@ONE_DATABASE
def test_what_dies_meanwhile_is_not_part_of_it(rig: Rig, clock: HeldClock) -> None:
    dead(rig, 5)
    job = submit(rig)
    clock.forward(seconds=1)
    rig.send({"patient": [national(1)], "facts": ["late"], "broken": True})
    rig.settle()
    rig.library.program.repaired = True
    assert run(rig, job).counts["selected"] == 5
    assert triage.count(rig.journal) == 1


@ONE_DATABASE
def test_what_was_settled_meanwhile_is_passed_over(rig: Rig) -> None:
    from deadletter import replay

    dead(rig, 6)
    job = submit(rig)
    ReplayRunner(rig.journal).step()
    newest = triage.letters(rig.journal)[0]
    replay.discard(rig.journal, DeadLetterFilter(ids=(newest.id,)), actor="bob", key="d",
                   reason="sent twice")  # fmt: skip
    rig.library.program.repaired = True
    done = run(rig, job)
    assert done.counts == {"selected": 6, "released": 5, "gone": 1, "delivered": 5}
    with rig.journal.read() as connection:
        assert [item.dead_letter_id for item in replaying.items(connection, job.id, state="gone")
                ] == [newest.id]  # fmt: skip


@ONE_DATABASE
def test_one_destination_of_two(make_rig: Callable[..., Rig]) -> None:
    one, two = ToyRemote("one"), ToyRemote("two")
    rig = make_rig(destinations=[one, two])
    for remote in (one, two):
        remote.answers = {f"f{n}": [Refused(cause=NEVER)] for n in range(4)}
    for n in range(4):
        rig.send({"patient": [national(n)], "facts": [f"f{n}"]})
    rig.settle()
    assert triage.count(rig.journal) == 8
    assert len(triage.groups(rig.journal)) == 2, "a group is one destination's"
    done = run(rig, submit(rig, wanted=DeadLetterFilter(destination="two")))
    assert done.counts["delivered"] == 4
    assert (len(one.kept), len(two.kept)) == (0, 4)
    assert triage.count(rig.journal, DeadLetterFilter(destination="one")) == 4


@pytest.mark.parametrize(
    "given", [(-1, (), 10), (1e9, (), 10), (0, (0,), 10), (0, (1,) * 21, 10), (0, (), 101)]
)
def test_a_pace_has_limits(given: tuple[float, tuple[int, ...], int]) -> None:
    with pytest.raises(CannotReplay):
        checked_pace(*given)


KILLED = """
import json, os, signal, sys
from pathlib import Path
from deadletter.jobs import ReplayRunner, Replays
from deadletter import jobs
from gateway.journal.journal import Journal
from gateway.journal.replaying import Pace
from gateway.journal.values import DeadLetterFilter

url, folder, mode = sys.argv[1:]
journal = Journal(url, blob_directory=Path(folder))
if mode == "submit":
    job, _ = Replays(journal).submit(DeadLetterFilter(), Pace(ramp=(2, 2)), actor="a", key="k")
    os.kill(os.getpid(), signal.SIGKILL)
taken = jobs.replay_one
count = 0
def one(*arguments, **options):
    global count
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return taken(*arguments, **options)
jobs.replay_one = one
runner = ReplayRunner(journal)
for _ in range(10):
    runner.step()
"""


def test_it_survives_kill_9(rig: Rig, tmp_path: Path, journal_url: str) -> None:
    """Killed right after the submission, then in the middle of a step: nothing is lost, nothing
    goes twice."""
    dead(rig, 6)
    rig.library.program.repaired = True
    rig.writer.stop()
    rig.journal.close()
    for mode in ("submit", "step"):
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, journal_url, str(tmp_path / "blobs"), mode],
            check=False, env=os.environ, capture_output=True, timeout=60,
        )  # fmt: skip
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    rig.journal = Journal(journal_url, blob_directory=tmp_path / "blobs", now=rig.clock)
    rig.drainer = Rig.new_drainer(rig)
    with rig.journal.read() as connection:
        (job,) = replaying.jobs(connection)
        assert job.counts == {"selected": 6}, "what the killed step had begun is not kept"
    assert triage.count(rig.journal) == 6
    done = run(rig, job)
    assert done.state is JobState.DONE
    assert done.counts == {"selected": 6, "released": 6, "delivered": 6}
    assert len(recorded(rig.journal)) == 7
    assert json.dumps(done.counts)
    assert End.DELIVERED.value in done.counts

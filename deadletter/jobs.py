"""Replays as jobs: many dead letters go again at a pace, and stop when they fail again.

A job is a row of the journal with its letters in the order of their lanes. It survives a restart
because nothing of it is anywhere else; it cannot be submitted twice because its key is its own.
Each step is one transaction: what ended since the last one, whether that is too much of failing,
and what goes next. A person pauses, resumes or cancels it; what was let go stays so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from deadletter.replay import replay_one
from deadletter.selection import Place, Verdict, filter_json, filter_of, select_places
from gateway.journal import deadletters, desk_actions, operations, replaying
from gateway.journal.desk_actions import What
from gateway.journal.journal import Journal
from gateway.journal.replaying import End, Flight, Job, JobState, Pace
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import DeadLetterFilter

STEP_LETTERS = 100
"""Letters that one transaction lets go."""
FLIGHT_MAX = 500
"""Letters on their way at once; those that follow wait for these."""
JUDGED_MIN = 20
"""Ends after the ramp before which the share of failures says nothing."""
PER_SECOND_MAX = 1_000.0
RAMP_STEPS_MAX = 20
RAMP_STEP_MAX = 10_000
ACTIVE_MAX = 50
DEFAULT_RAMP = (1, 5, 25)
_TRIES = 20
REASON_MAX = 500

log = structlog.get_logger("ecluse.desk")


class CannotReplay(Exception):
    """Nothing was done. Says why."""


def checked_pace(per_second: float, ramp: tuple[int, ...], stop_percent: int) -> Pace:
    """A pace within its limits. Raises CannotReplay."""
    if not 0 <= per_second <= PER_SECOND_MAX or not math.isfinite(per_second):
        raise CannotReplay(f"the rate is 0 (no limit) to {PER_SECOND_MAX:g} a second")
    if len(ramp) > RAMP_STEPS_MAX or not all(1 <= step <= RAMP_STEP_MAX for step in ramp):
        raise CannotReplay(f"a ramp has at most {RAMP_STEPS_MAX} steps of 1 to {RAMP_STEP_MAX}")
    if not 0 <= stop_percent <= 100:
        raise CannotReplay("the share of failures at which it halts is 0 to 100 percent")
    return Pace(per_second=per_second, ramp=ramp, stop_percent=stop_percent)


class Replays:
    """Jobs as people see them. Safe between threads."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def submit(
        self, wanted: DeadLetterFilter, pace: Pace, *, actor: str, key: str, reason: str = ""
    ) -> tuple[Job, bool]:
        """Begin a replay; whether it is new: the same key gives the job of the first press.

        What is buried later is not part of it. Raises CannotReplay, ValueError for a bad key.
        """
        with self._journal.write() as connection:
            job, new = replaying.begin(
                connection, key, filter_json(wanted), pace, actor=actor,
                reason=reason[:REASON_MAX], fingerprint=wanted.fingerprint,
            )  # fmt: skip
            if not new:
                return job, False
            if len(replaying.jobs(connection, active=True, limit=ACTIVE_MAX + 1)) > ACTIVE_MAX:
                raise CannotReplay(f"{ACTIVE_MAX} replays are at work: let one end first")
            operations.begin(connection, key, actor=actor, what="replay")
            operations.finish(connection, key, {"job": job.id})
            desk_actions.write(
                connection, What.REPLAY, actor=actor, fingerprint=wanted.fingerprint,
                job_id=job.id, number=deadletters.count(connection, wanted), reason=reason,
                detail={"pace": pace.as_json()},
            )  # fmt: skip
        log.info("a replay begins", actor=actor, job=job.id)
        return job, True

    def pause(self, job_id: int, *, actor: str) -> Job:
        """Let it rest; what it let go is still watched. Raises CannotReplay."""
        return self._act(job_id, What.PAUSE, actor)

    def resume(self, job_id: int, *, actor: str) -> Job:
        """Let one that was paused or has halted go on: with the first step of its ramp, and what
        failed before is not held against it. Raises CannotReplay."""
        return self._act(job_id, What.RESUME, actor)

    def cancel(self, job_id: int, *, actor: str) -> Job:
        """End it. What it let go stays so, the rest stays dead. Raises CannotReplay."""
        return self._act(job_id, What.CANCEL, actor)

    def _act(self, job_id: int, what: What, actor: str) -> Job:
        for _ in range(_TRIES):
            with self._journal.write() as connection:
                found = self._changed(connection, job_id, what, actor)
            if found is not None:
                log.info("a replay changes", actor=actor, job=job_id, state=found.state.value)
                return found
        raise CannotReplay(f"replay {job_id} moves on all the time; press again")

    def _changed(self, connection: Connection, job_id: int, what: What, actor: str) -> Job | None:
        """The job after the change; None when a step came between."""
        before, after = _WAYS[what]
        job = replaying.get(connection, job_id)
        if job is None:
            raise CannotReplay(f"there is no replay {job_id}")
        if job.state is after:
            return job  # pressed twice
        if job.state not in before:
            raise CannotReplay(f"replay {job_id} is {job.state.value}")
        values: dict[str, object] = {"state": after.value, "note": f"{after.value} by {actor}"}
        if what is What.RESUME:
            step = job.pace.ramp[0] if job.pace.ramp else None
            released = job.counts.get(replaying.RELEASED, 0)
            values |= {
                "note": "",
                "state": (after if job.counts else JobState.PREPARING).value,
                "ramp_step": 0,
                "step_end": released + step if step is not None else None,
                "baseline": {**job.counts, "position": job.position},
                "paced_at": self._journal.now(),
            }
        if not replaying.change(connection, job, **values):
            return None
        desk_actions.write(
            connection, what, actor=actor, fingerprint=job.fingerprint, job_id=job.id,
            number=job.waiting,
        )  # fmt: skip
        return replaying.get(connection, job_id)


_UNDER_WAY = (JobState.PREPARING, JobState.RUNNING)
_WAYS = {
    What.PAUSE: (_UNDER_WAY, JobState.PAUSED),
    What.RESUME: ((JobState.PAUSED, JobState.HALTED), JobState.RUNNING),
    What.CANCEL: ((*_UNDER_WAY, JobState.PAUSED, JobState.HALTED), JobState.CANCELLED),
}


class _Outrun(Exception):
    """Another gateway or a person was first: nothing of this step may be kept."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What became of those on their way."""

    ends: dict[End, list[int]]
    still: int
    stuck: bool
    """All that went since the job was last resumed, and has not ended, is being tried again."""


class ReplayRunner:
    """Does the steps of all jobs. For one thread of each gateway that works."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def step(self) -> bool:
        """One step of each job; whether one of them has more to do at once. Raises
        JournalUnavailable."""
        with self._journal.read() as connection:
            jobs = replaying.jobs(connection, active=True, limit=ACTIVE_MAX)
        more = [self._step(job) for job in reversed(jobs)]
        return any(more)

    def _step(self, job: Job) -> bool:
        if job.state is JobState.PREPARING:
            return self._prepare(job)
        with self._journal.read() as connection:
            flights = replaying.in_flight(connection, job.id, FLIGHT_MAX)
        seen = _look(flights, job.baseline.get("position", 0))
        now = self._journal.now()
        ended = _add(job.counts, seen)
        halt = _reason_to_halt(job, ended, seen) if job.state is JobState.RUNNING else ""
        going, paced_at = (0, now)
        if job.state is JobState.RUNNING and not halt:
            going, paced_at = _allowed(job, seen.still, now)
        if not (seen.ends or halt or going or _is_over(job, seen.still)):
            return False
        return self._write(job, seen, halt, going, paced_at)

    def _prepare(self, job: Job) -> bool:
        wanted = filter_of(job.selection)
        with self._journal.read() as connection:
            places, more = select_places(connection, wanted, before=job.at)
        with self._journal.write() as connection:
            note = "there were more than one replay takes: replay the rest afterwards"
            changed = replaying.change(
                connection, job, state=JobState.RUNNING.value, note=note if more else "",
                counts={"selected": len(places)}, paced_at=self._journal.now(),
            )  # fmt: skip
            if changed:
                replaying.write_items(
                    connection,
                    job,
                    [(each.dead_letter_id, each.message_id, each.delivery_id) for each in places],
                )
        return True

    def _write(self, job: Job, seen: _Seen, halt: str, going: int, paced_at: datetime) -> bool:
        try:
            with self._journal.write() as connection:
                return self._keep(connection, job, seen, halt=halt, going=going, paced_at=paced_at)
        except _Outrun:
            return True

    def _keep(
        self,
        connection: Connection,
        job: Job,
        seen: _Seen,
        *,
        halt: str,
        going: int,
        paced_at: datetime,
    ) -> bool:
        counts = Counter(_add(job.counts, seen))
        for end, places in seen.ends.items():
            replaying.mark(connection, job.id, places, end.value)
        items = replaying.next_items(connection, job, going) if going else []
        states: dict[str, list[int]] = {}
        for item in items:
            place = Place("", 0, item.dead_letter_id, item.message_id, item.delivery_id)
            done = replay_one(connection, place, actor=job.actor, reason=job.reason)
            state = _AT_ONCE.get(done.verdict, replaying.RELEASED)
            states.setdefault(state, []).append(item.place)
        for state, marked in states.items():
            replaying.mark(connection, job.id, marked, state)
            counts[state] += len(marked)
        position = items[-1].place if items else job.position
        still = seen.still + len(states.get(replaying.RELEASED, ()))
        values = self._after(job, counts, position, still, halt)
        changed = replaying.change(
            connection,
            job,
            **{"counts": dict(counts), "position": position, "paced_at": paced_at, **values},
        )
        if not changed:
            raise _Outrun
        self._note(connection, job, values, counts)
        return bool(items)

    def _after(
        self, job: Job, counts: Counter[str], position: int, still: int, halt: str
    ) -> dict[str, object]:
        """What else of the job changes."""
        if halt:
            return {"state": JobState.HALTED.value, "note": halt}
        now = self._journal.now()
        if job.state is JobState.CANCELLED:
            left = counts["selected"] - position
            counts[End.CANCELLED.value] = left
            return {"active": None, "ended_at": now} if not still else {}
        if job.state is not JobState.RUNNING:
            return {}
        if position >= counts["selected"] and not still:
            return {"state": JobState.DONE.value, "active": None, "ended_at": now}
        if job.step_end is not None and counts[replaying.RELEASED] >= job.step_end and not still:
            following = job.ramp_step + 1
            more = following < len(job.pace.ramp)
            return {
                "ramp_step": following,
                "step_end": counts[replaying.RELEASED] + job.pace.ramp[following] if more else None,
                "paced_at": now,
            }
        return {}

    def _note(
        self, connection: Connection, job: Job, values: dict[str, object], counts: Counter[str]
    ) -> None:
        state = values.get("state")
        if state not in (JobState.HALTED.value, JobState.DONE.value):
            return
        what = What.HALT if state == JobState.HALTED.value else What.DONE
        told = {each.value: counts[each.value] for each in End if counts[each.value]}
        desk_actions.write(
            connection, what, actor=job.actor, fingerprint=job.fingerprint, job_id=job.id,
            number=counts["selected"], reason=str(values.get("note", "")), detail=told,
        )  # fmt: skip
        log.info(
            "a replay ends" if what is What.DONE else "a replay halts",
            job=job.id, outcome=", ".join(f"{number} {end}" for end, number in told.items()),
        )  # fmt: skip


_AT_ONCE = {Verdict.GONE: End.GONE.value, Verdict.WITHHELD: End.WITHHELD.value}
_DELIVERED = (MessageState.DELIVERED, MessageState.GATHERED)
_UNDER_WAY_STATES = (MessageState.RECEIVED, MessageState.ROUTED, MessageState.GATHERING)


def _look(flights: list[Flight], after: int) -> _Seen:
    """``after`` is the place up to which letters had gone when the job was last resumed."""
    ends: dict[End, list[int]] = {}
    still = new = retried = 0
    for flight in flights:
        end = _end(flight)
        if end is None:
            still += 1
            if flight.item.place > after:
                new += 1
                retried += flight.retried
        else:
            ends.setdefault(end, []).append(flight.item.place)
    return _Seen(ends, still, new > 0 and retried == new)


def _end(flight: Flight) -> End | None:
    if flight.item.delivery_id is not None:
        ways = {
            DeliveryState.PENDING: None,
            DeliveryState.DELIVERED: End.DELIVERED,
            DeliveryState.DEAD: End.FAILED,
        }
        return ways.get(DeliveryState(flight.delivery or "discarded"), End.ELSEWHERE)
    state = MessageState(flight.message)
    if state in _UNDER_WAY_STATES:
        return None
    if state is MessageState.DEAD:
        return End.FAILED
    return End.DELIVERED if state in _DELIVERED else End.ELSEWHERE


def _add(counts: Mapping[str, int], seen: _Seen) -> dict[str, int]:
    found = Counter(counts)
    found.update({end.value: len(places) for end, places in seen.ends.items()})
    return dict(found)


def _reason_to_halt(job: Job, counts: dict[str, int], seen: _Seen) -> str:
    """Why it must not go on, or nothing. Ends before it was last resumed do not count."""

    def since(end: End) -> int:
        return counts.get(end.value, 0) - job.baseline.get(end.value, 0)

    failed = since(End.FAILED)
    ended = failed + since(End.DELIVERED) + since(End.ELSEWHERE)
    if seen.stuck and job.waiting:
        return (
            f"the destination fails again: all {seen.still} that are on their way are being tried "
            "again"
        )
    released = job.counts.get(replaying.RELEASED, 0)
    complete = not seen.still and (
        job.waiting == 0 or (job.step_end is not None and released >= job.step_end)
    )
    in_ramp = job.step_end is not None
    if not failed or not (complete or (not in_ramp and ended >= JUDGED_MIN)):
        return ""
    if job.waiting == 0 or failed * 100 <= job.pace.stop_percent * ended:
        return ""
    return f"{failed} of {ended} failed again, more than {job.pace.stop_percent} %"


def _allowed(job: Job, still: int, now: datetime) -> tuple[int, datetime]:
    """How many may go now, and up to when the rate is used up with them."""
    most = min(STEP_LETTERS, FLIGHT_MAX - still, job.waiting)
    if job.step_end is not None:
        most = min(most, job.step_end - job.counts.get(replaying.RELEASED, 0))
    if most <= 0:
        return 0, now
    rate = job.pace.per_second
    if not rate:
        return most, now
    # Never more at once than a second's worth, however long nothing went.
    since = max(job.paced_at, now - timedelta(seconds=max(1.0, 1 / rate)))
    due = int((now - since).total_seconds() * rate)
    if due <= most:
        return due, since + timedelta(seconds=due / rate)
    return most, now


def _is_over(job: Job, still: int) -> bool:
    """Whether only its end, or the next step of its ramp, is to be written."""
    if still:
        return False
    if job.state is JobState.CANCELLED:
        return True
    if job.state is not JobState.RUNNING:
        return False
    released = job.counts.get(replaying.RELEASED, 0)
    return job.waiting == 0 or (job.step_end is not None and released >= job.step_end)

"""Reading delivered messages anew with the mappings in force: first as a dry run, then as a job.

A job looks at each message, and lets only those go again whose facts would differ. They go
to their old places in their lanes; the record then keeps what is unchanged as it is, gives
what changed a new version, and withdraws what is said no longer. A message that came later
keeps the last word. What cannot be read now stays as it is, and is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from gateway.deployment.comparing import Compared, Verdict, compare
from gateway.deployment.deploying import REASON_MAX, REASON_MIN
from gateway.deployment.force import InForce, Mappings
from gateway.journal import messages, operations, reprocessing
from gateway.journal.journal import Journal
from gateway.journal.reprocessing import ACTIVE, Failure, Job, JobState, Selection, Step
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.model import Stage

STEP_MESSAGES = 25
"""Messages that one step looks at. Those that it lets go stand before the live ones of their
source, so that this bounds how long these wait."""

STEP_BYTES_MAX = 16 << 20
DRY_RUN_DEFAULT = 200
DRY_RUN_MAX = 2_000
LISTED_MAX = 100
"""Messages that a dry run shows one by one; all are counted."""

log = structlog.get_logger("ecluse.mapping")


class CannotReprocess(Exception):
    """Nothing was done. Says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a job would do with the newest messages of a selection.

    ``selected`` counts all of them, ``examined`` those that were looked at; ``listed`` are
    those that would change or fail.
    """

    selected: int
    examined: int
    version: int
    counts: Counter[str] = field(default_factory=Counter)
    listed: Sequence[Compared] = ()


class Reprocessing:
    """Dry runs, and jobs as people see them. Safe between threads."""

    def __init__(self, journal: Journal, mappings: Mappings) -> None:
        self._journal = journal
        self._mappings = mappings

    def dry_run(self, selection: Selection, limit: int = DRY_RUN_DEFAULT) -> DryRun:
        """Compare, and change nothing: the newest ``limit`` messages. Raises ValueError for a
        limit that is not 1 to 2,000."""
        if not 1 <= limit <= DRY_RUN_MAX:
            raise ValueError(f"a dry run looks at 1 to {DRY_RUN_MAX} messages")
        now = self._mappings.now
        with self._journal.read() as connection:
            until = reprocessing.newest(connection)
            selected = reprocessing.count(connection, selection, until)
            found = reprocessing.newest_selected(connection, selection, limit=limit)
        counts: Counter[str] = Counter()
        listed: list[Compared] = []
        for message in found:
            compared = compare(self._journal, now, message)
            counts.update(compared.counts())
            if compared.verdict is not Verdict.UNCHANGED and len(listed) < LISTED_MAX:
                listed.append(compared)
        return DryRun(
            selected=selected, examined=len(found), version=now.version, counts=counts,
            listed=listed,
        )  # fmt: skip

    def submit(
        self, selection: Selection, *, actor: str, reason: str, key: str
    ) -> tuple[Job, bool]:
        """Begin a job; whether it is new: the same key gives the job of the first press.

        Raises CannotReprocess, ``gateway.journal.reprocessing.Busy``.
        """
        reason = reason.strip()
        if not REASON_MIN <= len(reason) <= REASON_MAX:
            raise CannotReprocess(f"say why, in {REASON_MIN} to {REASON_MAX} characters")
        now = self._mappings.now
        with self._journal.write() as connection:
            job, new = reprocessing.begin(
                connection, key, selection, actor=actor, reason=reason, loaded=now.loaded,
                version=now.version,
            )  # fmt: skip
            if new and operations.begin(connection, key, actor=actor, what="reprocess"):
                operations.finish(connection, key, {"job": job.id})
        if new:
            log.info("a reprocessing begins", actor=actor, job=job.id,
                     count=job.counts.get("selected", 0))  # fmt: skip
        return job, new

    def pause(self, job_id: int, *, actor: str) -> Job:
        """Let it rest until it is resumed. Raises CannotReprocess."""
        return self._settle(job_id, [JobState.RUNNING], JobState.PAUSED, actor)

    def resume(self, job_id: int, *, actor: str) -> Job:
        """Let it go on, with the mappings in force now. Raises CannotReprocess."""
        return self._settle(job_id, [JobState.PAUSED], JobState.RUNNING, actor)

    def stop(self, job_id: int, *, actor: str) -> Job:
        """End it. What it let go stays so. Raises CannotReprocess."""
        return self._settle(job_id, list(ACTIVE), JobState.STOPPED, actor)

    def _settle(self, job_id: int, before: Sequence[JobState], after: JobState, actor: str) -> Job:
        now = self._mappings.now
        resumes = after is JobState.RUNNING
        note = "" if resumes else f"{after.value} by {actor}"
        with self._journal.write() as connection:
            done = reprocessing.settle(
                connection, job_id, before, after, note=note,
                loaded=now.loaded if resumes else None, version=now.version,
            )  # fmt: skip
            job = reprocessing.get(connection, job_id)
        if job is None:
            raise CannotReprocess(f"there is no reprocessing {job_id}")
        if not done and job.state is not after:
            raise CannotReprocess(f"reprocessing {job_id} is {job.state.value}")
        if done:
            log.info("a reprocessing changes", actor=actor, job=job_id, state=after.value)
        return job


class ReprocessingRunner:
    """Does the steps of the job that is not at its end. For one thread of each gateway."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def step(self, now: InForce) -> bool:
        """One step. False when there is nothing to do, or nothing yet."""
        with self._journal.read() as connection:
            job = reprocessing.active(connection)
            if job is None or job.state is not JobState.RUNNING:
                return False
            if reprocessing.on_their_way(connection, job):
                return False
            found = reprocessing.selected(
                connection, job.selection, after=job.position, until_id=job.until_id,
                limit=STEP_MESSAGES,
            )  # fmt: skip
        if job.loaded != now.loaded:
            self._pause(job, f"version {now.version} of the mappings came into force meanwhile")
            return False
        compared: list[tuple[Message, Compared]] = []
        size = 0
        for message in found:
            size += message.size
            if size > STEP_BYTES_MAX and compared:
                break
            compared.append((message, compare(self._journal, now, message)))
        last = compared[-1][0].id if compared else job.until_id
        return self._apply(job, now, compared, last, ended=not found)

    def _apply(
        self,
        job: Job,
        now: InForce,
        compared: Sequence[tuple[Message, Compared]],
        last: int,
        *,
        ended: bool,
    ) -> bool:
        counts: Counter[str] = Counter()
        failures = []
        for message, each in compared:
            counts.update({"examined": 1, **each.counts()})
            if each.cause is not None:
                failures.append(
                    Failure(
                        message_id=message.id,
                        code=each.cause.code.value,
                        detail=each.cause.detail,
                        location=each.cause.location,
                    )
                )
        with self._journal.write() as connection:
            step = Step(position=last, counts=counts, failures=failures)
            if not reprocessing.advance(connection, job, step):
                return False
            for message, each in compared:
                if each.verdict is not Verdict.CHANGED:
                    continue
                found = messages.get(connection, message.id)
                if found is None or found.state is not MessageState.DELIVERED:
                    continue  # it went another way meanwhile, and is read with these mappings
                reprocessing.note_revision(connection, message.id, job.id)
                messages.move(
                    connection,
                    message.id,
                    MessageState.RECEIVED,
                    event="reprocessed",
                    stage=Stage.NORMALISE,
                    detail={"job": job.id, "actor": job.actor, "mappings": now.version},
                )
            if ended:
                reprocessing.settle(connection, job.id, [JobState.RUNNING], JobState.DONE)
        if ended:
            log.info("a reprocessing is done", job=job.id, **{
                name: job.counts.get(name, 0) for name in ("examined", "changed", "failed")
            })  # fmt: skip
        return not ended

    def _pause(self, job: Job, why: str) -> None:
        with self._journal.write() as connection:
            reprocessing.settle(
                connection, job.id, [JobState.RUNNING], JobState.PAUSED,
                note=f"{why}: look at the dry run again, then resume it",
            )  # fmt: skip
        log.warning("a reprocessing waits", job=job.id, reason=why)

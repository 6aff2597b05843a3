"""Reprocessings: jobs that let delivered messages be read anew, and how far each has come.

A job goes through the messages of its selection by rising id, some at a time. Each step is
kept together with what it did, and counts only if nobody else did it: a job goes on after a
restart where it was, and two gateways on one journal do not do it twice. One job at a time
is not at its end. Functions that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from gateway.journal import mapping_tables, tables
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.rows import MESSAGE_COLUMNS, AnyRow, message_of
from gateway.journal.states import MessageState
from gateway.journal.tables import KEY_MAX, TEXT_MAX
from gateway.journal.times import moment
from gateway.journal.values import Message

FAILURES_MAX = 200
"""Messages that a job names because they were not read anew."""

IDS_MAX = 500

_job = mapping_tables.reprocessing
_reprocessed = mapping_tables.reprocessed
_message = tables.message


class JobState(StrEnum):
    """Where a job stands."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    """Ended by a person before its end."""
    DONE = "done"


ACTIVE = (JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which delivered messages; empty fields do not restrict.

    ``mapping`` and ``mapping_version`` are those that a message was read with.
    ``since`` and ``until`` bound the time of arrival (since <= t < until).
    """

    source: str = ""
    kind: str = ""
    mapping: str = ""
    mapping_version: str = ""
    patient_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            **asdict(self),
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
            "ids": list(self.ids),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Selection:
        """What :meth:`as_json` wrote."""
        since, until = stored["since"], stored["until"]
        return cls(
            **{
                **stored,
                "since": datetime.fromisoformat(since) if since else None,
                "until": datetime.fromisoformat(until) if until else None,
                "ids": tuple(stored["ids"]),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A message that was not read anew: the cause, and where."""

    message_id: int
    code: str
    detail: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One reprocessing. Its ``id`` is the revision of what it reads anew.

    ``loaded`` and ``version`` are the mappings that it was asked for with; ``position`` is the
    id of the last message looked at, of ``until_id``; ``counts`` say what became of them.
    """

    id: int
    key: str
    state: JobState
    note: str
    actor: str
    reason: str
    selection: Selection
    loaded: str
    version: int
    position: int
    batch_after: int
    until_id: int
    counts: Mapping[str, int]
    failures: tuple[Failure, ...]
    at: datetime
    changed_at: datetime
    ended_at: datetime | None

    @property
    def active(self) -> bool:
        """Whether it is not at its end."""
        return self.state in ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step did."""

    position: int
    counts: Mapping[str, int]
    failures: Sequence[Failure] = field(default_factory=tuple)


class Busy(Exception):
    """Another job is not at its end. ``job_id`` names it."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"reprocessing {job_id} is not at its end: let it end, or stop it")
        self.job_id = job_id


def begin(
    connection: Connection,
    key: str,
    selection: Selection,
    *,
    actor: str,
    reason: str,
    loaded: str,
    version: int,
    at: datetime | None = None,
) -> tuple[Job, bool]:
    """Submit a job; whether it is new. The same key gives the same job. Raises Busy, and
    ValueError for a key that is not 1 to 256 characters."""
    if not 0 < len(key) <= KEY_MAX:
        raise ValueError(f"a key has 1 to {KEY_MAX} characters")
    known = connection.execute(select(_job).where(_job.c.key == key)).one_or_none()
    if known is not None:
        return _job_of(known), False
    now = moment(connection, at)
    until_id = connection.execute(select(func.max(_message.c.id))).scalar_one() or 0
    made = connection.execute(
        upsert(connection, _job).on_conflict_do_nothing().returning(_job),
        {
            "key": key,
            "active": 1,
            "state": JobState.RUNNING.value,
            "note": "",
            "actor": fit(actor, TEXT_MAX),
            "reason": fit(reason, TEXT_MAX),
            "selection": selection.as_json(),
            "loaded": loaded,
            "version": version,
            "position": 0,
            "batch_after": 0,
            "until_id": until_id,
            "counts": {"selected": count(connection, selection, until_id)},
            "failures": [],
            "at": now,
            "changed_at": now,
        },
    ).one_or_none()
    if made is None:
        other = active(connection)
        raise Busy(other.id if other is not None else 0)
    return _job_of(made), True


def get(connection: Connection, job_id: int) -> Job | None:
    """One job, or None."""
    row = connection.execute(select(_job).where(_job.c.id == job_id)).one_or_none()
    return _job_of(row) if row is not None else None


def active(connection: Connection) -> Job | None:
    """The job that is not at its end, if there is one."""
    row = connection.execute(select(_job).where(_job.c.active == 1)).one_or_none()
    return _job_of(row) if row is not None else None


def jobs(connection: Connection, *, limit: int = 20) -> list[Job]:
    """Jobs, newest first."""
    rows = connection.execute(select(_job).order_by(_job.c.id.desc()).limit(limit))
    return [_job_of(row) for row in rows]


def advance(connection: Connection, job: Job, step: Step, *, at: datetime | None = None) -> bool:
    """Keep one step of a running job. False when it is not where it was: another did this
    step, or somebody paused or stopped the job; then nothing else of the step may be done."""
    counts = dict(job.counts)
    for name, more in step.counts.items():
        counts[name] = counts.get(name, 0) + more
    failures = [asdict(each) for each in (*job.failures, *step.failures)][:FAILURES_MAX]
    done = connection.execute(
        update(_job)
        .where(
            _job.c.id == job.id,
            _job.c.position == job.position,
            _job.c.state == JobState.RUNNING.value,
        )
        .values(
            position=step.position,
            batch_after=job.position,
            counts=counts,
            failures=failures,
            changed_at=moment(connection, at),
        )
    )
    return bool(done.rowcount == 1)


def settle(
    connection: Connection,
    job_id: int,
    before: Sequence[JobState],
    after: JobState,
    *,
    note: str = "",
    loaded: str | None = None,
    version: int | None = None,
    at: datetime | None = None,
) -> bool:
    """Change a job's state from one of ``before``; whether it was in one of them."""
    now = moment(connection, at)
    values: dict[str, Any] = {"state": after.value, "note": fit(note, TEXT_MAX), "changed_at": now}
    if after not in ACTIVE:
        values |= {"active": None, "ended_at": now}
    if loaded is not None:
        values |= {"loaded": loaded, "version": version}
    changed = connection.execute(
        update(_job)
        .where(_job.c.id == job_id, _job.c.state.in_([each.value for each in before]))
        .values(values)
    )
    return bool(changed.rowcount == 1)


# --- messages -------------------------------------------------------------------------


def selected(
    connection: Connection, selection: Selection, *, after: int, until_id: int, limit: int
) -> list[Message]:
    """The next delivered messages of a selection by id, without their bytes."""
    rows = connection.execute(
        select(*MESSAGE_COLUMNS)
        .where(_message.c.id > after, _message.c.id <= until_id, *_conditions(selection))
        .order_by(_message.c.id)
        .limit(limit)
    )
    return [message_of(row) for row in rows]


def newest_selected(connection: Connection, selection: Selection, *, limit: int) -> list[Message]:
    """The newest delivered messages of a selection, in order of arrival, without their bytes."""
    rows = connection.execute(
        select(*MESSAGE_COLUMNS)
        .where(*_conditions(selection))
        .order_by(_message.c.id.desc())
        .limit(limit)
    )
    return [message_of(row) for row in rows][::-1]


def count(connection: Connection, selection: Selection, until_id: int) -> int:
    """How many messages a selection has now."""
    found = connection.execute(
        select(func.count())
        .select_from(_message)
        .where(_message.c.id <= until_id, *_conditions(selection))
    )
    return int(found.scalar_one())


def newest(connection: Connection) -> int:
    """The highest id of a message; 0 without one."""
    return int(connection.execute(select(func.max(_message.c.id))).scalar_one() or 0)


def note_revision(connection: Connection, message_id: int, revision: int) -> None:
    """From now on a message's entries are those of this reading."""
    statement = upsert(connection, _reprocessed)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_reprocessed.c.message_id],
            set_={"revision": statement.excluded.revision},
        ),
        {"message_id": message_id, "revision": revision},
    )


def revision(connection: Connection, message_id: int) -> int:
    """The reading that a message's entries are of: 0 for the first."""
    found = connection.execute(
        select(_reprocessed.c.revision).where(_reprocessed.c.message_id == message_id)
    ).scalar_one_or_none()
    return int(found or 0)


def on_their_way(connection: Connection, job: Job) -> int:
    """How many messages of a job's last step still wait to be read."""
    found = connection.execute(
        select(func.count())
        .select_from(_message.join(_reprocessed, _reprocessed.c.message_id == _message.c.id))
        .where(
            _message.c.id > job.batch_after,
            _message.c.id <= job.position,
            _message.c.state == MessageState.RECEIVED.value,
            _reprocessed.c.revision == job.id,
        )
    )
    return int(found.scalar_one())


def _conditions(wanted: Selection) -> Iterator[ColumnElement[bool]]:
    yield _message.c.state == MessageState.DELIVERED.value
    for column, value in (
        (_message.c.source, wanted.source),
        (_message.c.kind, wanted.kind),
        (_message.c.mapping, wanted.mapping),
        (_message.c.mapping_version, wanted.mapping_version),
        (_message.c.patient_id, wanted.patient_id),
    ):
        if value:
            yield column == value
    if wanted.since is not None:
        yield _message.c.received_at >= wanted.since
    if wanted.until is not None:
        yield _message.c.received_at < wanted.until
    if wanted.ids:
        yield _message.c.id.in_(wanted.ids)


def _job_of(row: AnyRow) -> Job:
    return Job(
        id=row.id,
        key=row.key,
        state=JobState(row.state),
        note=row.note,
        actor=row.actor,
        reason=row.reason,
        selection=Selection.from_json(row.selection),
        loaded=row.loaded,
        version=row.version,
        position=row.position,
        batch_after=row.batch_after,
        until_id=row.until_id,
        counts=row.counts,
        failures=tuple(Failure(**each) for each in row.failures),
        at=row.at,
        changed_at=row.changed_at,
        ended_at=row.ended_at,
    )

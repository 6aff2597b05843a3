"""The rows of replays that are jobs: what they take, at which pace, and how far they are.

The letters that a job takes are written down once, in the order of their lanes. Every change of
a job is one transaction that also moves ``turn`` on by one, so that of two gateways (or of a
gateway and a person) that would change the same state one does, and the other looks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select, update

from gateway.bulk import insert_rows
from gateway.journal import tables
from gateway.journal.desk_tables import replay_item as _item
from gateway.journal.desk_tables import replay_job as _job
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.rows import AnyRow
from gateway.journal.states import DeliveryState
from gateway.journal.tables import KEY_MAX, TEXT_MAX
from gateway.journal.times import moment

RELEASED = "released"
WAITING = "waiting"


class JobState(StrEnum):
    """Where a replay stands."""

    PREPARING = "preparing"
    """Its letters are being put in order."""
    RUNNING = "running"
    PAUSED = "paused"
    """By a person."""
    HALTED = "halted"
    """It stopped by itself because what it let go failed again; a person lets it go on."""
    CANCELLED = "cancelled"
    DONE = "done"


class End(StrEnum):
    """How one letter of a replay ended."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """It died again: there is a new dead letter."""
    ELSEWHERE = "elsewhere"
    """It left the way to the destination: it is held, has no mapping, or was refused."""
    WITHHELD = "withheld"
    """Not let go: the patient's permission forbids it now. The dead letter stays open."""
    GONE = "gone"
    """It had been settled already."""
    CANCELLED = "cancelled"
    """The replay was ended before its turn. The dead letter stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How quickly letters are let go.

    ``per_second`` 0 means as quickly as they are taken. ``ramp`` are the sizes of the first
    steps: each is let go whole, and the next waits until it is known how all of it ended.
    ``stop_percent`` of those that ended may fail before the replay halts by itself.
    """

    per_second: float = 0.0
    ramp: tuple[int, ...] = ()
    stop_percent: int = 10

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return {**asdict(self), "ramp": list(self.ramp)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Pace:
        """What :meth:`as_json` wrote."""
        return cls(**{**stored, "ramp": tuple(stored["ramp"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One replay.

    ``counts`` has ``selected``, ``released`` and one number for each :class:`End`; ``position``
    is the place of the last letter that had its turn; ``step_end`` is how many may be released
    within the present step of the ramp, None after it; ``baseline`` are the counts of ends when
    it was last resumed.
    """

    id: int
    key: str
    active: bool
    state: JobState
    note: str
    actor: str
    reason: str
    selection: Mapping[str, Any]
    fingerprint: str
    pace: Pace
    turn: int
    position: int
    ramp_step: int
    step_end: int | None
    counts: Mapping[str, int]
    baseline: Mapping[str, int]
    paced_at: datetime
    at: datetime
    changed_at: datetime
    ended_at: datetime | None

    @property
    def ended(self) -> int:
        """How many of the released ones have ended."""
        return sum(self.counts.get(each.value, 0) for each in _AFTER_RELEASE)

    @property
    def in_flight(self) -> int:
        """How many are on their way."""
        return self.counts.get(RELEASED, 0) - self.ended

    @property
    def waiting(self) -> int:
        """How many have not had their turn."""
        return self.counts.get("selected", 0) - self.position


_AFTER_RELEASE = (End.DELIVERED, End.FAILED, End.ELSEWHERE)


@dataclass(frozen=True, slots=True)
class Item:
    """One letter of a replay."""

    place: int
    dead_letter_id: int
    message_id: int
    delivery_id: int | None
    state: str


def begin(
    connection: Connection,
    key: str,
    selection: Mapping[str, Any],
    pace: Pace,
    *,
    actor: str,
    reason: str,
    fingerprint: str = "",
    at: datetime | None = None,
) -> tuple[Job, bool]:
    """Submit a replay; whether it is new: the same key gives the same job. Raises ValueError
    for a key that is not 1 to 256 characters."""
    if not 0 < len(key) <= KEY_MAX:
        raise ValueError(f"a key has 1 to {KEY_MAX} characters")
    now = moment(connection, at)
    made = connection.execute(
        upsert(connection, _job).on_conflict_do_nothing().returning(_job),
        {
            "key": key,
            "active": 1,
            "state": JobState.PREPARING.value,
            "note": "",
            "actor": fit(actor, TEXT_MAX),
            "reason": fit(reason, TEXT_MAX),
            "selection": dict(selection),
            "fingerprint": fingerprint,
            "pace": pace.as_json(),
            "turn": 0,
            "position": 0,
            "ramp_step": 0,
            "step_end": pace.ramp[0] if pace.ramp else None,
            "counts": {},
            "baseline": {},
            "paced_at": now,
            "at": now,
            "changed_at": now,
        },
    ).one_or_none()
    if made is not None:
        return _job_of(made), True
    known = connection.execute(select(_job).where(_job.c.key == key)).one()
    return _job_of(known), False


def get(connection: Connection, job_id: int) -> Job | None:
    """One replay, or None."""
    row = connection.execute(select(_job).where(_job.c.id == job_id)).one_or_none()
    return _job_of(row) if row is not None else None


def jobs(
    connection: Connection,
    *,
    active: bool = False,
    fingerprint: str = "",
    before_id: int | None = None,
    limit: int = 50,
) -> list[Job]:
    """Replays, newest first; with ``active`` those for which there is something to do."""
    query = select(_job).order_by(_job.c.id.desc()).limit(limit)
    if active:
        query = query.where(_job.c.active == 1)
    if fingerprint:
        query = query.where(_job.c.fingerprint == fingerprint)
    if before_id is not None:
        query = query.where(_job.c.id < before_id)
    return [_job_of(row) for row in connection.execute(query)]


def change(connection: Connection, job: Job, **values: Any) -> bool:
    """Keep new values of a job. False when it is not as ``job`` says any more: then nothing
    else of the transaction may be kept either."""
    done = connection.execute(
        update(_job)
        .where(_job.c.id == job.id, _job.c.turn == job.turn)
        .values(turn=job.turn + 1, changed_at=moment(connection, None), **values)
    )
    return bool(done.rowcount == 1)


def write_items(
    connection: Connection, job: Job, letters: Iterable[tuple[int, int, int | None]]
) -> int:
    """Write down the letters of a job in their order: dead letter, message, delivery; how
    many."""
    rows = [
        (job.id, place, letter, message, delivery, WAITING)
        for place, (letter, message, delivery) in enumerate(letters, 1)
    ]
    insert_rows(
        connection,
        _item,
        rows,
        columns=("job_id", "place", "dead_letter_id", "message_id", "delivery_id", "state"),
    )
    return len(rows)


def next_items(connection: Connection, job: Job, limit: int) -> list[Item]:
    """The next letters that have not had their turn."""
    rows = connection.execute(
        select(_item)
        .where(_item.c.job_id == job.id, _item.c.place > job.position)
        .order_by(_item.c.place)
        .limit(limit)
    )
    return [_item_of(row) for row in rows]


def items(
    connection: Connection, job_id: int, *, state: str = "", after: int = 0, limit: int = 100
) -> list[Item]:
    """Letters of a job in their order, after a place."""
    query = select(_item).where(_item.c.job_id == job_id, _item.c.place > after)
    if state:
        query = query.where(_item.c.state == state)
    return [_item_of(row) for row in connection.execute(query.order_by(_item.c.place).limit(limit))]


def mark(connection: Connection, job_id: int, places: Sequence[int], state: str) -> None:
    """Keep where letters of a job stand."""
    for start in range(0, len(places), 500):
        connection.execute(
            update(_item)
            .where(_item.c.job_id == job_id, _item.c.place.in_(places[start : start + 500]))
            .values(state=state)
        )


@dataclass(frozen=True, slots=True)
class Flight:
    """A letter on its way: where its message and its delivery stand, and whether the delivery
    is being tried again."""

    item: Item
    message: str
    delivery: str | None
    retried: bool


def in_flight(connection: Connection, job_id: int, limit: int) -> list[Flight]:
    """What a job let go and has not seen end."""
    message, delivery = tables.message, tables.delivery
    late = delivery.alias("late")
    tried = (
        select(func.max(late.c.attempts))
        .where(
            late.c.message_id == _item.c.message_id,
            late.c.state == DeliveryState.PENDING.value,
        )
        .correlate(_item)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(
            _item,
            message.c.state.label("message_state"),
            delivery.c.state.label("delivery_state"),
            func.coalesce(tried, 0).label("attempts"),
        )
        .join(message, message.c.id == _item.c.message_id)
        .outerjoin(delivery, delivery.c.id == _item.c.delivery_id)
        .where(_item.c.job_id == job_id, _item.c.state == RELEASED)
        .order_by(_item.c.place)
        .limit(limit)
    )
    return [
        Flight(_item_of(row), row.message_state, row.delivery_state, row.attempts > 0)
        for row in rows
    ]


def _item_of(row: AnyRow) -> Item:
    return Item(row.place, row.dead_letter_id, row.message_id, row.delivery_id, row.state)


def _job_of(row: AnyRow) -> Job:
    return Job(
        **{
            **row._mapping,
            "active": bool(row.active),
            "state": JobState(row.state),
            "pace": Pace.from_json(row.pace),
        }
    )

"""Deliveries: one message's entries on their way to one destination, in the order of a lane.

The life of one attempt: ``claim``, ``start_attempts``, commit; the work; then
``lanes.fence``, ``settle_all``, ``conclude`` and commit (for a destination in this
database the work is in this second transaction too).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select, update

from gateway.bulk import Statement, insert_rows, instant_text, json_text
from gateway.journal import lanes, lost_entries, patients, states, tables
from gateway.journal.entries import entries_of
from gateway.journal.moves import move
from gateway.journal.rows import AnyRow, attempt_of, cause_values, delivery_of
from gateway.journal.settling import conclude, settle, settle_all, start_attempts
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.tables import literal_state
from gateway.journal.times import moment
from gateway.journal.values import Attempt, DeliveryRow, NewDelivery, Settlement
from gateway.model import Delivery, Stage

__all__ = [
    "Attempt",
    "DeliveryRow",
    "NewDelivery",
    "Settlement",
    "attempts",
    "claim",
    "conclude",
    "counts",
    "get",
    "insert",
    "lane_of",
    "move_lane",
    "of_message",
    "revive",
    "set_aside",
    "settle",
    "settle_all",
    "start_attempts",
]

CLAIM_BYTES_MAX = 32 * 1024 * 1024
"""Entries that one claim reads; a single delivery is claimed whatever its size."""

_delivery = tables.delivery
_normalised = tables.normalised
_message = tables.message
_REVIVABLE = frozenset({DeliveryState.DEAD, DeliveryState.WITHHELD})
_NEW = tuple(name for name in _delivery.c.keys() if name != "id")  # noqa: SIM118 - no dict
_STORED_COLUMNS = "idempotency_key, id, message_id, state"
_STORED = Statement(
    f"SELECT {_STORED_COLUMNS} FROM delivery WHERE idempotency_key = ANY(:keys text)"  # noqa: S608 - our own names
)


class _Stored(NamedTuple):
    """A delivery that stands in the journal under the key of one to be inserted."""

    idempotency_key: str
    id: int
    message_id: int
    state: str


def lane_of(patient_id: str, destination: str) -> str:
    """The name of the lane of a patient at a destination."""
    return f"{patient_id}@{destination}"


def insert(
    connection: Connection, deliveries: Sequence[NewDelivery], *, at: datetime | None = None
) -> list[int]:
    """Insert deliveries and ring their lanes; their ids, in the order given.

    One whose idempotency key is there already is not inserted again: its id is
    given, it is revived if it was DEAD or WITHHELD, and belongs to the message
    given unless it is DELIVERED. Deliveries to a patient who was merged go to the
    survivor, whose ``merged_patients`` then names the other.
    """
    if not deliveries:
        return []
    now = moment(connection, at)
    wanted = _to_survivors(connection, deliveries)
    at_text = instant_text(now)
    inserted = insert_rows(
        connection,
        _delivery,
        # In the order of their keys, so that two processes never wait in a circle.
        [
            (
                *(new.message_id, new.lane, new.patient_id, new.destination, new.sequence),
                *(new.idempotency_key, DeliveryState.PENDING.value, 0, 0, 0),
                instant_text(new.due_at) if new.due_at is not None else None,
                *(*cause_values(None), "", json_text(new.merged_patients), at_text, at_text),
                new.revision,
            )
            for new in sorted(wanted, key=lambda new: new.idempotency_key)
        ],
        columns=_NEW,
        conflict="(idempotency_key) DO NOTHING",
        returning=_STORED_COLUMNS,
    )
    stored = {row[0]: _Stored(*row) for row in inserted}
    missing = [new.idempotency_key for new in wanted if new.idempotency_key not in stored]
    if missing:
        stored.update((row[0], _Stored(*row)) for row in _STORED.rows(connection, keys=missing))
    for new in wanted:
        row = stored[new.idempotency_key]
        _take_over(connection, row, new, now)
        if row.state == DeliveryState.PENDING.value:
            lanes.ring(connection, new.lane, new.due_at or now, source=new.source)
    return [stored[new.idempotency_key].id for new in wanted]


def _to_survivors(connection: Connection, deliveries: Sequence[NewDelivery]) -> list[NewDelivery]:
    merged = patients.survivors(connection, (new.patient_id for new in deliveries))
    if not merged:
        return list(deliveries)
    return [
        NewDelivery(
            message_id=new.message_id,
            lane=lane_of(merged[new.patient_id], new.destination),
            patient_id=merged[new.patient_id],
            destination=new.destination,
            sequence=new.sequence,
            idempotency_key=new.idempotency_key,
            merged_patients=_with(new.merged_patients, new.patient_id),
            due_at=new.due_at,
            revision=new.revision,
            source=new.source,
        )
        if new.patient_id in merged
        else new
        for new in deliveries
    ]


def _with(merged: Iterable[str], patient_id: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*merged, patient_id)))


def _take_over(connection: Connection, row: _Stored, new: NewDelivery, now: datetime) -> None:
    """What to do with a delivery that was there before."""
    state = DeliveryState(row.state)
    if row.message_id != new.message_id and state is not DeliveryState.DELIVERED:
        connection.execute(
            update(_delivery).where(_delivery.c.id == row.id).values(message_id=new.message_id)
        )
    if state in _REVIVABLE:
        _revive(connection, row.id, now)


def claim(
    connection: Connection,
    lane: str,
    token: int,
    limit: int,
    now: datetime,
    *,
    up_to: int = lanes.EVERYTHING,
) -> list[Delivery]:
    """The head of a lane, in (sequence, id) order, as far as it is due, and not of messages
    after ``up_to``.

    What is behind one that is not due waits with it. One whose entries are not in the
    journal is buried. Raises LeaseLost.
    """
    lanes.fence(connection, lane, token)
    head = connection.execute(
        select(_delivery.c.id, _delivery.c.due_at, _normalised.c.entries_size)
        .outerjoin(_normalised, _normalised.c.message_id == _delivery.c.message_id)
        .where(
            _delivery.c.lane == lane,
            literal_state(_delivery, DeliveryState.PENDING),
            _delivery.c.sequence <= up_to,
        )
        .order_by(_delivery.c.sequence, _delivery.c.id)
        .limit(limit)
    ).all()
    ids: list[int] = []
    lost: list[int] = []
    size = 0
    for row in head:
        size += row.entries_size or 0
        if (row.due_at is not None and row.due_at > now) or (ids and size > CLAIM_BYTES_MAX):
            break
        if row.entries_size is None:
            lost.append(row.id)
        else:
            ids.append(row.id)
    lost_entries.bury(connection, lost, now)
    if not ids:
        return []
    found = connection.execute(
        select(_delivery, _normalised.c.entries, _normalised.c.mapping, _message.c.source)
        .add_columns(_message.c.received_at)
        .join(_normalised, _normalised.c.message_id == _delivery.c.message_id)
        .join(_message, _message.c.id == _delivery.c.message_id)
        .where(_delivery.c.id.in_(ids))
        .order_by(_delivery.c.sequence, _delivery.c.id)
    )
    return [_with_entries(row) for row in found]


def _with_entries(row: AnyRow) -> Delivery:
    return Delivery(
        id=row.id,
        message_id=row.message_id,
        lane=row.lane,
        patient_id=row.patient_id,
        destination=row.destination,
        sequence=row.sequence,
        idempotency_key=row.idempotency_key,
        attempts=row.attempts,
        entries=entries_of(row.entries),
        mapping=row.mapping,
        source=row.source,
        merged_patients=tuple(row.merged_patients),
        revision=row.revision,
        begun=row.starts,
        received_at=row.received_at,
    )


def revive(connection: Connection, delivery_id: int, *, at: datetime | None = None) -> None:
    """Let a DEAD or WITHHELD delivery go again, in its old place, with fresh attempts.

    Its message becomes ROUTED. Goes to the survivor's lane when the patient was
    merged meanwhile. Raises LookupError, IllegalTransition.
    """
    _hold_entries(connection, delivery_id)
    _revive(connection, delivery_id, moment(connection, at))


def _hold_entries(connection: Connection, delivery_id: int) -> None:
    """Hold its message against a purge, and make sure that none has taken the entries."""
    of = select(_delivery.c.message_id).where(_delivery.c.id == delivery_id).scalar_subquery()
    held = select(_message.c.id).where(_message.c.id == of).with_for_update(key_share=True)
    number = connection.execute(held).scalar_one_or_none()
    kept = select(_normalised.c.message_id).where(_normalised.c.message_id == number)
    if number is not None and connection.execute(kept).first() is None:
        raise LookupError("the entries of this message are not kept any more")


def _revive(connection: Connection, delivery_id: int, now: datetime) -> None:
    row = connection.execute(
        select(_delivery).where(_delivery.c.id == delivery_id).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise LookupError("no such delivery in the journal")
    states.check(DeliveryState(row.state), DeliveryState.PENDING)
    merged = patients.survivors(connection, [row.patient_id])
    patient = merged.get(row.patient_id, row.patient_id)
    lane = lane_of(patient, row.destination) if merged else row.lane
    connection.execute(
        update(_delivery)
        .where(_delivery.c.id == delivery_id)
        .values(
            state=DeliveryState.PENDING.value,
            lane=lane,
            patient_id=patient,
            merged_patients=list(
                _with(row.merged_patients, row.patient_id) if merged else row.merged_patients
            ),
            attempts=0,
            unfinished=0,
            due_at=None,
            changed_at=now,
        )
    )
    state, source = connection.execute(
        select(_message.c.state, _message.c.source).where(_message.c.id == row.message_id)
    ).one()
    if MessageState(state) not in {MessageState.ROUTED, MessageState.RECEIVED}:
        move(
            connection,
            row.message_id,
            MessageState.ROUTED,
            event="revived",
            stage=Stage.DELIVER,
            detail={"delivery": delivery_id, "destination": row.destination},
            at=now,
        )
    lanes.ring(connection, lane, now, source=source)


def set_aside(connection: Connection, delivery_id: int) -> None:
    """Give a pending delivery a lane of its own, so that those behind it go on.

    It keeps its due time. Raises LookupError.
    """
    row = connection.execute(
        select(_delivery.c.patient_id, _delivery.c.destination, _delivery.c.due_at)
        .add_columns(_message.c.source)
        .join(_message, _message.c.id == _delivery.c.message_id)
        .where(_delivery.c.id == delivery_id)
    ).one_or_none()
    if row is None:
        raise LookupError("no such delivery in the journal")
    lane = lane_of(f"{row.patient_id}+{delivery_id}", row.destination)
    connection.execute(update(_delivery).where(_delivery.c.id == delivery_id).values(lane=lane))
    lanes.ring(connection, lane, row.due_at or moment(connection, None), source=row.source)


def get(connection: Connection, delivery_id: int) -> DeliveryRow | None:
    """One delivery, without its entries."""
    row = connection.execute(select(_delivery).where(_delivery.c.id == delivery_id)).one_or_none()
    return delivery_of(row) if row is not None else None


def of_message(connection: Connection, message_id: int) -> list[DeliveryRow]:
    """All deliveries of a message."""
    found = connection.execute(
        select(_delivery).where(_delivery.c.message_id == message_id).order_by(_delivery.c.id)
    )
    return [delivery_of(row) for row in found]


def attempts(connection: Connection, delivery_id: int, *, limit: int = 500) -> list[Attempt]:
    """The attempts of a delivery, newest first."""
    attempt = tables.attempt
    found = connection.execute(
        select(attempt)
        .where(attempt.c.delivery_id == delivery_id)
        .order_by(attempt.c.number.desc())
        .limit(limit)
    )
    return [attempt_of(row) for row in found]


def counts(connection: Connection) -> dict[tuple[str, DeliveryState], int]:
    """How many deliveries each destination has in each state."""
    found = connection.execute(
        select(_delivery.c.destination, _delivery.c.state, func.count()).group_by(
            _delivery.c.state, _delivery.c.destination
        )
    )
    return {(destination, DeliveryState(state)): count for destination, state, count in found}


_TO_LANE = (
    update(_delivery)
    .where(_delivery.c.id == bindparam("delivery_id"))
    .values(
        lane=bindparam("to_lane"),
        patient_id=bindparam("to_patient"),
        merged_patients=bindparam("merged"),
        changed_at=bindparam("at"),
    )
)


def move_lane(
    connection: Connection, old_patient: str, new_patient: str, *, at: datetime | None = None
) -> int:
    """Pending deliveries of a merged patient go to the survivor's lanes; how many.

    To be called after ``patients.merge`` in the same transaction. Order by arrival
    holds across both. Whoever works in the lanes of either loses the lease; both
    patients' transactions in flight are waited for.
    """
    now = moment(connection, at)
    pending = (
        select(_delivery.c.id, _delivery.c.lane, _delivery.c.destination)
        .add_columns(_delivery.c.merged_patients)
        .where(
            _delivery.c.patient_id == old_patient, literal_state(_delivery, DeliveryState.PENDING)
        )
        .order_by(_delivery.c.id)
    )
    before = connection.execute(pending).all()
    if not before:
        return 0
    # Both patients' lanes: whoever works in the survivor's has claimed what came later than
    # some of what now moves in between.
    survivor = {lane_of(new_patient, row.destination) for row in before}
    lanes.revoke(connection, sorted(survivor.union(row.lane for row in before)))
    # A new statement: it does not see again what was settled while the lock was waited for.
    rows = connection.execute(pending.with_for_update(key_share=True)).all()
    changes = [
        {
            "delivery_id": row.id,
            "to_lane": lane_of(new_patient, row.destination),
            "to_patient": new_patient,
            "merged": list(_with(row.merged_patients, old_patient)),
            "at": now,
        }
        for row in rows
    ]
    if changes:
        connection.execute(_TO_LANE, changes)
    for destination in sorted({row.destination for row in rows}):
        lanes.ring(connection, lane_of(new_patient, destination), now)
    return len(changes)

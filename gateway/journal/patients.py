"""The patient index: who is known by which identifiers, who was merged into whom, and what
each patient permits.

A patient's id is made from the national health identity (INS), so that every
journal gives the same patient the same id. Local identifiers are
cross-references to it. A merge points from the subsumed patient to the survivor
and changes nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, select, update

from gateway.bulk import Statement
from gateway.journal import identifiers as keys_of
from gateway.journal import patient_tables, tables
from gateway.journal.dialects import upsert
from gateway.journal.faults import IdentityConflict
from gateway.journal.rows import AnyRow
from gateway.journal.times import moment
from gateway.journal.values import Feeding, Patient, RecordStatus
from gateway.model import Identifier

__all__ = [
    "NAMESPACE",
    "Feeding",
    "IdentityConflict",
    "Patient",
    "RecordStatus",
    "conflicts",
    "ensure",
    "find",
    "get",
    "identifiers",
    "link",
    "merge",
    "patient_id",
    "set_permission",
    "survivor",
    "survivors",
]

NAMESPACE = uuid.UUID("6f0b7c52-3f7e-5d0c-9a53-2f1f4be1a6c1")
"""For patients' ids. Never to be changed: ids in records are made from it."""
_CHAIN_MAX = 32

_patient = patient_tables.patient
_identifier = patient_tables.patient_identifier
_message = tables.message
_MERGED = Statement(
    "SELECT id, merged_into FROM patient WHERE id = ANY(:ids text) ORDER BY id FOR SHARE"
)


def patient_id(ins: Identifier) -> str:
    """The id of the patient who has this INS: a UUID (version 5) of system and value."""
    return str(uuid.uuid5(NAMESPACE, f"{ins.system}|{ins.value}"))


def get(connection: Connection, patient_id: str) -> Patient | None:
    """The patient's own row, merged or not."""
    row = connection.execute(select(_patient).where(_patient.c.id == patient_id)).one_or_none()
    return _patient_of(row) if row is not None else None


def survivor(connection: Connection, patient_id: str) -> Patient | None:
    """The patient at the end of the chain of merges; None for an unknown id."""
    current = get(connection, patient_id)
    for _ in range(_CHAIN_MAX):
        if current is None or current.merged_into is None:
            return current
        current = get(connection, current.merged_into)
    raise IdentityConflict((patient_id,))


def survivors(connection: Connection, patient_ids: Iterable[str]) -> dict[str, str]:
    """For those of these patients who were merged, the survivor's id; none of them can be
    merged before this transaction ends. Only inside ``Journal.write()``."""
    found = {}
    for patient_id, merged_into in _MERGED.rows(connection, ids=sorted(set(patient_ids))):
        if merged_into is not None:
            last = survivor(connection, merged_into)
            found[patient_id] = last.id if last is not None else merged_into
    return found


def find(connection: Connection, identifiers: Iterable[Identifier]) -> Patient | None:
    """The one patient whom these identifiers name, merges followed; None when nobody is named.

    Raises IdentityConflict when they name several, and ValueError for more than 256.
    """
    found = _named(connection, identifiers)
    if len(found) > 1:
        raise IdentityConflict(tuple(sorted(found)))
    return next(iter(found.values()), None)


def conflicts(connection: Connection, identifiers: Iterable[Identifier]) -> tuple[str, ...]:
    """The ids of the patients whom these identifiers name, when there are several, else ()."""
    found = _named(connection, identifiers)
    return tuple(sorted(found)) if len(found) > 1 else ()


def _named(connection: Connection, identifiers: Iterable[Identifier]) -> dict[str, Patient]:
    keys = list(keys_of.fitted(identifiers))
    if not keys:
        return {}
    rows = connection.execute(
        select(_patient).where(
            _patient.c.id.in_(
                select(_identifier.c.patient_id).where(keys_of.among(_identifier, keys))
            )
        )
    ).all()
    found = {}
    for row in rows:
        patient = _patient_of(row)
        last = survivor(connection, patient.id) if patient.merged_into else patient
        if last is not None:
            found[last.id] = last
    return found


def ensure(
    connection: Connection,
    ins: Identifier,
    *,
    message_id: int | None = None,
    at: datetime | None = None,
) -> Patient:
    """The patient of an INS whose validity the caller has checked; made if new, merges followed."""
    keys = keys_of.fitted([ins])
    fitted = next(iter(keys.values()))
    new_id = patient_id(fitted)
    known = survivor(connection, new_id)
    if known is not None:
        return known
    keys_of.lock(connection, keys)
    connection.execute(
        upsert(connection, _patient).on_conflict_do_nothing(),
        {
            "id": new_id,
            "ins_system": fitted.system,
            "ins_value": fitted.value,
            "merged_into": None,
            "feeding": Feeding.UNKNOWN.value,
            "record": RecordStatus.UNKNOWN.value,
            "feeding_message_id": None,
            "record_message_id": None,
            "created_at": moment(connection, at),
        },
    )
    _insert_identifiers(connection, new_id, [fitted], message_id)
    made = survivor(connection, new_id)
    if made is None:
        raise LookupError("the patient was not made")
    return made


def link(
    connection: Connection, patient_id: str, identifiers: Iterable[Identifier], message_id: int
) -> tuple[Identifier, ...]:
    """Cross-reference identifiers that a message says are this patient's.

    Gives those that belong to another patient already; they are left there.
    """
    keys = keys_of.fitted(identifiers)
    if not keys:
        return ()
    keys_of.lock(connection, keys)
    _insert_identifiers(connection, patient_id, list(keys.values()), message_id)
    owners = connection.execute(
        select(_identifier.c.system, _identifier.c.value, _identifier.c.patient_id).where(
            keys_of.among(_identifier, list(keys))
        )
    ).all()
    mine = survivor(connection, patient_id)
    foreign = []
    for system, value, owner in owners:
        if owner != patient_id:
            last = survivor(connection, owner)
            if mine is None or last is None or last.id != mine.id:
                foreign.append(keys[system, value])
    return tuple(foreign)


def _insert_identifiers(
    connection: Connection, owner: str, given: Iterable[Identifier], message_id: int | None
) -> None:
    connection.execute(
        upsert(connection, _identifier).on_conflict_do_nothing(),
        [
            {
                "system": identifier.system,
                "value": identifier.value,
                "patient_id": owner,
                "type": identifier.type,
                "since_message_id": message_id,
            }
            for identifier in given
        ],
    )


def identifiers(connection: Connection, patient_id: str) -> tuple[Identifier, ...]:
    """All identifiers of the patient and of those who were merged into him or her, by way of
    others as well."""
    whole = select(_patient.c.id).where(_patient.c.id == patient_id).cte("whole", recursive=True)
    whole = whole.union(select(_patient.c.id).join(whole, _patient.c.merged_into == whole.c.id))
    return _identifiers(connection, _identifier.c.patient_id.in_(select(whole.c.id)))


def own_identifiers(connection: Connection, patient_id: str) -> tuple[Identifier, ...]:
    """The identifiers of the patient alone, without those of who was merged into him or her."""
    return _identifiers(connection, _identifier.c.patient_id == patient_id)


def _identifiers(connection: Connection, condition: ColumnElement[bool]) -> tuple[Identifier, ...]:
    found = connection.execute(
        select(_identifier.c.system, _identifier.c.value, _identifier.c.type)
        .where(condition)
        .order_by(_identifier.c.system, _identifier.c.value)
    )
    return tuple(Identifier(system=row.system, value=row.value, type=row.type) for row in found)


def merge(connection: Connection, survivor_id: str, subsumed_id: str, message_id: int) -> bool:
    """The subsumed patient is the survivor from now on. False when that was so before.

    An opposition, or a closed record, of either holds for the survivor, in whom
    ``message_id`` is noted as having said so. Raises LookupError for an unknown
    patient; IdentityConflict when the two are one id, when the survivor was
    merged into the subsumed one, or the subsumed one into somebody else.
    """
    if survivor_id == subsumed_id:
        raise IdentityConflict((survivor_id,))
    # In the order of their ids, so that two merges never wait in a circle.
    locked = {
        row.id: _patient_of(row)
        for row in connection.execute(
            select(_patient)
            .where(_patient.c.id.in_([survivor_id, subsumed_id]))
            .order_by(_patient.c.id)
            .with_for_update()
        )
    }
    if len(locked) < 2:
        raise LookupError("no such patient in the journal")
    stays, goes = survivor(connection, survivor_id), survivor(connection, subsumed_id)
    if stays is None or goes is None:
        raise LookupError("no such patient in the journal")
    if stays.id == goes.id:
        if stays.id == subsumed_id:
            raise IdentityConflict((survivor_id, subsumed_id))
        return False
    if goes.id != subsumed_id:
        raise IdentityConflict((survivor_id, subsumed_id, goes.id))
    connection.execute(
        update(_patient).where(_patient.c.id == subsumed_id).values(merged_into=stays.id)
    )
    # Where neither says anything the merge is no word on it, after which another would be late.
    if goes.feeding is Feeding.OPPOSED or (stays.feeding is Feeding.UNKNOWN is not goes.feeding):
        _set(connection, stays, "feeding", goes.feeding, goes.feeding_message_id or message_id)
    if goes.record is RecordStatus.CLOSED or (
        stays.record is RecordStatus.UNKNOWN is not goes.record
    ):
        _set(connection, stays, "record", goes.record, goes.record_message_id or message_id)
    return True


def set_permission(
    connection: Connection,
    patient_id: str,
    message_id: int,
    *,
    feeding: Feeding | None = None,
    record: RecordStatus | None = None,
) -> bool:
    """Note what a message says of the patient's permission; True when something changed.

    A message that stands before the one that spoke last of the same thing, in the
    order of arrival, changes nothing: it comes late, from a replay. Speaks of the
    survivor when the patient was merged. Raises LookupError.
    """
    connection.execute(
        select(_patient.c.id).where(_patient.c.id == patient_id).with_for_update(key_share=True)
    )
    patient = survivor(connection, patient_id)
    if patient is None:
        raise LookupError("no such patient in the journal")
    changed = False
    if feeding is not None and not _is_late(connection, message_id, patient.feeding_message_id):
        changed |= patient.feeding is not feeding
        _set(connection, patient, "feeding", feeding, message_id)
    if record is not None and not _is_late(connection, message_id, patient.record_message_id):
        changed |= patient.record is not record
        _set(connection, patient, "record", record, message_id)
    return changed


def _is_late(connection: Connection, message_id: int, spoken: int | None) -> bool:
    if spoken is None or spoken == message_id:
        return False
    found = connection.execute(
        select(_message.c.id, _message.c.sequence).where(_message.c.id.in_([message_id, spoken]))
    )
    places: dict[int, int] = {row.id: row.sequence for row in found}
    return places.get(message_id, message_id) < places.get(spoken, spoken)


def _set(
    connection: Connection,
    patient: Patient,
    what: str,
    value: Feeding | RecordStatus,
    message_id: int | None,
) -> None:
    connection.execute(
        update(_patient)
        .where(_patient.c.id == patient.id)
        .values({what: value.value, f"{what}_message_id": message_id})
    )


def _patient_of(row: AnyRow) -> Patient:
    return Patient(
        id=row.id,
        ins_system=row.ins_system,
        ins_value=row.ins_value,
        merged_into=row.merged_into,
        feeding=Feeding(row.feeding),
        record=RecordStatus(row.record),
        feeding_message_id=row.feeding_message_id,
        record_message_id=row.record_message_id,
        created_at=row.created_at,
    )

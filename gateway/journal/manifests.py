"""Which imaging studies of the record have a manifest, and which are due to be looked at again.

A study is marked in the transaction that changes the record, so that nothing that happens to it is
ever missed; whoever looks claims it for a while, and notes what came of it. A mark that came in
the meantime keeps it due. Functions that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, update

from gateway.journal import imaging_tables
from gateway.journal.dialects import upsert

DUE, WAITING, STOPPED, MADE, WITHDRAWN = "due", "waiting", "stopped", "made", "withdrawn"
STATES = (DUE, WAITING, STOPPED, MADE, WITHDRAWN)
_AT_ONCE = 500

_manifest = imaging_tables.manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestAccount:
    """One study and its manifest.

    ``reference`` is ``ImagingStudy/<id>``. ``state`` is ``due`` (not looked at yet), ``waiting``
    or ``stopped`` (``cause`` says for what), ``made`` or ``withdrawn``. ``version``, ``uid`` and
    ``digest`` are those of the last manifest, which may stand although the study waits again;
    0 and empty without one. ``pending`` is the digest of bytes that are being handed in.
    """

    reference: str
    study: str
    patient_id: str
    state: str
    cause: str
    marks: int
    due_at: datetime | None
    version: int
    uid: str
    digest: str
    pending: str
    message_id: int | None
    instances: int
    changed_at: datetime


def mark_studies(connection: Connection, patients: Mapping[str, str], now: datetime) -> None:
    """These studies (by reference) changed; each with the patient whose it is now."""
    for reference, patient_id in sorted(patients.items()):
        statement = upsert(connection, _manifest).values(
            reference=reference, study="", patient_id=patient_id, state=DUE, cause="", marks=1,
            due_at=now, version=0, uid="", digest="", pending="", message_id=None, instances=0,
            changed_at=now,
        )  # fmt: skip
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[_manifest.c.reference],
                set_={
                    "patient_id": patient_id,
                    "marks": _manifest.c.marks + 1,
                    "due_at": now,
                },
            )
        )


def mark_patients(connection: Connection, patient_ids: Collection[str], now: datetime) -> None:
    """Something in the records of these patients changed that their manifests may say."""
    ids = sorted(patient_ids)
    for start in range(0, len(ids), _AT_ONCE):
        connection.execute(
            update(_manifest)
            .where(_manifest.c.patient_id.in_(ids[start : start + _AT_ONCE]))
            .values(marks=_manifest.c.marks + 1, due_at=now)
        )


def move(connection: Connection, subsumed: str, survivor: str, now: datetime) -> None:
    """The subsumed patient's studies are the survivor's from now on."""
    connection.execute(
        update(_manifest)
        .where(_manifest.c.patient_id == subsumed)
        .values(patient_id=survivor, marks=_manifest.c.marks + 1, due_at=now)
    )


def mark_all(connection: Connection, now: datetime) -> int:
    """Every study is to be looked at again; how many there are."""
    done = connection.execute(update(_manifest).values(marks=_manifest.c.marks + 1, due_at=now))
    return int(done.rowcount)


def claim(connection: Connection, now: datetime, lease: timedelta) -> ManifestAccount | None:
    """The study that is due longest, not to be claimed again before the lease is over."""
    row = connection.execute(
        select(_manifest)
        .where(_manifest.c.due_at <= now)
        .order_by(_manifest.c.due_at, _manifest.c.reference)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    connection.execute(
        update(_manifest).where(_manifest.c.reference == row.reference).values(due_at=now + lease)
    )
    return _account(row)


def settle(
    connection: Connection,
    claimed: ManifestAccount,
    now: datetime,
    *,
    again_at: datetime | None = None,
    **changed: Any,
) -> None:
    """Note what came of a claimed study. It is due again at once when it was marked meanwhile,
    else at ``again_at``."""
    row = connection.execute(
        select(_manifest.c.marks)
        .where(_manifest.c.reference == claimed.reference)
        .with_for_update()
    ).one()
    due_at = now if row.marks != claimed.marks else again_at
    values = {name: value for name, value in changed.items() if value != getattr(claimed, name)}
    if values:
        values["changed_at"] = now
    connection.execute(
        update(_manifest)
        .where(_manifest.c.reference == claimed.reference)
        .values(due_at=due_at, **values)
    )


def reserve(connection: Connection, claimed: ManifestAccount, **changed: Any) -> None:
    """Note, before bytes are handed in, which ones they are; the study stays claimed."""
    connection.execute(
        update(_manifest).where(_manifest.c.reference == claimed.reference).values(**changed)
    )


def get(connection: Connection, reference: str) -> ManifestAccount | None:
    """One study's, by ``ImagingStudy/<id>``."""
    row = connection.execute(
        select(_manifest).where(_manifest.c.reference == reference)
    ).one_or_none()
    return _account(row) if row is not None else None


def accounts(
    connection: Connection, *, states: Collection[str] = (), patient_id: str = "", limit: int = 100
) -> list[ManifestAccount]:
    """Studies, those that changed last first."""
    asked = select(_manifest)
    if states:
        asked = asked.where(_manifest.c.state.in_(states))
    if patient_id:
        asked = asked.where(_manifest.c.patient_id == patient_id)
    rows = connection.execute(
        asked.order_by(_manifest.c.changed_at.desc(), _manifest.c.reference).limit(limit)
    )
    return [_account(row) for row in rows]


def counts(connection: Connection) -> dict[str, int]:
    """How many studies stand in each state."""
    rows = connection.execute(select(_manifest.c.state, func.count()).group_by(_manifest.c.state))
    return dict.fromkeys(STATES, 0) | {state: int(count) for state, count in rows}


def _account(row: Any) -> ManifestAccount:
    return ManifestAccount(**{name: getattr(row, name) for name in ManifestAccount.__slots__})

"""Requests for storage commitment that we made ourselves, of objects that were sent on.

They lie beside those that others make of us (``storage_commitment``), under a name that no source
can have. Functions that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from gateway.journal import imaging_tables
from gateway.journal.dialects import upsert

OURS = ":ours"
"""Stands where the name of the source stands for requests that are made of us."""

WAITING, COMMITTED, FAILED, PASSED = "waiting", "committed", "failed", "passed"
"""``passed``: nothing more is expected of it; objects are sent again."""

UNSAID = "0x0110"
"""Processing failure (PS3.3 C.14.1.1): of what the peer leaves out of its answer."""

_commitment = imaging_tables.storage_commitment
_c = _commitment.c


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRow:
    """One request. ``instances`` are SOP class and instance; of a failed one those that are not
    committed, each with its failure reason."""

    transaction_uid: str
    peer: str
    state: str
    instances: tuple[tuple[str, ...], ...]
    asked_at: datetime


def get(connection: Connection, transaction_uid: str) -> AskedRow | None:
    """One request."""
    row = connection.execute(
        select(_commitment).where(_c.source == OURS, _c.transaction_uid == transaction_uid)
    ).one_or_none()
    if row is None:
        return None
    return AskedRow(
        transaction_uid=row.transaction_uid, peer=row.peer, state=row.state,
        instances=tuple(tuple(map(str, each)) for each in row.instances),
        asked_at=row.created_at,
    )  # fmt: skip


def put(
    connection: Connection,
    transaction_uid: str,
    *,
    peer: str,
    own_title: str,
    instances: Sequence[tuple[str, str]],
    at: datetime,
) -> None:
    """Keep a request that is about to be made."""
    connection.execute(
        upsert(connection, _commitment)
        .values(
            source=OURS, transaction_uid=transaction_uid, peer=peer, own_title=own_title,
            instances=[list(each) for each in instances], state=WAITING, attempts=0, due_at=None,
            created_at=at, changed_at=at,
        )
        .on_conflict_do_nothing()
    )  # fmt: skip


def answer(
    connection: Connection,
    transaction_uid: str,
    peer: str,
    failed: Sequence[tuple[str, str, str]],
    at: datetime,
    *,
    committed: Collection[str] | None,
) -> bool:
    """The result of a request, told by the peer of which it was made; false when there is none.

    ``committed`` None: all. What is neither there nor failed has :data:`UNSAID` as its reason.
    """
    if committed is not None:
        asked = get(connection, transaction_uid)
        named = {*committed, *(uid for _, uid, _ in failed)}
        failed = [*failed, *(
            (each[0], each[1], UNSAID)
            for each in (asked.instances if asked is not None else ())
            if each[1] not in named
        )]  # fmt: skip
    values: dict[str, object] = {"state": FAILED if failed else COMMITTED, "changed_at": at}
    if failed:
        values["instances"] = [list(each) for each in failed]
    done = connection.execute(
        update(_commitment)
        .where(
            _c.source == OURS,
            _c.transaction_uid == transaction_uid,
            _c.peer == peer,
            _c.state == WAITING,
        )
        .values(**values)
        .returning(_c.transaction_uid)
    )
    return done.first() is not None


def passed(connection: Connection, transaction_uid: str, at: datetime) -> None:
    """Nothing more is expected of a request."""
    connection.execute(
        update(_commitment)
        .where(_c.source == OURS, _c.transaction_uid == transaction_uid)
        .values(state=PASSED, changed_at=at)
    )


def forget(connection: Connection, transaction_uids: Sequence[str]) -> None:
    """Drop requests: their delivery is at its end."""
    connection.execute(
        delete(_commitment).where(_c.source == OURS, _c.transaction_uid.in_(list(transaction_uids)))
    )

"""What says that a study is complete.

A performed procedure step names its instances when it ends, a commitment request when it comes.
While such evidence is open, or instances that it names are missing, the study is not due before
the evidence's ``until``; when nothing is open or missing any more, it is due at once. Functions
that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, select, update

from gateway.journal import imaging_tables, lanes, tables
from gateway.journal.dialects import upsert
from gateway.journal.states import MessageState

OPEN, COMPLETE, DISCONTINUED = "open", "complete", "discontinued"
STEP, COMMITMENT, COUNT, REQUEST, REPORT = "step", "commitment", "count", "request", "report"

_evidence = imaging_tables.study_evidence
_gathering = tables.gathering
_message = tables.message
_AT_ONCE = 500
_GONE = [s.value for s in (MessageState.REFUSED, MessageState.DISCARDED, MessageState.REPLACED)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that says which instances a study has. ``body`` is it, as it came last."""

    source: str
    reference: str
    study: str
    kind: str
    state: str
    expected: tuple[str, ...]
    body: bytes
    created_at: datetime
    changed_at: datetime
    until: datetime
    fulfilled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyAccount:
    """One study at the door: what came, what is said to come, and since when."""

    source: str
    study: str
    instances: int
    expected: int
    missing: int
    round: int
    first_at: datetime
    last_at: datetime
    due_at: datetime | None
    evidence: tuple[tuple[str, str], ...]
    """Kind and state of each evidence."""

    @property
    def why(self) -> str:
        """What it waits for, or why it was let go, for people."""
        reported = any(kind == REPORT for kind, _ in self.evidence)
        if any(state == OPEN for _, state in self.evidence) and not reported:
            return "the procedure step is in progress"
        if self.missing:
            left = "instances are missing that were announced"
            return left if self.due_at is not None else f"went on although {left}"
        if self.due_at is None:
            told = "complete: its report came" if reported else "complete"
            return told if self.evidence else "quiet"
        return "instances may still come"


def put(connection: Connection, evidence: Evidence) -> None:
    """Insert or replace one evidence."""
    statement = upsert(connection, _evidence).values(
        source=evidence.source,
        reference=evidence.reference,
        group_key=evidence.study,
        kind=evidence.kind,
        state=evidence.state,
        expected=list(evidence.expected),
        body=evidence.body,
        created_at=evidence.created_at,
        changed_at=evidence.changed_at,
        until=evidence.until,
        fulfilled_at=evidence.fulfilled_at,
    )
    given = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_evidence.c.source, _evidence.c.reference],
            set_={
                name: given[name]
                for name in ("group_key", "state", "expected", "body", "changed_at", "until",
                             "fulfilled_at")
            },
        )
    )  # fmt: skip


def get(connection: Connection, source: str, reference: str) -> Evidence | None:
    """One evidence by its own UID."""
    row = connection.execute(
        select(_evidence).where(_evidence.c.source == source, _evidence.c.reference == reference)
    ).one_or_none()
    return _evidence_of(row) if row is not None else None


def unfulfilled(connection: Connection, source: str, study: str = "") -> list[Evidence]:
    """The evidence of a source (or of one study) to which something is still missing."""
    asked = select(_evidence).where(
        _evidence.c.source == source, _evidence.c.fulfilled_at.is_(None)
    )
    if study:
        asked = asked.where(_evidence.c.group_key == study)
    return [_evidence_of(row) for row in connection.execute(asked.order_by(_evidence.c.created_at))]


def awaited_until(
    connection: Connection, source: str, study: str, now: datetime
) -> datetime | None:
    """Until when the missing instances of a study are waited for; None when they are not."""
    found: datetime | None = connection.execute(
        select(func.max(_evidence.c.until)).where(
            _evidence.c.source == source,
            _evidence.c.group_key == study,
            _evidence.c.fulfilled_at.is_(None),
            _evidence.c.until > now,
        )
    ).scalar()
    return found


def fulfil(
    connection: Connection, source: str, study: str, now: datetime, *, due: bool = True
) -> None:
    """Nothing is open or missing: the study is ``due`` now, if it gathers at all, or in its
    quiet time."""
    connection.execute(
        update(_evidence)
        .where(
            _evidence.c.source == source,
            _evidence.c.group_key == study,
            _evidence.c.fulfilled_at.is_(None),
        )
        .values(fulfilled_at=now)
    )
    if not due:
        return
    lane = connection.execute(
        update(_gathering)
        .where(
            _gathering.c.source == source,
            _gathering.c.group_key == study,
            _gathering.c.due_at.is_not(None),
        )
        .values(due_at=now)
        .returning(_gathering.c.lane)
    ).scalar()
    if lane is not None:
        lanes.ring(connection, lane, now)


def put_off(connection: Connection, source: str, study: str, due_at: datetime) -> None:
    """An instance is on its way: a study that gathers is not due before ``due_at``."""
    connection.execute(
        update(_gathering)
        .where(
            _gathering.c.source == source,
            _gathering.c.group_key == study,
            _gathering.c.due_at < due_at,
        )
        .values(due_at=due_at)
    )


def quiet_since(
    connection: Connection, source: str, before: datetime, limit: int = 10_000
) -> list[tuple[str, int]]:
    """Studies that gather and to which nothing came since ``before``, with how many instances
    they have; the longest quiet first."""
    found = connection.execute(
        select(_gathering.c.group_key, _gathering.c.instances)
        .where(
            _gathering.c.source == source,
            _gathering.c.due_at.is_not(None),
            _gathering.c.last_at <= before,
        )
        .order_by(_gathering.c.last_at)
        .limit(limit)
    )
    return [(row.group_key, row.instances) for row in found]


def held(
    connection: Connection, source: str, instances: Sequence[str]
) -> dict[str, tuple[str, str, bool]]:
    """Of the instances that came: SOP class, study, and whether all destinations have it."""
    found: dict[str, tuple[str, str, bool]] = {}
    carrier = _message.alias("carrier")
    for some in _some(instances):
        rows = connection.execute(
            select(
                _message.c.control_id, _message.c.kind, _message.c.group_key, _message.c.state,
                carrier.c.state.label("carried"),
            )
            .select_from(
                _message.outerjoin(carrier, carrier.c.id == _message.c.carrier_id)
            )
            .where(
                _message.c.source == source,
                _message.c.control_id.in_(some),
                _message.c.state.not_in(_GONE),
            )
        )  # fmt: skip
        for row in rows:
            state = row.carried if row.state == MessageState.GATHERED.value else row.state
            done = state == MessageState.DELIVERED.value
            before = found.get(row.control_id)
            found[row.control_id] = (row.kind, row.group_key, done or bool(before and before[2]))
    return found


def with_bytes(connection: Connection, source: str, instances: Sequence[str]) -> frozenset[str]:
    """Of the instances that came those whose bytes no purge has taken."""
    found: set[str] = set()
    for some in _some(instances):
        found.update(
            connection.execute(
                select(_message.c.control_id)
                .join(tables.content, tables.content.c.message_id == _message.c.id)
                .where(
                    _message.c.source == source,
                    _message.c.control_id.in_(some),
                    _message.c.state.not_in(_GONE),
                )
            ).scalars()
        )
    return frozenset(found)


# --- what people see -------------------------------------------------------------------


def accounts(
    connection: Connection,
    *,
    sources: Sequence[str],
    waiting: bool = False,
    study: str = "",
    limit: int = 100,
) -> list[StudyAccount]:
    """Studies at the doors of some sources, the last to which something came first.

    With ``waiting`` those that gather or to which something is missing; with ``study`` that one.
    """
    asked = select(_gathering).where(_gathering.c.source.in_(sources))
    if study:
        asked = asked.where(_gathering.c.group_key == study)
    if waiting:
        incomplete = (
            select(_evidence.c.reference)
            .where(
                and_(
                    _evidence.c.source == _gathering.c.source,
                    _evidence.c.group_key == _gathering.c.group_key,
                    _evidence.c.fulfilled_at.is_(None),
                )
            )
            .exists()
        )
        asked = asked.where(_gathering.c.due_at.is_not(None) | incomplete)
    rows = connection.execute(asked.order_by(_gathering.c.last_at.desc()).limit(limit)).all()
    return [_account(connection, row) for row in rows]


def _account(connection: Connection, row: Any) -> StudyAccount:
    found = [
        _evidence_of(each)
        for each in connection.execute(
            select(_evidence)
            .where(_evidence.c.source == row.source, _evidence.c.group_key == row.group_key)
            .order_by(_evidence.c.created_at)
        )
    ]
    expected = {uid for each in found for uid in each.expected}
    missing = expected - set(held(connection, row.source, sorted(expected)))
    return StudyAccount(
        source=row.source,
        study=row.group_key,
        instances=row.instances,
        expected=len(expected),
        missing=len(missing),
        round=row.round,
        first_at=row.first_at,
        last_at=row.last_at,
        due_at=row.due_at,
        evidence=tuple((each.kind, each.state) for each in found),
    )


def _some(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def _evidence_of(row: Any) -> Evidence:
    return Evidence(
        source=row.source,
        reference=row.reference,
        study=row.group_key,
        kind=row.kind,
        state=row.state,
        expected=tuple(row.expected),
        body=bytes(row.body),
        created_at=row.created_at,
        changed_at=row.changed_at,
        until=row.until,
        fulfilled_at=row.fulfilled_at,
    )

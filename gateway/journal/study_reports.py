"""Validated reports as evidence that a study is complete: which studies gather, and what a report
makes of one. Functions that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, cast, or_, select, update

from gateway.bulk import json_text
from gateway.journal import imaging_tables, lanes, studies, tables
from gateway.journal.studies import COMPLETE, OPEN, REPORT, Evidence

_gathering = tables.gathering
_study = imaging_tables.held_study
_series = imaging_tables.held_series
_evidence = imaging_tables.study_evidence
STUDIES_MAX = 1_000
"""Studies that are looked at for one report; more do not have one accession number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A study that gathers at a source. ``attributes`` are those of the study and of each of its
    series, as the index has them (DICOM JSON model)."""

    source: str
    study: str
    attributes: Sequence[dict[str, Any]] = ()


def gathering(connection: Connection, uids: Sequence[str]) -> list[Gathered]:
    """Those of the studies that gather now, by source."""
    found = connection.execute(
        select(_gathering.c.source, _gathering.c.group_key)
        .where(_gathering.c.group_key.in_(uids), _gathering.c.due_at.is_not(None))
        .limit(STUDIES_MAX)
    )
    return [Gathered(source=row.source, study=row.group_key) for row in found]


def gathers(connection: Connection) -> bool:
    """Whether anything gathers: cheap."""
    found = connection.execute(
        select(_gathering.c.source).where(_gathering.c.due_at.is_not(None)).limit(1)
    )
    return found.first() is not None


def numbered(connection: Connection, values: Sequence[str]) -> list[Gathered]:
    """Studies that gather now and in whose index one of these accession numbers stands: as the
    study's own, or in a Request Attributes Sequence of a series. Who issued it is for the
    caller to compare."""
    if not values:
        return []
    rows = connection.execute(
        select(_gathering.c.source, _gathering.c.group_key, _study.c.attributes)
        .join(_study, _study.c.study_uid == _gathering.c.group_key)
        .where(
            _gathering.c.due_at.is_not(None),
            or_(
                _study.c.accession.in_(values),
                select(_series.c.series_uid)
                .where(
                    _series.c.study_uid == _study.c.study_uid,
                    or_(*(_mentions(each) for each in values)),
                )
                .exists(),
            ),
        )
        .limit(STUDIES_MAX)
    ).all()
    series: dict[str, list[dict[str, Any]]] = {}
    of_them = _series.c.study_uid.in_({row.group_key for row in rows})
    for each in connection.execute(
        select(_series.c.study_uid, _series.c.attributes).where(of_them)
    ):
        series.setdefault(each.study_uid, []).append(each.attributes)
    return [
        Gathered(
            source=row.source, study=row.group_key,
            attributes=(row.attributes, *series.get(row.group_key, ())),
        )
        for row in rows
    ]  # fmt: skip


def _mentions(value: str) -> ColumnElement[bool]:
    """A first sieve: the number stands somewhere in a series' attributes."""
    return cast(_series.c.attributes, String).contains(json_text(value), autoescape=True)


def came(
    connection: Connection,
    source: str,
    study: str,
    message_id: int,
    *,
    now: datetime,
    settle: timedelta,
) -> bool:
    """A validated report of a study that gathers: is the study due now?

    It counts for more than a procedure step that nobody ended; what was announced and is missing
    is waited for all the same. A study to which something came within ``settle`` is due after
    that.
    """
    open_steps, missing = _waits_for(connection, source, study)
    studies.put(connection, Evidence(
        source=source, reference=f"{REPORT}:{message_id}:{study}", study=study, kind=REPORT,
        state=COMPLETE, expected=(), body=b"", created_at=now, changed_at=now, until=now,
        fulfilled_at=now,
    ))  # fmt: skip
    ended = [_evidence.c.source == source, _evidence.c.reference.in_(open_steps)]
    if missing:
        # A step that nobody ended is not waited for once the last of these is here.
        ended.append(_evidence.c.state == OPEN)
    connection.execute(update(_evidence).where(*ended).values(fulfilled_at=now))
    if missing:
        return False
    row = connection.execute(
        select(_gathering.c.lane, _gathering.c.due_at, _gathering.c.last_at)
        .where(_gathering.c.source == source, _gathering.c.group_key == study)
        .with_for_update()
    ).one_or_none()
    if row is None or row.due_at is None:
        return False
    due_at = min(row.due_at, max(now, row.last_at + settle))
    connection.execute(
        update(_gathering)
        .where(_gathering.c.source == source, _gathering.c.group_key == study)
        .values(due_at=due_at)
    )
    lanes.ring(connection, row.lane, due_at)
    return True


def _waits_for(connection: Connection, source: str, study: str) -> tuple[list[str], bool]:
    """The evidence that is not fulfilled, and whether instances that it names are missing."""
    waiting = studies.unfulfilled(connection, source, study)
    named = sorted({uid for each in waiting for uid in each.expected})
    missing = len(named) > len(studies.held(connection, source, named))
    return [each.reference for each in waiting], missing

"""What of the DICOM studies that are held is found, and how much of each there is.

The index is that of :mod:`gateway.journal.holdings`. What is hidden is neither found nor counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    func,
    select,
)

from gateway.journal import imaging_tables, tables
from gateway.journal.hiding import NOTHING_HIDDEN, Hidden
from gateway.journal.hiding import shown as shown_to

PATIENTS, STUDIES, SERIES, INSTANCES = "patients", "studies", "series", "instances"

_message = tables.message
_study = imaging_tables.held_study
_series = imaging_tables.held_series
_instance = imaging_tables.held_instance
_WITHOUT_NUMBER = 1 << 62
_TABLES: Mapping[str, Table] = {t.name: t for t in (_study, _series, _instance)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a column (``<table>.<column>``, ``modalities`` or ``classes``) must fulfil: be one of
    ``anyof``, fit ``pattern`` (``*`` and ``?``), lie between ``least`` and ``most``."""

    column: str
    anyof: Sequence[str | int] = ()
    pattern: str = ""
    least: str = ""
    most: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCounts:
    """What of a study is held."""

    series: int
    instances: int
    modalities: tuple[str, ...]
    classes: tuple[str, ...]


def find(
    connection: Connection,
    level: str,
    wanted: Iterable[Wanted],
    *,
    limit: int,
    offset: int,
    hidden: Hidden = NOTHING_HIDDEN,
) -> list[Row[Any]]:
    """Rows with ``study_uid``, ``series_uid`` and ``sop_instance`` and the attributes
    (``study_attributes``, …) as far as the level has them, in a stable order.

    Studies come with the latest first, patients by their name, series and instances in their
    study by their number.
    """
    shown = shown_to(hidden)
    asked = _select(level, shown).where(*(_fulfilled(connection, each) for each in wanted))
    if level in {STUDIES, PATIENTS}:
        asked = asked.where(_exists(_instance.c.study_uid == _study.c.study_uid, *shown))
    elif level == SERIES:
        asked = asked.where(_exists(_of_series(), *shown))
    else:
        asked = asked.where(*shown)
    return list(connection.execute(asked.limit(limit).offset(offset)).all())


def _select(level: str, shown: Sequence[ColumnElement[bool]]) -> Select[Any]:
    study = (_study.c.study_uid, _study.c.attributes.label("study_attributes"))
    if level == PATIENTS:
        # Of a patient the newest study that is shown speaks.
        newer = _study.alias()
        there = (
            select(_instance.c.sop_instance)
            .join(_message, _message.c.id == _instance.c.message_id)
            .where(_instance.c.study_uid == newer.c.study_uid, *shown)
            .correlate(newer)
            .exists()
        )
        return (
            select(*study)
            .where(
                _study.c.patient_id != "",
                ~select(newer.c.study_uid)
                .where(
                    newer.c.patient_id == _study.c.patient_id,
                    newer.c.issuer == _study.c.issuer,
                    newer.c.message_id > _study.c.message_id,
                    there,
                )
                .exists(),
            )
            .order_by(_study.c.patient_name, _study.c.patient_id, _study.c.study_uid)
        )
    latest = (_study.c.study_date.desc(), _study.c.study_time.desc(), _study.c.study_uid)
    if level == STUDIES:
        return select(*study).order_by(*latest)
    series = (_series.c.series_uid, _series.c.attributes.label("series_attributes"))
    numbered = (func.coalesce(_series.c.number, _WITHOUT_NUMBER), _series.c.series_uid)
    of_study = _series.c.study_uid == _study.c.study_uid
    if level == SERIES:
        joined = _study.join(_series, of_study)
        return select(*study, *series).select_from(joined).order_by(*latest, *numbered)
    joined = (
        _study.join(_series, of_study)
        .join(_instance, _of_series())
        .join(_message, _message.c.id == _instance.c.message_id)
    )
    return (
        select(
            *study, *series, _instance.c.sop_instance,
            _instance.c.attributes.label("instance_attributes"),
        )
        .select_from(joined)
        .order_by(
            *latest, *numbered,
            func.coalesce(_instance.c.number, _WITHOUT_NUMBER), _instance.c.sop_instance,
        )
    )  # fmt: skip


def _of_series() -> ColumnElement[bool]:
    return and_(
        _instance.c.study_uid == _series.c.study_uid,
        _instance.c.series_uid == _series.c.series_uid,
    )


def _exists(*of: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether there is such an instance."""
    return (
        select(_instance.c.sop_instance)
        .join(_message, _message.c.id == _instance.c.message_id)
        .where(*of)
        .correlate(_study, _series)
        .exists()
    )


def _fulfilled(connection: Connection, wanted: Wanted) -> ColumnElement[bool]:
    if wanted.column == "modalities":
        other = _series.alias()
        return (
            select(other.c.series_uid)
            .where(
                other.c.study_uid == _study.c.study_uid,
                _compared(connection, other.c.modality, wanted),
            )
            .exists()
        )
    if wanted.column == "classes":
        one = _instance.alias()
        return (
            select(one.c.sop_instance)
            .where(
                one.c.study_uid == _study.c.study_uid,
                _compared(connection, one.c.sop_class, wanted),
            )
            .exists()
        )
    table, _, name = wanted.column.partition(".")
    return _compared(connection, _TABLES[table].c[name], wanted)


def _compared(
    connection: Connection, column: ColumnElement[Any], wanted: Wanted
) -> ColumnElement[bool]:
    if wanted.anyof:
        return column.in_(list(wanted.anyof))
    if wanted.pattern:
        if connection.dialect.name == "sqlite":
            # SQLite's LIKE knows no difference between upper and lower case.
            return column.op("GLOB", is_comparison=True)(wanted.pattern.replace("[", "[[]"))
        escaped = wanted.pattern
        for special in ("\\", "%", "_"):
            escaped = escaped.replace(special, f"\\{special}")
        return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")
    limits = []
    if wanted.least:
        limits.append(column >= wanted.least)
    if wanted.most:
        limits.append(and_(column != "", column <= wanted.most))
    return and_(*limits)


def instances(
    connection: Connection,
    *,
    study: str,
    series: str,
    instance: str,
    limit: int,
    offset: int,
    hidden: Hidden = NOTHING_HIDDEN,
) -> list[Row[Any]]:
    """Rows of instances, in the order of series and number; what is given must all hold."""
    asked = (
        select(_instance)
        .join(_message, _message.c.id == _instance.c.message_id)
        .join(_series, _of_series())
        .where(*shown_to(hidden))
        .order_by(
            func.coalesce(_series.c.number, _WITHOUT_NUMBER), _instance.c.series_uid,
            func.coalesce(_instance.c.number, _WITHOUT_NUMBER), _instance.c.sop_instance,
        )
    )  # fmt: skip
    for column, value in (
        (_instance.c.study_uid, study),
        (_instance.c.series_uid, series),
        (_instance.c.sop_instance, instance),
    ):
        if value:
            asked = asked.where(column == value)
    return list(connection.execute(asked.limit(limit).offset(offset)).all())


# --- counting --------------------------------------------------------------------------


def study_counts(
    connection: Connection, studies: Sequence[str], hidden: Hidden = NOTHING_HIDDEN
) -> dict[str, StudyCounts]:
    """What of each study is held and shown."""
    held = (
        select(
            _instance.c.study_uid, _instance.c.series_uid, _instance.c.sop_class,
            _series.c.modality, func.count().label("instances"),
        )
        .join(_message, _message.c.id == _instance.c.message_id)
        .join(_series, _of_series())
        .where(_instance.c.study_uid.in_(studies), *shown_to(hidden))
        .group_by(
            _instance.c.study_uid, _instance.c.series_uid, _instance.c.sop_class,
            _series.c.modality,
        )
    )  # fmt: skip
    rows: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(held):
        rows.setdefault(row.study_uid, []).append(row)
    return {
        study: StudyCounts(
            series=len({row.series_uid for row in of}),
            instances=sum(row.instances for row in of),
            modalities=tuple(sorted({row.modality for row in of} - {""})),
            classes=tuple(sorted({row.sop_class for row in of} - {""})),
        )
        for study, of in rows.items()
    }


def series_counts(
    connection: Connection, series: Sequence[tuple[str, str]], hidden: Hidden = NOTHING_HIDDEN
) -> dict[tuple[str, str], int]:
    """How many instances of each series (study, series) are held and shown."""
    if not series:
        return {}
    found = connection.execute(
        select(_instance.c.study_uid, _instance.c.series_uid, func.count().label("instances"))
        .join(_message, _message.c.id == _instance.c.message_id)
        .where(_instance.c.series_uid.in_({uid for _, uid in series}), *shown_to(hidden))
        .group_by(_instance.c.study_uid, _instance.c.series_uid)
    )
    wanted = set(series)
    return {
        (row.study_uid, row.series_uid): row.instances
        for row in found
        if (row.study_uid, row.series_uid) in wanted
    }

"""The index of the DICOM studies that are held: what goes in, and what is found in it.

An arrival notes itself in ``unindexed``, in the transaction that keeps it; :func:`store` moves it
into the index. A message that is refused, discarded or replaced later is not found any more, nor
is one whose bytes were purged: nobody could have it.
Functions that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    delete,
    func,
    select,
)

from gateway.bulk import insert_rows, json_text
from gateway.journal import imaging_tables, tables
from gateway.journal.fitting import fit
from gateway.journal.hiding import NOTHING_HIDDEN, Hidden
from gateway.journal.hiding import shown as shown_to
from gateway.journal.journal import Journal
from gateway.journal.rows import CONTENT_COLUMNS, MESSAGE_COLUMNS, message_of
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.model import Payload

PATIENTS, STUDIES, SERIES, INSTANCES = "patients", "studies", "series", "instances"

_message = tables.message
_study = imaging_tables.held_study
_series = imaging_tables.held_series
_instance = imaging_tables.held_instance
_unindexed = imaging_tables.unindexed
_WITHOUT_NUMBER = 1 << 62
_TABLES: Mapping[str, Table] = {t.name: t for t in (_study, _series, _instance)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One instance for the index. ``study``, ``series`` and ``instance`` are the values of their
    tables' columns, but for those that say which message it is."""

    message: Message
    study: Mapping[str, Any]
    series: Mapping[str, Any]
    instance: Mapping[str, Any]


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


def unindexed(connection: Connection, limit: int, *, after: int = 0) -> list[Message]:
    """Instances that the index does not have yet, the oldest first, those with a higher number
    than ``after``, with their bytes when these are short."""
    found = connection.execute(
        select(*MESSAGE_COLUMNS, *CONTENT_COLUMNS)
        .join(_unindexed, _unindexed.c.message_id == _message.c.id)
        .join(tables.content, tables.content.c.message_id == _message.c.id)
        .where(_unindexed.c.message_id > after)
        .order_by(_unindexed.c.message_id)
        .limit(limit)
    )
    return [message_of(row, with_content=True) for row in found]


def unmet(connection: Connection, limit: int) -> list[Message]:
    """The same of studies that gather and of which the index has nothing: one instance of each."""
    gathering = tables.gathering
    first = (
        select(func.min(_message.c.id))
        .join(_unindexed, _unindexed.c.message_id == _message.c.id)
        .join(
            gathering,
            and_(
                gathering.c.source == _message.c.source,
                gathering.c.group_key == _message.c.group_key,
                gathering.c.due_at.is_not(None),
            ),
        )
        .where(
            ~select(_study.c.study_uid).where(_study.c.study_uid == _message.c.group_key).exists()
        )
        .group_by(_message.c.source, _message.c.group_key)
        .limit(limit)
    )
    found = connection.execute(
        select(*MESSAGE_COLUMNS, *CONTENT_COLUMNS)
        .join(tables.content, tables.content.c.message_id == _message.c.id)
        .where(_message.c.id.in_(list(connection.execute(first).scalars())))
        .order_by(_message.c.id)
    )
    return [message_of(row, with_content=True) for row in found]


def waiting(connection: Connection) -> int:
    """How many instances the index does not have yet."""
    return int(connection.execute(select(func.count()).select_from(_unindexed)).scalar_one())


def store(connection: Connection, holdings: Sequence[Holding], done: Sequence[int]) -> None:
    """Put instances into the index, and take the messages ``done`` off the list of those that
    are not in it. Of a study, a series or an instance what the newest message says stands."""
    studies: dict[Any, tuple[Message, Mapping[str, Any]]] = {}
    series: dict[Any, tuple[Message, Mapping[str, Any]]] = {}
    instances: dict[Any, tuple[Message, Mapping[str, Any]]] = {}
    for each in sorted(holdings, key=lambda holding: holding.message.id):
        message = each.message
        studies[each.study["study_uid"]] = message, each.study
        series[each.series["study_uid"], each.series["series_uid"]] = message, each.series
        of_message = {"source": message.source, "sha256": message.sha256, "size": message.size}
        instances[each.instance["sop_instance"]] = message, {**each.instance, **of_message}
    _put(connection, _study, studies)
    _put(connection, _series, series)
    _put(connection, _instance, instances)
    for start in range(0, len(done), 500):
        some = done[start : start + 500]
        connection.execute(delete(_unindexed).where(_unindexed.c.message_id.in_(some)))


def _put(
    connection: Connection, table: Table, found: Mapping[Any, tuple[Message, Mapping[str, Any]]]
) -> None:
    # By key, so that two processes never wait in a circle.
    rows = [
        [
            message.id if c.name == "message_id" else _fitted(c, values[c.name])
            for c in table.columns
        ]
        for _, (message, values) in sorted(found.items())
    ]
    insert_rows(connection, table, rows, conflict=_NEWER[table.name])


def _newer(table: Table) -> str:
    """What follows ON CONFLICT: the newest message's values stand, unless it was discarded."""
    key = [column.name for column in table.primary_key.columns]
    # What is rejected is told by the notes (gateway.journal.rejections), which are asked next.
    kept = {*key, "rejected"}
    given = ", ".join(f"{c.name} = excluded.{c.name}" for c in table.columns if c.name not in kept)
    return (
        f"({', '.join(key)}) DO UPDATE SET {given}"  # noqa: S608  names of our own tables
        f" WHERE excluded.message_id >= {table.name}.message_id OR NOT EXISTS ("
        f"SELECT 1 FROM message AS newer WHERE newer.id = {table.name}.message_id"
        f" AND newer.state <> '{MessageState.DISCARDED.value}')"
    )


_NEWER = {table.name: _newer(table) for table in _TABLES.values()}


def _fitted(column: Column[Any], value: Any) -> Any:
    if column.name == "attributes":
        return json_text(value)
    length = getattr(column.type, "length", None)
    return fit(value, length) if length is not None and isinstance(value, str) else value


# --- finding ---------------------------------------------------------------------------


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


def bytes_of(journal: Journal, message_id: int, sha256: str, size: int) -> Payload:
    """The bytes of an instance that is held. Raises KeyError when they are gone."""
    if size > tables.INLINE_BYTES_MAX:
        return journal.blobs.payload(sha256)
    content = tables.content
    with journal.read() as connection:
        body = connection.execute(
            select(content.c.body).where(content.c.message_id == message_id)
        ).scalar_one_or_none()
    if body is None:
        raise KeyError(message_id)
    return Payload(sha256, size, data=bytes(body))

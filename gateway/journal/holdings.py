"""The index of the DICOM studies that are held: what goes in.

What is found in it is asked by :mod:`gateway.journal.held_studies`.

An arrival notes itself in ``unindexed``, in the transaction that keeps it; :func:`store` moves it
into the index. A message that is refused, discarded or replaced later is not found any more, nor
is one whose bytes were purged: nobody could have it.
Functions that change something are called inside ``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Table,
    and_,
    delete,
    func,
    select,
)

from gateway.bulk import insert_rows, json_text
from gateway.journal import imaging_tables, tables
from gateway.journal.fitting import fit
from gateway.journal.journal import Journal
from gateway.journal.rows import CONTENT_COLUMNS, MESSAGE_COLUMNS, message_of
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.model import Payload

_message = tables.message
_study = imaging_tables.held_study
_series = imaging_tables.held_series
_instance = imaging_tables.held_instance
_unindexed = imaging_tables.unindexed


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One instance for the index. ``study``, ``series`` and ``instance`` are the values of their
    tables' columns, but for those that say which message it is."""

    message: Message
    study: Mapping[str, Any]
    series: Mapping[str, Any]
    instance: Mapping[str, Any]


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


_NEWER = {table.name: _newer(table) for table in (_study, _series, _instance)}


def _fitted(column: Column[Any], value: Any) -> Any:
    if column.name == "attributes":
        return json_text(value)
    length = getattr(column.type, "length", None)
    return fit(value, length) if length is not None and isinstance(value, str) else value


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

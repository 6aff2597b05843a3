"""What stands in the index of what is held for an object that is discarded.

The index has the newest of several objects with one SOP Instance UID, and of a study and a series
what the newest object says. When a person discards that one, an older one counts again: it is
noted as not indexed, and :func:`gateway.journal.holdings.store` lets it take the place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, select

from gateway.bulk import insert_rows
from gateway.journal import imaging_tables, tables
from gateway.journal.states import MessageState
from gateway.model import Format

_message = tables.message
_series = imaging_tables.held_series
_instance = imaging_tables.held_instance
_GONE = [s.value for s in (MessageState.REFUSED, MessageState.DISCARDED, MessageState.REPLACED)]
_AT_ONCE = 200


def succeed(connection: Connection, discarded: Sequence[int]) -> None:
    """Note those that come after discarded messages. Inside ``Journal.write()``, after their
    states were changed."""
    for start in range(0, len(discarded), _AT_ONCE):
        left = connection.execute(
            select(_message.c.group_key, _message.c.control_id).where(
                _message.c.id.in_(discarded[start : start + _AT_ONCE]),
                _message.c.format == Format.DICOM.value,
                _message.c.group_key != "",
            )
        ).all()
        if not left:
            continue
        studies = sorted({row.group_key for row in left})
        kept = _message.c.group_key.in_(studies), _message.c.state.not_in(_GONE)
        newest = select(func.max(_message.c.id)).where(*kept)
        uids = sorted({row.control_id for row in left})
        heirs = (
            # What the study says, and which notes it has.
            newest.group_by(_message.c.group_key),
            newest.where(_message.c.control_id.in_(uids)).group_by(
                _message.c.group_key, _message.c.control_id
            ),
            select(func.max(_message.c.id))
            .join(_instance, _instance.c.message_id == _message.c.id)
            .join(_series, _series.c.series_uid == _instance.c.series_uid)
            .where(
                *kept,
                _instance.c.study_uid.in_(studies),
                _series.c.message_id.in_(discarded[start : start + _AT_ONCE]),
            )
            .group_by(_instance.c.series_uid),
        )
        _note(connection, {id_ for each in heirs for id_ in connection.execute(each).scalars()})


def _note(connection: Connection, ids: Iterable[int]) -> None:
    rows = [(each,) for each in sorted(ids)]
    insert_rows(connection, imaging_tables.unindexed, rows, conflict="DO NOTHING")

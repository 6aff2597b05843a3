"""Pages of messages, newest first, at any number of rows."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from gateway.journal import tables
from gateway.journal.rows import MESSAGE_COLUMNS, message_of
from gateway.journal.states import MessageState
from gateway.journal.values import Message, MessageFilter

PAGE_MAX = 500

_message = tables.message


def page(
    connection: Connection,
    filter: MessageFilter,  # noqa: A002 - the word that callers of a listing use
    *,
    before_id: int | None = None,
    limit: int = 100,
) -> list[Message]:
    """Messages by falling id, without their bytes and answers.

    ``before_id`` is the last id of the page before. Raises ValueError for a limit
    that is not 1 to 500.
    """
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"a page has 1 to {PAGE_MAX} messages")
    ids = select(_message.c.id).order_by(_message.c.id.desc()).limit(limit)
    if before_id is not None:
        ids = ids.where(_message.c.id < before_id)
    ids = ids.where(*_conditions(filter))
    if _is_narrow(filter) or not (filter.states or filter.source):
        found = list(connection.execute(ids.where(*_without_index(filter))).scalars())
    else:
        found = _merged(connection, ids, filter, limit)
    rows = connection.execute(
        select(*MESSAGE_COLUMNS).where(_message.c.id.in_(found)).order_by(_message.c.id.desc())
    )
    return [message_of(row) for row in rows]


def _is_narrow(wanted: MessageFilter) -> bool:
    """Whether an index of its own answers the filter with few rows."""
    return bool(wanted.patient_id or wanted.group_key or (wanted.source and wanted.control_id))


def _merged(
    connection: Connection, ids: Select[int], wanted: MessageFilter, limit: int
) -> list[int]:
    """The newest ids out of every state and source wanted. Each of these is in order in the
    index; all of them together would have to be sorted."""
    runs = []
    for state in dict.fromkeys(wanted.states or MessageState):
        in_state = ids.where(_message.c.state == state.value)
        sources = [wanted.source] if wanted.source else _sources(connection, state)
        for source in sources:
            run = connection.execute(in_state.where(_message.c.source == source)).scalars()
            runs.append(run.all())
    return list(islice(heapq.merge(*runs, reverse=True), limit))


def _sources(connection: Connection, state: MessageState) -> Iterator[str]:
    """The sources that have messages in a state, one look at the index for each."""
    query = (
        select(_message.c.source)
        .where(_message.c.state == state.value)
        .order_by(_message.c.source)
        .limit(1)
    )
    source: str | None = ""
    while source is not None:
        after = query.where(_message.c.source > source)
        source = connection.execute(after).scalar_one_or_none()
        if source is not None:
            yield source


def _conditions(wanted: MessageFilter) -> Iterator[ColumnElement[bool]]:
    equal: Iterable[tuple[ColumnElement[Any], str]] = (
        (_message.c.format, wanted.format.value if wanted.format else ""),
        (_message.c.kind, wanted.kind),
        (_message.c.control_id, wanted.control_id),
        (_message.c.group_key, wanted.group_key),
        (_message.c.patient_id, wanted.patient_id),
        (_message.c.cause_code, wanted.cause_code),
        (_message.c.sha256, wanted.sha256),
    )
    for column, value in equal:
        if value:
            yield column == value
    if wanted.since is not None:
        yield _message.c.received_at >= wanted.since
    if wanted.until is not None:
        yield _message.c.received_at < wanted.until


def _without_index(wanted: MessageFilter) -> Iterator[ColumnElement[bool]]:
    """State and source beside a narrower condition; the source only where it is part of it."""
    if wanted.states:
        # The function keeps SQLite, which has no statistics here, from the index of states.
        state = func.coalesce(_message.c.state, "")
        yield state.in_([state_.value for state_ in wanted.states])
    if wanted.source:
        source = _message.c.source if wanted.control_id else func.coalesce(_message.c.source, "")
        yield source == wanted.source

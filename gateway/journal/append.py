"""The SQL of one group of arrivals: look for duplicates, insert the rest, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from gateway.bulk import Statement, insert_new, insert_rows, instant_text, json_text, sqlite_driver
from gateway.journal import imaging_tables, lanes, tables
from gateway.journal.arrival import (
    ATTRIBUTES,
    CHANGED_AT,
    USUAL_COLUMNS,
    USUAL_CONSTANTS,
    Arrival,
    usual_values,
)
from gateway.journal.rows import cause_of
from gateway.journal.states import AnswerState, MessageState
from gateway.journal.values import Appended
from gateway.model import Stage

REUSED = "control_id_reused"
"""Attribute of a message whose control id another message of its source had before."""

# One look into the index tells of most messages that they are new: it begins with the
# source and the control id, and only of a message that is found so the key is asked for.
_OTHER = """
  (SELECT m.id FROM message m WHERE m.source = p.source AND m.control_id = p.control_id
     LIMIT 1) AS other
"""
_SAME = """
  (SELECT m.id FROM message m WHERE m.source = found.source
     AND m.control_id = found.control_id AND m.dedupe_key = found.dedupe_key)
"""
_PROBE_SQLITE = """
WITH p AS (
  SELECT key AS place, json_extract(value, '$[0]') AS source,
    json_extract(value, '$[1]') AS control_id, json_extract(value, '$[2]') AS dedupe_key
  FROM json_each(?)),
found AS MATERIALIZED (SELECT p.*, OTHER FROM p)
SELECT json_group_array(json_array(place, SAME, other)) FROM found WHERE other IS NOT NULL
""".replace("OTHER", _OTHER).replace("SAME", _SAME)
_PROBE_POSTGRESQL = text(
    """
    WITH found AS MATERIALIZED (
      SELECT p.source, p.control_id, p.dedupe_key, p.place - 1 AS place, OTHER
      FROM unnest(CAST(:sources AS text[]), CAST(:controls AS text[]), CAST(:keys AS text[]))
        WITH ORDINALITY AS p(source, control_id, dedupe_key, place))
    SELECT place, SAME AS same, other FROM found WHERE other IS NOT NULL
    """.replace("OTHER", _OTHER).replace("SAME", _SAME)
)

_EVENTS = """
INSERT INTO event (message_id, at, stage, what, detail)
SELECT id, AT, 'intake', CASE state WHEN 'refused' THEN 'refused' ELSE 'received' END,
  CAST(CASE cause_code WHEN '' THEN '{}' ELSE '{"cause": "' || cause_code || '"}' END AS JSON)
FROM message WHERE
"""
_EVENTS_SQLITE = (
    _EVENTS.replace("AT,", "?,").replace("AS JSON", "AS TEXT") + "id BETWEEN ? AND ? ORDER BY id"
)
_EVENTS_POSTGRESQL = text(
    _EVENTS.replace("AT,", ":at,") + "id = ANY(CAST(:ids AS bigint[])) ORDER BY id"
)

_LAST_SQLITE = "SELECT seq FROM sqlite_sequence WHERE name = 'message'"
_RESERVE_POSTGRESQL = text(
    "SELECT array_agg(nextval(pg_get_serial_sequence('message', 'id')))"
    " FROM generate_series(1, :count)"
)

Key = tuple[str, str, str]

_message = tables.message
_content = tables.content

_COUNT_DUPLICATE = (
    update(_message)
    .where(_message.c.id == bindparam("message_id"))
    .values(arrivals=_message.c.arrivals + bindparam("more"))
)


def append(connection: Connection, arrivals: Sequence[Arrival], now: datetime) -> list[Appended]:
    """Insert arrivals in their order; what became of each, in the same order.

    A duplicate inserts nothing: its first arrival counts it, and lends its answer.
    The caller commits, and tells nobody before. Raises the database's errors.
    """
    known, others = _probe(connection, [arrival.key for arrival in arrivals])
    leaders: dict[Key, Arrival] = {}
    for arrival in arrivals:
        if arrival.key not in known:
            leaders.setdefault(arrival.key, arrival)
    fresh = _insert(connection, leaders, others, now)
    if len(fresh) < len(leaders):
        late, _ = _probe(connection, [key for key in leaders if key not in fresh])
        known.update(late)
    new = [leaders[key] for key in fresh]
    _gather(connection, new)
    _to_index(connection, new, fresh)
    _owe_answers(connection, new, fresh, now)
    _ring(connection, new, now)
    firsts = {id(arrival) for arrival in new}
    repeats = [(known.get(a.key) or fresh[a.key], a) for a in arrivals if id(a) not in firsts]
    stored = _count_duplicates(connection, repeats, now)
    return [
        Appended(fresh[arrival.key], False, arrival.answer, arrival.state, arrival.cause)
        if id(arrival) in firsts
        else stored[known.get(arrival.key) or fresh[arrival.key]]
        for arrival in arrivals
    ]


def _probe(
    connection: Connection, keys: Sequence[Key]
) -> tuple[dict[Key, int], dict[tuple[str, str], int]]:
    """Which keys are stored already; and for (source, control id) any message that has it."""
    if connection.dialect.name == "sqlite":
        # The answer is one row whatever its length: each row costs a turn of the
        # interpreter's lock.
        asked = orjson.dumps(keys).decode()  # fitted to their columns: they hold no surrogate
        answer = sqlite_driver(connection).execute(_PROBE_SQLITE, [asked]).fetchone()
        found: Iterable[Sequence[Any]] = orjson.loads(answer[0])
    else:
        sources, controls, digests = zip(*keys, strict=True)
        found = connection.execute(
            _PROBE_POSTGRESQL,
            {"sources": list(sources), "controls": list(controls), "keys": list(digests)},
        ).all()
    known: dict[Key, int] = {}
    others: dict[tuple[str, str], int] = {}
    for place, same, other in found:
        if same is not None:
            known[keys[place]] = same
        if keys[place][1]:  # without a control id none is reused
            others[keys[place][:2]] = other
    return known, others


def _insert(
    connection: Connection,
    leaders: Mapping[Key, Arrival],
    others: dict[tuple[str, str], int],
    now: datetime,
) -> dict[Key, int]:
    """Insert one row for each key; the ids of those that were not there."""
    if not leaders:
        return {}
    ids = _reserve(connection, len(leaders))
    originals = _originals(connection, others)
    usual: list[Sequence[Any]] = []
    rows: list[Sequence[Any]] = []
    changed_at = instant_text(now)
    for message_id, (key, arrival) in zip(ids, leaders.items(), strict=True):
        row = arrival.row.copy()
        row[0] = row[1] = message_id
        row[CHANGED_AT] = changed_at
        if key[1]:
            original = originals.setdefault(key[:2], message_id)
            if original != message_id:
                row[ATTRIBUTES] = json_text({**arrival.attributes, REUSED: str(original)})
        if arrival.usual:
            usual.append(usual_values(row))
        else:
            rows.append(row)
    fresh = dict(zip(leaders, ids, strict=True))
    if connection.dialect.name == "sqlite":
        driver = sqlite_driver(connection)
        insert_rows(
            connection, _message, usual, columns=USUAL_COLUMNS, constants=USUAL_CONSTANTS, fine=True
        )
        insert_rows(connection, _message, rows)
    else:
        driver = None
        # Another process may insert the same message at this moment: then its row stands.
        new = insert_new(
            connection, _message, usual,
            columns=USUAL_COLUMNS, constants=USUAL_CONSTANTS, returning=("id",),
        )  # fmt: skip
        new += insert_new(connection, _message, rows, returning=("id",))
        inserted = {row[0] for row in new}
        fresh = {key: message_id for key, message_id in fresh.items() if message_id in inserted}
    contents = [(fresh[key], leaders[key].body, leaders[key].answer) for key in fresh]
    insert_rows(connection, _content, contents, fine=True)
    if driver is not None:
        driver.execute(_EVENTS_SQLITE, [changed_at, ids[0], ids[-1]])
    else:
        connection.execute(_EVENTS_POSTGRESQL, {"at": now, "ids": list(fresh.values())})
    return fresh


def _reserve(connection: Connection, count: int) -> list[int]:
    """Ids that no message has or had, in rising order."""
    if connection.dialect.name == "sqlite":
        found = sqlite_driver(connection).execute(_LAST_SQLITE).fetchone()
        last = found[0] if found is not None else 0
        return list(range(last + 1, last + count + 1))
    return sorted(connection.execute(_RESERVE_POSTGRESQL, {"count": count}).scalar_one())


def _originals(
    connection: Connection, others: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """The first message of each reused control id: the one found, or the one that it names."""
    if not others:
        return {}
    found = connection.execute(
        select(_message.c.id, _message.c.attributes).where(_message.c.id.in_(others.values()))
    )
    first = {row.id: int(row.attributes.get(REUSED, row.id)) for row in found}
    return {name: first[message_id] for name, message_id in others.items()}


def _count_duplicates(
    connection: Connection, repeats: Sequence[tuple[int, Arrival]], now: datetime
) -> dict[int, Appended]:
    """Count the repeats with the messages that they repeat; what is stored of these."""
    if not repeats:
        return {}
    more = Counter(message_id for message_id, _ in repeats)
    connection.execute(
        _COUNT_DUPLICATE, [{"message_id": i, "more": count} for i, count in sorted(more.items())]
    )
    connection.execute(
        insert(tables.event),
        [
            {
                "message_id": message_id,
                "at": now,
                "stage": Stage.INTAKE.value,
                "what": "duplicate",
                "detail": {"peer": arrival.peer},
            }
            for message_id, arrival in repeats
        ],
    )
    columns = [c for c in _message.c if c.name == "state" or c.name.startswith("cause_")]
    found = connection.execute(
        # The answer may have been purged: then the door words one anew.
        select(_message.c.id, *columns, func.coalesce(_content.c.answer, b"").label("answer"))
        .outerjoin(_content, _content.c.message_id == _message.c.id)
        .where(_message.c.id.in_(more))
    )
    return {
        row.id: Appended(row.id, True, bytes(row.answer), MessageState(row.state), cause_of(row))
        for row in found
    }


def _gather(connection: Connection, new: Iterable[Arrival]) -> None:
    """Put the due time of each group off, unless it is complete, and count its members."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    complete: set[tuple[str, str]] = set()
    for arrival in new:
        if arrival.state is not MessageState.GATHERING:
            continue
        due_at, source = arrival.group_due_at, arrival.key[0]
        key = (source, arrival.group_key)
        group = groups.setdefault(
            key,
            {
                "source": source,
                "group_key": arrival.group_key,
                "lane": arrival.lane,
                "due_at": due_at,
                "first_at": arrival.received_at,
                "last_at": arrival.received_at,
                "instances": 0,
                "round": 0,
            },
        )
        if arrival.group_complete:
            complete.add(key)
            group["due_at"] = due_at
        elif key not in complete:
            group["due_at"] = max(group["due_at"], due_at)
        group["last_at"] = max(group["last_at"], arrival.received_at)
        group["instances"] += 1
    # In the order of their keys, so that two processes never wait in a circle.
    for key in sorted(groups):
        (_COMPLETE if key in complete else _PUT_OFF).rows(connection, **groups[key])


def _to_index(connection: Connection, new: Iterable[Arrival], ids: Mapping[Key, int]) -> None:
    """Note the instances that the index of what is held does not have yet, and the orders of
    imaging that the worklist does not have."""
    rows = [(ids[arrival.key],) for arrival in new if arrival.indexed]
    insert_rows(connection, imaging_tables.unindexed, rows, fine=True)
    orders = [(ids[arrival.key],) for arrival in new if arrival.scheduled]
    insert_rows(connection, imaging_tables.unscheduled, orders, fine=True)


# An image has its own commit as a rule: what is around the statement would cost more than it.
_GATHERING = """
    INSERT INTO gathering (source, group_key, lane, due_at, first_at, last_at, instances, round)
    VALUES (:source, :group_key, :lane, :due_at, :first_at, :last_at, :instances, :round)
    ON CONFLICT (source, group_key) DO UPDATE SET
      due_at = DUE,
      last_at = CASE WHEN gathering.last_at > excluded.last_at THEN gathering.last_at
        ELSE excluded.last_at END,
      instances = gathering.instances + excluded.instances
"""
_COMPLETE = Statement(_GATHERING.replace("DUE", "excluded.due_at"))
_PUT_OFF = Statement(
    _GATHERING.replace(
        "DUE",
        "CASE WHEN gathering.due_at > excluded.due_at THEN gathering.due_at"
        " ELSE excluded.due_at END",
    )
)


def _owe_answers(
    connection: Connection, new: Iterable[Arrival], ids: Mapping[Key, int], now: datetime
) -> None:
    """Note which senders want to hear of their message's end."""
    rows = [
        {
            "message_id": ids[arrival.key],
            "source": arrival.key[0],
            "condition": owed.condition,
            "state": (AnswerState.AWAITED if owed.linked else AnswerState.UNLINKED).value,
            "control_id": "",
            "code": "",
            "attempts": 0,
            "created_at": now,
        }
        for arrival in new
        if (owed := arrival.later_answer) is not None
        and not (arrival.state is MessageState.REFUSED and owed.refusal_told)
    ]
    if rows:
        connection.execute(insert(tables.application_acknowledgement), rows)


def _ring(connection: Connection, new: Iterable[Arrival], now: datetime) -> None:
    rings: dict[str, datetime] = {}
    for arrival in new:
        if arrival.state is MessageState.RECEIVED:
            rings[arrival.lane] = now
        elif arrival.group_due_at is not None:
            rings[arrival.lane] = min(
                rings.get(arrival.lane, arrival.group_due_at), arrival.group_due_at
            )
    for lane, at in rings.items():
        lanes.ring(connection, lane, at)

"""Messages that go as a whole, and what they counted for: the account balances without them.

What the account and the metrics count from rows is kept as sums once the rows are gone:
``account`` by source and column, ``arrivals`` by source and format, ``attempts`` by destination
and outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, func, select

from gateway.journal import desk_tables, mapping_tables, tables
from gateway.journal.dialects import upsert
from gateway.journal.ledger import COLUMN
from gateway.journal.ledger import PURGED as ACCOUNT
from gateway.journal.purge_tables import purge_count
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX
from gateway.journal.values import Resolution

ARRIVALS = "arrivals"
ATTEMPTS = "attempts"
_AT_ONCE = 500
"""Rows that one statement names."""

_message = tables.message
_delivery = tables.delivery
_attempt = tables.attempt
_letter = desk_tables.dead_letter

Counts = Counter[tuple[str, str, str]]


def take_messages(connection: Connection, ids: Sequence[int]) -> Counter[str]:
    """Delete messages with all that belongs to them, and keep what they counted for.

    What was taken: ``message.<state>``, ``bytes``. The caller has made sure that none of them
    is needed, and holds their rows.
    """
    kept: Counts = Counter()
    taken: Counter[str] = Counter()
    # All are counted before one is deleted: an instance counts where its carrier is.
    whole = frozenset(ids)
    for some in _portions(ids):
        _count(connection, some, whole, kept, taken)
    for some in _portions(ids):
        _delete(connection, some)
    add(connection, kept)
    return taken


def add(connection: Connection, counts: Counts) -> None:
    """Add to what is kept."""
    rows = [
        {"what": what, "name": name, "label": label, "count": count}
        for (what, name, label), count in sorted(counts.items())
        if count
    ]
    if not rows:
        return
    statement = upsert(connection, purge_count)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[purge_count.c.what, purge_count.c.name, purge_count.c.label],
            set_={"count": purge_count.c.count + statement.excluded["count"]},
        ),
        rows,
    )


def sums(connection: Connection, what: str) -> dict[tuple[str, str], int]:
    """What is kept, by name and label."""
    found = connection.execute(
        select(purge_count.c.name, purge_count.c.label, purge_count.c.count).where(
            purge_count.c.what == what
        )
    )
    return {(name, label): int(count) for name, label, count in found}


def _count(
    connection: Connection,
    ids: Sequence[int],
    whole: frozenset[int],
    kept: Counts,
    taken: Counter[str],
) -> None:
    carriers = []
    rows = connection.execute(
        select(
            _message.c.id, _message.c.source, _message.c.format, _message.c.state,
            _message.c.parent_id, _message.c.carrier_id, _message.c.arrivals, _message.c.size,
            tables.content.c.message_id.is_not(None).label("with_bytes"),
        )
        .outerjoin(tables.content, tables.content.c.message_id == _message.c.id)
        .where(_message.c.id.in_(ids))
    )  # fmt: skip
    for row in rows:
        repeats = row.arrivals - 1
        kept[ACCOUNT, row.source, "received"] += repeats + (row.parent_id is None)
        kept[ACCOUNT, row.source, "duplicates"] += repeats
        if row.parent_id is None:
            kept[ARRIVALS, row.source, row.format] += row.arrivals
        state = MessageState(row.state)
        if state is not MessageState.GATHERED:
            _place(kept, row.source, state, 1)
        elif row.carrier_id is not None and row.carrier_id not in whole:
            carriers.append(row.carrier_id)
        taken[f"message.{state.value}"] += 1
        if row.with_bytes and row.size <= INLINE_BYTES_MAX:
            taken["bytes"] += row.size
    _count_carried(connection, ids, carriers, kept)
    attempts = connection.execute(
        select(_delivery.c.destination, _attempt.c.outcome, func.count())
        .join(_delivery, _delivery.c.id == _attempt.c.delivery_id)
        .where(_delivery.c.message_id.in_(ids), _attempt.c.ended_at.is_not(None))
        .group_by(_delivery.c.destination, _attempt.c.outcome)
    )
    for destination, outcome, count in attempts:
        kept[ATTEMPTS, destination, outcome] += count
    replays = connection.execute(
        select(_letter.c.source, func.count())
        .where(_letter.c.message_id.in_(ids), _letter.c.resolution == Resolution.REPLAYED.value)
        .group_by(_letter.c.source)
    )
    for source, count in replays:
        kept[ACCOUNT, source, "replayed"] += count


def _count_carried(
    connection: Connection, ids: Sequence[int], carriers: Sequence[int], kept: Counts
) -> None:
    """Instances count where their carrier is: once, when the first of the two goes.

    ``ids`` are the carriers that go now, with all of their instances; ``carriers`` those that
    stay although an instance goes. One that went before has counted its instances.
    """
    source, state = _message.c.source, _message.c.state
    instance = _message.alias("instance")
    with_carrier = connection.execute(
        select(source, state, func.count())
        .join(instance, instance.c.carrier_id == _message.c.id)
        .where(_message.c.id.in_(ids))
        .group_by(source, state)
    )
    for name, where, count in with_carrier:
        _place(kept, name, MessageState(where), count)
    elsewhere = Counter(carriers)
    if elsewhere:
        rows = connection.execute(
            select(_message.c.id, source, state).where(_message.c.id.in_(list(elsewhere)))
        )
        for number, name, where in rows:
            _place(kept, name, MessageState(where), elsewhere[number])


def _place(kept: Counts, source: str, state: MessageState, count: int) -> None:
    name = COLUMN.get(state)
    if name is None:
        return
    kept[ACCOUNT, source, name] += count
    if name != "refused":
        kept[ACCOUNT, source, "accepted"] += count


def _delete(connection: Connection, ids: Sequence[int]) -> None:
    deliveries = select(_delivery.c.id).where(_delivery.c.message_id.in_(ids))
    connection.execute(delete(_attempt).where(_attempt.c.delivery_id.in_(deliveries)))
    for owned in (
        _delivery, tables.event, tables.content, tables.normalised, _letter, tables.waiting,
        mapping_tables.reprocessed, tables.application_acknowledgement,
    ):  # fmt: skip
        connection.execute(delete(owned).where(owned.c.message_id.in_(ids)))
    connection.execute(delete(_message).where(_message.c.id.in_(ids)))


def _portions(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))

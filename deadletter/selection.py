"""Which dead letters an action takes, in which order, and what came of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select

from gateway.journal import deadletters, desk_tables, tables
from gateway.journal.values import DeadLetterFilter

LETTERS_MAX = 200_000
"""Dead letters that one action takes; the rest is left for the next."""

LISTED_MAX = 500
"""Items that a report names one by one; all are counted."""

_PAGE = 500
_PARAMETERS_MAX = 500


class Verdict(StrEnum):
    """What an action did with one dead letter."""

    REPLAYED = "replayed"
    REPAIRED = "repaired"
    DISCARDED = "discarded"
    WITHHELD = "withheld"
    """Not sent: the patient's permission forbids it now. The dead letter stays open."""
    GONE = "gone"
    """It was resolved, or its message went another way, before this action came to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One dead letter and what became of it. ``child`` is the repaired copy, if any."""

    dead_letter_id: int
    message_id: int
    delivery_id: int | None
    verdict: Verdict
    child: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an action did, or with ``dry_run`` what it would do.

    ``counts`` covers all items, ``items`` the first 500. ``again`` is true when the
    same operation key was used before: nothing was done then, and the rest is
    what the first press did. ``more`` says that the limit left some for another
    action. ``finished`` is false when an earlier press with this key is still at
    work or was cut off; press again to complete it.
    """

    operation: str
    what: str
    dry_run: bool = False
    again: bool = False
    more: bool = False
    finished: bool = True
    counts: Mapping[Verdict, int] = field(default_factory=dict)
    items: tuple[Item, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the journal, for ``--json`` and for the API."""
        return {
            "operation": self.operation,
            "what": self.what,
            "dry_run": self.dry_run,
            "again": self.again,
            "more": self.more,
            "finished": self.finished,
            "counts": {verdict.value: number for verdict, number in self.counts.items()},
            "items": [
                {
                    "dead_letter_id": item.dead_letter_id,
                    "message_id": item.message_id,
                    "delivery_id": item.delivery_id,
                    "verdict": item.verdict.value,
                    "child": item.child,
                }
                for item in self.items
            ],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Report:
        """The report that :meth:`as_json` wrote."""
        return cls(
            operation=stored["operation"],
            what=stored["what"],
            dry_run=stored["dry_run"],
            again=stored["again"],
            more=stored["more"],
            finished=stored["finished"],
            counts={Verdict(name): number for name, number in stored["counts"].items()},
            items=tuple(
                Item(**{**item, "verdict": Verdict(item["verdict"])}) for item in stored["items"]
            ),
        )

    def with_items(self, items: Sequence[Item]) -> Report:
        """The same with more items, counted and, up to the limit, listed."""
        counted = Counter(self.counts)
        counted.update(item.verdict for item in items)
        listed = (*self.items, *items)[:LISTED_MAX]
        return replace(self, counts=dict(counted), items=listed)


def filter_json(wanted: DeadLetterFilter) -> dict[str, Any]:
    """A filter as a job keeps it."""
    return {
        "ids": list(wanted.ids),
        "fingerprint": wanted.fingerprint,
        "source": wanted.source,
        "code": wanted.code,
        "destination": wanted.destination,
        "assignee": wanted.assignee,
        "since": wanted.since.isoformat() if wanted.since else None,
        "until": wanted.until.isoformat() if wanted.until else None,
    }


def filter_of(stored: Mapping[str, Any]) -> DeadLetterFilter:
    """The filter that :func:`filter_json` wrote."""
    since, until = stored["since"], stored["until"]
    return DeadLetterFilter(
        ids=tuple(stored["ids"]),
        fingerprint=stored["fingerprint"],
        source=stored["source"],
        code=stored["code"],
        destination=stored["destination"],
        assignee=stored["assignee"],
        since=datetime.fromisoformat(since) if since else None,
        until=datetime.fromisoformat(until) if until else None,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A dead letter's place in line."""

    lane: str
    sequence: int
    dead_letter_id: int
    message_id: int
    delivery_id: int | None


def select_places(
    connection: Connection,
    wanted: DeadLetterFilter,
    *,
    before: datetime,
    most: int = LETTERS_MAX,
) -> tuple[list[Place], bool]:
    """The unresolved dead letters of a filter that were buried by ``before``, in the order of
    their lanes; and whether there are more than one action takes.

    What dies again while an action is at work is not taken by it a second time. With ``most``
    only so many are taken: the newest.
    """
    until = before + timedelta(microseconds=1)
    if wanted.until is not None:
        until = min(until, wanted.until)
    open_ones = replace(wanted, resolved=False, until=until)
    ids: list[int] = []
    before_id: int | None = None
    while len(ids) <= most:
        page = deadletters.page(connection, open_ones, before_id=before_id, limit=_PAGE)
        ids += [letter.id for letter in page]
        if len(page) < _PAGE:
            break
        before_id = page[-1].id
    more = len(ids) > most
    kept = ids[:most]
    places = [place for some in _parts(kept) for place in _places(connection, some)]
    return sorted(places, key=lambda p: (p.lane, p.sequence, p.dead_letter_id)), more


def _places(connection: Connection, ids: Sequence[int]) -> Iterator[Place]:
    letter, message, delivery = desk_tables.dead_letter, tables.message, tables.delivery
    rows = connection.execute(
        select(
            letter.c.id,
            letter.c.message_id,
            letter.c.delivery_id,
            func.coalesce(delivery.c.lane, message.c.lane).label("lane"),
            func.coalesce(delivery.c.sequence, message.c.sequence).label("sequence"),
        )
        .join(message, message.c.id == letter.c.message_id)
        .outerjoin(delivery, delivery.c.id == letter.c.delivery_id)
        .where(letter.c.id.in_(ids))
    )
    for row in rows:
        yield Place(row.lane, row.sequence, row.id, row.message_id, row.delivery_id)


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _PARAMETERS_MAX):
        yield ids[start : start + _PARAMETERS_MAX]

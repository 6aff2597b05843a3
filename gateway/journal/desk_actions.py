"""Who did what at the dead-letter desk: one row for each action, and nothing takes one away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from gateway.journal.desk_tables import dead_letter, dead_letter_owner, desk_action
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.tables import SOURCE_MAX, TEXT_MAX
from gateway.journal.times import moment

PAGE_MAX = 500

_action = desk_action
_letter = dead_letter


class What(StrEnum):
    """What a person (or, where it says so, a job) did."""

    REPLAY = "replay"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    HALT = "halt"
    """A replay stopped by itself."""
    DONE = "done"
    """A replay came to its end."""
    EDIT_MESSAGE = "edit-message"
    EDIT_ENTRY = "edit-entry"
    DISCARD = "discard"
    BURY = "bury"
    """The wait of a message that was held was ended."""
    ASSIGN = "assign"
    NOTE = "note"
    EXPORT = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action. ``number`` is of how many dead letters; ``fingerprint`` names a group, or is
    empty; ``reason`` is the person's own words (a note's text, too)."""

    id: int
    at: datetime
    actor: str
    what: What
    fingerprint: str
    dead_letter_id: int | None
    message_id: int | None
    job_id: int | None
    number: int
    reason: str
    detail: Mapping[str, Any]


def write(
    connection: Connection,
    what: What,
    *,
    actor: str,
    fingerprint: str = "",
    dead_letter_id: int | None = None,
    message_id: int | None = None,
    job_id: int | None = None,
    number: int = 1,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> int:
    """Write one action down; its id. ``detail`` holds no value of a patient."""
    written = connection.execute(
        insert(_action).returning(_action.c.id),
        {
            "at": moment(connection, at),
            "actor": fit(actor, TEXT_MAX),
            "what": what.value,
            "fingerprint": fingerprint,
            "dead_letter_id": dead_letter_id,
            "message_id": message_id,
            "job_id": job_id,
            "number": number,
            "reason": fit(reason, TEXT_MAX),
            "detail": dict(detail or {}),
        },
    )
    return int(written.scalar_one())


def page(
    connection: Connection,
    *,
    fingerprint: str = "",
    dead_letter_id: int | None = None,
    job_id: int | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[Action]:
    """Actions, newest first. A group's are also those on its letters; a letter's also those on
    its whole group, when both are given. Raises ValueError for a limit that is not 1 to 500."""
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"a page has 1 to {PAGE_MAX} actions")
    wanted: list[ColumnElement[bool]] = []
    if dead_letter_id is not None and fingerprint:
        whole = (_action.c.fingerprint == fingerprint) & _action.c.dead_letter_id.is_(None)
        wanted.append(or_(_action.c.dead_letter_id == dead_letter_id, whole))
    elif dead_letter_id is not None:
        wanted.append(_action.c.dead_letter_id == dead_letter_id)
    elif fingerprint:
        wanted.append(_action.c.fingerprint == fingerprint)
    if job_id is not None:
        wanted.append(_action.c.job_id == job_id)
    if before_id is not None:
        wanted.append(_action.c.id < before_id)
    rows = connection.execute(
        select(_action).where(*wanted).order_by(_action.c.id.desc()).limit(limit)
    )
    return [Action(**{**row._mapping, "what": What(row.what)}) for row in rows]


def assign_group(connection: Connection, fingerprint: str, assignee: str) -> None:
    """Say whose a group is, with those of its letters that come later; empty: nobody's."""
    if not assignee:
        connection.execute(
            delete(dead_letter_owner).where(dead_letter_owner.c.fingerprint == fingerprint)
        )
        return
    statement = upsert(connection, dead_letter_owner)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[dead_letter_owner.c.fingerprint],
            set_={"assignee": statement.excluded.assignee},
        ),
        {"fingerprint": fingerprint, "assignee": fit(assignee, SOURCE_MAX)},
    )


def assign_letters(connection: Connection, ids: Sequence[int], assignee: str) -> int:
    """Say whose single unresolved letters are; how many there were."""
    done = connection.execute(
        update(_letter)
        .where(_letter.c.id.in_(ids), _letter.c.resolved_at.is_(None))
        .values(assignee=fit(assignee, SOURCE_MAX))
    )
    return int(done.rowcount)


def notes(connection: Connection, fingerprints: Sequence[str]) -> dict[str, int]:
    """How many notes groups have."""
    rows = connection.execute(
        select(_action.c.fingerprint, func.count())
        .where(_action.c.fingerprint.in_(fingerprints), _action.c.what == What.NOTE.value)
        .group_by(_action.c.fingerprint)
    )
    return {name: int(number) for name, number in rows}

"""Changes of mapping files that somebody is working on, kept until they are deployed or dropped."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from gateway.journal import mapping_tables
from gateway.journal.fitting import fit
from gateway.journal.rows import AnyRow
from gateway.journal.tables import TEXT_MAX
from gateway.journal.times import moment

DRAFTS_MAX = 50
"""Drafts that are kept; the one that was left longest makes room."""

FILES_MAX = 200
FILE_CHARACTERS_MAX = 1_000_000

_draft = mapping_tables.mapping_draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Changed files by their paths in the set (None: taken away), over the version ``base``."""

    id: str
    base: int
    files: Mapping[str, str | None]
    actor: str
    changed_at: datetime


class DraftRefused(Exception):
    """The draft cannot hold this. Says why."""


def begin(connection: Connection, *, base: int, actor: str, at: datetime | None = None) -> str:
    """A new, empty draft; its id."""
    newest_first = select(_draft.c.id).order_by(_draft.c.changed_at.desc())
    left = connection.execute(newest_first.offset(DRAFTS_MAX - 1)).scalars().all()
    connection.execute(delete(_draft).where(_draft.c.id.in_(left)))
    number = secrets.token_hex(8)
    connection.execute(
        insert(_draft),
        {
            "id": number,
            "base": base,
            "files": {},
            "actor": fit(actor, TEXT_MAX),
            "changed_at": moment(connection, at),
        },
    )
    return number


def get(connection: Connection, draft_id: str) -> Draft | None:
    """One draft, or None."""
    row = connection.execute(select(_draft).where(_draft.c.id == draft_id)).one_or_none()
    return _draft_of(row) if row is not None else None


def drafts(connection: Connection) -> list[Draft]:
    """All drafts, the last changed first."""
    rows = connection.execute(select(_draft).order_by(_draft.c.changed_at.desc()))
    return [_draft_of(row) for row in rows]


def save(
    connection: Connection,
    draft_id: str,
    files: Mapping[str, str | None],
    *,
    base: int,
    at: datetime | None = None,
) -> None:
    """Keep all changes of a draft, and what they are changes of. Raises DraftRefused."""
    if len(files) > FILES_MAX:
        raise DraftRefused(f"a draft changes at most {FILES_MAX} files")
    if any(len(text) > FILE_CHARACTERS_MAX for text in files.values() if text is not None):
        raise DraftRefused(f"a file has at most {FILE_CHARACTERS_MAX} characters")
    connection.execute(
        update(_draft)
        .where(_draft.c.id == draft_id)
        .values(files=dict(files), base=base, changed_at=moment(connection, at))
    )


def drop(connection: Connection, draft_id: str) -> None:
    """Forget a draft. Idempotent."""
    connection.execute(delete(_draft).where(_draft.c.id == draft_id))


def _draft_of(row: AnyRow) -> Draft:
    return Draft(
        id=row.id, base=row.base, files=row.files, actor=row.actor, changed_at=row.changed_at
    )

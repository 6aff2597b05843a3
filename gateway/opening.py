"""Opens the journal of some settings: for the gateway, and for tools beside it.

Apart from the composition, so that a command that only reads loads no protocol and no mapping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.journal.journal import Journal

if TYPE_CHECKING:
    from gateway.settings import Settings

BLOB_FOLDER = "blobs"
"""Folder of large payloads and documents, in the state folder."""
IDLE_SECONDS_MIN = 10.0
"""Within which a busy machine always comes back to a transaction that it began."""
RECORD_VERSION_TABLE = "record_version"
"""Where the record's own chain of migrations keeps its place."""


def open_journal(
    settings: Settings,
    *,
    read_only: bool,
    on_ring: Callable[[frozenset[str]], None] | None = None,
) -> Journal:
    """Open the journal of these settings.

    ``read_only`` is for tools beside a running gateway; it migrates nothing.
    Raises JournalUnavailable, and JournalInUse when another process writes.
    """
    if not read_only:
        settings.state.mkdir(parents=True, exist_ok=True)
    journal = Journal(
        settings.journal_url(),
        blob_directory=settings.journal.blobs or settings.state / BLOB_FOLDER,
        read_only=read_only,
        on_ring=on_ring,
        # A worker that is frozen for longer than its lease has lost its lanes; what it left
        # unfinished in the database must not keep the one that takes its place waiting.
        idle_seconds=max(IDLE_SECONDS_MIN, settings.worker.lease_seconds),
    )
    if not read_only:
        journal.migrate()
        journal.migrate(package="record", version_table=RECORD_VERSION_TABLE)
    return journal

"""Whose a group or a letter is, and what people write about it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from gateway.journal import deadletters, desk_actions
from gateway.journal.desk_actions import What
from gateway.journal.journal import Journal
from gateway.journal.tables import SOURCE_MAX, TEXT_MAX

IDS_MAX = 500


class NotThere(Exception):
    """There is no such dead letter or group."""


def assign(
    journal: Journal,
    assignee: str,
    *,
    actor: str,
    group: str = "",
    ids: Sequence[int] = (),
) -> None:
    """Say whose a group or some letters are; empty: nobody's. Those that are buried into the
    group later are that person's, too. Raises NotThere, ValueError for a name of more than 128
    characters."""
    assignee = assignee.strip()
    if len(assignee) > SOURCE_MAX:
        raise ValueError(f"a name has at most {SOURCE_MAX} characters")
    if bool(group) == bool(ids) or len(ids) > IDS_MAX:
        raise ValueError(f"name a group, or 1 to {IDS_MAX} dead letters")
    with journal.write() as connection:
        if group:
            _known_group(connection, group)
            desk_actions.assign_group(connection, group, assignee)
            desk_actions.write(
                connection, What.ASSIGN, actor=actor, fingerprint=group,
                detail={"assignee": assignee},
            )  # fmt: skip
            return
        desk_actions.assign_letters(connection, ids, assignee)
        for number in ids:
            letter = deadletters.get(connection, number)
            if letter is None:
                raise NotThere(f"there is no dead letter {number}")
            desk_actions.write(
                connection, What.ASSIGN, actor=actor, fingerprint=letter.fingerprint,
                dead_letter_id=number, message_id=letter.message_id,
                detail={"assignee": assignee},
            )  # fmt: skip


def write_note(
    journal: Journal, text: str, *, actor: str, group: str = "", dead_letter_id: int | None = None
) -> None:
    """Keep a note on a group or on a letter. Raises NotThere, ValueError for none or for more
    than 2,048 characters."""
    text = text.strip()
    if not 0 < len(text) <= TEXT_MAX:
        raise ValueError(f"a note has 1 to {TEXT_MAX} characters")
    with journal.write() as connection:
        message_id = None
        if dead_letter_id is not None:
            letter = deadletters.get(connection, dead_letter_id)
            if letter is None:
                raise NotThere(f"there is no dead letter {dead_letter_id}")
            group, message_id = letter.fingerprint, letter.message_id
        else:
            _known_group(connection, group)
        desk_actions.write(
            connection, What.NOTE, actor=actor, fingerprint=group, dead_letter_id=dead_letter_id,
            message_id=message_id, reason=text,
        )  # fmt: skip


def _known_group(connection: Connection, group: str) -> None:
    if deadletters.group(connection, group) is None:
        raise NotThere("there is no open dead letter of this group")

"""Editing the entries of a dead delivery: the child that takes its place says otherwise.

Where a destination refuses what the mapping made, and the message itself is right, a person
corrects the entries. The child has the bytes of the original and the corrected entries, and is
linked to it; the original keeps its own. Only destinations that do not have the original yet, and
for which nobody discarded it, get the child.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, update

from deadletter.replay import put_in_place
from deadletter.selection import Item, Report, Verdict
from gateway.journal import (
    deadletters,
    deliveries,
    desk_actions,
    entries,
    messages,
    operations,
    tables,
)
from gateway.journal.desk_actions import What
from gateway.journal.journal import Journal
from gateway.journal.moves import note
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import DeliveryRow, Message, NewDelivery
from gateway.model import Entry, Stage


class Stale(Exception):
    """What stands there is not what was edited: open it again."""


class NothingToEdit(Exception):
    """There are no entries. Says why."""


@dataclass(frozen=True, slots=True)
class EditableEntries:
    """The entries of a dead letter's message; ``base`` names exactly these."""

    message: Message
    entries: tuple[Entry, ...]
    base: str


def open_entries(connection: Connection, dead_letter_id: int) -> EditableEntries:
    """The entries that may be edited. Raises LookupError for an unknown letter, Stale when it
    is settled, NothingToEdit."""
    letter = deadletters.get(connection, dead_letter_id)
    message = messages.get(connection, letter.message_id) if letter is not None else None
    if letter is None or message is None:
        raise LookupError("no such dead letter in the journal")
    if letter.resolved_at is not None or message.state is not MessageState.DEAD:
        raise Stale("somebody has settled this dead letter meanwhile")
    if letter.delivery_id is None:
        raise NothingToEdit(
            "no entries were made of it: correct the message, or the mapping and replay"
        )
    kept = messages.normalised(connection, message.id)
    if kept is None or not kept.entries:
        raise NothingToEdit("its entries are not kept any more")
    return EditableEntries(message, kept.entries, _base(kept.entries))


def _base(found: Sequence[Entry]) -> str:
    return hashlib.sha256(entries.entries_bytes(found)).hexdigest()


def edited(given: EditableEntries, changes: Mapping[str, Mapping[str, Any]]) -> tuple[Entry, ...]:
    """The entries with some of them (by reference, ``Type/id``) changed.

    Raises ValueError for a reference that is not among them, for a resource of another type or
    id, and when nothing changes.
    """
    known = {entry.reference for entry in given.entries}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise ValueError(f"there is no entry {unknown[0]}")
    for reference, resource in changes.items():
        if f"{resource.get('resourceType')}/{resource.get('id')}" != reference:
            raise ValueError(f"{reference}: an entry keeps its resourceType and its id")
    found = tuple(
        replace(entry, resource=dict(changes[entry.reference]))
        if entry.reference in changes
        else entry
        for entry in given.entries
    )
    if _base(found) == given.base:
        raise ValueError("nothing has been changed")
    return found


def edit_entries(
    journal: Journal,
    dead_letter_id: int,
    changes: Mapping[str, Mapping[str, Any]],
    *,
    base: str,
    actor: str,
    key: str,
    reason: str,
    check: Callable[[Sequence[Entry]], str],
) -> Report:
    """Let a child with corrected entries take the place of a dead message.

    ``check`` says what is wrong with entries, or nothing (are they valid FHIR R4?). ``base`` is
    that of the entries which were opened: raises Stale when they are others now. Raises
    LookupError, NothingToEdit, ValueError without a reason or for changes that :func:`edited`
    refuses.
    """
    if not reason.strip():
        raise ValueError("whoever edits an entry says why")
    with journal.read() as connection:
        known = operations.get(connection, key)
        if known is not None and known.result is not None:
            return replace(Report.from_json(known.result), again=True)
        opened = open_entries(connection, dead_letter_id)
    if opened.base != base:
        raise Stale("the entries are not those that were opened")
    wrong = check(edited(opened, changes))
    if wrong:
        raise ValueError(wrong)
    message = opened.message
    payload = messages.payload(journal, message)
    with journal.write() as connection:
        if not operations.begin(connection, key, actor=actor, what="edit-entry"):
            known = operations.get(connection, key)
            if known is None or known.result is None:
                return Report(operation=key, what="edit-entry", again=True, finished=False)
            return replace(Report.from_json(known.result), again=True)
        given = open_entries(connection, dead_letter_id)
        if given.base != base:
            raise Stale("the entries are not those that were opened")
        corrected = edited(given, changes)
        sent = deliveries.of_message(connection, message.id)
        child = put_in_place(connection, journal, message, payload, actor=actor, reason=reason)
        _send(connection, message, child, corrected, sent)
        note(
            connection, child.id, event="entries-edited", stage=Stage.NORMALISE,
            detail={"entries": sorted(changes), "actor": actor},
        )  # fmt: skip
        item = _note_edit(
            connection, dead_letter_id, child, sorted(changes), actor=actor, reason=reason
        )
        report = Report(operation=key, what="edit-entry").with_items([item])
        operations.finish(connection, key, report.as_json())
    return report


def _note_edit(
    connection: Connection,
    dead_letter_id: int,
    child: Message,
    changed: list[str],
    *,
    actor: str,
    reason: str,
) -> Item:
    """Who edited what, for the audit; what became of the letter."""
    letter = deadletters.get(connection, dead_letter_id)
    assert letter is not None
    desk_actions.write(
        connection, What.EDIT_ENTRY, actor=actor, dead_letter_id=dead_letter_id,
        fingerprint=letter.fingerprint, message_id=letter.message_id, reason=reason,
        detail={"child": child.id, "entries": changed},
    )  # fmt: skip
    return Item(
        dead_letter_id=dead_letter_id,
        message_id=letter.message_id,
        delivery_id=letter.delivery_id,
        verdict=Verdict.REPAIRED,
        child=child.id,
    )


def _send(
    connection: Connection,
    parent: Message,
    child: Message,
    corrected: Sequence[Entry],
    sent: Sequence[DeliveryRow],
) -> None:
    """Route the child to whatever does not have its parent and still should."""
    entries.store_edited(connection, parent.id, child.id, corrected)
    column = tables.delivery.c
    connection.execute(
        update(tables.message)
        .where(tables.message.c.id == child.id)
        .values(attributes={**child.attributes, entries.EDITED: "by a person"})
    )
    # Not where it is, nor where a person decided that it does not go.
    over = (DeliveryState.DELIVERED, DeliveryState.DISCARDED)
    missing = [each for each in sent if each.state not in over]
    messages.move(
        connection,
        child.id,
        MessageState.ROUTED,
        event="routed",
        stage=Stage.ROUTE,
        patient_id=missing[0].patient_id,
        detail={"destinations": [each.destination for each in missing]},
    )
    digest = hashlib.sha256(entries.entries_bytes(corrected)).hexdigest()
    deliveries.insert(
        connection,
        [
            NewDelivery(
                message_id=child.id,
                lane=deliveries.lane_of(each.patient_id, each.destination),
                patient_id=each.patient_id,
                destination=each.destination,
                sequence=child.sequence,
                idempotency_key=_key(child, each.destination, digest),
                merged_patients=each.merged_patients,
                source=child.source,
            )
            for each in missing
        ],
    )
    connection.execute(
        update(tables.delivery)
        .where(
            column.message_id == parent.id,
            column.state.in_((DeliveryState.DEAD.value, DeliveryState.WITHHELD.value)),
        )
        .values(state=DeliveryState.DISCARDED.value)
    )


def _key(child: Message, destination: str, digest: str) -> str:
    said = f"edited\0{child.id}\0{destination}\0{digest}"
    return hashlib.sha256(said.encode()).hexdigest()

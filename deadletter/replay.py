"""The way back: replay, repair, discard. Nothing is ever deleted.

A message that died before it was routed is read again from its bytes with the
mappings of today. A delivery that died is made again with the entries that it
had. Both go to their old place in their lane, and the destination knows both by
the idempotency key that they had before. Each action carries an operation key:
whoever presses a button twice gets the first press's report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select, update

from deadletter.selection import Item, Place, Report, Verdict, select_places
from gateway.journal import deadletters, deliveries, lanes, messages, operations, patients, tables
from gateway.journal.journal import Journal
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import (
    DeadLetterFilter,
    Feeding,
    Message,
    MessageFilter,
    RecordStatus,
    Resolution,
)
from gateway.model import Payload, Stage

BATCH_MAX = 200
"""Dead letters in one transaction."""

UNMAPPED_MAX = 10_000
"""Unmapped messages that one action takes."""

Step = Callable[[Connection, Place], Item]


def replay(
    journal: Journal,
    wanted: DeadLetterFilter,
    *,
    actor: str,
    key: str,
    reason: str = "",
    dry_run: bool = False,
) -> Report:
    """Let the unresolved dead letters of a filter go again, in the order of their lanes.

    ``wanted`` may name single ids, a fingerprint, a source, or nothing (all).
    ``key`` names this press of the button (1 to 256 characters). With
    ``dry_run`` nothing changes and the report says what would happen. A delivery
    whose patient opposes feeding or has closed his record meanwhile stays where
    it is. Raises ValueError for a bad key, JournalUnavailable.
    """

    def step(connection: Connection, place: Place) -> Item:
        return _replay_one(connection, place, actor=actor, reason=reason, dry_run=dry_run)

    return _run(journal, wanted, step, what="replay", actor=actor, key=key, dry_run=dry_run)


def discard(
    journal: Journal,
    wanted: DeadLetterFilter,
    *,
    actor: str,
    key: str,
    reason: str,
    dry_run: bool = False,
) -> Report:
    """Decide that the unresolved dead letters of a filter do not go.

    The messages, their bytes and the dead letters stay readable, with who decided
    and why. Raises ValueError without a reason, JournalUnavailable.
    """
    if not reason.strip():
        raise ValueError("whoever discards a message says why")

    def step(connection: Connection, place: Place) -> Item:
        return _discard_one(connection, place, actor=actor, reason=reason, dry_run=dry_run)

    return _run(journal, wanted, step, what="discard", actor=actor, key=key, dry_run=dry_run)


def repair(
    journal: Journal,
    dead_letter_id: int,
    payload: Payload,
    *,
    actor: str,
    key: str,
    reason: str,
) -> Report:
    """Let a corrected copy take the place of a dead message.

    The original keeps its bytes and becomes REPLACED; the copy is a message of
    its own, linked to it, in its place in the order of arrival. All unresolved
    dead letters of the original are resolved by it. Raises LookupError for an
    unknown dead letter; ValueError without a reason, for bytes that are those of
    the original, and for more than 64 MiB; JournalUnavailable.
    """
    if not reason.strip():
        raise ValueError("whoever repairs a message says why")
    with journal.write() as connection:
        letter = deadletters.get(connection, dead_letter_id)
        if letter is None:
            raise LookupError("no such dead letter in the journal")
        if not operations.begin(connection, key, actor=actor, what="repair"):
            return _pressed_before(connection, key, "repair")
        parent = messages.get(connection, letter.message_id)
        if parent is None:
            raise LookupError("the message of the dead letter is not in the journal")
        if parent.sha256 == payload.sha256:
            raise ValueError("these are the bytes of the original: replay it instead")
        child: Message | None = None
        if letter.resolved_at is None and parent.state is MessageState.DEAD:
            child = _replace(connection, journal, parent, payload, actor=actor, reason=reason)
        item = Item(
            dead_letter_id=dead_letter_id,
            message_id=parent.id,
            delivery_id=letter.delivery_id,
            verdict=Verdict.REPAIRED if child is not None else Verdict.GONE,
            child=child.id if child is not None else None,
        )
        report = Report(operation=key, what="repair").with_items([item])
        operations.finish(connection, key, report.as_json())
    return report


def replay_unmapped(
    journal: Journal,
    wanted: MessageFilter | None = None,
    *,
    actor: str,
    reason: str = "",
    dry_run: bool = False,
) -> list[int]:
    """Let messages that no mapping took be read again with the mappings of today.

    At most 10,000, the oldest first; their ids. Those that no mapping takes this
    time either become UNMAPPED again, so pressing twice does no harm.
    """
    held = replace(wanted or MessageFilter(), states=(MessageState.UNMAPPED,))
    with journal.read() as connection:
        ids: list[int] = []
        before_id: int | None = None
        while len(ids) < UNMAPPED_MAX:
            page = messages.page(connection, held, before_id=before_id, limit=500)
            ids += [message.id for message in page]
            if len(page) < 500:
                break
            before_id = page[-1].id
    ids = sorted(ids)[:UNMAPPED_MAX]
    if dry_run:
        return ids
    done: list[int] = []
    for start in range(0, len(ids), BATCH_MAX):
        with journal.write() as connection:
            for message_id in ids[start : start + BATCH_MAX]:
                message = messages.get(connection, message_id)
                if message is None or message.state is not MessageState.UNMAPPED:
                    continue
                messages.move(
                    connection,
                    message_id,
                    MessageState.RECEIVED,
                    event="read-again",
                    stage=Stage.NORMALISE,
                    detail={"actor": actor, "reason": reason},
                )
                done.append(message_id)
    return done


def operation_key(*parts: object) -> str:
    """A key for callers that have none of their own (a command line): the same parts, the
    same key. The parts must tell one press from another, a time for example."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


# --- one action over many -----------------------------------------------------------


def _run(
    journal: Journal,
    wanted: DeadLetterFilter,
    step: Step,
    *,
    what: str,
    actor: str,
    key: str,
    dry_run: bool,
) -> Report:
    report = Report(operation=key, what=what, dry_run=dry_run)
    if dry_run:
        with journal.read() as connection:
            places, more = select_places(connection, wanted, before=journal.now())
            items = [step(connection, place) for place in places]
        return replace(report, more=more).with_items(items)
    with journal.write() as connection:
        if not operations.begin(connection, key, actor=actor, what=what):
            known = _pressed_before(connection, key, what)
            if known.finished:
                return known
        began = _began_at(connection, key)
        places, more = select_places(connection, wanted, before=began)
        report = replace(report, more=more)
        report = _batch(connection, report, places[:BATCH_MAX], step)
        if len(places) <= BATCH_MAX:
            operations.finish(connection, key, report.as_json())
    for start in range(BATCH_MAX, len(places), BATCH_MAX):
        with journal.write() as connection:
            report = _batch(connection, report, places[start : start + BATCH_MAX], step)
            if start + BATCH_MAX >= len(places):
                operations.finish(connection, key, report.as_json())
    return report


def _batch(connection: Connection, report: Report, places: Sequence[Place], step: Step) -> Report:
    return report.with_items([step(connection, place) for place in places])


def _pressed_before(connection: Connection, key: str, what: str) -> Report:
    known = operations.get(connection, key)
    if known is None or known.result is None:
        return Report(operation=key, what=what, again=True, finished=False)
    return replace(Report.from_json(known.result), again=True)


def _began_at(connection: Connection, key: str) -> datetime:
    known = operations.get(connection, key)
    if known is None:
        raise LookupError("no such operation in the journal")
    return known.at


# --- one dead letter ----------------------------------------------------------------


def _item(place: Place, verdict: Verdict) -> Item:
    return Item(
        dead_letter_id=place.dead_letter_id,
        message_id=place.message_id,
        delivery_id=place.delivery_id,
        verdict=verdict,
    )


def _replay_one(
    connection: Connection, place: Place, *, actor: str, reason: str, dry_run: bool
) -> Item:
    if not _still_dead(connection, place):
        return _item(place, Verdict.GONE)
    if place.delivery_id is not None and _withheld(connection, place.delivery_id):
        return _item(place, Verdict.WITHHELD)
    if dry_run:
        return _item(place, Verdict.REPLAYED)
    resolved = deadletters.resolve(
        connection, place.dead_letter_id, Resolution.REPLAYED, actor=actor, reason=reason
    )
    if not resolved:
        return _item(place, Verdict.GONE)
    if place.delivery_id is not None:
        deliveries.revive(connection, place.delivery_id)
    else:
        messages.move(
            connection,
            place.message_id,
            MessageState.RECEIVED,
            event="read-again",
            stage=Stage.NORMALISE,
        )
    return _item(place, Verdict.REPLAYED)


def _discard_one(
    connection: Connection, place: Place, *, actor: str, reason: str, dry_run: bool
) -> Item:
    if not _still_dead(connection, place):
        return _item(place, Verdict.GONE)
    if dry_run:
        return _item(place, Verdict.DISCARDED)
    letter = deadletters.get(connection, place.dead_letter_id)
    resolved = deadletters.resolve(
        connection, place.dead_letter_id, Resolution.DISCARDED, actor=actor, reason=reason
    )
    if letter is None or not resolved:
        return _item(place, Verdict.GONE)
    if place.delivery_id is None:
        messages.move(
            connection,
            place.message_id,
            MessageState.DISCARDED,
            event="discarded",
            stage=letter.stage,
            cause=letter.cause,
        )
    else:
        deliveries.settle(
            connection,
            place.delivery_id,
            outcome="discarded",
            state=DeliveryState.DISCARDED,
            cause=letter.cause,
            counted=False,
        )
        deliveries.conclude(connection, [place.message_id])
    return _item(place, Verdict.DISCARDED)


def _still_dead(connection: Connection, place: Place) -> bool:
    """Whether what the letter speaks of is still dead, and the letter unresolved."""
    letter = deadletters.get(connection, place.dead_letter_id)
    if letter is None or letter.resolved_at is not None:
        return False
    message = connection.execute(
        select(tables.message.c.state).where(tables.message.c.id == place.message_id)
    ).scalar_one_or_none()
    if place.delivery_id is None:
        return message == MessageState.DEAD.value
    delivery = deliveries.get(connection, place.delivery_id)
    replaced = message in (MessageState.REPLACED.value, MessageState.DISCARDED.value)
    return delivery is not None and delivery.state is DeliveryState.DEAD and not replaced


def _withheld(connection: Connection, delivery_id: int) -> bool:
    """Whether the patient's permission forbids now what it allowed when the message came."""
    delivery = deliveries.get(connection, delivery_id)
    patient = patients.survivor(connection, delivery.patient_id) if delivery else None
    return patient is not None and (
        patient.feeding is Feeding.OPPOSED or patient.record is RecordStatus.CLOSED
    )


def _replace(
    connection: Connection,
    journal: Journal,
    parent: Message,
    payload: Payload,
    *,
    actor: str,
    reason: str,
) -> Message:
    """Put a corrected copy in the place of its parent."""
    column = tables.delivery.c
    pending = (column.message_id == parent.id, column.state == DeliveryState.PENDING.value)
    # What the parent still has under way waits for the copy, which takes over what says
    # the same and discards the rest.
    names = connection.execute(select(column.lane).where(*pending).distinct()).scalars().all()
    lanes.revoke(connection, sorted(names))
    connection.execute(
        update(tables.delivery).where(*pending).values(state=DeliveryState.WITHHELD.value)
    )
    child = messages.append_child(
        connection, journal.blobs, parent.id, payload, actor=actor, reason=reason
    )
    letters = deadletters.page(
        connection, DeadLetterFilter(resolved=False, message_id=parent.id), limit=500
    )
    for letter in letters:
        deadletters.resolve(
            connection,
            letter.id,
            Resolution.REPLAYED,
            actor=actor,
            reason=reason,
            child_message_id=child.id,
        )
    return child

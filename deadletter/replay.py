"""The way back: replay, repair, discard. Nothing is ever deleted.

A message that died before it was routed is read again from its bytes with the
mappings of today. A delivery that died is made again with the entries that it
had. Both go to their old place in their lane, and the destination knows both by
the idempotency key that they had before. Each action carries an operation key:
whoever presses a button twice gets the first press's report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select, update

from deadletter.selection import Item, Place, Report, Verdict, select_places
from gateway.journal import (
    deadletters,
    deliveries,
    desk_actions,
    lanes,
    lost_entries,
    messages,
    operations,
    patients,
    tables,
)
from gateway.journal.desk_actions import What
from gateway.journal.journal import Journal
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import (
    DeadLetterFilter,
    Feeding,
    Message,
    RecordStatus,
    Resolution,
)
from gateway.model import Payload, Stage

BATCH_MAX = 200
"""Dead letters in one transaction."""

AT_ONCE_MAX = 10_000
"""Dead letters that one press of a button takes; more of them are a job, or another press."""

DRY_RUN_MAX = 1_000
"""Dead letters that a dry run looks at one by one."""

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
        return replay_one(connection, place, actor=actor, reason=reason, dry_run=dry_run)

    return _run(
        journal, wanted, step, what=What.REPLAY, actor=actor, key=key, reason=reason,
        dry_run=dry_run,
    )  # fmt: skip


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

    return _run(
        journal, wanted, step, what=What.DISCARD, actor=actor, key=key, reason=reason,
        dry_run=dry_run,
    )  # fmt: skip


def repair(
    journal: Journal,
    dead_letter_id: int,
    payload: Payload,
    *,
    actor: str,
    key: str,
    reason: str,
    base: str = "",
) -> Report:
    """Let a corrected copy take the place of a dead message.

    ``base`` is the SHA-256 of the bytes that were edited: with it an edit of bytes that stand
    there no longer is refused (the verdict is GONE).

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
        fresh = not base or base == parent.sha256
        if letter.resolved_at is None and parent.state is MessageState.DEAD and fresh:
            child = put_in_place(connection, journal, parent, payload, actor=actor, reason=reason)
        item = Item(
            dead_letter_id=dead_letter_id,
            message_id=parent.id,
            delivery_id=letter.delivery_id,
            verdict=Verdict.REPAIRED if child is not None else Verdict.GONE,
            child=child.id if child is not None else None,
        )
        report = Report(operation=key, what="repair").with_items([item])
        operations.finish(connection, key, report.as_json())
        if child is not None:
            desk_actions.write(
                connection, What.EDIT_MESSAGE, actor=actor, fingerprint=letter.fingerprint,
                dead_letter_id=dead_letter_id, message_id=parent.id, reason=reason,
                detail={"child": child.id},
            )  # fmt: skip
    return report


# --- one action over many -----------------------------------------------------------


def _run(
    journal: Journal,
    wanted: DeadLetterFilter,
    step: Step,
    *,
    what: What,
    actor: str,
    key: str,
    reason: str,
    dry_run: bool,
) -> Report:
    report = Report(operation=key, what=what.value, dry_run=dry_run)
    if dry_run:
        with journal.read() as connection:
            places, more = select_places(connection, wanted, before=journal.now(), most=DRY_RUN_MAX)
            items = [step(connection, place) for place in places]
        return replace(report, more=more).with_items(items)

    def ended(connection: Connection, report: Report) -> None:
        operations.finish(connection, key, report.as_json())
        _note_done(connection, wanted, report, what, actor=actor, reason=reason)

    with journal.write() as connection:
        if not operations.begin(connection, key, actor=actor, what=what.value):
            known = _pressed_before(connection, key, what.value)
            if known.finished:
                return known
        began = _began_at(connection, key)
        places, more = select_places(connection, wanted, before=began, most=AT_ONCE_MAX)
        report = replace(report, more=more)
        report = _batch(connection, report, places[:BATCH_MAX], step)
        if len(places) <= BATCH_MAX:
            ended(connection, report)
    for start in range(BATCH_MAX, len(places), BATCH_MAX):
        with journal.write() as connection:
            report = _batch(connection, report, places[start : start + BATCH_MAX], step)
            if start + BATCH_MAX >= len(places):
                ended(connection, report)
    return report


def _note_done(
    connection: Connection,
    wanted: DeadLetterFilter,
    report: Report,
    what: What,
    *,
    actor: str,
    reason: str,
) -> None:
    """Who did it, for the audit: on one letter, or on as many."""
    verdict = Verdict.DISCARDED if what is What.DISCARD else Verdict.REPLAYED
    number = report.counts.get(verdict, 0)
    if not number:
        return
    only = report.items[0] if len(report.items) == 1 else None
    letter = deadletters.get(connection, only.dead_letter_id) if only is not None else None
    desk_actions.write(
        connection,
        what,
        actor=actor,
        fingerprint=wanted.fingerprint or (letter.fingerprint if letter is not None else ""),
        dead_letter_id=only.dead_letter_id if only is not None else None,
        message_id=only.message_id if only is not None else None,
        number=number,
        reason=reason,
        detail={"operation": report.operation},
    )


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


def replay_one(
    connection: Connection, place: Place, *, actor: str, reason: str, dry_run: bool = False
) -> Item:
    """Let one dead letter go again, within a transaction."""
    if not _still_dead(connection, place):
        if not dry_run:
            _close_left_behind(connection, place, actor)
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
    number = place.delivery_id
    if number is not None and not lost_entries.to_be_made_again(connection, number):
        deliveries.revive(connection, number)
    else:
        # Routing it again takes over the deliveries that it has.
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
        if not dry_run:
            _close_left_behind(connection, place, actor)
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


def _close_left_behind(connection: Connection, place: Place, actor: str) -> None:
    """A letter whose message went another way has nothing to settle any more."""
    deadletters.resolve(
        connection, place.dead_letter_id, Resolution.REPLAYED, actor=actor,
        reason="its message had gone another way",
    )  # fmt: skip


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


def put_in_place(
    connection: Connection,
    journal: Journal,
    parent: Message,
    payload: Payload,
    *,
    actor: str,
    reason: str,
) -> Message:
    """Put a corrected copy in the place of its parent, and settle the parent's dead letters."""
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

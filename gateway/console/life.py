"""One message's life: its chambers, its facts, what was made of it, and where it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from gateway.console import clinical
from gateway.console.rows import cause_tone, kind_label
from gateway.journal import deadletters, deliveries, messages
from gateway.journal.states import MessageState
from gateway.journal.values import (
    Attempt,
    DeadLetter,
    DeadLetterFilter,
    DeliveryRow,
    Event,
    Message,
    Normalised,
    StoredAttachment,
)
from gateway.model import Format, Identifier, Stage
from gateway.shapes import explanation
from gateway.wording import FORMATS, STAGES, state_label

ENTRIES_SHOWN = 400
_ORDER = tuple(STAGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chamber:
    """One stage of the way. ``tone``: done, moving, held, refused, dead, ahead."""

    name: str
    tone: str
    at: datetime | None = None
    note: str = ""

    @property
    def spoken(self) -> str:
        """For somebody who does not see the water."""
        words = {"done": "passed", "ahead": "not reached", "moving": "on its way"}
        return words.get(self.tone, self.note or self.tone)


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseNotice:
    """Why it stands where it stands, and what to do."""

    code: str
    title: str
    detail: str
    location: str
    protocol_code: str
    meaning: str
    remedy: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One fact's value: plain text, code, or a link."""

    text: str
    href: str = ""
    code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryLine:
    """One entry that the mapping made, without a value of the patient."""

    type: str
    says: str
    reference: str
    create_only: bool
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """One moment."""

    what: str
    tone: str
    at: datetime
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLine:
    """One attempt and what the destination answered."""

    number: int
    started_at: datetime
    took: timedelta | None
    outcome: str
    answer: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLine:
    """One delivery with its attempts."""

    destination: str
    state: str
    idempotency_key: str
    due_at: datetime | None
    attempts: tuple[AttemptLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLine:
    """A dead letter of the message."""

    id: int
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Everything that the page shows."""

    id: int
    kind_label: str
    state: MessageState
    source: str
    received_at: datetime
    size: int
    patient_id: str | None
    chambers: tuple[Chamber, ...]
    cause: CauseNotice | None
    waiting: tuple[Identifier, ...]
    facts: tuple[tuple[str, Fact], ...]
    document: str
    mapping: str
    mapping_version: str
    mapping_digest: str
    entries: tuple[EntryLine, ...]
    attachments: tuple[StoredAttachment, ...]
    flags: tuple[Mapping[str, str], ...]
    explainable: bool
    events: tuple[EventLine, ...]
    deliveries: tuple[DeliveryLine, ...]
    dead_letters: tuple[DeadLine, ...]


def read_life(connection: Connection, message: Message) -> Life:
    """Read one message's life."""
    events = messages.events(connection, message.id)
    letters = deadletters.page(
        connection, DeadLetterFilter(resolved=None, message_id=message.id), limit=50
    )
    sent = [
        (each, deliveries.attempts(connection, each.id))
        for each in deliveries.of_message(connection, message.id)
    ]
    made = messages.normalised(connection, message.id)
    return Life(
        id=message.id,
        kind_label=kind_label(message.format, message.kind),
        state=message.state,
        source=message.source,
        received_at=message.received_at,
        size=message.size,
        patient_id=message.patient_id,
        chambers=chambers(message, events, letters),
        cause=_notice(message, sent),
        waiting=messages.waiting_for(connection, message.id),
        facts=_facts(message, connection),
        document=f"/documents/messages/{message.id}" if message.format is Format.CDA else "",
        mapping=made.mapping if made else message.mapping,
        mapping_version=made.version if made else message.mapping_version,
        mapping_digest=made.digest if made else message.mapping_digest,
        entries=_entries(made, message),
        attachments=made.attachments if made else (),
        flags=tuple(_flag(each) for each in message.flags),
        explainable=message.state is not MessageState.REFUSED or message.patient_id is not None,
        events=tuple(_event(each) for each in events),
        deliveries=tuple(_delivery(row, attempts) for row, attempts in sent),
        dead_letters=tuple(DeadLine(id=d.id, open=d.resolved_at is None) for d in letters),
    )


# --- the chambers ---------------------------------------------------------------

_STANDS: Mapping[MessageState, tuple[Stage, str, str]] = {
    MessageState.RECEIVED: (Stage.NORMALISE, "moving", "in line"),
    MessageState.GATHERING: (Stage.NORMALISE, "moving", "the study is arriving"),
    MessageState.HELD: (Stage.IDENTIFY, "held", "waits"),
    MessageState.UNMAPPED: (Stage.NORMALISE, "held", "no mapping"),
    MessageState.ROUTED: (Stage.DELIVER, "moving", "on its way"),
}
"""Where a message of a state stands, in which tone, with which note."""


def chambers(
    message: Message, events: Sequence[Event], letters: Sequence[DeadLetter]
) -> tuple[Chamber, ...]:
    """The six stages with how far the message came."""
    if message.state in {MessageState.DELIVERED, MessageState.GATHERED}:
        stands, tone, note = None, "done", ""
    elif message.state in _STANDS:
        stands, tone, note = _STANDS[message.state]
    else:
        stands, tone, note = _ended_at(message, events, letters)
    place = len(_ORDER) if stands is None else _ORDER.index(stands)
    passed_at = _passed_at(message, events)
    found = []
    for index, (stage, name) in enumerate(STAGES.items()):
        if index < place:
            found.append(Chamber(name=name, tone="done", at=passed_at[stage]))
        elif index == place:
            found.append(Chamber(name=name, tone=tone, note=note))
        else:
            found.append(Chamber(name=name, tone="ahead"))
    return tuple(found)


def _passed_at(message: Message, events: Sequence[Event]) -> dict[Stage, datetime]:
    """When each stage was passed: its own event, else the next one that has an event.

    Reading, identity, permission and routing are decided in one transaction, so that one
    event stands for all four.
    """
    known = {event.stage: event.at for event in events}
    known[Stage.INTAKE] = message.received_at
    later = message.changed_at
    found: dict[Stage, datetime] = {}
    for stage in reversed(_ORDER):
        later = known.get(stage, later)
        found[stage] = later
    return found


def _ended_at(
    message: Message, events: Sequence[Event], letters: Sequence[DeadLetter]
) -> tuple[Stage, str, str]:
    """Where a refused, dead, discarded or repaired message came to its end."""
    refused = message.state is MessageState.REFUSED
    tone = "refused" if refused else "dead" if message.state is MessageState.DEAD else "settled"
    note = state_label(message.state).lower()
    if letters and not refused:
        return letters[0].stage, tone, note
    last = next((event.stage for event in reversed(events)), Stage.INTAKE)
    return last, tone, note


# --- its parts --------------------------------------------------------------------


def _notice(
    message: Message, sent: Sequence[tuple[DeliveryRow, list[Attempt]]]
) -> CauseNotice | None:
    cause = message.cause
    if cause is None:
        # While a delivery is tried again, its own cause says why it is late.
        cause = next((row.cause for row, _ in sent if row.cause and row.state == "pending"), None)
    if cause is None:
        return None
    words = explanation(cause.code)
    return CauseNotice(
        code=cause.code.value,
        title=words["title"],
        detail=cause.detail,
        location=cause.location,
        protocol_code=cause.protocol_code,
        meaning=words["means"],
        remedy=words["do"],
        tone=cause_tone(cause.code, message.state),
    )


def _facts(message: Message, connection: Connection) -> tuple[tuple[str, Fact], ...]:
    repeated = message.arrivals - 1
    facts = [
        ("Control id", Fact(text=message.control_id, code=True)),
        ("Format", Fact(text=FORMATS.get(message.format.value, message.format.value))),
        ("Peer", Fact(text=message.peer, code=True)),
        ("Encoding", Fact(text=message.encoding)),
        ("SHA-256", Fact(text=message.sha256, code=True)),
        ("Study", Fact(text=message.group_key, code=True)),
        ("Arrived again", Fact(text=f"{repeated} times, byte for byte" if repeated else "")),
        ("Repairs", _number(message.parent_id)),
        ("Went on with", _number(message.carrier_id)),
        ("Same control id as", _number(_reused(message))),
    ]
    if message.patient_id:
        href = f"/patients/{message.patient_id}"
        facts.append(("Record", Fact(text=f"patient {message.patient_id[:8]}", href=href)))
    child = _child(connection, message)
    if child is not None:
        facts.append(("Repaired by", _number(child)))
    errors = message.attributes.get("check_errors", "")
    if errors:
        warnings = message.attributes.get("check_warnings", "0")
        facts.append(("Check", Fact(text=f"errors: {errors}, warnings: {warnings}")))
    return tuple((name, fact) for name, fact in facts if fact.text)


def _number(value: int | None) -> Fact:
    return Fact(text=f"message {value}", href=f"/messages/{value}") if value else Fact(text="")


def _reused(message: Message) -> int | None:
    first = message.attributes.get("control_id_reused", "")
    return int(first) if first.isdecimal() else None


def _child(connection: Connection, message: Message) -> int | None:
    if message.state is not MessageState.REPLACED:
        return None
    for event in reversed(messages.events(connection, message.id)):
        child = event.detail.get("child")
        if isinstance(child, int):
            return child
    return None


def _entries(made: Normalised | None, message: Message) -> tuple[EntryLine, ...]:
    if made is None:
        return ()
    delivered = message.state in {MessageState.DELIVERED, MessageState.GATHERED}
    return tuple(
        EntryLine(
            type=str(entry.resource["resourceType"]),
            says=clinical.says(entry.resource, identity=False),
            reference=entry.reference,
            create_only=entry.create_only,
            open=delivered,
        )
        for entry in made.entries[:ENTRIES_SHOWN]
    )


def _flag(flag: Mapping[str, str]) -> Mapping[str, str]:
    return {name: flag.get(name, "") for name in ("code", "detail", "source", "rule")}


_EVENT_TONES = {
    "delivered": "done", "routed": "done", "received": "done", "buried": "dead",
    "held": "held", "unmapped": "held", "refused": "refused",
}  # fmt: skip


def _event(event: Event) -> EventLine:
    detail = ", ".join(
        f"{name.replace('_', ' ')} {_flat(value)}" for name, value in event.detail.items() if value
    )
    return EventLine(
        what=event.what.replace("-", " "),
        tone=_EVENT_TONES.get(event.what, ""),
        at=event.at,
        detail=detail,
    )


def _flat(value: object) -> str:
    return ", ".join(str(each) for each in value) if isinstance(value, list | tuple) else str(value)


def _delivery(row: DeliveryRow, attempts: Sequence[Attempt]) -> DeliveryLine:
    return DeliveryLine(
        destination=row.destination,
        state=row.state.value,
        idempotency_key=row.idempotency_key,
        due_at=row.due_at,
        attempts=tuple(
            AttemptLine(
                number=each.number,
                started_at=each.started_at,
                took=each.ended_at - each.started_at if each.ended_at else None,
                outcome=each.outcome,
                answer=each.evidence or (each.cause.detail if each.cause else ""),
                cause=each.cause.code.value if each.cause else "",
            )
            for each in attempts
        ),
    )

"""Frozen values that the journal's functions take and give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.journal.states import DeliveryState, MessageState
from gateway.model import Cause, Entry, Format, Stage
from gateway.value_class import value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Message:
    """One row of the journal's ``message`` table.

    ``sequence`` is its place in arrival order (a repaired child has its parent's).
    ``body`` and ``answer`` are read by ``get``, ``claim`` and ``append_child`` only;
    ``page`` and ``members`` leave them empty. ``body`` is None when the bytes are a
    file in the blobs (``size > INLINE_BYTES_MAX``). ``starts`` counts claims whose
    work did not end, the present one included. ``carrier_id`` is set on an
    instance whose study went on under another message.
    """

    id: int
    sequence: int
    parent_id: int | None
    carrier_id: int | None
    source: str
    format: Format
    kind: str
    control_id: str
    dedupe_key: str
    group_key: str
    lane: str
    state: MessageState
    cause: Cause | None
    sha256: str
    size: int
    encoding: str
    peer: str
    received_at: datetime
    changed_at: datetime
    attributes: Mapping[str, str]
    arrivals: int
    starts: int
    patient_id: str | None
    mapping: str
    mapping_version: str
    mapping_digest: str
    flags: tuple[Mapping[str, str], ...]
    body: bytes | None = field(default=None, repr=False)
    answer: bytes = field(default=b"", repr=False)


@value_class(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages to list; empty fields do not restrict.

    ``since`` and ``until`` bound ``received_at`` (since <= t < until).
    """

    states: tuple[MessageState, ...] = ()
    source: str = ""
    format: Format | None = None
    kind: str = ""
    control_id: str = ""
    group_key: str = ""
    patient_id: str = ""
    cause_code: str = ""
    sha256: str = ""
    since: datetime | None = None
    until: datetime | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Event:
    """One moment in the life of a message. ``detail`` holds no value of a patient."""

    id: int
    message_id: int
    at: datetime
    stage: Stage
    what: str
    detail: Mapping[str, Any]


@value_class(frozen=True, slots=True, kw_only=True)
class Move:
    """One change of a message's state, with the event that tells it.

    ``cause`` replaces the message's cause (None clears it); ``patient_id`` None
    leaves the patient as it is.
    """

    message_id: int
    to: MessageState
    event: str
    stage: Stage
    cause: Cause | None = None
    patient_id: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@value_class(frozen=True, slots=True, kw_only=True)
class StoredAttachment:
    """The name of bytes that lie in the blobs."""

    sha256: str
    media_type: str
    size: int


@value_class(frozen=True, slots=True, kw_only=True)
class Normalised:
    """What a mapping made of a message, as it will be delivered."""

    message_id: int
    entries: tuple[Entry, ...]
    attachments: tuple[StoredAttachment, ...]
    mapping: str
    version: str
    digest: str


@value_class(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One source's account. It adds up:

    ``received = accepted + refused + duplicates`` and
    ``accepted = held + unmapped + pending + delivered + dead + discarded``.
    ``replayed`` counts dead letters that were replayed, and stands beside the sum.
    """

    received: int = 0
    accepted: int = 0
    refused: int = 0
    held: int = 0
    unmapped: int = 0
    pending: int = 0
    delivered: int = 0
    dead: int = 0
    discarded: int = 0
    duplicates: int = 0
    replayed: int = 0


@value_class(frozen=True, slots=True, kw_only=True)
class Gathering:
    """A study whose instances arrive. ``due_at`` is None between two rounds;
    ``instances`` counts those of all rounds, ``round`` the rounds that were closed."""

    source: str
    group_key: str
    lane: str
    due_at: datetime | None
    first_at: datetime
    last_at: datetime
    instances: int
    round: int


@value_class(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A delivery to be inserted. ``due_at`` None means now; ``source`` and ``revision`` as in
    Delivery."""

    message_id: int
    lane: str
    patient_id: str
    destination: str
    sequence: int
    idempotency_key: str
    merged_patients: tuple[str, ...] = ()
    due_at: datetime | None = None
    revision: int = 0
    source: str = ""


@value_class(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How one attempt ended.

    ``outcome`` is the Outcome's name in lower case (``delivered``, ``again``,
    ``wait``, ``refused``). ``counted`` False (a Wait) leaves ``attempts`` as it was.
    ``due_at`` is when the next attempt may be made, if ``state`` is PENDING.
    """

    delivery_id: int
    outcome: str
    state: DeliveryState
    due_at: datetime | None = None
    cause: Cause | None = None
    evidence: str = ""
    counted: bool = True


@value_class(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One row of the ``delivery`` table, for reading (no entries).

    ``attempts`` counts those that ended and count (no Wait), since the last
    revival; ``starts`` all that were ever begun; ``unfinished`` those begun
    since the last one that ended.
    """

    id: int
    message_id: int
    lane: str
    patient_id: str
    destination: str
    sequence: int
    idempotency_key: str
    state: DeliveryState
    attempts: int
    starts: int
    unfinished: int
    due_at: datetime | None
    cause: Cause | None
    evidence: str
    merged_patients: tuple[str, ...]
    created_at: datetime
    changed_at: datetime


@value_class(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of a delivery; ``ended_at`` None: unfinished or in progress."""

    id: int
    delivery_id: int
    number: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    cause: Cause | None
    evidence: str


class Resolution(StrEnum):
    """How a dead letter ended."""

    REPLAYED = "replayed"
    DISCARDED = "discarded"


@value_class(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One row of the ``dead_letter`` table, with its message's source and kind."""

    id: int
    message_id: int
    delivery_id: int | None
    source: str
    kind: str
    stage: Stage
    cause: Cause
    fingerprint: str
    buried_at: datetime
    attempts: int
    resolved_at: datetime | None
    resolution: Resolution | None
    reason: str
    actor: str
    child_message_id: int | None
    destination: str = ""
    assignee: str = ""


@value_class(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters to list; ``resolved`` None means both. ``destination`` is that of the
    delivery that died: what died before it was routed has none. A letter is an assignee's when it
    says so, or when it says nobody and its group does."""

    resolved: bool | None = False
    fingerprint: str = ""
    source: str = ""
    stage: Stage | None = None
    code: str = ""
    message_id: int | None = None
    ids: tuple[int, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    destination: str = ""
    assignee: str = ""


@value_class(frozen=True, slots=True, kw_only=True)
class DeadLetterGroup:
    """Unresolved dead letters of one fingerprint.

    ``by_source`` says how many each source has; ``sample_id`` is the newest one's id; ``first_at``
    is when the oldest of them was buried; ``total`` counts all that were ever buried in it;
    ``trend`` those of the last 24 hours, hour by hour, the present one last.
    """

    fingerprint: str
    stage: Stage
    code: str
    location: str
    count: int
    first_at: datetime
    last_at: datetime
    by_source: Mapping[str, int]
    sample_id: int
    destination: str = ""
    assignee: str = ""
    total: int = 0
    trend: tuple[int, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources, the one with the most first."""
        return tuple(sorted(self.by_source, key=lambda name: (-self.by_source[name], name)))


class Feeding(StrEnum):
    """Whether the patient lets documents go into the record."""

    PERMITTED = "permitted"
    OPPOSED = "opposed"
    UNKNOWN = "unknown"


class RecordStatus(StrEnum):
    """Whether the patient's record is open."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@value_class(frozen=True, slots=True, kw_only=True)
class Patient:
    """One row of the patient index. ``merged_into`` names the survivor, if any.

    ``feeding_message_id`` and ``record_message_id`` name the messages that last
    said something of the permission.
    """

    id: str
    ins_system: str
    ins_value: str
    merged_into: str | None
    feeding: Feeding
    record: RecordStatus
    feeding_message_id: int | None
    record_message_id: int | None
    created_at: datetime

    @property
    def permission_changed_by(self) -> int | None:
        """The newest message that changed either permission."""
        return max(
            (m for m in (self.feeding_message_id, self.record_message_id) if m is not None),
            default=None,
        )


@value_class(frozen=True, slots=True, kw_only=True)
class Operation:
    """A button that was pressed: what, by whom, when, and what came of it."""

    key: str
    at: datetime
    actor: str
    what: str
    result: Mapping[str, Any] | None


@value_class(frozen=True, slots=True)
class Appended:
    """What became of one submitted message, after the commit that holds it.

    For a duplicate, everything but ``expected_number`` is the first arrival's.
    """

    message_id: int
    duplicate: bool
    answer: bytes
    state: MessageState
    cause: Cause | None
    expected_number: int | None = None

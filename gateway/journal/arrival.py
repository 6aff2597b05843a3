"""A received message made ready for the journal: fitted to its columns, with its dedupe key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from gateway.bulk import instant_text, json_text
from gateway.journal import tables
from gateway.journal.fitting import fit
from gateway.journal.rows import cause_columns
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX, KEY_MAX, SOURCE_MAX, TEXT_MAX
from gateway.model import Cause, LaterAnswer, Received

ATTRIBUTES_MAX = 64
ANSWER_BYTES_MAX = 1 << 20
_FIRST_STATES = frozenset({MessageState.RECEIVED, MessageState.GATHERING, MessageState.REFUSED})


_ROW = (
    *("id", "sequence", "parent_id", "carrier_id", "source", "format", "kind", "control_id"),
    *("dedupe_key", "group_key", "lane", "state", "cause_code", "cause_detail"),
    *("cause_location", "cause_protocol_code", "sha256", "size", "encoding", "peer"),
    *("received_at", "changed_at", "attributes", "arrivals", "starts", "patient_id", "mapping"),
    *("mapping_version", "mapping_digest", "flags"),
)
CHANGED_AT = _ROW.index("changed_at")
ATTRIBUTES = _ROW.index("attributes")
_NO_CAUSE = tuple(cause_columns(None).values())
if tuple(column.name for column in tables.message.c) != _ROW:
    raise TypeError("a row of the message table is made in another order than its columns have")


@dataclass(slots=True)
class Arrival:
    """One message as it will be inserted.

    ``row`` has a value for each column of ``message``; the first two (id and
    sequence) and the time of change are filled in by the append. ``body`` is None
    when the bytes lie in the blobs. ``key`` is what makes it the same message as
    another: source, control id, dedupe key.
    """

    row: list[Any]
    key: tuple[str, str, str]
    lane: str
    group_key: str
    peer: str
    received_at: datetime
    attributes: Mapping[str, str]
    body: bytes | None
    answer: bytes
    state: MessageState
    cause: Cause | None
    group_due_at: datetime | None
    later_answer: LaterAnswer | None
    group_complete: bool = False


def dedupe_key(kind: str, control_id: str, sha256: str) -> str:
    """Hex SHA-256 over a kind of arrival (``accepted``, ``refused``, ``repaired <id>``), the
    control id and the payload's digest. The kinds are apart so that what was once refused
    may later be accepted."""
    text = f"{kind}\0{control_id}\0{sha256}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def prepare(
    received: Received,
    *,
    state: MessageState,
    lane: str,
    cause: Cause | None,
    group_due_at: datetime | None,
    body: bytes | None,
) -> Arrival:
    """Check the limits and fit every text to its column.

    Raises ValueError for what a program, not a sender, did wrong: a state in
    which no message begins, GATHERING without a group and its due time, a name
    of a source or a lane that is too long, a naive time, more than 64 attributes,
    an answer of more than 1 MiB, a body that does not have the payload's size.
    """
    _check(received, state, lane, group_due_at, body)
    control_id = fit(received.control_id, KEY_MAX)
    kind = "refused" if state is MessageState.REFUSED else "accepted"
    digest = dedupe_key(kind, received.control_id, received.payload.sha256)
    group_key, peer = fit(received.group, KEY_MAX), fit(received.peer, KEY_MAX)
    attributes, attributes_text = _attributes(tuple(received.attributes.items()))
    # In the order of _ROW. A list, not a dict: a busy gateway makes thousands a second.
    row: list[Any] = [
        *(0, 0, None, None, received.source, received.format.value),
        *(fit(received.kind, KEY_MAX), control_id, digest, group_key, lane, state.value),
        *(_NO_CAUSE if cause is None else cause_columns(cause).values()),
        *(received.payload.sha256, received.payload.size, fit(received.encoding, KEY_MAX), peer),
        *(instant_text(received.received_at), None, attributes_text),
        *(1, 0, None, "", "", "", "[]"),
    ]
    return Arrival(
        row=row,
        key=(received.source, control_id, digest),
        lane=lane,
        group_key=group_key,
        peer=peer,
        received_at=received.received_at,
        attributes=attributes,
        body=body,
        answer=received.answer,
        state=state,
        cause=cause,
        group_due_at=group_due_at,
        later_answer=received.later_answer,
        group_complete=received.group_complete,
    )


@lru_cache(maxsize=512)
def _attributes(items: tuple[tuple[str, str], ...]) -> tuple[dict[str, str], str]:
    """Attributes fitted to their column, and as its text. One sender's hardly ever change."""
    attributes = {fit(name, KEY_MAX): fit(value, TEXT_MAX) for name, value in items}
    return attributes, json_text(attributes)


def _check(
    received: Received,
    state: MessageState,
    lane: str,
    group_due_at: datetime | None,
    body: bytes | None,
) -> None:
    if state not in _FIRST_STATES:
        raise ValueError(f"no message begins as {state}")
    if state is MessageState.GATHERING and not (received.group and group_due_at):
        raise ValueError("a message that gathers has a group and a due time")
    if not 0 < len(received.source) <= SOURCE_MAX or not 0 < len(lane) <= KEY_MAX:
        raise ValueError(f"names of 1 to {SOURCE_MAX} (source) and {KEY_MAX} (lane) characters")
    if received.received_at.tzinfo is None:
        raise ValueError("the time of arrival must be aware")
    if len(received.attributes) > ATTRIBUTES_MAX:
        raise ValueError(f"more than {ATTRIBUTES_MAX} attributes")
    if len(received.answer) > ANSWER_BYTES_MAX:
        raise ValueError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
    if (body is None) != (received.payload.size > INLINE_BYTES_MAX):
        raise ValueError("bytes lie in the row up to the limit, in the blobs above it")
    if body is not None and len(body) != received.payload.size:
        raise ValueError("the body does not have the size that the payload tells")

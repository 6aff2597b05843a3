"""A received message made ready for the journal: fitted to its columns, with its dedupe key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from gateway.bulk import instant_text, json_text
from gateway.journal import tables
from gateway.journal.fitting import fit
from gateway.journal.rows import cause_values
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX, KEY_MAX, SOURCE_MAX, TEXT_MAX
from gateway.model import Cause, Format, LaterAnswer, Received

ATTRIBUTES_MAX = 64
ANSWER_BYTES_MAX = 1 << 20
ORDERS = frozenset({"ORM^O01", "OMI^O23"})
"""Message types that may hold an order of imaging (``adapters.hl7.imaging_orders``)."""
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
_CONTROL_ID = _ROW.index("control_id")
_DEDUPE_KEY = _ROW.index("dedupe_key")
_GROUP_KEY = _ROW.index("group_key")
_SHA256 = _ROW.index("sha256")
_SIZE = _ROW.index("size")
_PEER = _ROW.index("peer")
_RECEIVED_AT = _ROW.index("received_at")
USUAL_COLUMNS = (
    *("id", "sequence", "source", "format", "kind", "control_id", "dedupe_key", "lane", "state"),
    *("sha256", "size", "encoding", "peer", "received_at", "changed_at", "attributes"),
)
"""Columns in which usual messages differ; in the others each of them has the same."""
USUAL_CONSTANTS = (
    *(("parent_id", "NULL"), ("carrier_id", "NULL"), ("group_key", "''"), ("cause_code", "''")),
    *(("cause_detail", "''"), ("cause_location", "''"), ("cause_protocol_code", "''")),
    *(("arrivals", "1"), ("starts", "0"), ("patient_id", "NULL"), ("mapping", "''")),
    *(("mapping_version", "''"), ("mapping_digest", "''"), ("flags", "'[]'")),
)
usual_values = itemgetter(*(_ROW.index(name) for name in USUAL_COLUMNS))
"""The values of USUAL_COLUMNS of a row."""
_CAUSE = slice(_ROW.index("cause_code"), _ROW.index("cause_protocol_code") + 1)
if tuple(column.name for column in tables.message.c) != _ROW or set(_ROW) != {
    *USUAL_COLUMNS,
    *(name for name, _ in USUAL_CONSTANTS),
}:
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
    indexed: bool = False
    """Is it an instance of a DICOM study, which is then found by its attributes?"""
    scheduled: bool = False
    """May it hold an order of imaging, which goes onto the worklist?"""
    usual: bool = False
    """Has it neither a group nor a cause? Then ``USUAL_CONSTANTS`` hold for its row."""


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
    payload, group = received.payload, received.group
    _check(received, state, group_due_at, body)
    control_id = fit(received.control_id, KEY_MAX)
    digest = dedupe_key(
        "refused" if state is MessageState.REFUSED else "accepted",
        received.control_id,
        payload.sha256,
    )
    # In the order of _ROW. A list, not a dict: a busy gateway makes thousands a second.
    row = _repeated(
        received.source, received.format, received.kind, lane, state, received.encoding,
        received.peer,
    ).copy()  # fmt: skip
    attributes, row[ATTRIBUTES] = _attributes(tuple(received.attributes.items()))
    row[_CONTROL_ID], row[_DEDUPE_KEY] = control_id, digest
    row[_SHA256], row[_SIZE] = payload.sha256, payload.size
    row[_RECEIVED_AT] = instant_text(received.received_at)
    group_key = ""
    if group:
        group_key = row[_GROUP_KEY] = fit(group, KEY_MAX)
    if cause is not None:
        row[_CAUSE] = cause_values(cause)
    return Arrival(
        row,
        (received.source, control_id, digest),
        lane,
        group_key,
        row[_PEER],
        received.received_at,
        attributes,
        body,
        received.answer,
        state,
        cause,
        group_due_at,
        received.later_answer,
        received.group_complete,
        received.format is Format.DICOM and state is MessageState.GATHERING,
        received.kind in ORDERS and cause is None,
        not group and cause is None,
    )


@lru_cache(maxsize=1024)
def _repeated(  # noqa: PLR0917 - the cache tells its keys apart by place
    source: str, form: Format, kind: str, lane: str, state: MessageState, encoding: str, peer: str
) -> list[Any]:
    """A row with what the messages of one connection have in common; never changed."""
    if not 0 < len(source) <= SOURCE_MAX or not 0 < len(lane) <= KEY_MAX:
        raise ValueError(f"names of 1 to {SOURCE_MAX} (source) and {KEY_MAX} (lane) characters")
    return [
        *(0, 0, None, None, source, form.value, fit(kind, KEY_MAX), "", "", "", lane),
        *(state.value, "", "", "", "", "", 0, fit(encoding, KEY_MAX), fit(peer, KEY_MAX)),
        *("", None, "{}", 1, 0, None, "", "", "", "[]"),
    ]


@lru_cache(maxsize=512)
def _attributes(items: tuple[tuple[str, str], ...]) -> tuple[dict[str, str], str]:
    """Attributes fitted to their column, and as its text. One sender's hardly ever change."""
    attributes = {fit(name, KEY_MAX): fit(value, TEXT_MAX) for name, value in items}
    return attributes, json_text(attributes)


def _check(
    received: Received, state: MessageState, group_due_at: datetime | None, body: bytes | None
) -> None:
    size = received.payload.size
    if state is not MessageState.RECEIVED and state not in _FIRST_STATES:
        raise ValueError(f"no message begins as {state}")
    if state is MessageState.GATHERING and not (received.group and group_due_at):
        raise ValueError("a message that gathers has a group and a due time")
    if received.received_at.tzinfo is None:
        raise ValueError("the time of arrival must be aware")
    if len(received.attributes) > ATTRIBUTES_MAX:
        raise ValueError(f"more than {ATTRIBUTES_MAX} attributes")
    if len(received.answer) > ANSWER_BYTES_MAX:
        raise ValueError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
    if (body is None) != (size > INLINE_BYTES_MAX):
        raise ValueError("bytes lie in the row up to the limit, in the blobs above it")
    if body is not None and len(body) != size:
        raise ValueError("the body does not have the size that the payload tells")

"""A kept message as stage 2 takes it: its own bytes, or those of all that belongs to it."""

from __future__ import annotations

from gateway.journal import gatherings, messages
from gateway.journal.journal import Journal
from gateway.journal.values import Message
from gateway.model import Format
from gateway.normalise import Original

INSTANCES_MAX = 5_000
BYTES_MAX = 32 << 20
"""Of one message that is no DICOM study, whose bytes are read one instance at a time."""


def original_of(journal: Journal, message: Message) -> Original:
    """Raises KeyError when bytes are not there any more, OverflowError for too many."""
    with journal.read() as connection:
        members = (
            gatherings.belonging(connection, message, limit=INSTANCES_MAX)
            if message.group_key
            else [message]
        )
    if message.format is not Format.DICOM and message.size > BYTES_MAX:
        raise OverflowError
    return Original(
        source=message.source,
        format=message.format,
        payloads=[messages.payload(journal, member) for member in members],
        encoding=gatherings.encoding(members),
    )

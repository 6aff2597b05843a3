"""Messages that no mapping took go by themselves when one takes them.

After each change of the mappings all of them are looked at, oldest first, some at a time;
those that a mapping takes are read again in their old places. How far it is stands in the
journal, so that a restart goes on there and a second one does nothing.
"""

from __future__ import annotations

import structlog
from sqlalchemy import Connection

from gateway.deployment.force import InForce
from gateway.journal import messages, sweeps
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.model import Stage
from gateway.originals import original_of

STEP_MESSAGES = 50
STEP_BYTES_MAX = 16 << 20

log = structlog.get_logger("ecluse.mapping")


class UnmappedSweep:
    """Looks at what waits for a mapping. For one thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._again = False

    def again(self) -> None:
        """Begin anew: a message may have been set aside with mappings that are gone. From
        any thread."""
        self._again = True

    def step(self, now: InForce) -> bool:
        """Look at the next few. False when there is nothing left to do."""
        with self._journal.read() as connection:
            after = sweeps.position(connection, now.loaded)
            if self._again:
                after, self._again = 0, False
            if after is None:
                return False
            found = sweeps.unmapped_after(connection, after, STEP_MESSAGES)
        seen, taken, size = after, list[Message](), 0
        for message in found:
            size += message.size
            if size > STEP_BYTES_MAX and seen > after:
                break
            seen = message.id
            if self._takes(now, message):
                taken.append(message)
        done = not found or (seen == found[-1].id and len(found) < STEP_MESSAGES)
        with self._journal.write() as connection:
            for message in taken:
                self._release(connection, message, now)
            sweeps.note(connection, now.loaded, seen, done=done)
        if taken:
            log.info("messages go with a mapping that takes them", count=len(taken),
                     version=now.version)  # fmt: skip
        return not done

    def _takes(self, now: InForce, message: Message) -> bool:
        """Whether a mapping takes it now. What cannot be told here is tried."""
        reader = now.normaliser.readers.get(message.format)
        if reader is None:
            return False
        try:
            original = original_of(self._journal, message)
            root = reader.read(original.payloads, encoding=original.encoding)
            return now.library.match(root, message.format) is not None
        except JournalUnavailable:
            raise
        except OSError:
            return False
        except Exception:  # noqa: BLE001  one message's fault stops no other: its own stage says it
            return True

    def _release(self, connection: Connection, message: Message, now: InForce) -> None:
        found = messages.get(connection, message.id)
        if found is None or found.state is not MessageState.UNMAPPED:
            return
        messages.move(
            connection,
            message.id,
            MessageState.RECEIVED,
            event="read-again",
            stage=Stage.NORMALISE,
            detail={"mappings": now.version, "actor": "gateway"},
        )

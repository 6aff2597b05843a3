"""Messages that no mapping took: let them be read again."""

from __future__ import annotations

from dataclasses import replace

from gateway.journal import messages
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.values import MessageFilter
from gateway.model import Stage

BATCH_MAX = 200
"""Messages in one transaction."""
UNMAPPED_MAX = 10_000
"""Messages that one action takes."""


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

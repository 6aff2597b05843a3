"""Messages that wait too long: a person ends the wait, and the desk has them.

What is held goes by itself when what it waits for comes. When it never will (a number mistyped
at the sender, a patient whom no admission names), somebody has to be able to say so: the message
becomes a dead letter, which can be repaired, replayed or discarded as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.journal import deadletters, desk_actions, messages
from gateway.journal.desk_actions import What
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.model import Cause, CauseCode, Stage

MESSAGES_MAX = 1_000
"""Messages whose wait one action ends, in one transaction."""

_STAGES = {
    MessageState.HELD: (Stage.IDENTIFY, CauseCode.IDENTITY_AWAITED),
    MessageState.UNMAPPED: (Stage.NORMALISE, CauseCode.UNMAPPED),
}


def end_wait(
    journal: Journal, ids: Sequence[int], *, actor: str, reason: str, dry_run: bool = False
) -> dict[int, int]:
    """Make dead letters of messages that are held or unmapped; by message its dead letter's
    number (0 in a dry run). The cause stays what it is.

    A message that does not wait (any more) is left as it is and has no place in the answer,
    so that asking twice does no harm. Raises ValueError for no message, for more than 1,000
    and for no reason.
    """
    wanted = sorted(set(ids))
    if not 0 < len(wanted) <= MESSAGES_MAX:
        raise ValueError(f"name from 1 to {MESSAGES_MAX} messages")
    if not reason.strip():
        raise ValueError("ending a wait needs a reason")
    if dry_run:
        with journal.read() as connection:
            found = [messages.get(connection, number) for number in wanted]
        return {each.id: 0 for each in found if each is not None and each.state in _STAGES}
    buried: dict[int, int] = {}
    with journal.write() as connection:
        for number in wanted:
            message = messages.get(connection, number)
            if message is None or message.state not in _STAGES:
                continue
            stage, usual = _STAGES[message.state]
            cause = message.cause or Cause(code=usual)
            buried[number] = letter = deadletters.bury(connection, number, stage, cause)
            desk_actions.write(
                connection, What.BURY, actor=actor, dead_letter_id=letter, message_id=number,
                fingerprint=deadletters.fingerprint(stage, cause), reason=reason.strip(),
            )  # fmt: skip
    return buried

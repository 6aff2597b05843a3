"""Stages 2 to 5 for one source's lane: from kept bytes to deliveries, in order of arrival.

A turn claims up to a batch of messages, reads and maps them with no transaction
open, then takes one transaction for all that the database must decide: whose,
whether, where to. A crash in between leaves the messages claimed and unfinished;
the next claim counts that (``starts``), and one that has taken three workers
down is buried instead of a fourth. What is suspected goes alone, and is counted
when its work begins: a worker that is killed before has not died of it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from sqlalchemy import Connection

from gateway.failure import internal
from gateway.gate import PermissionGate
from gateway.index import PatientIndex, lock_index
from gateway.joined import JudgeJoined, unjudged
from gateway.journal import deadletters, gatherings, lanes, messages
from gateway.journal.journal import IdentityConflict, Journal, JournalUnavailable, LeaseLost
from gateway.journal.values import Message
from gateway.model import Cause, CauseCode, Identifier, Stage
from gateway.normalise import Reading
from gateway.pace import Pace
from gateway.passage import Passage
from gateway.preparing import BATCH_MAX, UNFINISHED_MAX, Preparing, Reads, Turn, is_poison
from gateway.reported import HearReports, unheard
from gateway.route import DestinationRule
from gateway.solo import Solo
from gateway.subjects import Claim, Subjects

AHEAD_MAX = 2 * BATCH_MAX
"""Messages that a lane has in hand while a mapping process works ahead of the transactions."""

FEW_MAX = 16
"""After a batch of so many or fewer the lane is given back, so that more gather before the next:
see ``gateway.pace``."""

TURN_BATCHES = 8
"""Batches after which a lane makes room for the others."""

UNFINISHED = Cause(
    code=CauseCode.UNFINISHED_ATTEMPTS,
    detail=f"{UNFINISHED_MAX} workers began this message alone and none of them ended",
)


class InboundDrain:
    """Drains lanes ``in:<source>``. Safe to share between threads.

    ``exclusive`` is held while the database is asked to decide, and not while messages are read and
    mapped. ``reads`` may be replaced at any time: a turn keeps what it began with, and calls
    ``on_outdated`` at its end when that is not what it should be any more.
    """

    def __init__(
        self,
        journal: Journal,
        reads: Reads,
        rules: Sequence[DestinationRule],
        *,
        gate: PermissionGate | None,
        owner: str,
        lease: timedelta,
        now: Callable[[], datetime],
        stopping: Callable[[], bool],
        exclusive: AbstractContextManager[object],
        judge_joined: JudgeJoined = unjudged,
        hear_reports: HearReports = unheard,
    ) -> None:
        self.reads = reads
        self.on_outdated: Callable[[], None] = lambda: None
        self._journal = journal
        self._rules = tuple(rules)
        self._gate = gate
        self._owner = owner
        self._lease = lease
        self._now = now
        self._stopping = stopping
        self._preparing = Preparing(
            journal, lease=lease, judge_joined=judge_joined, hear_reports=hear_reports
        )
        self._pace = Pace()
        self._exclusive = exclusive
        self._solo = Solo()

    def drain(self, lane: str) -> bool:
        """Work in the lane for a turn; True when it should be rung again.

        Raises JournalUnavailable; the claimed messages are given back then if
        the journal allows it, and are found by the next claim in any case.
        """
        return self._solo.do(lane, lambda: self._drain(lane))

    def _drain(self, lane: str) -> bool:
        self._pace.gather(lane)
        with self._exclusive:
            turn = self._begin(lane)
        if isinstance(turn, bool):
            return turn
        try:
            again = few = False
            for left in range(TURN_BATCHES - 1, -1, -1):
                self._preparing.prepare(turn, ahead=left > 0)
                self._preparing.tell_reports(turn)
                few = len(turn.batch) <= FEW_MAX
                with self._exclusive:
                    again = self._settle(turn, left=0 if few else left)
                if not turn.batch:
                    break
            if few or not again:
                self._pace.emptied(lane)
            return again
        except LeaseLost:
            return False
        except JournalUnavailable:
            self._give_up(turn)
            raise
        finally:
            turn.ahead.end()
            if turn.reads is not self.reads:
                self.on_outdated()

    def _begin(self, lane: str) -> Turn | bool:
        """Take the lane and claim; when there is nothing to do, whether to ring again."""
        now = self._now()
        with self._journal.write() as connection:
            token = lanes.lease(connection, lane, self._owner, self._lease, now)
            if token is None:
                return False
            for gathering in gatherings.due(connection, lane, now):
                gatherings.close(connection, gathering.source, gathering.group_key, now)
            batch = messages.claim(connection, lane, token, BATCH_MAX)
            if not batch:
                return lanes.release(connection, lane, token, now)
        return self._preparing.turn(lane, token, batch, self.reads)

    # --- the transaction ----------------------------------------------------------

    def _settle(self, turn: Turn, *, left: int) -> bool:
        """Decide on the prepared messages and claim the next; True when the lane, given
        back, has due work again. ``turn.batch`` is empty once the lane was given back.

        What a mapping process still has is given back and claimed again with the next,
        so that every batch begins with what is first in the lane by then. ``left`` are
        the batches that may follow in this turn.
        """
        work = list(
            itertools.takewhile(
                lambda each: each.id in turn.prepared or is_poison(each), turn.batch
            )
        )
        rest = [each.id for each in turn.batch[len(work) :]]
        try:
            with self._journal.write() as connection:
                lanes.fence(connection, turn.lane, turn.token)
                back, denied = self._apply(connection, turn, work)
                again = self._advance(connection, turn, [*back, *rest], left=left)
        except (JournalUnavailable, LeaseLost):
            raise
        except Exception:  # noqa: BLE001  one message's fault: found by doing them one by one
            return self._one_by_one(turn, work, rest, left=left)
        self._preparing.accused.settle(work)
        self._tell_gate(denied)
        return again

    def _one_by_one(
        self, turn: Turn, work: Sequence[Message], rest: Sequence[int], *, left: int
    ) -> bool:
        """The same with a transaction for each message: the one that fails is buried alone."""
        undone = list(work)
        while undone:
            message = undone[0]
            try:
                with self._journal.write() as connection:
                    lanes.fence(connection, turn.lane, turn.token)
                    back, denied = self._apply(connection, turn, [message])
            except (JournalUnavailable, LeaseLost):
                raise
            except Exception as error:  # noqa: BLE001  becomes this message's cause
                cause, back, denied = _cause_of(error), [], False
                with self._journal.write() as connection:
                    lanes.fence(connection, turn.lane, turn.token)
                    deadletters.bury(connection, message.id, Stage.IDENTIFY, cause)
            self._tell_gate(denied)
            if back:
                break
            del undone[0]
        with self._journal.write() as connection:
            lanes.fence(connection, turn.lane, turn.token)
            given_back = [*(each.id for each in undone), *rest]
            return self._advance(connection, turn, given_back, left=left)

    def _apply(
        self, connection: Connection, turn: Turn, work: Sequence[Message]
    ) -> tuple[list[int], bool]:
        """Take messages through stages 3 to 5: those to be claimed again, and whether the
        gate must forget."""
        claims: list[Claim] = []
        identifiers: list[Identifier] = []
        merges = False
        for message in work:
            reading = turn.prepared.get(message.id)
            if isinstance(reading, Reading) and isinstance(reading.subjects, Subjects):
                subjects = reading.subjects
                claims += (subjects.subject, *subjects.subsumed)
                identifiers += subjects.identifiers
                merges = merges or bool(subjects.subsumed)
        lock_index(connection, identifiers, merges=merges)
        if messages.overtaken(connection, turn.lane, work):
            return [message.id for message in work], False
        index = PatientIndex(connection, claims)
        passage = Passage(connection, self._journal.blobs, index, self._rules)
        for position, message in enumerate(work):
            if is_poison(message):
                deadletters.bury(
                    connection, message.id, Stage.NORMALISE, UNFINISHED, attempts=UNFINISHED_MAX
                )
            elif not passage.take(message, turn.prepared[message.id]):
                passage.finish()
                return [each.id for each in work[position:]], passage.denied
        passage.finish()
        return [], passage.denied

    def _advance(
        self, connection: Connection, turn: Turn, back: Sequence[int], *, left: int
    ) -> bool:
        """Claim the next batch, or give the lane back: then whether it has due work again."""
        _give_back(connection, turn, back)
        now = self._now()
        turn.batch = []
        if left and not self._stopping():
            # Before the last batch nothing is begun that another turn would have to finish.
            limit = AHEAD_MAX if turn.ahead.at_work and left > 1 else BATCH_MAX
            turn.batch = messages.claim(connection, turn.lane, turn.token, limit)
        if turn.batch:
            # At the end of the transaction, because an arrival that rings the lane
            # must wait for the row from here on.
            lanes.renew(connection, turn.lane, turn.token, self._lease, now)
            return True
        return lanes.release(connection, turn.lane, turn.token, now)

    def _give_up(self, turn: Turn) -> None:
        """The journal failed: give the messages and the lane back, if it lets us."""
        with (
            contextlib.suppress(JournalUnavailable, LeaseLost),
            self._journal.write() as connection,
        ):
            lanes.fence(connection, turn.lane, turn.token)
            back = [message.id for message in turn.batch if message.id != turn.unread]
            _give_back(connection, turn, back)
            lanes.release(connection, turn.lane, turn.token, self._now())

    def _tell_gate(self, denied: bool) -> None:
        if denied and self._gate is not None:
            self._gate.changed()


def _give_back(connection: Connection, turn: Turn, ids: Sequence[int]) -> None:
    """Give back what was counted."""
    uncounted = {each.id for each in turn.batch if messages.suspect(each)} - turn.begun
    messages.give_back(connection, [each for each in ids if each not in uncounted])
    turn.begun.difference_update(ids)


def _cause_of(error: Exception) -> Cause:
    if isinstance(error, IdentityConflict):
        return Cause(
            code=CauseCode.IDENTITY_CONFLICT,
            detail="the index of patients contradicts what the message says",
        )
    return internal(error)
